"""The held payments of a competition."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.domain.htlcs import blocks_left
from coordinator.operations.tickets import cancel_ticket
from coordinator.ports.lightning import Invoice, InvoiceState
from coordinator.store.models import TicketRow


async def present_height(core: Core) -> int:
    """The tip's height, by the chain or by the Lightning node, whoever is ahead: the other one lags."""
    return max((await core.chain.tip()).height, (await core.lightning.info()).block_height)


async def unheld_tickets(core: Core, tickets: list[TicketRow]) -> list[TicketRow]:
    """Tickets whose payment is not held any more, or not for long enough to count on it."""
    height = await present_height(core)
    lost = []
    for ticket in tickets:
        invoice = await core.lightning.lookup_invoice(bytes.fromhex(ticket.ticket_hash))
        if not is_held(core, invoice, height):
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
