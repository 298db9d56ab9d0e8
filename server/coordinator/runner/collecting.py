"""created and collecting_entries: tickets are paid or run out, and the collection closes."""

from __future__ import annotations

from coordinator.domain.competition import RosterPlayer
from coordinator.domain.endings import ending_words
from coordinator.domain.states import CollectingEntries, Created
from coordinator.operations.listing import live_entries
from coordinator.operations.tickets import cancel_ticket, reconcile_reserved
from coordinator.runner.htlcs import reconcile_held, unfit_tickets
from coordinator.runner.step import AT_ONCE, LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord, record_of
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, TicketRow
from coordinator.store.tickets import TicketState


async def collect(context: Context, record: CompetitionRecord, status: Created | CollectingEntries) -> Next:
    """Brings tickets up to date; closes when full, or when the window starts."""
    core = context.core
    for ticket in await TicketRow.filter(competition_id=record.id, state=TicketState.RESERVED):
        if core.clock.now() > ticket.reserved_until_at:
            await reconcile_reserved(core, ticket)
        else:
            await context.invoices.look(ticket, reconcile_reserved)
    for ticket in await TicketRow.filter(
        competition_id=record.id, state__in=(TicketState.PAID, TicketState.ENTERED)
    ):
        await context.invoices.look(ticket, reconcile_held)
    terms = status.facts.terms
    entries = await live_entries(record.id)
    full = len(entries) == terms.total_allowed_entries
    started = core.clock.now() >= terms.start_observation_at
    if not full and not started:
        return LATER
    tickets = await TicketRow.filter(competition_id=record.id, state=TicketState.ENTERED)
    for ticket in await unfit_tickets(core, terms, tickets):
        # Its payment is gone or about to go: the entry cannot take part, its place is free again.
        await cancel_ticket(core, ticket)
    entries = await live_entries(record.id)
    full = len(entries) == terms.total_allowed_entries
    if isinstance(status, CollectingEntries) and (full or (started and len(entries) >= terms.min_entries)):
        return await _close(context, record)
    if started:
        reason = f"only {len(entries)} of at least {terms.min_entries} entries when the window started"
        cancelled = status.cancel(reason)
        told = [NewEvent("competition.cancelled", {"reason": ending_words(cancelled)})]
        await core.competitions.advance(record, cancelled, core.clock.now(), told)
        return AT_ONCE
    return LATER


async def _close(context: Context, record: CompetitionRecord) -> Next:
    core = context.core
    now = core.clock.now()
    async with core.competitions.transaction():
        # Entries take this lock too: none can slip in while the roster is read.
        row = await CompetitionRow.filter(id=record.id).select_for_update().get()
        fresh = record_of(row)
        if not isinstance(fresh.status, CollectingEntries):
            return AT_ONCE
        keys = core.keys(record.id)
        roster = tuple(
            [
                RosterPlayer(
                    ticket_id=entry.ticket_id,
                    entry_id=entry.id,
                    ephemeral_pubkey=bytes.fromhex(entry.ephemeral_pubkey),
                    ticket_hash=bytes.fromhex((await entry.ticket).ticket_hash),
                    payout_hash=bytes.fromhex(entry.payout_hash),
                    escrow_coordinator_pubkey=keys.escrow_pubkey(entry.ticket_id),
                )
                for entry in await live_entries(record.id)
            ]
        )
        closed = fresh.status.close(roster, deadline_at=now + core.settings.player_signing_seconds)
        await core.competitions.advance(
            fresh, closed, now, [NewEvent("competition.closed", {"entries": len(roster)})]
        )
    return AT_ONCE
