"""The product as its user starts it: `python -m coordinator_devnet` as child processes on free ports."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORT_OPTIONS = (
    "--port",
    "--core-port",
    "--chain-port",
    "--lightning-grpc-port",
    "--lightning-port",
    "--keymeld-port",
    "--oracle-port",
)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, below those that the system hands out to whoever asks for any."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in found:
                found.append(port)
    return found


@dataclass
class StackPlace:
    """A data directory and ports: started again, it is the same stack."""

    data_dir: Path
    ports: list[int] = field(default_factory=lambda: free_ports(len(PORT_OPTIONS)))

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def chain_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[2]}"

    @property
    def options(self) -> list[str]:
        pairs = zip(PORT_OPTIONS, map(str, self.ports), strict=True)
        return ["--data-dir", str(self.data_dir), *(word for pair in pairs for word in pair)]

    async def start(self, command: str, *arguments: str) -> asyncio.subprocess.Process:
        """A `coordinator_devnet` command, in a process group of its own."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "coordinator_devnet", command, *self.options, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )


async def lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """What a process prints, line by line."""
    assert process.stdout is not None
    async for line in process.stdout:
        yield line.decode().rstrip()


async def finish(process: asyncio.subprocess.Process, seconds: float = 90) -> tuple[int, str, str]:
    """Exit code, output and errors of a process that ends by itself."""
    out, err = await asyncio.wait_for(process.communicate(), seconds)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def interrupt(process: asyncio.subprocess.Process, seconds: float = 30) -> int:
    """Ctrl-C, as the terminal sends it to the foreground process."""
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), seconds)
    del out, err
    assert process.returncode is not None
    return process.returncode


def documents(output: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Events and the result of `demo --json`."""
    parsed = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    events = [item["event"] for item in parsed if "event" in item]
    results = [item for item in parsed if "event" not in item]
    return events, results[-1] if results else None


@asynccontextmanager
async def running_stack(place: StackPlace, *arguments: str) -> AsyncIterator[StackPlace]:
    """`run`, from the moment it says that it is up."""
    process = await place.start("run", *arguments)
    seen: list[str] = []
    drained: asyncio.Task[None] | None = None

    async def up() -> None:
        async for line in lines(process):
            seen.append(line)
            if line.startswith("Coordinator is up"):
                return
        raise AssertionError("\n".join(seen[-30:]))

    async def drain() -> None:
        async for _ in lines(process):
            pass

    try:
        await asyncio.wait_for(up(), 90)
        drained = asyncio.create_task(drain())
        yield place
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            if drained is not None:
                drained.cancel()
