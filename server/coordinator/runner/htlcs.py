"""The held payments of a competition."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.domain.htlcs import blocks_left, least_blocks
from coordinator.domain.terms import Terms
from coordinator.operations.tickets import cancel_ticket, step_limits
from coordinator.ports.lightning import InvoiceState
from coordinator.store.models import TicketRow


async def present_height(core: Core) -> int:
    """The tip's height, by the chain or by the Lightning node, whoever is ahead: the other one lags."""
    return max((await core.chain.tip()).height, (await core.lightning.info()).block_height)


async def unheld_tickets(core: Core, tickets: list[TicketRow], at_least: int = 0) -> list[TicketRow]:
    """Tickets whose payment is not held any more, or not for long enough to count on it: more blocks than the
    configured safety, and no fewer than `at_least`.
    """
    height = await present_height(core)
    least = max(core.settings.htlc_safety_blocks + 1, at_least)
    lost = []
    for ticket in tickets:
        invoice = await core.lightning.lookup_invoice(bytes.fromhex(ticket.ticket_hash))
        held = invoice is not None and invoice.state is InvoiceState.ACCEPTED
        if invoice is None or not held or blocks_left(invoice, height) < least:
            lost.append(ticket)
    return lost


async def unfit_tickets(core: Core, terms: Terms, tickets: list[TicketRow]) -> list[TicketRow]:
    """While entries are collected: tickets whose payment may be gone before the funding is settled."""
    least = least_blocks(terms.start_observation_at, step_limits(core.settings), core.clock.now())
    return await unheld_tickets(core, tickets, least)


async def reconcile_held(core: Core, ticket: TicketRow) -> None:
    """While entries are collected: a paid ticket whose payment is gone, or not held for long enough, gives
    its place back.

    Raises:
        LightningError: the node does not answer.
    """
    record = await core.competitions.load(ticket.competition_id)
    if await unfit_tickets(core, record.status.facts.terms, [ticket]):
        await cancel_ticket(core, ticket)
