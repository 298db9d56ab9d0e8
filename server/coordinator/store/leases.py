"""Which core drives a competition, where several share a PostgreSQL database.

A lease is a row's owner and an end by the database's clock. It only keeps two cores from doing the same work
at once: whether a write is still right is decided by the version it must find (`Competitions.advance`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tortoise.connection import get_connection

LEASE_SECONDS = 15

_NOW = "extract(epoch FROM clock_timestamp())"
_CLAIM = f"""
    UPDATE competitions SET lease_owner = $1, lease_until_at = {_NOW} + $2
    WHERE id IN (
        SELECT id FROM competitions
        WHERE id = ANY($3) AND (lease_owner = $1 OR lease_until_at < {_NOW})
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id
"""  # noqa: S608 (no value is put into it)
_RELEASE = "UPDATE competitions SET lease_until_at = 0 WHERE lease_owner = $1"


class Leases(Protocol):
    """Who may drive what."""

    async def claim(self, competition_ids: Collection[str]) -> set[str]:
        """Of these, the ones that are this core's for the next `LEASE_SECONDS`: free ones are taken, own
        ones prolonged.
        """
        ...

    async def release(self) -> None:
        """Gives all back: others need not wait for their end."""
        ...


class SoleCore:
    """SQLite: one process has the database, and all is its own."""

    async def claim(self, competition_ids: Collection[str]) -> set[str]:
        """See `Leases.claim`."""
        return set(competition_ids)

    async def release(self) -> None:
        """See `Leases.release`."""


SOLE_CORE = SoleCore()


class PostgresLeases:
    """Leases of one core, named by a random `owner`."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    async def claim(self, competition_ids: Collection[str]) -> set[str]:
        """See `Leases.claim`. Rows that somebody is writing to are skipped; asking again later finds them."""
        if not competition_ids:
            return set()
        rows = await get_connection("default").execute_query_dict(
            _CLAIM, [self._owner, LEASE_SECONDS, list(competition_ids)]
        )
        return {row["id"] for row in rows}

    async def release(self) -> None:
        """See `Leases.release`."""
        await get_connection("default").execute_query(_RELEASE, [self._owner])
