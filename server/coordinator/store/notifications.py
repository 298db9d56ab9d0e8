"""LISTEN/NOTIFY: what one core writes wakes the streams and runners of all cores on the same database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from tortoise.connection import get_connection

from coordinator.store.database import is_postgres

log = logging.getLogger(__name__)

CHANNEL = "coordinator_events"
RECONNECT_SECONDS = 1.0
# A connection that died without a word is noticed by asking it something.
CHECK_SECONDS = 10.0


async def announce(competition_id: str) -> None:
    """Tells all cores of new events, once the transaction around this call is committed.

    On SQLite nobody else listens.
    """
    if is_postgres():
        await get_connection("default").execute_query("SELECT pg_notify($1, $2)", [CHANNEL, competition_id])


class Listener:
    """Hears what others announce, over a connection of its own that is made anew whenever it breaks.

    `heard` is called with the competition's id; with an empty one after each (re)connect, when something may
    have been missed.
    """

    def __init__(self, database_url: str, heard: Callable[[str], None]) -> None:
        # tortoise's own options in the query mean nothing to PostgreSQL.
        self._dsn = urlsplit(database_url)._replace(query="").geturl()
        self._heard = heard

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("no news from the database: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        def on_notification(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            self._heard(str(payload))

        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.add_listener(CHANNEL, on_notification)
            self._heard("")
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                await connection.execute("SELECT 1", timeout=CHECK_SECONDS)
        finally:
            connection.terminate()
