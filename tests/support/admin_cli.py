"""Runs `coordinator admin` as its users do: as a process of its own, against a core on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import sys
import termios
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator_client.nostr import NostrKey
from support.api import ADMIN, AUTHORITY

# Ctrl-C works only on a terminal that controls the process. Not in a preexec_fn: that would run Python in a
# fork of a process with gRPC's threads, which may hang for ever.
_ON_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


Answer = str | Callable[[], Coroutine[Any, Any, object]]


def quiet_environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would change the command's behaviour."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COORDINATOR_") and name != "NO_COLOR"
    }
    return {**kept, "TZ": "UTC", "TERM": "xterm", **changes}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """What `--json` says of an error on standard error."""
        return json.loads(self.err.splitlines()[-1])["error"]


class AdminCli:
    """The command with an address and a key."""

    def __init__(self, folder: Path, port: int, key: NostrKey | None = ADMIN) -> None:
        self.environment = quiet_environment(
            COORDINATOR_ADMIN_ADDRESS=f"127.0.0.1:{port}", COORDINATOR_ADMIN_AUTHORITY=AUTHORITY
        )
        if key is not None:
            self.environment["COORDINATOR_ADMIN_KEY_FILE"] = str(key_file(folder, key))

    async def start(self, *words: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        """The running command, its streams piped."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "coordinator", "admin", *words),
            env=self.environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *words: str, stdin: str | None = None, timeout: float = 30) -> Ended:
        """Runs the command to its end."""
        pipe = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        process = await self.start(*words, stdin=pipe)
        given = None if stdin is None else stdin.encode()
        out, err = await asyncio.wait_for(process.communicate(given), timeout)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def on_terminal(
        self, *words: str, answers: Mapping[str, Answer] | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Exit code and all that a terminal shows. Answers are typed, or done, once the question appears."""
        master, slave = pty.openpty()
        fcntl.ioctl(
            slave, termios.TIOCSWINSZ, (50).to_bytes(2, "little") + (200).to_bytes(2, "little") + bytes(4)
        )

        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _ON_ITS_TERMINAL, sys.executable, "-m", "coordinator", "admin", *words),
            env={**self.environment, **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        shown = bytearray()
        left = dict(answers or {})
        doing: list[asyncio.Task[object]] = []
        done = asyncio.Event()

        def read() -> None:
            try:
                shown.extend(os.read(master, 65536))
            except OSError:  # nobody has the other end any more
                asyncio.get_running_loop().remove_reader(master)
                done.set()
                return
            for question in [q for q in left if q.encode() in shown]:
                answer = left.pop(question)
                if isinstance(answer, str):
                    os.write(master, answer.encode())
                else:
                    doing.append(asyncio.create_task(answer()))

        asyncio.get_running_loop().add_reader(master, read)
        try:
            code = await asyncio.wait_for(process.wait(), 30)
            await asyncio.wait_for(done.wait(), 5)
            await asyncio.gather(*doing)
        finally:
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return code, shown.decode()


def key_file(folder: Path, key: NostrKey, *, as_hex: bool = False) -> Path:
    """A file that holds the key and that only its owner reads."""
    path = folder / f"{key.public_hex[:8]}.{'hex' if as_hex else 'nsec'}"
    path.touch(mode=0o600)
    path.write_text((key.secret_bytes.hex() if as_hex else key.nsec) + "\n")
    return path
