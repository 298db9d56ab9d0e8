"""Lists of competitions, with their counts, and of entries: pages that later items do not shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tortoise.expressions import Q
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from coordinator.core import Core
from coordinator.domain.ids import check_uuid7
from coordinator.domain.states import TERMINAL
from coordinator.store.competitions import CompetitionRecord, record_of
from coordinator.store.models import CompetitionRow, EntryRow, TicketRow
from coordinator.store.tickets import TicketState

Position = tuple[int, str]
"""Where a page ended: when its last item was created (unix seconds), and that item's id."""

HOLDING_AN_ENTRY = (TicketState.ENTERED, TicketState.SETTLED)
_PAID = (TicketState.PAID, *HOLDING_AN_ENTRY)


@dataclass(frozen=True, slots=True)
class Counts:
    """Tickets and entries of a competition."""

    reserved_tickets: int = 0
    paid_tickets: int = 0
    live_entries: int = 0
    """Entries whose payment is held or settled."""
    all_entries: int = 0


async def counts_of(competition_ids: Sequence[str]) -> Mapping[str, Counts]:
    """Counts of several competitions, by id."""
    if not competition_ids:
        return {}
    tickets = (
        await TicketRow.filter(competition_id__in=competition_ids)
        .annotate(number=Count("id"))
        .group_by("competition_id", "state")
        .values("competition_id", "state", "number")
    )
    entries = (
        await EntryRow.filter(competition_id__in=competition_ids)
        .annotate(number=Count("id"))
        .group_by("competition_id")
        .values("competition_id", "number")
    )

    def tickets_in(competition_id: str, states: Sequence[TicketState]) -> int:
        return sum(
            row["number"]
            for row in tickets
            if row["competition_id"] == competition_id and row["state"] in states
        )

    entered = {row["competition_id"]: row["number"] for row in entries}
    return {
        competition_id: Counts(
            reserved_tickets=tickets_in(competition_id, (TicketState.RESERVED,)),
            paid_tickets=tickets_in(competition_id, _PAID),
            live_entries=tickets_in(competition_id, HOLDING_AN_ENTRY),
            all_entries=entered.get(competition_id, 0),
        )
        for competition_id in competition_ids
    }


async def list_competitions(
    states: Sequence[str], limit: int, after: Position | None
) -> list[CompetitionRecord]:
    """Competitions, newest first; those in one of the states, if any are named."""
    query = CompetitionRow.filter(state_name__in=states) if states else CompetitionRow.all()
    if after is not None:
        created_at, last_id = after
        query = query.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, id__lt=last_id))
    return [record_of(row) for row in await query.order_by("-created_at", "-id").limit(limit)]


async def live_competitions() -> list[CompetitionRecord]:
    """Every competition that has not ended, oldest first."""
    rows = await CompetitionRow.filter(state_name__not_in=sorted(TERMINAL)).order_by("created_at", "id")
    return [record_of(row) for row in rows]


async def entries_of_competition(
    core: Core, competition_id: str, limit: int, after: Position | None
) -> list[EntryRow]:
    """A competition's entries in order of creation.

    Raises:
        InvalidInput, NotFound: as the names say.
    """
    check_uuid7("competition_id", competition_id)
    await core.competitions.load(competition_id)
    return await _page(EntryRow.filter(competition_id=competition_id), limit, after)


async def entries_of_owner(owner_pubkey: str, limit: int, after: Position | None) -> list[EntryRow]:
    """A player's entries of all competitions in order of creation."""
    return await _page(EntryRow.filter(owner_pubkey=owner_pubkey), limit, after)


async def live_entries(competition_id: str) -> list[EntryRow]:
    """The entries that take part, in order of their tickets' ids (which is the player index once closed)."""
    return await EntryRow.filter(competition_id=competition_id, ticket__state__in=HOLDING_AN_ENTRY).order_by(
        "ticket_id"
    )


async def records_of(competition_ids: Sequence[str]) -> Mapping[str, CompetitionRecord]:
    """Several competitions by id."""
    rows = await CompetitionRow.filter(id__in=sorted(set(competition_ids)))
    return {row.id: record_of(row) for row in rows}


async def _page(query: QuerySet[EntryRow], limit: int, after: Position | None) -> list[EntryRow]:
    if after is not None:
        created_at, last_id = after
        query = query.filter(Q(created_at__gt=created_at) | Q(created_at=created_at, id__gt=last_id))
    return await query.order_by("created_at", "id").limit(limit)
