"""A serving core: the API in front, the runner behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coordinator.api.server import build_server
from coordinator.config import Settings
from coordinator.wiring import Wired, wired_core

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_SECONDS = 5


@asynccontextmanager
async def running_core(settings: Settings) -> AsyncIterator[tuple[Wired, int]]:
    """Serves the API and drives competitions until left. Gives the parts and the port."""
    async with wired_core(settings) as wired:
        server, port = build_server(wired.core, wired.contracts)
        await server.start()
        driving = asyncio.create_task(wired.runner.run())
        log.info("serving gRPC on %s:%d as %s", settings.grpc_host, port, wired.core.nostr_key.npub)
        try:
            yield wired, port
        finally:
            await server.stop(SHUTDOWN_GRACE_SECONDS)
            await wired.runner.stop()
            await driving


def keep_what_is_loaded() -> None:
    """Takes all there is now, which lives as long as the process, out of the collector's sight: a look at it
    keeps the event loop waiting for a tenth of a second, and finds nothing.
    """
    gc.collect()
    gc.freeze()


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_core(settings):
        keep_what_is_loaded()
        await stop.wait()
