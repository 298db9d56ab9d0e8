"""The money of the devnet's Lightning network: who owns what, and what is locked in which HTLC.

Every public method is one SQLite transaction, committed before it returns, so that a killed process continues
where it stood. Changes are announced to subscribers after the commit. The rules (states, errors, texts) are
LND's, from its `invoices` and `routing` packages.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from .records import (
    Balances,
    FailureReason,
    Htlc,
    HtlcState,
    Invoice,
    InvoiceState,
    Payment,
    PaymentState,
    Supply,
)

MIN_CLTV_MARGIN_BLOCKS = 19
"""LND refuses an HTLC that expires sooner than this (`DefaultFinalCltvRejectDelta`)."""

INCORRECT_DETAILS = "INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"
NO_CAPACITY = "TEMPORARY_CHANNEL_FAILURE"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    port INTEGER,
    funded_msats INTEGER NOT NULL,
    capacity_msats INTEGER NOT NULL,
    balance_msats INTEGER NOT NULL CHECK (balance_msats >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS invoices (
    node TEXT NOT NULL,
    add_index INTEGER NOT NULL,
    payment_hash BLOB NOT NULL,
    preimage BLOB,
    hold INTEGER NOT NULL,
    memo TEXT NOT NULL,
    description_hash BLOB,
    value_msats INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expiry_seconds INTEGER NOT NULL,
    cltv_expiry_blocks INTEGER NOT NULL,
    payment_secret BLOB NOT NULL,
    payment_request TEXT NOT NULL,
    state TEXT NOT NULL,
    amount_paid_msats INTEGER NOT NULL,
    settle_index INTEGER,
    settled_at INTEGER,
    PRIMARY KEY (node, payment_hash)
) STRICT;
CREATE INDEX IF NOT EXISTS pending_invoices ON invoices (created_at) WHERE state IN ('OPEN', 'ACCEPTED');
CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node TEXT NOT NULL,
    payment_hash BLOB NOT NULL,
    payment_request TEXT NOT NULL,
    destination BLOB NOT NULL,
    amount_msats INTEGER NOT NULL,
    fee_msats INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    preimage BLOB,
    failure TEXT,
    UNIQUE (node, payment_hash)
) STRICT;
CREATE TABLE IF NOT EXISTS htlcs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    payment_id INTEGER NOT NULL,
    payer TEXT NOT NULL,
    payee TEXT NOT NULL,
    payment_hash BLOB NOT NULL,
    payment_secret BLOB,
    amount_msats INTEGER NOT NULL CHECK (amount_msats > 0),
    fee_msats INTEGER NOT NULL CHECK (fee_msats >= 0),
    expiry_height INTEGER NOT NULL,
    state TEXT NOT NULL,
    sent_ns INTEGER NOT NULL,
    accept_height INTEGER,
    accepted_at INTEGER,
    resolved_ns INTEGER,
    failure TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS htlcs_by_payment ON htlcs (payment_id);
CREATE INDEX IF NOT EXISTS htlcs_by_invoice ON htlcs (payee, payment_hash);
CREATE INDEX IF NOT EXISTS pending_htlcs ON htlcs (state) WHERE state IN ('SENT', 'ACCEPTED');
"""

_Record = TypeVar("_Record", Invoice, Payment)
Queue = asyncio.Queue[Invoice | Payment]


class LedgerError(Exception):
    """The request is impossible; nothing was changed. The text is what LND says."""


class InvoiceNotFound(LedgerError):
    """No such invoice."""

    def __init__(self) -> None:
        super().__init__("unable to locate invoice")


class PaymentNotFound(LedgerError):
    """The payment was never attempted."""

    def __init__(self) -> None:
        super().__init__("payment isn't initiated")


class InvoiceAlreadySettled(LedgerError):
    """The invoice is settled, and so cannot be canceled."""

    def __init__(self) -> None:
        super().__init__("invoice already settled")


class PaymentExists(LedgerError):
    """The payment is in flight or has succeeded: paying again could pay twice."""


class Ledger:
    """Nodes, invoices, payments and HTLCs, kept in one SQLite file.

    Args:
        path: the database file.
        clock: seconds since the epoch.
        hold_expiry_delta_blocks: how many blocks before its HTLC expires an accepted hold invoice is
            canceled, so that no channel must be closed (LND's `invoices.holdexpirydelta`).
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], hold_expiry_delta_blocks: int) -> None:
        self._clock = clock
        self._hold_expiry_delta_blocks = hold_expiry_delta_blocks
        self._subscribers: dict[tuple[str, str, bytes], set[Queue]] = {}
        self._changed: list[Invoice | Payment] | None = None
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # With a write-ahead log a commit survives the death of the process; only a power cut could lose it.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # -- Nodes

    def add_node(self, name: str, *, balance_msats: int, capacity_msats: int) -> None:
        """Fund a new node with a channel into the network; one that exists is left as it is."""
        if not 0 <= balance_msats <= capacity_msats:
            raise LedgerError("the balance must lie between zero and the capacity")
        with self._transaction():
            self._db.execute(
                "INSERT INTO nodes (name, position, funded_msats, capacity_msats, balance_msats)"
                " VALUES (?1, (SELECT count(*) FROM nodes), ?2, ?3, ?2) ON CONFLICT DO NOTHING",
                (name, balance_msats, capacity_msats),
            )

    def node_names(self) -> list[str]:
        """All nodes, oldest first."""
        return [row["name"] for row in self._db.execute("SELECT name FROM nodes ORDER BY position")]

    def port(self, name: str) -> int | None:
        """The port where the node was served last."""
        row = self._db.execute("SELECT port FROM nodes WHERE name = ?", (name,)).fetchone()
        return None if row is None else row["port"]

    def remember_port(self, name: str, port: int) -> None:
        """Keep the port, so that the node is found there after a restart."""
        with self._transaction():
            self._db.execute("UPDATE nodes SET port = ? WHERE name = ?", (port, name))

    def balances(self, name: str) -> Balances:
        """What the node's channels hold."""
        row = self._db.execute(
            """
            SELECT capacity_msats, balance_msats AS local_msats,
                (SELECT coalesce(sum(amount_msats + fee_msats), 0) FROM htlcs
                    WHERE payer = ?1 AND state IN ('SENT', 'ACCEPTED')) AS outgoing_msats,
                (SELECT coalesce(sum(amount_msats), 0) FROM htlcs
                    WHERE payee = ?1 AND state = 'ACCEPTED') AS incoming_msats
            FROM nodes WHERE name = ?1
            """,
            (name,),
        ).fetchone()
        return Balances(**row)

    def supply(self) -> Supply:
        """All money, for checking that none is made or lost."""
        row = self._db.execute(
            """
            SELECT (SELECT coalesce(sum(funded_msats), 0) FROM nodes) AS funded_msats,
                (SELECT coalesce(sum(balance_msats), 0) FROM nodes) AS balances_msats,
                (SELECT coalesce(sum(amount_msats + fee_msats), 0) FROM htlcs
                    WHERE state IN ('SENT', 'ACCEPTED')) AS in_flight_msats,
                (SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'routing_fees_msats')
                    AS routing_fees_msats
            """
        ).fetchone()
        return Supply(**row)

    # -- Invoices

    def add_invoice(
        self,
        node: str,
        *,
        payment_hash: bytes,
        preimage: bytes | None,
        memo: str,
        description_hash: bytes | None,
        value_msats: int,
        created_at: int,
        expiry_seconds: int,
        cltv_expiry_blocks: int,
        payment_secret: bytes,
        payment_request: str,
    ) -> Invoice:
        """Add an invoice: a hold invoice when no preimage is given.

        Raises:
            LedgerError: the node has an invoice with this hash.
        """
        with self._transaction():
            if self.find_invoice(node, payment_hash) is not None:
                raise LedgerError("invoice with payment hash already exists")
            self._db.execute(
                "INSERT INTO invoices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'OPEN', 0, NULL, NULL)",
                (
                    node,
                    self._next(f"add_index:{node}"),
                    payment_hash,
                    preimage,
                    preimage is None,
                    memo,
                    description_hash,
                    value_msats,
                    created_at,
                    expiry_seconds,
                    cltv_expiry_blocks,
                    payment_secret,
                    payment_request,
                ),
            )
            return self._announce(self.invoice(node, payment_hash))

    def invoice(self, node: str, payment_hash: bytes) -> Invoice:
        """The node's invoice for this hash.

        Raises:
            InvoiceNotFound: it has none.
        """
        if (invoice := self.find_invoice(node, payment_hash)) is None:
            raise InvoiceNotFound
        return invoice

    def find_invoice(self, node: str, payment_hash: bytes) -> Invoice | None:
        """The node's invoice for this hash, or None."""
        rows = self._invoices("node = ? AND payment_hash = ?", (node, payment_hash))
        return rows[0] if rows else None

    def invoices(self, node: str) -> list[Invoice]:
        """All invoices of the node, oldest first."""
        return self._invoices("node = ? ORDER BY add_index", (node,))

    def settle_invoice(self, node: str, preimage: bytes) -> Invoice:
        """Reveal the preimage: the held HTLC becomes the payee's. A settled invoice is left as it is.

        Raises:
            InvoiceNotFound, LedgerError: the invoice is canceled, or no HTLC is held.
        """
        with self._transaction():
            invoice = self.invoice(node, sha256(preimage).digest())
            match invoice.state:
                case InvoiceState.SETTLED:
                    return invoice
                case InvoiceState.CANCELED:
                    raise LedgerError("invoice already canceled")
                case InvoiceState.OPEN:
                    raise LedgerError("invoice still open")
                case InvoiceState.ACCEPTED:
                    return self._settle(invoice, preimage)

    def cancel_invoice(self, node: str, payment_hash: bytes) -> Invoice:
        """Cancel the invoice and give held HTLCs back. A canceled invoice is left as it is.

        Raises:
            InvoiceNotFound, InvoiceAlreadySettled
        """
        with self._transaction():
            invoice = self.invoice(node, payment_hash)
            match invoice.state:
                case InvoiceState.CANCELED:
                    return invoice
                case InvoiceState.SETTLED:
                    raise InvoiceAlreadySettled
                case InvoiceState.OPEN | InvoiceState.ACCEPTED:
                    return self._cancel(invoice)

    def expire(self, height: int | None) -> None:
        """Cancel what has run out: open invoices by time, accepted ones by their HTLCs' expiry height."""
        now = self._clock()
        limit = -1 if height is None else height + self._hold_expiry_delta_blocks
        due = self._invoices(
            """
            state = 'OPEN' AND created_at + expiry_seconds < ? OR state = 'ACCEPTED' AND EXISTS (
                SELECT 1 FROM htlcs WHERE htlcs.payee = invoices.node
                    AND htlcs.payment_hash = invoices.payment_hash
                    AND htlcs.state = 'ACCEPTED' AND htlcs.expiry_height <= ?)
            """,
            (now, limit),
        )
        for invoice in due:
            with self._transaction():
                self._cancel(invoice)

    # -- Payments

    def start_payment(
        self,
        node: str,
        *,
        payee: str | None,
        destination: bytes,
        payment_hash: bytes,
        payment_secret: bytes | None,
        payment_request: str,
        amount_msats: int,
        fee_msats: int,
        fee_limit_msats: int,
        expiry_height: int,
    ) -> Payment:
        """Record the payment and lock its HTLC at the payer; a payment that finds no way has failed at once.

        `payee` is None when the destination is no node of this network. `deliver` brings the HTLC to it.

        Raises:
            PaymentExists: it is in flight or has succeeded. A failed one is started anew.
        """
        with self._transaction():
            match self.find_payment(node, payment_hash):
                case Payment(state=PaymentState.IN_FLIGHT):
                    raise PaymentExists("payment is in transition")
                case Payment(state=PaymentState.SUCCEEDED):
                    raise PaymentExists("invoice is already paid")
            self._db.execute("DELETE FROM payments WHERE node = ? AND payment_hash = ?", (node, payment_hash))

            failure: FailureReason | None = None
            if amount_msats + fee_msats > self.balances(node).local_msats:
                failure = FailureReason.INSUFFICIENT_BALANCE
            elif payee is None or fee_msats > fee_limit_msats:
                failure = FailureReason.NO_ROUTE
            sent_ns = self._now_ns()
            payment_id = self._db.execute(
                "INSERT INTO payments (node, payment_hash, payment_request, destination, amount_msats,"
                " fee_msats, created_ns, state, failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    node,
                    payment_hash,
                    payment_request,
                    destination,
                    amount_msats,
                    0 if failure else fee_msats,
                    sent_ns,
                    PaymentState.FAILED if failure else PaymentState.IN_FLIGHT,
                    failure,
                ),
            ).lastrowid
            if failure is None:
                self._credit(node, -(amount_msats + fee_msats))
                self._db.execute(
                    "INSERT INTO htlcs (payment_id, payer, payee, payment_hash, payment_secret, amount_msats,"
                    " fee_msats, expiry_height, state, sent_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'SENT', ?)",
                    (
                        payment_id,
                        node,
                        payee,
                        payment_hash,
                        payment_secret,
                        amount_msats,
                        fee_msats,
                        expiry_height,
                        sent_ns,
                    ),
                )
            return self._announce(self.payment(node, payment_hash))

    def deliver(self, height: int) -> None:
        """Bring every HTLC that is on its way to its payee, who accepts, settles or refuses it."""
        for htlc in self._htlcs("state = 'SENT' ORDER BY id", ()):
            with self._transaction():
                self._receive(htlc, height)

    def payment(self, node: str, payment_hash: bytes) -> Payment:
        """The node's payment for this hash.

        Raises:
            PaymentNotFound: there was none.
        """
        if (payment := self.find_payment(node, payment_hash)) is None:
            raise PaymentNotFound
        return payment

    def find_payment(self, node: str, payment_hash: bytes) -> Payment | None:
        """The node's payment for this hash, or None."""
        payments = self._payments("node = ? AND payment_hash = ?", (node, payment_hash))
        return payments[0] if payments else None

    def payments(self, node: str) -> list[Payment]:
        """All payments of the node, oldest first."""
        return self._payments("node = ? ORDER BY id", (node,))

    # -- Announcements

    @contextmanager
    def invoice_changes(self, node: str, payment_hash: bytes | None = None) -> Iterator[Queue]:
        """A queue of this invoice (or of every invoice of the node) as it changes from now on."""
        with self._subscription(("invoice", node, payment_hash or b"")) as queue:
            yield queue

    @contextmanager
    def payment_changes(self, node: str, payment_hash: bytes) -> Iterator[Queue]:
        """A queue of this payment as it changes from now on."""
        with self._subscription(("payment", node, payment_hash)) as queue:
            yield queue

    # -- What happens to an HTLC

    def _receive(self, htlc: Htlc, height: int) -> None:
        """The payee's decision, by LND's rules (`invoices/update.go`)."""
        invoice = self.find_invoice(htlc.payee, htlc.payment_hash)
        if htlc.amount_msats > self.balances(htlc.payee).remote_msats:
            self._fail(htlc, NO_CAPACITY, FailureReason.NO_ROUTE)
        elif (
            invoice is None
            or invoice.state is not InvoiceState.OPEN
            or invoice.created_at + invoice.expiry_seconds < self._clock()
            or htlc.payment_secret != invoice.payment_secret
            or htlc.amount_msats < invoice.value_msats
            or htlc.expiry_height < height + max(MIN_CLTV_MARGIN_BLOCKS, invoice.cltv_expiry_blocks)
        ):
            # One answer for all, so that a payer cannot probe which invoices exist (BOLT 4).
            self._fail(htlc, INCORRECT_DETAILS, FailureReason.INCORRECT_PAYMENT_DETAILS)
        else:
            self._db.execute(
                "UPDATE htlcs SET state = 'ACCEPTED', accept_height = ?, accepted_at = ? WHERE id = ?",
                (height, int(self._clock()), htlc.id),
            )
            self._db.execute(
                "UPDATE invoices SET state = 'ACCEPTED', amount_paid_msats = ?"
                " WHERE node = ? AND payment_hash = ?",
                (htlc.amount_msats, htlc.payee, htlc.payment_hash),
            )
            accepted = self.invoice(htlc.payee, htlc.payment_hash)
            if accepted.preimage is None:
                self._announce(accepted)
            else:
                self._settle(accepted, accepted.preimage)

    def _settle(self, invoice: Invoice, preimage: bytes) -> Invoice:
        for htlc in invoice.htlcs:
            if htlc.state is HtlcState.ACCEPTED:
                self._resolve(htlc, HtlcState.SETTLED)
                self._credit(htlc.payee, htlc.amount_msats)
                self._add("routing_fees_msats", htlc.fee_msats)
                self._db.execute(
                    "UPDATE payments SET state = 'SUCCEEDED', preimage = ? WHERE id = ?",
                    (preimage, htlc.payment_id),
                )
                self._announce(self.payment(htlc.payer, htlc.payment_hash))
        self._db.execute(
            "UPDATE invoices SET state = 'SETTLED', preimage = ?, settle_index = ?, settled_at = ?"
            " WHERE node = ? AND payment_hash = ?",
            (
                preimage,
                self._next(f"settle_index:{invoice.node}"),
                int(self._clock()),
                invoice.node,
                invoice.payment_hash,
            ),
        )
        return self._announce(self.invoice(invoice.node, invoice.payment_hash))

    def _cancel(self, invoice: Invoice) -> Invoice:
        for htlc in invoice.htlcs:
            if htlc.state is HtlcState.ACCEPTED:
                self._fail(htlc, INCORRECT_DETAILS, FailureReason.INCORRECT_PAYMENT_DETAILS)
        self._db.execute(
            "UPDATE invoices SET state = 'CANCELED' WHERE node = ? AND payment_hash = ?",
            (invoice.node, invoice.payment_hash),
        )
        return self._announce(self.invoice(invoice.node, invoice.payment_hash))

    def _fail(self, htlc: Htlc, failure: str, reason: FailureReason) -> None:
        """Give the HTLC back to the payer, whose payment has failed."""
        self._resolve(htlc, HtlcState.CANCELED, failure)
        self._credit(htlc.payer, htlc.amount_msats + htlc.fee_msats)
        self._db.execute(
            "UPDATE payments SET state = 'FAILED', failure = ?, fee_msats = 0 WHERE id = ?",
            (reason, htlc.payment_id),
        )
        self._announce(self.payment(htlc.payer, htlc.payment_hash))

    def _resolve(self, htlc: Htlc, state: HtlcState, failure: str | None = None) -> None:
        self._db.execute(
            "UPDATE htlcs SET state = ?, failure = ?, resolved_ns = ? WHERE id = ?",
            (state, failure, self._now_ns(), htlc.id),
        )

    def _credit(self, node: str, amount_msats: int) -> None:
        self._db.execute(
            "UPDATE nodes SET balance_msats = balance_msats + ? WHERE name = ?", (amount_msats, node)
        )

    # -- SQLite

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; subscribers hear of the changes once they are committed."""
        self._db.execute("BEGIN IMMEDIATE")
        changed: list[Invoice | Payment] = []
        self._changed = changed
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            self._changed = None
        for record in changed:
            kind = "invoice" if isinstance(record, Invoice) else "payment"
            for key in {(kind, record.node, record.payment_hash), (kind, record.node, b"")}:
                for queue in self._subscribers.get(key, ()):
                    queue.put_nowait(record)

    def _announce(self, record: _Record) -> _Record:
        assert self._changed is not None, "only within a transaction"
        self._changed.append(record)
        return record

    @contextmanager
    def _subscription(self, key: tuple[str, str, bytes]) -> Iterator[Queue]:
        queue: Queue = asyncio.Queue()
        queues = self._subscribers.setdefault(key, set())
        queues.add(queue)
        try:
            yield queue
        finally:
            queues.discard(queue)
            if not queues:
                self._subscribers.pop(key, None)

    def _next(self, counter: str) -> int:
        return self._add(counter, 1)

    def _add(self, counter: str, amount: int) -> int:
        row = self._db.execute(
            "INSERT INTO counters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value",
            (counter, amount),
        ).fetchone()
        return int(row["value"])

    def _invoices(self, where: str, parameters: Sequence[Any]) -> list[Invoice]:
        rows = self._db.execute(f"SELECT * FROM invoices WHERE {where}", parameters).fetchall()  # noqa: S608
        return [
            Invoice(
                **{
                    **row,
                    "hold": bool(row["hold"]),
                    "state": InvoiceState(row["state"]),
                    "htlcs": tuple(
                        self._htlcs(
                            "payee = ? AND payment_hash = ? AND accept_height IS NOT NULL ORDER BY id",
                            (row["node"], row["payment_hash"]),
                        )
                    ),
                }
            )
            for row in rows
        ]

    def _payments(self, where: str, parameters: Sequence[Any]) -> list[Payment]:
        rows = self._db.execute(f"SELECT * FROM payments WHERE {where}", parameters).fetchall()  # noqa: S608
        return [
            Payment(
                **{
                    **row,
                    "state": PaymentState(row["state"]),
                    "failure": FailureReason(row["failure"]) if row["failure"] else None,
                    "htlcs": tuple(self._htlcs("payment_id = ? ORDER BY id", (row["id"],))),
                }
            )
            for row in rows
        ]

    def _htlcs(self, where: str, parameters: Sequence[Any]) -> list[Htlc]:
        rows = self._db.execute(f"SELECT * FROM htlcs WHERE {where}", parameters).fetchall()  # noqa: S608
        return [Htlc(**{**row, "state": HtlcState(row["state"])}) for row in rows]

    def _now_ns(self) -> int:
        return int(self._clock() * 1_000_000_000)
