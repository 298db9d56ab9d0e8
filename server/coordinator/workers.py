"""Worker processes for what computes long: off the event loop, and out of its interpreter's lock.

A thread is not enough for big contracts: the loop waits for the interpreter's lock as often as it wants to
run, and one unlucky call or collection holds it for a tenth of a second. For small ones a process would cost
more than it saves; they run in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# As many signatures take some tens of milliseconds, whatever is done with them.
SMALL_WORK: Final = 400
_TRIES: Final = 3


class WorkersLost(Exception):
    """Worker processes died again and again over one piece of work, or are shut down: try again later."""


class WorkerError(Exception):
    """What a worker raised cannot be sent here as it is: this is its type and text."""


class Workers:
    """A few processes, started when first needed. One of them killed, all are started anew and what was
    under way is done again: functions given must be harmless to repeat.

    They import the main module anew: a script that computes big contracts needs `if __name__ == "__main__"`.
    """

    def __init__(self, limit: int | None = None) -> None:
        """
        Args:
            limit: most processes at once; by default one for each processor, 0 for threads only.
        """
        self._limit = (os.cpu_count() or 1) if limit is None else limit
        self._pool: ProcessPoolExecutor | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function of a module in a worker; it, its arguments and what it returns are pickled.

        Raises:
            WorkersLost: no process lived through it.
            WorkerError: the function raised what cannot be pickled.
        """
        if self._limit == 0:
            return await asyncio.to_thread(function, *args, **kwargs)
        for _ in range(_TRIES):
            pool = await self._started()
            try:
                # Processes are there already, so this only queues the work.
                future = pool.submit(_perform, function, args, kwargs)
                return await asyncio.wrap_future(future)
            except BrokenProcessPool:
                self._forget(pool)
            except RuntimeError:
                if not self._closed:
                    raise
                break
        raise WorkersLost("shut down" if self._closed else f"worker processes died {_TRIES} times")

    async def run_sized(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same in a thread where `size`, the number of signatures it is about, is small."""
        if size <= SMALL_WORK:
            return await asyncio.to_thread(function, *args, **kwargs)
        return await self.run(function, *args, **kwargs)

    async def close(self) -> None:
        """Ends the processes once they have finished what they are at; what is queued is dropped."""
        self._closed = True
        async with self._starting:
            pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    async def _started(self) -> ProcessPoolExecutor:
        async with self._starting:
            if self._closed:
                raise WorkersLost("shut down")
            if self._pool is None:
                self._pool = await asyncio.to_thread(_start, self._limit)
            return self._pool

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        if self._pool is pool:
            log.warning("a worker process died; starting others")
            self._pool = None
            pool.shutdown(wait=False, cancel_futures=True)


def _start(limit: int) -> ProcessPoolExecutor:
    # Not forked: the core has threads, whose locks a fork would copy as they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(limit, mp_context=context, initializer=_begin)
    for _ in range(limit):  # each starts a process
        pool.submit(os.getpid)
    return pool


def _begin() -> None:
    """In a new worker process."""
    # Ctrl-C goes to the whole group; the core decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The event loop, with everybody who waits for an answer, comes first.
    os.nice(5)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A core that is killed closes nothing: its workers would wait for work for ever."""
    wait([sentinel])
    os._exit(1)


def _perform(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:
            # Read in the core it would break the pool for everybody.
            raise WorkerError(f"{type(error).__name__}: {error}") from None
        raise
