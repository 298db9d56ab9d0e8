"""funding_ready to funding_settled: the pot is locked in the contract, then the held payments are settled."""

from __future__ import annotations

import asyncio
import logging

from coordinator.contract.escrow import ESCROW_CLAWBACK_BLOCKS
from coordinator.core import Core
from coordinator.domain.contracts import rebuild_funding
from coordinator.domain.htlcs import SETTLE_MARGIN_BLOCKS, blocks_left
from coordinator.domain.states import FundingBroadcasted, FundingConfirmed, FundingReady, FundingSettled
from coordinator.domain.wallet.coins import Branch
from coordinator.operations.listing import live_entries
from coordinator.ports.lightning import InvoiceState
from coordinator.runner.htlcs import present_height, unheld_tickets
from coordinator.runner.onchain import broadcast_of, confirmations, decide, depth, follow
from coordinator.runner.oracle_watch import check_before_funding
from coordinator.runner.step import AT_ONCE, LATER, Context, GiveUp, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.intents import attempt_intent, finish_intent, record_intent
from coordinator.store.models import TicketRow
from coordinator.store.tickets import IntentStatus, TicketState
from coordinator.wallet import BURIED_BLOCKS, to_wallet_coin

log = logging.getLogger(__name__)


async def complete_funding(context: Context, record: CompetitionRecord, status: FundingReady) -> Next:
    """Waits for the players' signatures, checks that every payment is still held, records the transaction."""
    core = context.core
    now = core.clock.now()
    # What the funding is to spend must be there; a reorganisation may have taken it away.
    await follow(core, record.id, "escrow", status.escrow_broadcast)
    entries = await live_entries(record.id)
    unsigned = [entry.id for entry in entries if not entry.funding_signature]
    if unsigned:
        if now > status.deadline_at:
            raise GiveUp(f"{len(unsigned)} of {len(entries)} players did not sign the funding in time")
        return LATER
    tickets = await TicketRow.filter(competition_id=record.id, state=TicketState.ENTERED)
    if len(tickets) != len(status.roster) or await unheld_tickets(core, tickets):
        raise GiveUp("a player's payment was withdrawn or ran out before the contract was funded")
    await check_before_funding(core, record.id, status)
    coins = [to_wallet_coin(coin, core.wallet.keys) for coin in status.funding.coins]
    funding = await asyncio.to_thread(rebuild_funding, status, coins)
    keys = core.keys(record.id)
    secrets = [keys.escrow_secret(player.ticket_id) for player in status.roster]
    secrets += [core.wallet.keys.secret(Branch(coin.branch), coin.index) for coin in coins]
    signatures = [bytes.fromhex(entry.funding_signature) for entry in entries]
    completed = funding.complete(signatures, secrets)
    following = status.funding_broadcasted(broadcast_of(core, completed))
    await decide(core, record, following, "funding", completed)
    return AT_ONCE


async def confirm_funding(context: Context, record: CompetitionRecord, status: FundingBroadcasted) -> Next:
    """Sends the funding transaction until it has its confirmations."""
    core = context.core
    seen = await follow(core, record.id, "funding", status.funding_broadcast)
    if await confirmations(core, seen) < await _confirmations_needed(core, status):
        return LATER
    assert seen is not None
    assert seen.block_height is not None
    await core.competitions.advance(
        record,
        status.confirmed(seen.block_height),
        core.clock.now(),
        [NewEvent("transaction.confirmed", {"role": "funding", "txid": status.funding.txid})],
    )
    return AT_ONCE


async def _confirmations_needed(core: Core, status: FundingBroadcasted | FundingConfirmed) -> int:
    """How deep the funding transaction must be before payments are settled.

    Settling gives the players their preimages. Where an escrow is old enough for a clawback, a reorganisation
    would let the clawback take the funding transaction's place.
    """
    needed = core.settings.funding_confirmations
    escrow_blocks = await depth(core, status.escrow_broadcast.block_height)
    if escrow_blocks + BURIED_BLOCKS >= ESCROW_CLAWBACK_BLOCKS:
        return max(needed, BURIED_BLOCKS)
    return needed


async def settle(context: Context, record: CompetitionRecord, status: FundingConfirmed) -> Next:
    """Settles every held payment: the pot is locked, so the price may be taken."""
    core = context.core
    for ticket in await TicketRow.filter(competition_id=record.id, state=TicketState.ENTERED):
        # Asked before each: settling takes its time, and nobody is to pay for a contract that is not there.
        seen = await core.chain.transaction_status(status.funding.txid)
        if await confirmations(core, seen) < await _confirmations_needed(core, status):
            told = [NewEvent("transaction.unconfirmed", {"role": "funding", "txid": status.funding.txid})]
            await core.competitions.advance(record, status.reorganised(), core.clock.now(), told)
            return AT_ONCE
        await _settle_ticket(context, ticket)
    await core.competitions.advance(record, status.settled(), core.clock.now())
    return AT_ONCE


async def await_attestation(context: Context, record: CompetitionRecord, status: FundingSettled) -> Next:
    """Everything is paid and locked."""
    await context.core.competitions.advance(record, status.await_attestation(), context.core.clock.now())
    return AT_ONCE


async def _settle_ticket(context: Context, ticket: TicketRow) -> None:
    core = context.core
    now = core.clock.now()
    payment_hash = bytes.fromhex(ticket.ticket_hash)
    key = f"settle:{ticket.ticket_hash}"
    await record_intent(
        key,
        now,
        competition_id=ticket.competition_id,
        data={"ticket_id": ticket.id, "amount_sats": ticket.amount_sats},
    )
    invoice = await core.lightning.lookup_invoice(payment_hash)
    # LND may take the preimage and call the invoice settled although the HTLC is lost: never that late.
    if (
        invoice is not None
        and invoice.state is InvoiceState.ACCEPTED
        and blocks_left(invoice, await present_height(core)) > SETTLE_MARGIN_BLOCKS
    ):
        await attempt_intent(key, now)
        preimage = core.box.open(f"ticket-preimage:{ticket.id}", ticket.preimage_encrypted)
        await core.lightning.settle_invoice(preimage)
        invoice = await core.lightning.lookup_invoice(payment_hash)
    if invoice is not None and invoice.state is InvoiceState.SETTLED:
        await _close_ticket(context, ticket, TicketState.SETTLED, "ticket.settled", key, IntentStatus.DONE)
        return
    # Too late to take it safely: the payer gets it back, and the coordinator carries this player's share.
    log.error("ticket %s: its payment ran out before it could be settled", ticket.id)
    await core.lightning.cancel_invoice(payment_hash)
    await _close_ticket(
        context, ticket, TicketState.CANCELLED, "ticket.payment_lost", key, IntentStatus.ABANDONED
    )


async def _close_ticket(
    context: Context, ticket: TicketRow, state: TicketState, kind: str, key: str, status: IntentStatus
) -> None:
    core = context.core
    now = core.clock.now()
    async with core.competitions.transaction():
        await TicketRow.filter(id=ticket.id).update(state=state)
        await finish_intent(key, now, status)
        told = NewEvent(kind, {"ticket_id": ticket.id, "amount_sats": ticket.amount_sats})
        await core.competitions.tell(ticket.competition_id, now, [told])
