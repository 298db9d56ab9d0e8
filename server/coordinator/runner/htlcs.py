"""The held payments of a competition."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.domain.competition import Facts
from coordinator.domain.htlcs import (
    asked_blocks,
    blocks_left,
    least_blocks,
    longest_blocks_left,
    release_blocks,
)
from coordinator.domain.terms import Terms
from coordinator.operations.tickets import cancel_ticket, step_limits
from coordinator.ports.lightning import InvoiceState
from coordinator.store.models import TicketRow


async def present_height(core: Core) -> int:
    """The tip's height, by the chain or by the Lightning node, whoever is ahead: the other one lags."""
    return max((await core.chain.tip()).height, (await core.lightning.info()).block_height)


async def release_delay(core: Core, facts: Facts, tickets: list[TicketRow]) -> int:
    """How many blocks the releases of a closed competition's escrows are to wait, by its tickets' payments.

    Raises:
        LightningError, ChainUnavailable: they do not answer.
    """
    # Of chain and node whoever is behind: a longer delay never hurts a player.
    height = min((await core.chain.tip()).height, (await core.lightning.info()).block_height)
    longest = 0
    for ticket in tickets:
        invoice = await core.lightning.lookup_invoice(bytes.fromhex(ticket.ticket_hash))
        if invoice is not None:
            longest = max(longest, longest_blocks_left(invoice, height))
    # The first ticket's invoice asked for the most: it had to last for the longest time.
    most_asked = asked_blocks(
        facts.terms.start_observation_at,
        step_limits(core.settings),
        facts.created_at,
        core.settings.hold_invoice_cltv_blocks,
    )
    return release_blocks(longest, most_asked)


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
