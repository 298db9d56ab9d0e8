"""The event log: appended in the transaction of the change it tells of, read by every stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tortoise.expressions import F, Q

from coordinator.store.models import EventRow, SequenceRow
from coordinator.store.notifications import announce

PAGE = 500


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that is about to be stored. `audience_pubkey` empty: everybody may see it."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    audience_pubkey: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the log; `occurred_at` in unix seconds."""

    sequence: int
    competition_id: str
    kind: str
    state_name: str
    occurred_at: int
    data: Mapping[str, Any]
    audience_pubkey: str


class EventSignal:
    """Wakes streams after a commit. Waiting needs no lock on the log: who wakes reads it from its last
    sequence.
    """

    def __init__(self) -> None:
        self._condition = asyncio.Event()

    def notify(self) -> None:
        """Something was committed."""
        condition, self._condition = self._condition, asyncio.Event()
        condition.set()

    def waiter(self) -> asyncio.Event:
        """Take this before reading the log, wait on it after: a commit in between is not missed."""
        return self._condition


async def append_events(competition_id: str, state_name: str, now: int, events: Sequence[NewEvent]) -> int:
    """Stores events with the next sequences; call it inside the transaction of the change. Returns the last
    one.

    The counter's row is locked by its update until the transaction ends, so sequences become visible in order
    and have no gaps.
    """
    updated = await SequenceRow.filter(id=1).update(last_sequence=F("last_sequence") + len(events))
    if not updated:
        await SequenceRow.create(id=1, last_sequence=len(events))
    last: int = (await SequenceRow.get(id=1)).last_sequence
    first = last - len(events) + 1
    await EventRow.bulk_create(
        EventRow(
            sequence=first + offset,
            competition_id=competition_id,
            kind=event.kind,
            state_name=state_name,
            occurred_at=now,
            data=dict(event.data),
            audience_pubkey=event.audience_pubkey,
        )
        for offset, event in enumerate(events)
    )
    await announce(competition_id)
    return last


async def last_sequence() -> int:
    """The newest event's sequence, 0 when there is none."""
    row = await SequenceRow.get_or_none(id=1)
    return row.last_sequence if row else 0


async def read_events(
    after_sequence: int,
    *,
    competition_id: str = "",
    viewer_pubkey: str = "",
    sees_all: bool = False,
    limit: int = PAGE,
) -> list[StoredEvent]:
    """Events after a sequence in order, at most `limit`: public ones, and those for the viewer."""
    query = EventRow.filter(sequence__gt=after_sequence)
    if competition_id:
        query = query.filter(competition_id=competition_id)
    if not sees_all:
        query = query.filter(Q(audience_pubkey="") | Q(audience_pubkey=viewer_pubkey))
    rows = await query.order_by("sequence").limit(limit)
    return [
        StoredEvent(
            sequence=row.sequence,
            competition_id=row.competition_id,
            kind=row.kind,
            state_name=row.state_name,
            occurred_at=row.occurred_at,
            data=row.data,
            audience_pubkey=row.audience_pubkey,
        )
        for row in rows
    ]
