"""awaiting_escrow: players sign the release of their escrow, then the escrow transaction is sent."""

from __future__ import annotations

from coordinator.contract.errors import ContractError
from coordinator.contract.funding import EscrowBatch, escrow_batch_outputs
from coordinator.domain.competition import Broadcast, EscrowPlan
from coordinator.domain.escrow import ticket_escrows
from coordinator.domain.states import AwaitingEscrow
from coordinator.domain.wallet.coins import Branch
from coordinator.domain.wallet.locks import escrow_lock
from coordinator.operations.listing import live_entries
from coordinator.operations.tickets import cancel_ticket
from coordinator.runner.fees import fee_rate
from coordinator.runner.htlcs import release_delay, unheld_tickets
from coordinator.runner.onchain import (
    broadcast_of,
    confirmations,
    decide,
    follow,
)
from coordinator.runner.step import AT_ONCE, LATER, Context, GiveUp, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.models import TicketRow
from coordinator.store.tickets import TicketState
from coordinator.wallet import to_coin, to_wallet_coin


async def await_escrow(context: Context, record: CompetitionRecord, status: AwaitingEscrow) -> Next:
    """Plan, then signatures, then broadcast, then confirmations."""
    core = context.core
    leftovers = await TicketRow.filter(
        competition_id=record.id, state__in=(TicketState.RESERVED, TicketState.PAID)
    )
    for ticket in leftovers:
        await cancel_ticket(core, ticket)
    if status.broadcast is not None:
        return await _confirm(context, record, status, status.broadcast)
    late = core.clock.now() > status.deadline_at
    if status.escrow is None:
        if late:
            raise GiveUp(
                "the coordinator could not prepare the escrow in time: it had no coins for it, or no chain"
            )
        return await _plan(context, record, status)
    unsigned = [entry.id for entry in await live_entries(record.id) if not entry.release_signature]
    if unsigned:
        if late:
            raise GiveUp(
                f"{len(unsigned)} of {len(status.roster)} players did not sign their escrow's release in time"
            )
        return LATER
    tickets = await TicketRow.filter(competition_id=record.id, state=TicketState.ENTERED)
    if await unheld_tickets(core, tickets):
        raise GiveUp("a player's payment was withdrawn or ran out before the escrow was sent")
    return await _broadcast(context, record, status, status.escrow)


async def _plan(context: Context, record: CompetitionRecord, status: AwaitingEscrow) -> Next:
    core = context.core
    terms = status.facts.terms
    escrows = ticket_escrows(status.roster, terms.entry_fee_sats)
    rate = await fee_rate(core)
    tickets = await TicketRow.filter(competition_id=record.id, state=TicketState.ENTERED)
    delay = await release_delay(core, status.facts, tickets)
    async with core.wallet.deciding:
        planned = await core.wallet.plan(escrow_batch_outputs(escrows), rate, replaceable=False)
        try:
            EscrowBatch.of(planned.unsigned_transaction, escrows)
        except ContractError as error:
            raise GiveUp(f"the escrow transaction cannot be built: {error}") from error
        plan = EscrowPlan(
            transaction=planned.unsigned_transaction,
            txid=planned.txid,
            coins=tuple(to_coin(coin) for coin in planned.inputs),
            fee_sats=planned.fee_sats,
            escrow_value_sats=terms.entry_fee_sats,
            release_script_pubkey=await core.wallet.new_script(Branch.CHANGE),
            release_fee_rate_sats_per_vb=terms.fee_rate_sats_per_vb,
            planned_at=core.clock.now(),
            release_blocks=delay,
        )
        async with core.competitions.transaction():
            await core.competitions.advance(
                record,
                status.planned(plan),
                core.clock.now(),
                [
                    NewEvent(
                        "escrow.planned",
                        {"txid": plan.txid, "deadline_at": status.deadline_at, "release_blocks": delay},
                    )
                ],
            )
            await core.wallet.lock(planned.inputs, escrow_lock(record.id))
    return AT_ONCE


async def _broadcast(
    context: Context, record: CompetitionRecord, status: AwaitingEscrow, plan: EscrowPlan
) -> Next:
    core = context.core
    coins = [to_wallet_coin(coin, core.wallet.keys) for coin in plan.coins]
    signed = core.wallet.keys.sign_taproot_inputs(plan.transaction, coins)
    await decide(core, record, status.broadcasted(broadcast_of(core, signed)), "escrow", signed)
    return AT_ONCE


async def _confirm(
    context: Context, record: CompetitionRecord, status: AwaitingEscrow, broadcast: Broadcast
) -> Next:
    core = context.core
    seen = await follow(core, record.id, "escrow", broadcast)
    if await confirmations(core, seen) < core.settings.escrow_confirmations:
        return LATER
    assert seen is not None
    assert seen.block_height is not None
    await core.competitions.advance(
        record,
        status.confirmed(seen.block_height),
        core.clock.now(),
        [NewEvent("transaction.confirmed", {"role": "escrow", "txid": broadcast.txid})],
    )
    return AT_ONCE
