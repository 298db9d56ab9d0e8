"""A core that is killed at its crash points, and started again each time, until it is told to stop.

Run as a program by `torture.harness`: `mortal_core.py <settings.pickle> <journal> <most> <only>`. The
supervisor has imported everything and forks a process for each life, so that a life begins in a fraction of a
second. A crash point lies after every database commit, and before and after every call that changes something
outside: each HTTP request that is not a read (chain, keymeld, oracle), and each Lightning call that adds,
settles, cancels or pays. Where a life reaches a point for the first time (or up to `most` times, for points
that are reached once a player), it writes the point's name to the journal and dies by SIGKILL. `only` is a
regular expression: other points do not count.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import pickle
import re
import signal
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionWrapper

from coordinator.api.server import build_server
from coordinator.config import Settings
from coordinator.contract.tx import Transaction
from coordinator.ports.lightning import Lightning, Payment
from coordinator.runner import Runner
from coordinator.wiring import wired_core

COORDINATOR = f"{os.sep}coordinator{os.sep}"
STORE = f"{COORDINATOR}store{os.sep}"


class Reaper:
    """Decides at which points to die. The journal outlives it."""

    def __init__(self, journal: Path, most: int, only: str) -> None:
        self._journal = journal
        self._most = most
        self._only = re.compile(only)
        self._died_at = Counter(journal.read_text().splitlines() if journal.exists() else ())

    def point(self, name: str) -> None:
        """A crash point. Does not return where this life ends."""
        if self._died_at[name] >= self._most or not self._only.search(name):
            return
        with self._journal.open("a") as journal:
            journal.write(f"{name}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The call with a crash point before and one after it."""

        @functools.wraps(call)
        async def wrapped(*args: Any, **options: Any) -> Any:
            self.point(f"before {name}")
            answer = await call(*args, **options)
            self.point(f"after {name}")
            return answer

        return wrapped


class MortalLightning:
    """A Lightning port with crash points around what changes something."""

    def __init__(self, port: Lightning, reaper: Reaper) -> None:
        self._port = port
        self._reaper = reaper
        for name in ("add_hold_invoice", "settle_invoice", "cancel_invoice"):
            setattr(self, name, reaper.around(f"lightning.{name}", getattr(port, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def pay(self, *args: Any, **options: Any) -> AsyncIterator[Payment]:
        """One more point after each state of the payment that the node tells of."""
        self._reaper.point("before lightning.pay")
        async for payment in self._port.pay(*args, **options):
            self._reaper.point(f"lightning.pay told {payment.state}")
            yield payment


def mortal_http(reaper: Reaper) -> None:
    """Crash points around every HTTP request of the process that is not a read."""
    send = httpx.AsyncClient.send

    async def mortal(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method == "GET":
            return await send(client, request, **options)
        name = f"{request.method} {request.url.path}"
        if request.url.path == "/tx":
            name += f" {Transaction.parse(bytes.fromhex(request.content.decode())).txid}"
        reaper.point(f"before {name}")
        response = await send(client, request, **options)
        reaper.point(f"after {name}")
        return response

    httpx.AsyncClient.send = mortal  # type: ignore[method-assign]


def mortal_commits(reaper: Reaper) -> None:
    """A crash point after every commit, named by the place in the coordinator that asked for it."""

    def after(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def mortal(client: Any, query: str = "", *args: Any) -> Any:
            answer = await (method(client, query, *args) if query else method(client))
            in_transaction = isinstance(client, SqliteTransactionWrapper)
            writes = query.split(" ", 1)[0] in ("INSERT", "UPDATE", "DELETE")
            if (in_transaction and not query) or (writes and not in_transaction):
                reaper.point(f"commit {_asked_by(sys._getframe(1))}")
            return answer

        return mortal

    SqliteTransactionWrapper.commit = after(SqliteTransactionWrapper.commit)  # type: ignore[method-assign]
    for name in ("execute_insert", "execute_many", "execute_query"):
        setattr(SqliteClient, name, after(getattr(SqliteClient, name)))


def _asked_by(frame: FrameType | None) -> str:
    """The innermost line of the coordinator outside its store; an awaiting coroutine is on the stack."""
    while frame is not None:
        code = frame.f_code
        if COORDINATOR in code.co_filename and STORE not in code.co_filename:
            path = code.co_filename.rpartition(COORDINATOR)[2]
            return f"{path}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
    return "elsewhere"


async def live(settings: Settings, reaper: Reaper) -> None:
    """One life: as `coordinator.app` runs a core, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    mortal_http(reaper)
    mortal_commits(reaper)
    async with wired_core(settings) as wired:
        core = replace(
            wired.core,
            lightning=MortalLightning(wired.core.lightning, reaper),  # type: ignore[arg-type]
            wake=lambda competition_id: runner.wake(competition_id),
        )
        runner = Runner(core, wired.contracts)
        server, _ = build_server(core, wired.contracts)
        await server.start()
        driving = asyncio.create_task(runner.run())
        await stop.wait()
        await server.stop(1)
        await runner.stop()
        await driving


def die_with_parent() -> None:
    """Linux kills this process once its parent is gone (`prctl(2)`): no test leaves a core behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> int:
    """Lives one life after the other."""
    die_with_parent()
    settings: Settings = pickle.loads(Path(sys.argv[1]).read_bytes())
    reaper_of = functools.partial(Reaper, Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    stopping = False
    child = 0

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        child = os.fork()
        if child == 0:
            die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                asyncio.run(live(settings, reaper_of()))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return os.waitstatus_to_exitcode(status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
