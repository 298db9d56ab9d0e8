"""The held payments of a competition."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.operations.tickets import cancel_ticket
from coordinator.ports.lightning import HtlcState, Invoice, InvoiceState
from coordinator.store.models import TicketRow


def blocks_left(invoice: Invoice, tip_height: int) -> int:
    """Blocks until the first accepted HTLC of an invoice expires; 0 when none is held."""
    held = [htlc.expiry_height for htlc in invoice.htlcs if htlc.state is HtlcState.ACCEPTED]
    return max(0, min(held) - tip_height) if held else 0


async def unheld_tickets(core: Core, tickets: list[TicketRow]) -> list[TicketRow]:
    """Tickets whose payment is not held any more, or not for long enough to count on it."""
    tip = await core.chain.tip()
    lost = []
    for ticket in tickets:
        invoice = await core.lightning.lookup_invoice(bytes.fromhex(ticket.ticket_hash))
        if not is_held(core, invoice, tip.height):
            lost.append(ticket)
    return lost


def is_held(core: Core, invoice: Invoice | None, tip_height: int) -> bool:
    """Whether the payment is held, and for long enough to count on it."""
    return (
        invoice is not None
        and invoice.state is InvoiceState.ACCEPTED
        and blocks_left(invoice, tip_height) > core.settings.htlc_safety_blocks
    )


async def reconcile_held(core: Core, ticket: TicketRow) -> None:
    """While entries are collected: a paid ticket whose payment is gone, or about to go, gives its place back.

    Raises:
        LightningError: the node does not answer.
    """
    if await unheld_tickets(core, [ticket]):
        await cancel_ticket(core, ticket)
