"""outcome_broadcasted to completed: winners are paid, and what they sold comes back to the coordinator."""

from __future__ import annotations

import asyncio

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.payouts import win_key
from coordinator.contract.spends import (
    SpendInput,
    outcome_close_input,
    sellback_input,
    spend,
    split_reclaim_input,
    split_transaction,
)
from coordinator.contract.tx import Transaction
from coordinator.core import Core
from coordinator.domain.competition import Broadcast
from coordinator.domain.payouts import outcome_key_of
from coordinator.domain.states import Completed, DeltaBroadcasted, ExpiryBroadcasted, OutcomeBroadcasted
from coordinator.runner.onchain import confirmations, ensure_broadcast, fee_rate
from coordinator.runner.step import AT_ONCE, LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.contract_store import load_signatures
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, PayoutRow, TicketRow
from coordinator.store.tickets import PayoutState


async def pay_out(
    context: Context, record: CompetitionRecord, status: OutcomeBroadcasted | ExpiryBroadcasted
) -> Next:
    """Pays who asks; closes with one transaction when all winners are paid, splits when delta is over."""
    core = context.core
    height = await _block_height(core, status.outcome_broadcast)
    if height != status.outcome_broadcast.block_height:
        return await _moved(
            core, record, status.confirmed(height), "outcome", status.outcome_broadcast.txid, height
        )
    if height is None:
        return LATER
    await context.payments.drive(record.id)
    outcome = outcome_key_of(status)
    assert outcome is not None
    dlc = await context.contracts.of(status)
    winners = dlc.winners(outcome)
    payouts = {row.player_index: row for row in await PayoutRow.filter(competition_id=record.id)}
    secrets = _handed_over(core, payouts, winners)
    if secrets is not None:
        mine = core.keys(record.id).market_maker_secret
        close = outcome_close_input(dlc, outcome, [mine, *secrets])
        closing = await _spend(core, [close])
        told = [NewEvent("transaction.broadcast", {"role": "closing", "txid": closing.txid})]
        await core.competitions.advance(record, status.closed(closing), core.clock.now(), told)
        return AT_ONCE
    tip = await core.chain.tip()
    # The split spends an output that must have `delta` confirmations in the block that takes it (BIP68).
    if tip.height + 1 - height < status.facts.terms.relative_locktime_blocks:
        return LATER
    if any(row.state in (PayoutState.REQUESTED, PayoutState.IN_FLIGHT) for row in payouts.values()):
        return LATER
    return await _split(context, record, status, dlc, outcome)


async def _split(
    context: Context,
    record: CompetitionRecord,
    status: OutcomeBroadcasted | ExpiryBroadcasted,
    dlc: TicketedDLC,
    outcome: str,
) -> Next:
    core = context.core
    player = dlc.winners(outcome)[0]
    ticket = await TicketRow.get(id=status.roster[player].ticket_id)
    preimage = core.box.open(f"ticket-preimage:{ticket.id}", ticket.preimage_encrypted)
    signatures = await load_signatures(record.id)
    assert signatures is not None
    signature = signatures.split[win_key(outcome, player)]
    transaction = await asyncio.to_thread(split_transaction, dlc, outcome, player, signature, preimage)
    broadcast = _recorded(core, transaction)
    told = [NewEvent("transaction.broadcast", {"role": "split", "txid": broadcast.txid})]
    await core.competitions.advance(record, status.split(broadcast), core.clock.now(), told)
    return AT_ONCE


async def take_back(context: Context, record: CompetitionRecord, status: DeltaBroadcasted) -> Next:
    """Takes back sold prizes at once and unclaimed ones after 2 * delta; done when every output is spent."""
    core = context.core
    height = await _block_height(core, status.split_broadcast)
    if height != status.split_broadcast.block_height:
        return await _moved(
            core, record, status.confirmed(height), "split", status.split_broadcast.txid, height
        )
    if height is None:
        return LATER
    for closing in status.closings:
        await ensure_broadcast(core, closing)
    outcome = outcome_key_of(status)
    assert outcome is not None
    dlc = await context.contracts.of(status)
    unspent = [
        player
        for player in dlc.winners(outcome)
        if await core.chain.outspend(status.split_broadcast.txid, dlc.split_outpoint(outcome, player).vout)
        is None
    ]
    if not unspent:
        await core.competitions.advance(record, status.completed(), core.clock.now())
        return AT_ONCE
    inputs = await _takeable(context, record, status, dlc, outcome, unspent, height)
    if not inputs:
        return LATER
    closing = await _spend(core, inputs)
    told = [NewEvent("transaction.broadcast", {"role": "closing", "txid": closing.txid})]
    await core.competitions.advance(record, status.closing(closing), core.clock.now(), told)
    return AT_ONCE


async def _takeable(
    context: Context,
    record: CompetitionRecord,
    status: DeltaBroadcasted,
    dlc: TicketedDLC,
    outcome: str,
    unspent: list[int],
    split_height: int,
) -> list[SpendInput]:
    """Inputs for the unspent prizes that the coordinator may take now."""
    core = context.core
    mine = core.keys(record.id).market_maker_secret
    payouts = {row.player_index: row for row in await PayoutRow.filter(competition_id=record.id)}
    tip = await core.chain.tip()
    reclaimable = tip.height + 1 - split_height >= 2 * status.facts.terms.relative_locktime_blocks
    inputs = []
    for player in unspent:
        payout = payouts.get(player)
        if payout is not None and payout.state == PayoutState.PAID and payout.payout_preimage_encrypted:
            preimage = core.box.open(f"payout-preimage:{payout.entry_id}", payout.payout_preimage_encrypted)
            inputs.append(sellback_input(dlc, outcome, player, mine, preimage))
        elif reclaimable:
            inputs.append(split_reclaim_input(dlc, outcome, player, mine))
    return inputs


async def settle_on_chain(context: Context, record: CompetitionRecord, status: Completed) -> Next:
    """Sees the last transactions into a block; then the competition is at rest."""
    core = context.core
    for closing in status.closings:
        if await core.chain.outspend(closing.txid, 0) is not None:
            continue
        seen = await ensure_broadcast(core, closing)
        if await confirmations(core, seen) < core.settings.funding_confirmations:
            return LATER
    if not status.settled_on_chain:
        async with core.competitions.transaction():
            await core.competitions.advance(
                record, status.settled(), core.clock.now(), [NewEvent("competition.at_rest")]
            )
            await CompetitionRow.filter(id=record.id).update(at_rest=True)
    return LATER


async def _block_height(core: Core, broadcast: Broadcast) -> int | None:
    """The block that has a recorded transaction; sends it (again) when the chain does not know it."""
    seen = await ensure_broadcast(core, broadcast)
    return seen.block_height if seen is not None and seen.confirmed else None


async def _moved(
    core: Core,
    record: CompetitionRecord,
    status: OutcomeBroadcasted | ExpiryBroadcasted | DeltaBroadcasted,
    role: str,
    txid: str,
    height: int | None,
) -> Next:
    """Writes that a transaction came into a block, or fell out of it by a reorganisation."""
    kind = "transaction.confirmed" if height is not None else "transaction.unconfirmed"
    told = [NewEvent(kind, {"role": role, "txid": txid})]
    await core.competitions.advance(record, status, core.clock.now(), told)
    return AT_ONCE


def _handed_over(core: Core, payouts: dict[int, PayoutRow], winners: tuple[int, ...]) -> list[bytes] | None:
    """The winners' ephemeral keys, if every winner was paid and gave its key."""
    secrets = []
    for winner in winners:
        payout = payouts.get(winner)
        if payout is None or payout.state != PayoutState.PAID or not payout.ephemeral_key_encrypted:
            return None
        secrets.append(core.box.open(f"ephemeral-key:{payout.entry_id}", payout.ephemeral_key_encrypted))
    return secrets


async def _spend(core: Core, inputs: list[SpendInput]) -> Broadcast:
    rate = await fee_rate(core)
    destination = await core.wallet.new_script()
    return _recorded(core, await asyncio.to_thread(spend, inputs, destination, rate))


def _recorded(core: Core, transaction: bytes) -> Broadcast:
    return Broadcast(Transaction.parse(transaction).txid, transaction, core.clock.now(), None)
