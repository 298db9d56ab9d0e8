"""failed and cancelled: every held payment goes back, every escrow returns to the coordinator."""

from __future__ import annotations

import logging

from coordinator.contract.escrow import ESCROW_RELEASE_BLOCKS, complete_release, sign_release
from coordinator.contract.tx import Transaction
from coordinator.domain.competition import EscrowPlan
from coordinator.domain.escrow import escrow_coin, release_of
from coordinator.domain.states import Cancelled, Failed
from coordinator.operations.tickets import cancel_ticket
from coordinator.runner.contracting import funding_lock
from coordinator.runner.escrow import escrow_lock
from coordinator.runner.onchain import confirmations
from coordinator.runner.step import LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EntryRow, TicketRow
from coordinator.store.tickets import TicketState

log = logging.getLogger(__name__)


async def refund(context: Context, record: CompetitionRecord, status: Failed | Cancelled) -> Next:
    """First the players' payments, at once; then the escrows, as their releases become valid."""
    core = context.core
    open_tickets = await TicketRow.filter(
        competition_id=record.id,
        state__in=(TicketState.RESERVED, TicketState.PAID, TicketState.ENTERED),
    )
    for ticket in open_tickets:
        await cancel_ticket(core, ticket)
    await core.wallet.unlock(funding_lock(record.id))
    if status.money_returned:
        await CompetitionRow.filter(id=record.id).update(at_rest=True)
        return LATER
    released: tuple[str, ...] = status.release_txids
    if status.escrow is not None and status.escrow_broadcast:
        seen = await core.chain.transaction_status(status.escrow.txid)
        if seen is not None:
            done, released = await _release(context, record, status, status.escrow)
            if released != status.release_txids:
                told = [
                    NewEvent("transaction.broadcast", {"role": "release", "txid": txid})
                    for txid in released
                    if txid not in status.release_txids
                ]
                await core.competitions.advance(record, status.releasing(released), core.clock.now(), told)
                return 0.0
            if not done:
                return LATER
    await core.wallet.unlock(escrow_lock(record.id))
    async with core.competitions.transaction():
        await core.competitions.advance(
            record,
            status.returned(released),
            core.clock.now(),
            [NewEvent("competition.money_returned", {"releases": len(released)})],
        )
        await CompetitionRow.filter(id=record.id).update(at_rest=True)
    return LATER


async def _release(
    context: Context, record: CompetitionRecord, status: Failed | Cancelled, plan: EscrowPlan
) -> tuple[bool, tuple[str, ...]]:
    """Sends the releases that are due. Returns whether all escrows are spent, and all release txids."""
    core = context.core
    seen = await core.chain.transaction_status(plan.txid)
    due = await confirmations(core, seen) >= ESCROW_RELEASE_BLOCKS
    keys = core.keys(record.id)
    released = list(status.release_txids)
    unspent = 0
    for index, player in enumerate(status.roster):
        spent = await core.chain.outspend(plan.txid, index)
        if spent is not None:
            unspent += not spent.confirmed
            continue
        unspent += 1
        if not due:
            continue
        coin = escrow_coin(status.roster, plan, index)
        release = release_of(coin, plan)
        entry = await EntryRow.get(id=player.entry_id)
        mine = sign_release(keys.escrow_secret(player.ticket_id), release, coin.value_sats, coin.escrow)
        completed = complete_release(
            release, coin.value_sats, coin.escrow, mine, bytes.fromhex(entry.release_signature)
        )
        txid = await core.chain.broadcast(completed)
        log.info("escrow %d of %s released by %s", index, record.id, Transaction.parse(completed).txid)
        if txid not in released:
            released.append(txid)
    return unspent == 0, tuple(released)
