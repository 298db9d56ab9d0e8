"""failed and cancelled: every held payment goes back, every escrow returns to the coordinator."""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import Final

from coordinator.contract.escrow import complete_release, sign_release
from coordinator.contract.tx import Transaction
from coordinator.core import Core
from coordinator.domain.competition import EscrowPlan
from coordinator.domain.escrow import escrow_coin, release_of
from coordinator.domain.states import Cancelled, Failed
from coordinator.domain.wallet.locks import escrow_lock, funding_lock
from coordinator.operations.tickets import cancel_ticket
from coordinator.runner.onchain import (
    broadcast_of,
    confirmations,
    decide,
    depth,
    follow,
)
from coordinator.runner.step import AT_ONCE, LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EntryRow, TicketRow
from coordinator.store.tickets import TicketState
from coordinator.store.transactions import recorded_transaction
from coordinator.wallet import BURIED_BLOCKS, Conflicted, ensure_sent


class Done(Enum):
    """Nothing is left to wait for."""

    DONE = "done"


DONE: Final = Done.DONE


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
    if status.escrow is not None and status.escrow_broadcast:
        wait = await _bring_back(context, record, status, status.escrow)
        if wait is not DONE:
            return wait
    async with core.competitions.transaction():
        await core.wallet.unlock(escrow_lock(record.id))
        await core.competitions.advance(
            record,
            status.returned(status.release_txids),
            core.clock.now(),
            [NewEvent("competition.money_returned", {"releases": len(status.release_txids)})],
        )
        await CompetitionRow.filter(id=record.id).update(at_rest=True)
    return LATER


async def _bring_back(
    context: Context, record: CompetitionRecord, status: Failed | Cancelled, plan: EscrowPlan
) -> Next | Done:
    """Releases every escrow, recorded before it is sent; done when whatever spends them is buried."""
    core = context.core
    sent = await recorded_transaction(plan.txid)
    if sent is None:
        return DONE
    try:
        # Also when the chain does not know it: another node may, and an escrow must not confirm unseen.
        seen = await ensure_sent(core.chain, sent)
    except Conflicted as conflict:
        return DONE if await _is_buried(core, conflict.spender) else LATER
    due = await confirmations(core, seen) >= plan.release_blocks
    waiting = False
    releases = []
    for index in range(len(status.roster)):
        spent = await core.chain.outspend(plan.txid, index)
        if spent is not None and await depth(core, spent.block_height) >= BURIED_BLOCKS:
            continue
        waiting = True
        known = spent is not None and spent.txid in status.release_txids
        if known or (spent is None and due):
            releases.append(await _release(core, record, status, plan, index))
    new = [release for release in releases if Transaction.parse(release).txid not in status.release_txids]
    if new:
        txids = tuple(Transaction.parse(release).txid for release in new)
        await decide(core, record, status.releasing((*status.release_txids, *txids)), "release", *new)
        return AT_ONCE
    for release in releases:
        # A player who has the preimage may claw back at the same time; the next look sees that.
        with contextlib.suppress(Conflicted):
            await follow(core, record.id, "release", broadcast_of(core, release))
    return LATER if waiting else DONE


async def _is_buried(core: Core, txid: str) -> bool:
    return await confirmations(core, await core.chain.transaction_status(txid)) >= BURIED_BLOCKS


async def _release(
    core: Core, record: CompetitionRecord, status: Failed | Cancelled, plan: EscrowPlan, index: int
) -> bytes:
    """The release of one escrow with both signatures."""
    player = status.roster[index]
    coin = escrow_coin(status.roster, plan, index)
    release = release_of(coin, plan)
    entry = await EntryRow.get(id=player.entry_id)
    secret = core.keys(record.id).escrow_secret(player.ticket_id)
    mine = sign_release(secret, release, coin.value_sats, coin.escrow, plan.release_blocks)
    theirs = bytes.fromhex(entry.release_signature)
    return complete_release(release, coin.value_sats, coin.escrow, plan.release_blocks, mine, theirs)
