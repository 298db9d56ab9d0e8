"""The held payments of a competition."""

from __future__ import annotations

from coordinator.core import Core
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
        held = invoice is not None and invoice.state is InvoiceState.ACCEPTED
        if (
            not held
            or invoice is None
            or blocks_left(invoice, tip.height) <= core.settings.htlc_safety_blocks
        ):
            lost.append(ticket)
    return lost
