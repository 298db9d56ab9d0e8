"""Competitions in the store: loading a state, and writing the next one together with its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tortoise.expressions import F

from coordinator.domain.errors import NotFound
from coordinator.domain.states import STATES, CompetitionStatus
from coordinator.domain.terms import Terms
from coordinator.store.atomic import atomic
from coordinator.store.codec import from_plain, to_plain
from coordinator.store.events import EventSignal, NewEvent, append_events
from coordinator.store.models import CompetitionRow


class StaleState(Exception):
    """Somebody else wrote the competition in between; load it again."""


@dataclass(frozen=True, slots=True)
class CompetitionRecord:
    """A competition as loaded: its state, and the version that a write must still find."""

    status: CompetitionStatus
    version: int
    sequence: int
    paused: bool
    state_changed_at: int
    next_attempt_at: int
    failed_attempts: int
    last_error: str
    progress_done: int
    progress_total: int
    at_rest: bool

    @property
    def id(self) -> str:
        """UUIDv7."""
        return self.status.facts.competition_id


def record_of(row: CompetitionRow) -> CompetitionRecord:
    """The record of a row."""
    status = from_plain(STATES[row.state_name], row.state)
    return CompetitionRecord(
        status=status,
        version=row.version,
        sequence=row.sequence,
        paused=row.paused,
        state_changed_at=row.state_changed_at,
        next_attempt_at=row.next_attempt_at,
        failed_attempts=row.failed_attempts,
        last_error=row.last_error,
        progress_done=row.progress_done,
        progress_total=row.progress_total,
        at_rest=row.at_rest,
    )


def terms_of(row: CompetitionRow) -> Terms:
    """The terms of a row."""
    return from_plain(Terms, row.terms)


class Competitions:
    """Repository of competitions."""

    def __init__(self, signal: EventSignal) -> None:
        self._signal = signal

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A database transaction; streams are woken once it is committed."""
        try:
            async with atomic():
                yield
        finally:
            # Also where a cancellation comes back from a transaction that was committed.
            self._signal.notify()

    async def insert(
        self, status: CompetitionStatus, now: int, events: Sequence[NewEvent]
    ) -> CompetitionRecord:
        """Stores a new competition. The id must be free."""
        async with self.transaction():
            facts = status.facts
            await CompetitionRow.create(
                id=facts.competition_id,
                terms=to_plain(facts.terms),
                state_name=status.name,
                state=to_plain(status),
                created_at=facts.created_at,
                state_changed_at=now,
            )
            sequence = await append_events(facts.competition_id, status.name, now, events)
            await CompetitionRow.filter(id=facts.competition_id).update(sequence=sequence)
        return await self.load(facts.competition_id)

    async def load(self, competition_id: str) -> CompetitionRecord:
        """One competition.

        Raises:
            NotFound: there is none with this id.
        """
        row = await CompetitionRow.get_or_none(id=competition_id)
        if row is None:
            raise NotFound(f"there is no competition {competition_id}", reason="COMPETITION_NOT_FOUND")
        return record_of(row)

    async def advance(
        self, record: CompetitionRecord, status: CompetitionStatus, now: int, events: Sequence[NewEvent] = ()
    ) -> None:
        """Writes the next state and its events; call it inside `transaction()` when more belongs to the step.

        A change of state adds its own `competition.state_changed` event before the given ones. The next
        attempt
        is due at once.

        Raises:
            StaleState: the competition was written since `record` was loaded.
        """
        async with self.transaction():
            changed = status.name != record.status.name
            told = list(events)
            if changed:
                told.insert(
                    0,
                    NewEvent("competition.state_changed", {"from": record.status.name, "to": status.name}),
                )
            updates: dict[str, object] = {
                "state_name": status.name,
                "state": to_plain(status),
                "version": F("version") + 1,
                "next_attempt_at": 0,
                "failed_attempts": 0,
                "last_error": "",
            }
            if changed:
                updates |= {"state_changed_at": now, "progress_done": 0, "progress_total": 0}
            written = await CompetitionRow.filter(id=record.id, version=record.version).update(**updates)
            if not written:
                raise StaleState(record.id)
            if told:
                sequence = await append_events(record.id, status.name, now, told)
                await CompetitionRow.filter(id=record.id).update(sequence=sequence)

    async def tell(self, competition_id: str, now: int, events: Sequence[NewEvent]) -> None:
        """Appends events that do not change the state; call it in the transaction of what they tell of."""
        async with self.transaction():
            row = await CompetitionRow.get(id=competition_id)
            sequence = await append_events(competition_id, row.state_name, now, events)
            await CompetitionRow.filter(id=competition_id).update(sequence=sequence)
