"""What must hold of the event log and of the money, whatever happened to the core in between."""

from __future__ import annotations

import inspect
import json
import sqlite3
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from coordinator.domain.states import STATES
from coordinator_devnet.chain import ChainNode
from coordinator_devnet.lightning import LightningNetwork
from coordinator_devnet.lightning.network import DEFAULT_BALANCE_MSATS


@cache
def diagram() -> Mapping[str, frozenset[str]]:
    """From which state to which others there is a transition: read off the transitions' return types."""
    names = {kind: name for name, kind in STATES.items()}
    found: dict[str, frozenset[str]] = {}
    for name, kind in STATES.items():
        targets = set()
        for _, method in inspect.getmembers(kind, inspect.isfunction):
            target = typing.get_type_hints(method).get("return")
            if target in names and names[target] != name:
                targets.add(names[target])
        found[name] = frozenset(targets)
    return found


@dataclass(frozen=True)
class Logged:
    """An event as stored."""

    sequence: int
    competition_id: str
    kind: str
    state_name: str
    data: Mapping[str, Any]


class Books:
    """The core's database, read from outside the core."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()

    def log(self) -> list[Logged]:
        """The whole event log."""
        rows = self.rows(
            "SELECT sequence, competition_id, kind, state_name, data FROM events ORDER BY sequence"
        )
        return [Logged(*row[:4], json.loads(row[4])) for row in rows]

    def funding_txids(self) -> dict[str, str]:
        """Funding transaction by ticket hash, for every ticket whose competition has a contract."""
        rows = self.rows(
            "SELECT t.ticket_hash, c.state FROM tickets t JOIN competitions c ON c.id = t.competition_id"
        )
        states = ((ticket_hash, json.loads(state)) for ticket_hash, state in rows)
        return {
            ticket_hash: state["funding"]["txid"] for ticket_hash, state in states if state.get("funding")
        }


def check_log(books: Books) -> None:
    """Sequences have no gaps, and every competition went the diagram's ways only."""
    log = books.log()
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    state: dict[str, str] = {}
    for event in log:
        if event.kind == "competition.created":
            assert event.competition_id not in state
            state[event.competition_id] = "created"
        elif event.kind == "competition.state_changed":
            before, after = event.data["from"], event.data["to"]
            assert state[event.competition_id] == before, event
            assert after in diagram()[before], event
            state[event.competition_id] = after
        assert event.state_name == state[event.competition_id], event
    stored = dict(books.rows("SELECT id, state_name FROM competitions"))
    assert state == stored


def check_entries(books: Books) -> None:
    """A ticket has one entry at most, and the log tells of each entry once."""
    entries = books.rows("SELECT id, ticket_id FROM entries")
    assert max(Counter(ticket_id for _, ticket_id in entries).values(), default=1) == 1
    told = Counter(e.data["entry_id"] for e in books.log() if e.kind == "entry.submitted")
    assert told == Counter(entry_id for entry_id, _ in entries)
    once = Counter(
        (e.kind, e.data.get("ticket_id") or e.data.get("entry_id"))
        for e in books.log()
        if e.kind in ("ticket.paid", "ticket.settled", "ticket.cancelled", "ticket.expired", "payout.paid")
    )
    assert max(once.values(), default=1) == 1, once


@dataclass(frozen=True)
class LightningBefore:
    """The network before a competition: other competitions may have been played in it."""

    balances_msats: Mapping[str, int]
    payments: frozenset[bytes]

    @classmethod
    def of(cls, network: LightningNetwork) -> LightningBefore:
        """As it is now."""
        return cls(
            {name: network.ledger.balances(name).local_msats for name in network.nodes},
            frozenset(payment.payment_hash for payment in network.ledger.payments("coordinator")),
        )

    def changes_sats(self, network: LightningNetwork) -> dict[str, int]:
        """Sats won or lost since, by name, of the coordinator and of nodes that are new."""
        changes = {}
        for name in network.nodes:
            before = self.balances_msats.get(name)
            if before is None or name == "coordinator":
                funded = DEFAULT_BALANCE_MSATS if before is None else before
                changes[name] = (network.ledger.balances(name).local_msats - funded) // 1000
        return changes


def check_transactions(node: ChainNode, books: Books) -> None:
    """Every competition was escrowed, funded, decided and split once at most, by one transaction that the log
    tells of once and that is in a block.
    """
    sent: Counter[tuple[str, str]] = Counter()
    for event in books.log():
        if event.kind == "transaction.broadcast":
            sent[event.competition_id, event.data["role"]] += 1
            assert node.index.transaction(event.data["txid"]) is not None, event
    once = {key: n for key, n in sent.items() if key[1] not in ("release", "closing")}
    assert max(once.values(), default=1) == 1, once
    funded = {key[0] for key in sent if key[1] == "funding"}
    states = dict(books.rows("SELECT id, state_name FROM competitions"))
    assert funded == {key for key, name in states.items() if name == "completed"}


def check_settlements(settlements: Settlements, books: Books) -> None:
    """Every ticket of a funded competition was settled, no other."""
    settled = {
        ticket_hash
        for (ticket_hash,) in books.rows("SELECT ticket_hash FROM tickets WHERE state = 'settled'")
    }
    assert settled == set(settlements.hashes)
    unfunded = {
        ticket_hash
        for (ticket_hash,) in books.rows(
            "SELECT t.ticket_hash FROM tickets t JOIN competitions c ON c.id = t.competition_id"
            " WHERE c.state_name IN ('failed', 'cancelled')"
        )
    }
    assert not settled & unfunded


def check_payments(network: LightningNetwork, books: Books, before: LightningBefore) -> None:
    """The coordinator's node paid what the books say, each prize once."""
    paid = Counter(
        payment.amount_msats
        for payment in network.ledger.payments("coordinator")
        if payment.state.name == "SUCCEEDED" and payment.payment_hash not in before.payments
    )
    booked = Counter(
        amount_sats * 1000
        for (amount_sats,) in books.rows("SELECT amount_sats FROM payouts WHERE state = 'paid'")
    )
    assert paid == booked


def check_supply(node: ChainNode, network: LightningNetwork) -> None:
    """No satoshi is made or lost, on chain or in Lightning."""
    chain = node.supply()
    assert chain.issued_sats == chain.utxo_total_sats + chain.burned_sats
    lightning = network.supply()
    assert lightning.funded_msats == (
        lightning.balances_msats + lightning.in_flight_msats + lightning.routing_fees_msats
    )


@dataclass
class Settlements:
    """Hold invoices that were settled on the coordinator's node, by ticket hash, and those of them whose
    funding was not in a block then.
    """

    hashes: Counter[str] = field(default_factory=Counter)
    early: list[str] = field(default_factory=list)


@contextmanager
def watching_settlements(node: ChainNode, network: LightningNetwork, books: Books) -> Iterator[Settlements]:
    """Sees every hold invoice settled meanwhile."""
    seen = Settlements()
    ledger = network.ledger
    settle = ledger.settle_invoice

    def watched(name: str, preimage: bytes) -> Any:
        ticket_hash = sha256(preimage).hexdigest()
        if name == "coordinator":
            seen.hashes[ticket_hash] += 1
            txid = books.funding_txids().get(ticket_hash)
            if txid is None or node.index.transaction(txid) is None:
                seen.early.append(ticket_hash)
        return settle(name, preimage)

    ledger.settle_invoice = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        ledger.settle_invoice = settle  # type: ignore[method-assign]


def fees_sats(node: ChainNode, books: Books) -> int:
    """What the competitions' and the wallet's own transactions paid to miners; all of them are in blocks."""
    txids = {e.data["txid"] for e in books.log() if e.kind == "transaction.broadcast"}
    sends = books.rows("SELECT data FROM intents WHERE key LIKE 'send:%'")
    txids |= {json.loads(data)["txid"] for (data,) in sends}
    confirmed = [node.index.transaction(txid) for txid in txids]
    assert None not in confirmed
    return sum(found.fee_sats for found in confirmed if found is not None)
