"""What the node itself must remember across restarts, in SQLite: pending blocks, the mempool, and settings.

The kernel writes its block index and UTXO set to disk only now and then (Bitcoin Core: about hourly, and
at a clean stop). Blocks submitted since are journaled here, so that a killed process loses none.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY, block_hash TEXT NOT NULL UNIQUE, block BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS mempool (
    txid TEXT PRIMARY KEY, sequence INTEGER NOT NULL, entered_at INTEGER NOT NULL, tx BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class NodeStore:
    """One connection, used from the event loop's thread only; every call is one small local write or read."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # WAL without fsync survives a killed process; only a dying machine may lose the last moments.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Checkpoint and close."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes: all of them or none."""
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def add_block(self, block_hash: str, block: bytes) -> None:
        """Journal a block before the kernel sees it."""
        self._connection.execute(
            "INSERT OR IGNORE INTO journal (block_hash, block) VALUES (?, ?)", (block_hash, block)
        )

    def remove_block(self, block_hash: str) -> None:
        """Forget a block that the kernel refused."""
        self._connection.execute("DELETE FROM journal WHERE block_hash = ?", (block_hash,))

    def journal(self) -> list[tuple[str, bytes]]:
        """Hash and bytes of the journaled blocks, in the order in which they were submitted."""
        return list(self._connection.execute("SELECT block_hash, block FROM journal ORDER BY sequence"))

    def clear_journal(self) -> None:
        """Forget the journal, once the kernel has all of it on disk."""
        self._connection.execute("DELETE FROM journal")

    def add_transaction(self, txid: str, raw: bytes, entered_at: int) -> None:
        """Remember a mempool transaction."""
        self._connection.execute(
            "INSERT OR REPLACE INTO mempool (txid, sequence, entered_at, tx)"
            " VALUES (?, (SELECT coalesce(max(sequence), 0) + 1 FROM mempool), ?, ?)",
            (txid, entered_at, raw),
        )

    def remove_transaction(self, txid: str) -> None:
        """Forget a transaction that left the mempool."""
        self._connection.execute("DELETE FROM mempool WHERE txid = ?", (txid,))

    def mempool(self) -> list[tuple[bytes, int]]:
        """Transactions and their entry times (unix seconds), in the order of entry, so parents first."""
        return list(self._connection.execute("SELECT tx, entered_at FROM mempool ORDER BY sequence"))

    def setting(self, name: str) -> str | None:
        """A saved setting."""
        row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def save_setting(self, name: str, value: str) -> None:
        """Save a setting."""
        self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
