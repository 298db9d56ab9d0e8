"""A core that is killed at its crash points, and started again each time, until it is told to stop.

Run as a program by `torture.harness`, which writes `Orders` to its standard input, one JSON object a line.
The supervisor has imported everything and forks a process for each life, so that a life begins in a fraction
of a second; SIGTERM ends what it was ordered. A crash point lies after every database commit, and before and
after every call to chain, Lightning, keymeld and oracle. Where a life is to die it writes the point's name to
the journal and kills itself with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import pickle
import re
import signal
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
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
# Who asked is named by the innermost line of the coordinator outside these.
PLUMBING = tuple(f"{COORDINATOR}{part}{os.sep}" for part in ("store", "adapters"))
# What differs from run to run: txids, block hashes, UUIDs, addresses, heights.
VARIES = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|bcrt1[0-9a-z]+|(?<=/)\d+\b")
LIGHTNING_READS = ("lookup_invoice", "track_payment", "decode", "balance_msats")
LIGHTNING_WRITES = ("add_hold_invoice", "settle_invoice", "cancel_invoice")


@dataclass(frozen=True)
class Orders:
    """How to run one core, and where it dies.

    Attributes:
        settings: pickled `Settings`.
        journal: of deaths, one name a line.
        log: the core's output.
        most: deaths at a point that changes something (players reach many of them one after the other); one
            that only reads has one death at most. 0: none.
        only: regular expression; other points do not count.
        once: instead of all that: dies once, at the point with this name,
        nth: when it is crossed for the nth time.
        crossings: file to write every crossing to, or empty.
    """

    settings: str
    journal: str
    log: str
    most: int = 0
    only: str = ""
    once: str = ""
    nth: int = 1
    crossings: str = ""


class Reaper:
    """Decides at which points to die. The journal outlives it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._journal = Path(orders.journal)
        self._only = re.compile(orders.only)
        self._crossed = 0
        self._died_at = Counter(self._journal.read_text().splitlines() if self._journal.exists() else ())

    def point(self, name: str, which: str = "", *, reads: bool = False) -> None:
        """A crash point. Does not return where this life ends.

        Args:
            name: the same in every run.
            which: tells apart what happens at the same point, within a run.
            reads: nothing is changed here.
        """
        orders = self._orders
        if orders.crossings:
            with Path(orders.crossings).open("a") as crossings:
                crossings.write(f"{name}\n")
        if orders.once:
            if name == orders.once and not self._died_at:
                self._crossed += 1
                if self._crossed == orders.nth:
                    self._die(name)
            return
        full = f"{name} {which}".rstrip()
        if self._died_at[full] < min(orders.most, 1 if reads else orders.most) and self._only.search(name):
            self._die(full)

    def _die(self, name: str) -> None:
        with self._journal.open("a") as journal:
            journal.write(f"{name}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def around(
        self, name: str, call: Callable[..., Awaitable[Any]], *, reads: bool = False
    ) -> Callable[..., Awaitable[Any]]:
        """The call with a crash point before and one after it."""

        @functools.wraps(call)
        async def wrapped(*args: Any, **options: Any) -> Any:
            asked_by = _asked_by(sys._getframe(1))
            self.point(f"before {name} by {asked_by}", reads=reads)
            answer = await call(*args, **options)
            self.point(f"after {name} by {asked_by}", reads=reads)
            return answer

        return wrapped


class MortalLightning:
    """A Lightning port with crash points around its calls."""

    def __init__(self, port: Lightning, reaper: Reaper) -> None:
        self._port = port
        self._reaper = reaper
        for name in (*LIGHTNING_READS, *LIGHTNING_WRITES):
            call = getattr(port, name)
            setattr(self, name, reaper.around(f"lightning.{name}", call, reads=name in LIGHTNING_READS))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def pay(self, *args: Any, **options: Any) -> AsyncIterator[Payment]:
        """One more point after each state of the payment that the node tells of."""
        self._reaper.point("before lightning.pay")
        async for payment in self._port.pay(*args, **options):
            self._reaper.point(f"lightning.pay told {payment.state}")
            yield payment


def mortal_http(reaper: Reaper) -> None:
    """Crash points around every HTTP request of the process: chain, keymeld, oracle."""
    send = httpx.AsyncClient.send

    async def mortal(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        name = f"{request.method} {VARIES.sub('*', request.url.path)} by {_asked_by(sys._getframe(1))}"
        reads = request.method == "GET"
        which = ""
        if request.method == "POST" and request.url.path == "/tx":
            which = Transaction.parse(bytes.fromhex(request.content.decode())).txid
        reaper.point(f"before {name}", which, reads=reads)
        response = await send(client, request, **options)
        reaper.point(f"after {name}", which, reads=reads)
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
    """The innermost line of the coordinator behind its plumbing; an awaiting coroutine is on the stack."""
    while frame is not None:
        path = frame.f_code.co_filename
        if COORDINATOR in path and not any(part in path for part in PLUMBING):
            return f"{path.rpartition(COORDINATOR)[2]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


async def live(settings: Settings, reaper: Reaper) -> None:
    """One life: as `coordinator.app` runs a core, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
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


def live_one_after_the_other(orders: Orders) -> int:
    """Until a life ends otherwise than by SIGKILL: by itself, or because of SIGTERM. Its exit code."""
    settings: Settings = pickle.loads(Path(orders.settings).read_bytes())
    stopping = False
    child = 0

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        # A SIGTERM waits until the child knows what to do with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        child = os.fork()
        if child == 0:
            die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            log = os.open(orders.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                asyncio.run(live(settings, Reaper(orders)))
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        _, status = os.waitpid(child, 0)
        child = 0
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return os.waitstatus_to_exitcode(status)
    return 0


def main() -> int:
    """Carries out orders until there are no more; tells of each one's exit code on standard output."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        print(live_one_after_the_other(Orders(**json.loads(line))), flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
