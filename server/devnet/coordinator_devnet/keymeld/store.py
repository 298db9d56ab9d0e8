"""The service's SQLite database. Secrets are in it only as enclaves sealed them."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from coordinator_client.keymeld.protocol import KeygenStatus, SigningStatus

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS enclave_keys (
    enclave_id INTEGER NOT NULL, key_epoch INTEGER NOT NULL, public_key BLOB NOT NULL,
    sealed_key TEXT NOT NULL, generated_at INTEGER NOT NULL, PRIMARY KEY (enclave_id, key_epoch)
);
CREATE TABLE IF NOT EXISTS keygens (
    session_id TEXT PRIMARY KEY, status TEXT NOT NULL, expires_at INTEGER NOT NULL, document TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS participants (
    session_id TEXT NOT NULL REFERENCES keygens, user_id TEXT NOT NULL, public_key BLOB NOT NULL,
    auth_pubkey BLOB NOT NULL, sealed_key TEXT NOT NULL, require_approval INTEGER NOT NULL,
    PRIMARY KEY (session_id, user_id)
);
CREATE TABLE IF NOT EXISTS signings (
    signing_id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES keygens, status TEXT NOT NULL,
    expires_at INTEGER NOT NULL, items TEXT NOT NULL, results TEXT
);
CREATE INDEX IF NOT EXISTS signings_by_keygen ON signings (session_id);
CREATE TABLE IF NOT EXISTS approvals (
    signing_id TEXT NOT NULL REFERENCES signings, user_id TEXT NOT NULL, header TEXT NOT NULL,
    PRIMARY KEY (signing_id, user_id)
);
CREATE TABLE IF NOT EXISTS used_nonces (
    scope TEXT NOT NULL, nonce TEXT NOT NULL, PRIMARY KEY (scope, nonce)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Participant:
    """A registered participant."""

    user_id: str
    public_key: bytes
    auth_pubkey: bytes
    sealed_key: str = field(repr=False)
    require_approval: bool


@dataclass(slots=True)
class Keygen:
    """A keygen session and who is registered in it."""

    session_id: str
    coordinator_user_id: str
    coordinator_enclave: int
    slots: list[tuple[str, int]]
    """(user id, enclave id) by signer index."""
    subsets: dict[str, list[str]]
    encrypted_taproot_tweak: str
    max_signing_sessions: int | None
    expires_at: int
    enclave_epochs: dict[int, int]
    """Enclave id -> epoch of the key its ciphertexts in this session are for."""
    status: KeygenStatus = KeygenStatus.RESERVED
    session_public_key: bytes = b""
    sealed_secrets: dict[int, str] = field(default_factory=dict, repr=False)
    """Enclave id -> the session secret, sealed by that enclave."""
    aggregate_public_key: str | None = None
    encrypted_subset_aggregates: dict[str, str] = field(default_factory=dict)
    participants: dict[str, Participant] = field(default_factory=dict)

    def enclave_of(self, user_id: str) -> int | None:
        """The enclave of a user's slot."""
        return next((enclave for user, enclave in self.slots if user == user_id), None)

    def enclaves(self) -> list[int]:
        """The enclaves that hold a part of this session, the coordinator's first."""
        others = {enclave for _, enclave in self.slots} - {self.coordinator_enclave}
        return [self.coordinator_enclave, *sorted(others)]

    def document(self) -> str:
        """What is stored besides the columns."""
        return json.dumps(
            {
                "coordinator_user_id": self.coordinator_user_id,
                "coordinator_enclave": self.coordinator_enclave,
                "slots": self.slots,
                "subsets": self.subsets,
                "encrypted_taproot_tweak": self.encrypted_taproot_tweak,
                "max_signing_sessions": self.max_signing_sessions,
                "enclave_epochs": self.enclave_epochs,
                "session_public_key": self.session_public_key.hex(),
                "sealed_secrets": self.sealed_secrets,
                "aggregate_public_key": self.aggregate_public_key,
                "encrypted_subset_aggregates": self.encrypted_subset_aggregates,
            }
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...], participants: Iterable[tuple[Any, ...]]) -> "Keygen":
        """The session of a stored row."""
        session_id, status, expires_at, document = row
        fields = json.loads(document)
        # JSON has no integer keys and no tuples.
        for name in ("enclave_epochs", "sealed_secrets"):
            fields[name] = {int(enclave): value for enclave, value in fields[name].items()}
        fields["slots"] = [(user, enclave) for user, enclave in fields["slots"]]
        fields["session_public_key"] = bytes.fromhex(fields["session_public_key"])
        return cls(
            session_id=session_id,
            status=KeygenStatus(status),
            expires_at=expires_at,
            participants={
                user: Participant(user, key, auth, sealed, bool(approval))
                for user, key, auth, sealed, approval in participants
            },
            **fields,
        )


@dataclass(slots=True)
class Signing:
    """A signing session of one batch."""

    signing_id: str
    session_id: str
    status: SigningStatus
    expires_at: int
    items: list[Any]
    results: list[Any] = field(default_factory=list)
    approvals: dict[str, str] = field(default_factory=dict)
    """User id -> the header he approved with."""


class Store:
    """All statements, one after another in a thread of their own: the event loop never waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keymeld-store")
        self._connection: sqlite3.Connection | None = None

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transact() -> T:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.executescript(_SCHEMA)
            with self._connection:
                return work(self._connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, transact)

    async def close(self) -> None:
        """Close the database."""

        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keymeld-store")

    async def enclave_keys(self) -> list[tuple[int, int, bytes, str]]:
        """(enclave id, epoch, public key, sealed key), oldest first."""
        return await self._run(
            lambda db: db.execute(
                "SELECT enclave_id, key_epoch, public_key, sealed_key FROM enclave_keys ORDER BY 1, 2"
            ).fetchall()
        )

    async def add_enclave_key(
        self, enclave_id: int, epoch: int, public_key: bytes, sealed_key: str, now: int
    ) -> None:
        """Store an enclave's new key."""
        values = (enclave_id, epoch, public_key, sealed_key, now)
        await self._run(lambda db: db.execute("INSERT INTO enclave_keys VALUES (?, ?, ?, ?, ?)", values))

    async def add_keygen(self, keygen: Keygen) -> bool:
        """Store a new session; false where its id is taken."""
        values = (keygen.session_id, keygen.status, keygen.expires_at, keygen.document())
        statement = "INSERT INTO keygens VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._run(lambda db: db.execute(statement, values).rowcount == 1)

    async def update_keygen(self, keygen: Keygen) -> None:
        """Store the session's new state."""
        values = (keygen.status, keygen.document(), keygen.session_id)
        await self._run(
            lambda db: db.execute("UPDATE keygens SET status = ?, document = ? WHERE session_id = ?", values)
        )

    async def keygen(self, session_id: str) -> Keygen | None:
        """The session, with its participants."""

        def find(db: sqlite3.Connection) -> Keygen | None:
            row = db.execute("SELECT * FROM keygens WHERE session_id = ?", (session_id,)).fetchone()
            participants = db.execute(
                "SELECT user_id, public_key, auth_pubkey, sealed_key, require_approval FROM participants "
                "WHERE session_id = ?",
                (session_id,),
            )
            return None if row is None else Keygen.from_row(row, participants)

        return await self._run(find)

    async def add_participant(self, session_id: str, participant: Participant) -> bool:
        """Store a registration; false where the user is registered."""
        values = (
            session_id,
            participant.user_id,
            participant.public_key,
            participant.auth_pubkey,
            participant.sealed_key,
            participant.require_approval,
        )
        statement = "INSERT INTO participants VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._run(lambda db: db.execute(statement, values).rowcount == 1)

    async def add_signing(self, signing: Signing) -> bool:
        """Store a new signing session; false where its id is taken."""
        items = json.dumps(signing.items)
        values = (signing.signing_id, signing.session_id, signing.status, signing.expires_at, items)
        statement = (
            "INSERT INTO signings (signing_id, session_id, status, expires_at, items) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING"
        )
        return await self._run(lambda db: db.execute(statement, values).rowcount == 1)

    async def count_signings(self, session_id: str) -> int:
        """How many signing sessions a keygen session has had."""
        statement = "SELECT count(*) FROM signings WHERE session_id = ?"
        return await self._run(lambda db: int(db.execute(statement, (session_id,)).fetchone()[0]))

    async def update_signing(self, signing: Signing) -> None:
        """Store the session's status and results."""
        values = (signing.status, json.dumps(signing.results), signing.signing_id)
        await self._run(
            lambda db: db.execute("UPDATE signings SET status = ?, results = ? WHERE signing_id = ?", values)
        )

    async def signing(self, signing_id: str) -> Signing | None:
        """The session, with its approvals."""

        def find(db: sqlite3.Connection) -> Signing | None:
            row = db.execute("SELECT * FROM signings WHERE signing_id = ?", (signing_id,)).fetchone()
            if row is None:
                return None
            _, session_id, status, expires_at, items, results = row
            approvals = db.execute(
                "SELECT user_id, header FROM approvals WHERE signing_id = ?", (signing_id,)
            )
            return Signing(
                signing_id=signing_id,
                session_id=session_id,
                status=SigningStatus(status),
                expires_at=expires_at,
                items=json.loads(items),
                results=json.loads(results or "[]"),
                approvals=dict(approvals.fetchall()),
            )

        return await self._run(find)

    async def open_signings(self) -> list[str]:
        """Ids of the sessions that are neither completed nor failed, oldest first."""
        statement = "SELECT signing_id FROM signings WHERE status NOT IN (?, ?) ORDER BY signing_id"
        final = (SigningStatus.COMPLETED, SigningStatus.FAILED)
        return await self._run(lambda db: [row[0] for row in db.execute(statement, final)])

    async def add_approval(self, signing_id: str, user_id: str, header: str) -> None:
        """Store an approval; the first one stands."""
        statement = "INSERT INTO approvals VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        await self._run(lambda db: db.execute(statement, (signing_id, user_id, header)))

    async def use_nonce(self, scope: str, nonce: str) -> bool:
        """Mark a header's nonce as used; false where it was."""
        statement = "INSERT INTO used_nonces VALUES (?, ?) ON CONFLICT DO NOTHING"
        return await self._run(lambda db: db.execute(statement, (scope, nonce)).rowcount == 1)

    async def counts(self) -> tuple[int, int, int]:
        """(sessions, of them open, participants) for the health report."""

        def count(db: sqlite3.Connection) -> tuple[int, int, int]:
            total = db.execute("SELECT count(*) FROM keygens").fetchone()[0]
            active = db.execute(
                "SELECT count(*) FROM keygens WHERE status IN (?, ?)",
                (KeygenStatus.RESERVED, KeygenStatus.COLLECTING_PARTICIPANTS),
            ).fetchone()[0]
            return total, active, db.execute("SELECT count(*) FROM participants").fetchone()[0]

        return await self._run(count)
