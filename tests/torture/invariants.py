"""What must hold of the event log and of the money, whatever happened to the core in between."""

from __future__ import annotations

import inspect
import json
import sqlite3
import typing
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from coordinator.domain.states import STATES
from coordinator_devnet.chain import ChainNode
from coordinator_devnet.lightning import LightningNetwork


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


def check_payments(network: LightningNetwork, books: Books) -> None:
    """The coordinator's node paid what the books say, each prize once."""
    paid = Counter(
        payment.amount_msats
        for payment in network.ledger.payments("coordinator")
        if payment.state.name == "SUCCEEDED"
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


class Settlements:
    """Sees every hold invoice settled on the coordinator's node: its funding must be in a block then."""

    def __init__(self, node: ChainNode, network: LightningNetwork, books: Books) -> None:
        self.early: list[str] = []
        self.hashes: Counter[str] = Counter()
        ledger = network.ledger
        settle = ledger.settle_invoice

        def watched(name: str, preimage: bytes) -> Any:
            ticket_hash = sha256(preimage).hexdigest()
            if name == "coordinator":
                self.hashes[ticket_hash] += 1
                txid = books.funding_txids().get(ticket_hash)
                if txid is None or node.index.transaction(txid) is None:
                    self.early.append(ticket_hash)
            return settle(name, preimage)

        ledger.settle_invoice = watched  # type: ignore[method-assign]


def fees_sats(node: ChainNode, books: Books) -> int:
    """What the competitions' confirmed transactions paid to miners."""
    txids = {e.data["txid"] for e in books.log() if e.kind == "transaction.broadcast"}
    confirmed = [node.index.transaction(txid) for txid in txids]
    return sum(found.fee_sats for found in confirmed if found is not None)
