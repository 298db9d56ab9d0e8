"""outcome_broadcasted to completed: winners are paid, and what they sold comes back to the coordinator."""

from __future__ import annotations

import asyncio

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.observed import outcome_of_spend, ranking_of_split
from coordinator.contract.payouts import EXPIRY, outcome_index, outcome_key, win_key
from coordinator.contract.rankings import ranking_at
from coordinator.contract.spends import (
    SpendInput,
    outcome_close_input,
    sellback_input,
    spend,
    split_reclaim_input,
    split_transaction,
)
from coordinator.contract.storage import load_unverified
from coordinator.contract.tx import Transaction
from coordinator.core import Core
from coordinator.domain.competition import Attestation
from coordinator.domain.payouts import outcome_key_of
from coordinator.domain.states import Completed, DeltaBroadcasted, ExpiryBroadcasted, OutcomeBroadcasted
from coordinator.ports.chain import ChainError, ChainUnavailable
from coordinator.runner.fees import fee_rate
from coordinator.runner.onchain import Seen, broadcast_of, decide, depth, follow, watch
from coordinator.runner.step import AT_ONCE, LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.contract_store import load_outcome, load_packed
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, PayoutRow, TicketRow
from coordinator.store.tickets import PayoutState
from coordinator.wallet import BURIED_BLOCKS, Conflicted


async def pay_out(
    context: Context, record: CompetitionRecord, status: OutcomeBroadcasted | ExpiryBroadcasted
) -> Next:
    """Pays who asks; closes with one transaction when all winners are paid, splits when delta is over."""
    core = context.core
    try:
        seen = await watch(core, record, status)
    except Conflicted as conflict:
        if conflict.txid != status.outcome_broadcast.txid:
            raise
        return await _follow_outcome(context, record, status, conflict.spender)
    if seen is not Seen.CONFIRMED:
        return AT_ONCE if seen is Seen.MOVED else LATER
    await context.payments.drive(record.id)
    outcome = outcome_key_of(status)
    assert outcome is not None
    dlc = await context.contracts.of(status)
    spent = await core.chain.outspend(status.outcome_broadcast.txid, 0)
    if spent is not None:
        transaction, split_outcome = await _split_of_winner(core, dlc, outcome, spent.txid)
        following = status.split(broadcast_of(core, transaction), split_outcome)
        await decide(core, record, following, "split", transaction)
        return AT_ONCE
    winners = dlc.winners(outcome)
    payouts = {row.player_index: row for row in await PayoutRow.filter(competition_id=record.id)}
    secrets = _handed_over(core, payouts, winners)
    if secrets is not None:
        mine = core.keys(record.id).market_maker_secret
        closing = await _spend(core, [outcome_close_input(dlc, outcome, [mine, *secrets])])
        await decide(core, record, status.closed(broadcast_of(core, closing)), "closing", closing)
        return AT_ONCE
    # The split spends an output that must have `delta` confirmations in the block that takes it (BIP68).
    height = status.outcome_broadcast.block_height
    assert height is not None
    tip = await core.chain.tip()
    if tip.height + 1 - height < status.facts.terms.relative_locktime_blocks:
        return LATER
    if any(row.state in (PayoutState.REQUESTED, PayoutState.IN_FLIGHT) for row in payouts.values()):
        return LATER
    return await _split(context, record, status, dlc, outcome)


async def _follow_outcome(
    context: Context, record: CompetitionRecord, status: OutcomeBroadcasted | ExpiryBroadcasted, txid: str
) -> Next:
    """Goes on with the outcome or expiry transaction that somebody else sent, and that was faster.

    Raises:
        ChainError: it is neither.
    """
    core = context.core
    dlc = await context.contracts.of(status)
    transaction = await core.chain.transaction(txid)
    if transaction is None:
        raise ChainUnavailable(f"the server does not give transaction {txid}")
    broadcast = broadcast_of(core, transaction)
    if isinstance(status, OutcomeBroadcasted) and txid == dlc.outcome_outpoint(EXPIRY).txid:
        await decide(core, record, status.expired_instead(broadcast), "expiry", transaction)
        return AT_ONCE
    if isinstance(status, ExpiryBroadcasted):
        packed = await load_packed(record.id)
        assert packed is not None
        _, signatures = await asyncio.to_thread(load_unverified, packed)
        assert signatures is not None
        spender = Transaction.parse(transaction)
        outcome = await asyncio.to_thread(outcome_of_spend, dlc, signatures, spender)
        if outcome is not None and outcome.attestation is not None:
            index = outcome_index(outcome.key)
            ranking = ranking_at(len(status.roster), status.facts.terms.number_of_places_win, index)
            attestation = Attestation(outcome.attestation, index, ranking, core.clock.now())
            following = status.attested_instead(attestation, broadcast)
            await decide(core, record, following, "outcome", transaction)
            return AT_ONCE
    raise ChainError(f"{txid} spends the funding output and is no transaction that the contract expects")


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
    signatures = await load_outcome(record.id, dlc, outcome)
    assert signatures is not None
    signature = signatures.split[win_key(outcome, player)]
    transaction = await asyncio.to_thread(split_transaction, dlc, outcome, player, signature, preimage)
    await decide(core, record, status.split(broadcast_of(core, transaction)), "split", transaction)
    return AT_ONCE


async def _split_of_winner(core: Core, dlc: TicketedDLC, outcome: str, txid: str) -> tuple[bytes, int | None]:
    """The split transaction that a winner sent, and whose it is: None for the outcome's own.

    Any winner can send one from delta on. Rankings of the same winners share the outcome transaction, and
    splits are signed without the attestation: it may be that of another ranking.

    Raises:
        ChainError: it is no split transaction of the contract.
    """
    transaction = await core.chain.transaction(txid)
    if transaction is None:
        raise ChainUnavailable(f"the server does not give transaction {txid}")
    key = await asyncio.to_thread(ranking_of_split, dlc, outcome, txid)
    if key is None:
        raise ChainError(f"{txid} spends the outcome output and is no transaction of the contract")
    return transaction, None if key == outcome else outcome_index(key)


async def take_back(context: Context, record: CompetitionRecord, status: DeltaBroadcasted) -> Next:
    """Takes back sold prizes at once and unclaimed ones after 2 * delta; done when every output is spent."""
    core = context.core
    outcome = outcome_key_of(status)
    assert outcome is not None
    dlc = await context.contracts.of(status)
    try:
        seen = await watch(core, record, status)
    except Conflicted as conflict:
        if conflict.txid != status.split_broadcast.txid:
            raise
        transaction, split_outcome = await _split_of_winner(core, dlc, outcome, conflict.spender)
        following = status.split_by_winner(broadcast_of(core, transaction), split_outcome)
        await decide(core, record, following, "split", transaction)
        return AT_ONCE
    if seen is Seen.MOVED:
        return AT_ONCE
    if await core.chain.transaction_status(status.split_broadcast.txid) is None:
        return LATER
    # Sold prizes need no confirmation of the split: what spends them helps it where it sticks.
    for closing in status.closings:
        try:
            await follow(core, record.id, "closing", closing)
        except Conflicted as conflict:
            # A winner was faster with one of its inputs; the others are taken by another transaction.
            told = [_void(closing.txid, conflict.spender)]
            await core.competitions.advance(record, status.closing_void(closing.txid), core.clock.now(), told)
            return AT_ONCE
    unspent = [
        player
        for player, (txid, vout) in _prizes(dlc, status).items()
        if await core.chain.outspend(txid, vout) is None
    ]
    if not unspent:
        await core.competitions.advance(record, status.completed(), core.clock.now())
        return AT_ONCE
    inputs = await _takeable(context, record, status, dlc, unspent)
    if not inputs:
        return LATER
    transaction = await _spend(core, inputs)
    await decide(core, record, status.closing(broadcast_of(core, transaction)), "closing", transaction)
    return AT_ONCE


def _split_key(status: DeltaBroadcasted | Completed) -> str:
    """The outcome whose split transaction lies in the chain."""
    outcome = outcome_key_of(status)
    assert outcome is not None
    return outcome if status.split_outcome is None else outcome_key(status.split_outcome)


def _prizes(dlc: TicketedDLC, status: DeltaBroadcasted | Completed) -> dict[int, tuple[str, int]]:
    """Where each winner's prize lies after the split: player index -> txid and output index."""
    key = _split_key(status)
    outpoints = {player: dlc.split_outpoint(key, player) for player in dlc.winners(key)}
    return {player: (outpoint.txid, outpoint.vout) for player, outpoint in outpoints.items()}


async def _takeable(
    context: Context,
    record: CompetitionRecord,
    status: DeltaBroadcasted,
    dlc: TicketedDLC,
    unspent: list[int],
) -> list[SpendInput]:
    """Inputs for the unspent prizes that the coordinator may take now."""
    core = context.core
    outcome = _split_key(status)
    mine = core.keys(record.id).market_maker_secret
    payouts = {row.player_index: row for row in await PayoutRow.filter(competition_id=record.id)}
    tip = await core.chain.tip()
    height = status.split_broadcast.block_height
    wait_blocks = 2 * status.facts.terms.relative_locktime_blocks
    reclaimable = height is not None and tip.height + 1 - height >= wait_blocks
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
    """Waits until whatever spends the contract's outputs is buried; then the competition is at rest.

    Until then a reorganisation may bring a closing transaction back (it is sent again), or a winner's
    transaction that voids it (the state steps back).
    """
    if status.settled_on_chain:
        return LATER
    core = context.core
    if await watch(core, record, status) is Seen.MOVED:
        return AT_ONCE
    dlc = await context.contracts.of(status)
    split = status.split_broadcast
    for closing in status.closings:
        try:
            await follow(core, record.id, "closing", closing)
        except Conflicted as conflict:
            if split is not None:
                # There the void one is sorted out.
                await core.competitions.advance(record, status.reopened(split), core.clock.now())
                return AT_ONCE
            outcome = outcome_key_of(status)
            assert outcome is not None
            transaction, split_outcome = await _split_of_winner(core, dlc, outcome, conflict.spender)
            following = status.split_by_winner(broadcast_of(core, transaction), split_outcome)
            void = _void(closing.txid, conflict.spender)
            await decide(core, record, following, "split", transaction, events=[void])
            return AT_ONCE
    outputs = _prizes(dlc, status).values() if split is not None else [(status.outcome_broadcast.txid, 0)]
    for txid, vout in outputs:
        spent = await core.chain.outspend(txid, vout)
        if spent is None and split is not None:
            await core.competitions.advance(record, status.reopened(split), core.clock.now())
            return AT_ONCE
        if spent is None or await depth(core, spent.block_height) < BURIED_BLOCKS:
            return LATER
    async with core.competitions.transaction():
        await core.competitions.advance(
            record, status.settled(), core.clock.now(), [NewEvent("competition.at_rest")]
        )
        await CompetitionRow.filter(id=record.id).update(at_rest=True)
    return LATER


def _void(txid: str, spender: str) -> NewEvent:
    return NewEvent("transaction.void", {"role": "closing", "txid": txid, "spent_by_txid": spender})


def _handed_over(core: Core, payouts: dict[int, PayoutRow], winners: tuple[int, ...]) -> list[bytes] | None:
    """The winners' ephemeral keys, if every winner was paid and gave its key."""
    secrets = []
    for winner in winners:
        payout = payouts.get(winner)
        if payout is None or payout.state != PayoutState.PAID or not payout.ephemeral_key_encrypted:
            return None
        secrets.append(core.box.open(f"ephemeral-key:{payout.entry_id}", payout.ephemeral_key_encrypted))
    return secrets


async def _spend(core: Core, inputs: list[SpendInput]) -> bytes:
    rate = await fee_rate(core)
    destination = await core.wallet.new_script()
    return await asyncio.to_thread(spend, inputs, destination, rate)
