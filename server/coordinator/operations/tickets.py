"""Tickets: reserving a place, and what becomes of its payment before the competition closes."""

from __future__ import annotations

import hashlib
import secrets

from coordinator.config import Settings
from coordinator.core import Core
from coordinator.domain.errors import (
    Exhausted,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ServiceUnavailable,
)
from coordinator.domain.htlcs import StepLimits, asked_blocks, blocks_left, least_blocks
from coordinator.domain.ids import check_uuid7, new_uuid7
from coordinator.domain.states import CollectingEntries, Created
from coordinator.ports.lightning import InvoiceState, LightningError
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, TicketRow
from coordinator.store.tickets import TicketState, places_taken


async def request_ticket(core: Core, competition_id: str, owner_pubkey: str) -> TicketRow:
    """Reserves a place with a hold invoice, or returns the caller's reserved and unpaid ticket.

    Raises:
        InvalidInput: the id is malformed.
        NotFound: no such competition.
        PreconditionFailed: tickets are not sold (any more).
        Exhausted: every place is taken; says when a reservation runs out.
        ServiceUnavailable: the Lightning node gives no invoice; the reservation stays, asking again helps.
    """
    check_uuid7("competition_id", competition_id)
    record = await core.competitions.load(competition_id)
    check_open(core, record)
    ticket = await _reserved_ticket(competition_id, owner_pubkey, core.clock.now())
    if ticket is None:
        ticket = await _reserve(core, record, owner_pubkey)
    if not ticket.payment_request:
        await _add_invoice(core, ticket, record.status.facts.terms.start_observation_at)
    core.wake(competition_id)
    return ticket


async def get_ticket(core: Core, competition_id: str, ticket_id: str, owner_pubkey: str) -> TicketRow:
    """The caller's ticket, brought up to date with its invoice first.

    Raises:
        InvalidInput: an id is malformed.
        NotFound: no such ticket in this competition.
        PermissionDenied: it is another's.
    """
    check_uuid7("competition_id", competition_id)
    check_uuid7("ticket_id", ticket_id)
    ticket = await TicketRow.get_or_none(id=ticket_id, competition_id=competition_id)
    if ticket is None:
        raise NotFound(f"there is no ticket {ticket_id} in this competition", reason="TICKET_NOT_FOUND")
    if ticket.owner_pubkey != owner_pubkey:
        raise PermissionDenied("this ticket belongs to somebody else", reason="NOT_TICKET_OWNER")
    if ticket.state == TicketState.RESERVED:
        await reconcile_reserved(core, ticket)
    return ticket


def check_open(core: Core, record: CompetitionRecord) -> None:
    """Raises:
    PreconditionFailed: the competition takes nobody in now.
    """
    status = record.status
    if not isinstance(status, Created | CollectingEntries):
        raise PreconditionFailed(
            f"the competition is closed: it is {status.name}", reason="COMPETITION_CLOSED"
        )
    if core.clock.now() >= status.facts.terms.start_observation_at:
        raise PreconditionFailed("the observation window has started", reason="COMPETITION_STARTED")
    if record.paused:
        raise PreconditionFailed("new entries are paused", reason="COMPETITION_PAUSED")


async def reconcile_reserved(core: Core, ticket: TicketRow) -> None:
    """Takes over what happened to a reserved ticket's invoice: paid, or out of time.

    Raises:
        LightningError: the node does not answer.
    """
    now = core.clock.now()
    payment_hash = bytes.fromhex(ticket.ticket_hash)
    invoice = await core.lightning.lookup_invoice(payment_hash)
    state = invoice.state if invoice else None
    if invoice is not None and state is InvoiceState.ACCEPTED:
        tip = await core.chain.tip()
        left = blocks_left(invoice, tip.height)
        record = await core.competitions.load(ticket.competition_id)
        if left >= least_blocks(
            record.status.facts.terms.start_observation_at, step_limits(core.settings), now
        ):
            await _move(
                core,
                ticket,
                TicketState.PAID,
                NewEvent("ticket.paid", {"ticket_id": ticket.id, "amount_sats": ticket.amount_sats}),
                htlc_expiry_height=tip.height + left,
            )
            return
        # Its HTLC would run out before funding can confirm: give it back at once.
    elif now <= ticket.reserved_until_at and state is not InvoiceState.CANCELED:
        return
    if invoice is not None:
        await core.lightning.cancel_invoice(payment_hash)
    await _move(core, ticket, TicketState.EXPIRED, NewEvent("ticket.expired", {"ticket_id": ticket.id}))


async def cancel_ticket(core: Core, ticket: TicketRow) -> None:
    """Cancels the invoice, which returns a held payment at once, and closes the ticket. Repeating it is
    harmless.

    Raises:
        LightningError: the node does not answer, or the invoice is settled.
    """
    await core.lightning.cancel_invoice(bytes.fromhex(ticket.ticket_hash))
    await _move(core, ticket, TicketState.CANCELLED, NewEvent("ticket.cancelled", {"ticket_id": ticket.id}))


async def _move(core: Core, ticket: TicketRow, state: TicketState, event: NewEvent, **fields: object) -> None:
    """Writes the ticket's next state and tells the log, unless somebody else moved it in between."""
    async with core.competitions.transaction():
        moved = await TicketRow.filter(id=ticket.id, state=ticket.state).update(state=state, **fields)
        if moved:
            await core.competitions.tell(ticket.competition_id, core.clock.now(), [event])
    await ticket.refresh_from_db()


async def _reserved_ticket(competition_id: str, owner_pubkey: str, now: int) -> TicketRow | None:
    return await TicketRow.get_or_none(
        competition_id=competition_id,
        owner_pubkey=owner_pubkey,
        state=TicketState.RESERVED,
        reserved_until_at__gt=now,
    )


async def _reserve(core: Core, record: CompetitionRecord, owner_pubkey: str) -> TicketRow:
    now = core.clock.now()
    terms = record.status.facts.terms
    preimage = secrets.token_bytes(32)
    ticket_id = new_uuid7()
    async with core.competitions.transaction():
        # Lock the competition's row: two callers must not both see the last place free.
        await CompetitionRow.filter(id=record.id).select_for_update().get()
        existing = await _reserved_ticket(record.id, owner_pubkey, now)
        if existing is not None:
            return existing
        if await places_taken(record.id) >= terms.total_allowed_entries:
            raise await _exhausted(record.id, now)
        ticket = await TicketRow.create(
            id=ticket_id,
            competition_id=record.id,
            owner_pubkey=owner_pubkey,
            state=TicketState.RESERVED,
            ticket_hash=hashlib.sha256(preimage).hexdigest(),
            preimage_encrypted=core.box.seal(f"ticket-preimage:{ticket_id}", preimage),
            amount_sats=terms.entry_fee_sats,
            created_at=now,
            reserved_until_at=min(now + core.settings.ticket_reservation_seconds, terms.start_observation_at),
        )
        await core.competitions.tell(
            record.id,
            now,
            [
                NewEvent(
                    "ticket.reserved", {"ticket_id": ticket_id, "reserved_until_at": ticket.reserved_until_at}
                )
            ],
        )
    return ticket


async def _exhausted(competition_id: str, now: int) -> Exhausted:
    next_expiry = (
        await TicketRow.filter(competition_id=competition_id, state=TicketState.RESERVED)
        .order_by("reserved_until_at")
        .first()
    )
    if next_expiry is None:
        return Exhausted("every place is taken", reason="COMPETITION_FULL")
    return Exhausted(
        "every place is taken or reserved",
        reason="COMPETITION_FULL",
        retry_after_seconds=max(1, next_expiry.reserved_until_at - now),
    )


def step_limits(settings: Settings) -> StepLimits:
    """What may pass between the window's start and the settling of the payments, as configured."""
    return StepLimits(
        player_signing_seconds=settings.player_signing_seconds,
        keygen_seconds=settings.keygen_seconds,
        signing_seconds=settings.signing_seconds,
        escrow_confirmations=settings.escrow_confirmations,
        funding_confirmations=settings.funding_confirmations,
        htlc_safety_blocks=settings.htlc_safety_blocks,
    )


async def _add_invoice(core: Core, ticket: TicketRow, start_at: int) -> None:
    asked = asked_blocks(
        start_at, step_limits(core.settings), core.clock.now(), core.settings.hold_invoice_cltv_blocks
    )
    try:
        invoice = await core.lightning.add_hold_invoice(
            bytes.fromhex(ticket.ticket_hash),
            ticket.amount_sats * 1000,
            memo=f"Ticket {ticket.id}",
            expiry_seconds=max(1, ticket.reserved_until_at - core.clock.now()),
            cltv_expiry_blocks=asked,
        )
    except LightningError as error:
        raise ServiceUnavailable(
            "the Lightning node gives no invoice now", reason="LIGHTNING_UNAVAILABLE"
        ) from error
    ticket.payment_request = invoice.payment_request
    await ticket.save(update_fields=["payment_request"])
