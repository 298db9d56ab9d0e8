"""Scores so far: the entries of a competition in order, from what the oracle has observed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from coordinator.core import Core
from coordinator.domain.competition import RosterPlayer
from coordinator.domain.scoring import entry_points, rank_entries
from coordinator.domain.states import (
    AwaitingEscrow,
    Cancelled,
    CollectingEntries,
    Created,
    EscrowConfirmed,
    Failed,
)
from coordinator.operations.entries import observation_choices
from coordinator.operations.listing import live_entries
from coordinator.ports.oracle import ObservationChoice, Reading, ScoringConfig
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import EntryRow

# The oracle is asked at most this often per competition, however many people look.
KEPT_SECONDS = 5
KEPT_BOARDS = 200
FINAL_STATUSES = frozenset({"completed", "signed"})


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One entry's place. `player_index` is -1 while the competition is open."""

    rank: int
    entry_id: str
    ticket_id: str
    player_index: int
    owner_pubkey: str
    points: int
    score: int


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All entries, best first. `final` once the observations do not change any more.

    `readings` are what the scores come from; None while nothing is scored.
    """

    rows: tuple[LeaderboardRow, ...]
    final: bool
    readings: tuple[Reading, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoredPrediction:
    """One prediction: what it is compared with (None: unknown), and what it has earned so far."""

    choice: ObservationChoice
    reference: float | None
    observed: float | None
    points: int


class Leaderboards:
    """Leaderboards, each kept for some seconds."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._boards: OrderedDict[str, tuple[float, Leaderboard]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, record: CompetitionRecord) -> Leaderboard:
        """The leaderboard of a competition.

        Raises:
            OracleUnavailable: the oracle does not answer now.
        """
        status = record.status
        if isinstance(status, Created | CollectingEntries):
            return _unscored(await live_entries(record.id), is_open=True)
        entries = await _in_roster(record.id, status.roster)
        started = self._core.clock.now() >= status.facts.terms.start_observation_at
        if not started or isinstance(status, AwaitingEscrow | EscrowConfirmed | Failed | Cancelled):
            return _unscored(entries, is_open=False)
        lock = self._locks.setdefault(record.id, asyncio.Lock())
        async with lock:
            clock = asyncio.get_running_loop().time
            kept = self._boards.get(record.id)
            if kept is None or (not kept[1].final and kept[0] < clock()):
                kept = clock() + KEPT_SECONDS, await self._scored(record, entries)
                self._boards[record.id] = kept
                while len(self._boards) > KEPT_BOARDS:
                    self._boards.popitem(last=False)
            return kept[1]

    async def _scored(self, record: CompetitionRecord, entries: Sequence[EntryRow]) -> Leaderboard:
        event = await self._core.oracle.get_event(record.id)
        scoring = ScoringConfig()
        metrics = self._core.oracle.metrics(record.status.facts.terms.scoring_fields)
        by_ticket = {entry.ticket_id: entry for entry in entries}
        # At the oracle an entry goes by its ticket's id.
        points = {
            ticket_id: entry_points(observation_choices(entry), event.readings, metrics, scoring)
            for ticket_id, entry in by_ticket.items()
        }
        rows = tuple(
            LeaderboardRow(
                rank=ranked.rank,
                entry_id=by_ticket[ranked.id].id,
                ticket_id=ranked.id,
                player_index=ranked.index,
                owner_pubkey=by_ticket[ranked.id].owner_pubkey,
                points=ranked.points,
                score=ranked.score,
            )
            for ranked in rank_entries(points, scoring.tiebreaker)
        )
        final = event.attestation is not None or event.status in FINAL_STATUSES
        return Leaderboard(rows, final, event.readings)

    async def predictions(self, record: CompetitionRecord, entry: EntryRow) -> list[ScoredPrediction]:
        """What each prediction of an entry has earned so far; empty while nothing is scored.

        Raises:
            OracleUnavailable: the oracle does not answer now.
        """
        readings = (await self.of(record)).readings
        if readings is None:
            return []
        metrics = self._core.oracle.metrics(record.status.facts.terms.scoring_fields)
        by_key = {(reading.source_id, reading.metric): reading for reading in readings}
        scored = []
        for choice in observation_choices(entry):
            reading = by_key.get((choice.source_id, choice.metric))
            points = entry_points([choice], readings, metrics, ScoringConfig())
            scored.append(
                ScoredPrediction(
                    choice,
                    reading.reference if reading else None,
                    reading.observed if reading else None,
                    points,
                )
            )
        return scored


async def _in_roster(competition_id: str, roster: Sequence[RosterPlayer]) -> list[EntryRow]:
    by_id = {entry.id: entry for entry in await EntryRow.filter(competition_id=competition_id)}
    return [by_id[player.entry_id] for player in roster]


def _unscored(entries: Sequence[EntryRow], *, is_open: bool) -> Leaderboard:
    """Everybody at zero, in order of ticket ids."""
    rows = tuple(
        LeaderboardRow(
            rank=index + 1,
            entry_id=entry.id,
            ticket_id=entry.ticket_id,
            player_index=-1 if is_open else index,
            owner_pubkey=entry.owner_pubkey,
            points=0,
            score=0,
        )
        for index, entry in enumerate(entries)
    )
    return Leaderboard(rows, final=False)
