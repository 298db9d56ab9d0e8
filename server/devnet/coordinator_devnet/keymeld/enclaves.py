"""The service's side of its enclaves: starting them, asking them, starting them again."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from .enclave import EnclaveRefused
from .framing import frame


class EnclaveDown(Exception):
    """The enclave's process ended before it answered; what it held in memory is gone."""


class EnclaveHandle:
    """One enclave in a process of its own. Requests are answered in order."""

    def __init__(self, enclave_id: int, sealing_key: bytes) -> None:
        self.enclave_id = enclave_id
        self.key_epoch = 0
        self.public_key = b""
        self.sealed_keys: dict[int, str] = {}
        self.loaded: set[str] = set()
        """Keygen sessions this incarnation of the process has in memory."""
        self._sealing_key = sealing_key
        self._process: asyncio.subprocess.Process | None = None
        self._killed = False
        self._lock = asyncio.Lock()

    @property
    def healthy(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None and not self._killed

    async def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call one of `Enclave`'s methods, starting the process if it is not running.

        Raises:
            EnclaveRefused: it does not do it.
            EnclaveDown: it died meanwhile.
        """
        async with self._lock:
            try:
                if not self.healthy:
                    await self._start()
                answer = await self._exchange({"method": method, "arguments": arguments})
            except asyncio.CancelledError:
                # Half a request, or an answer that the next one would take for its own: start afresh.
                self.kill()
                raise
        if "refused" in answer:
            raise EnclaveRefused(answer["refused"]["kind"], answer["refused"]["text"])
        result: dict[str, Any] = answer["ok"]
        return result

    async def _start(self) -> None:
        await self.stop()
        self._killed = False
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.enclave_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        setup = {
            "enclave_id": self.enclave_id,
            "sealing_key": self._sealing_key.hex(),
            "sealed_keys": {str(epoch): sealed for epoch, sealed in self.sealed_keys.items()},
        }
        await self._send(setup)

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            raise EnclaveDown(f"enclave {self.enclave_id} is not running")
        try:
            self._process.stdin.write(frame(json.dumps(message).encode()))
            await self._process.stdin.drain()
        except ConnectionError:
            raise await self._down() from None

    async def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        await self._send(message)
        stdout = self._process.stdout if self._process is not None else None
        if stdout is None:
            raise EnclaveDown(f"enclave {self.enclave_id} is not running")
        try:
            length = int.from_bytes(await stdout.readexactly(4), "big")
            answer: dict[str, Any] = json.loads(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._down() from None
        return answer

    async def _down(self) -> EnclaveDown:
        await self.stop()
        return EnclaveDown(f"enclave {self.enclave_id} died")

    def kill(self) -> None:
        """End the process at once; the next request starts another."""
        self.loaded.clear()
        # The process is told of its death only later; nothing must be sent to it meanwhile.
        self._killed = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End the process and wait for it."""
        self.kill()
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            self._process = None
