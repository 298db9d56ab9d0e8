"""The oracle's memory, in SQLite. What matters most: the outcome of an event is written once, ever."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY,
    coordinator TEXT NOT NULL,
    content TEXT NOT NULL,
    signing_at INTEGER NOT NULL,
    expiry INTEGER NOT NULL,
    nonce_point BLOB NOT NULL,
    locking_points BLOB NOT NULL,
    entries TEXT,
    withheld INTEGER NOT NULL DEFAULT 0,
    outcome INTEGER
);
"""
_COLUMNS = (
    "id, coordinator, content, signing_at, expiry, nonce_point, locking_points, entries, withheld, outcome"
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as stored. `content` and `entries` are JSON; `outcome` is the attested outcome's index."""

    id: str
    coordinator: str
    content: str
    signing_at: int
    expiry: int
    nonce_point: bytes
    locking_points: bytes
    entries: str | None
    withheld: bool
    outcome: int | None


class EventStore:
    """Each call is one statement, committed before it returns; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)

    def setting(self, name: str, first_value: str) -> str:
        """The value of a setting, which is `first_value` if it had none."""
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, first_value))
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return str(row[0])

    def add(self, event: EventRow) -> bool:
        """Store a new event; False if the id is taken."""
        with self._connection() as connection:
            cursor = connection.execute(
                f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    event.id,
                    event.coordinator,
                    event.content,
                    event.signing_at,
                    event.expiry,
                    event.nonce_point,
                    event.locking_points,
                    event.entries,
                    event.withheld,
                    event.outcome,
                ),
            )
            return cursor.rowcount == 1

    def get(self, event_id: str) -> EventRow | None:
        """One event."""
        rows = self._select("WHERE id = ?", (event_id,))
        return rows[0] if rows else None

    def newest(self, limit: int) -> list[EventRow]:
        """Events, newest first."""
        return self._select("ORDER BY id DESC LIMIT ?", (limit,))

    def due(self, now: int) -> list[EventRow]:
        """Events that have entries, are to be attested by now, and neither attested, withheld nor expired."""
        return self._select(
            "WHERE outcome IS NULL AND NOT withheld AND entries IS NOT NULL"
            " AND signing_at <= ? AND expiry > ?",
            (now, now),
        )

    def set_entries(self, event_id: str, entries: str) -> str:
        """Store the entries unless there are some; returns those that are stored now."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE events SET entries = ? WHERE id = ? AND entries IS NULL", (entries, event_id)
            )
            row = connection.execute("SELECT entries FROM events WHERE id = ?", (event_id,)).fetchone()
        return str(row[0])

    def withhold(self, event_id: str) -> bool:
        """Never attest by itself; False if it is attested already."""
        with self._connection() as connection:
            cursor = connection.execute(
                "UPDATE events SET withheld = 1 WHERE id = ? AND outcome IS NULL", (event_id,)
            )
            return cursor.rowcount == 1

    def decide(self, event_id: str, outcome: int, *, by_itself: bool) -> int | None:
        """Fix the outcome unless it is fixed; returns the one that is fixed now.

        It is on disk when this returns. `by_itself` leaves a withheld event alone, and then returns None.
        """
        unless_withheld = " AND NOT withheld" if by_itself else ""
        with self._connection() as connection:
            connection.execute(
                f"UPDATE events SET outcome = ? WHERE id = ? AND outcome IS NULL{unless_withheld}",  # noqa: S608
                (outcome, event_id),
            )
            row = connection.execute("SELECT outcome FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _select(self, where: str, values: tuple[str | int, ...]) -> list[EventRow]:
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM events {where}", values).fetchall()  # noqa: S608
        return [EventRow(*row) for row in rows]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call: calls come from worker threads. Commits, or rolls back on an error."""
        connection = sqlite3.connect(self._path, timeout=30)
        try:
            # An attestation may be out the moment after: the decision must survive a dying machine.
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                yield connection
        finally:
            connection.close()
