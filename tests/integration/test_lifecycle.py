"""Whole lives of competitions: the core's runner against a real chain, Lightning, keymeld and oracle."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.contract.errors import SigningError
from coordinator.contract.escrow import LEAST_RELEASE_BLOCKS, sign_release
from coordinator.contract.spends import spend, win_input
from coordinator.domain.errors import Exhausted, InvalidInput, PermissionDenied, PreconditionFailed
from coordinator.domain.escrow import escrow_coin, release_of
from coordinator.domain.states import AwaitingEscrow, Cancelled, Completed, DeltaBroadcasted, Failed
from coordinator.operations import entries, payouts, tickets
from coordinator.operations.competitions import cancel_competition
from coordinator.ports.lightning import InvalidPaymentRequest, Payment, PaymentState
from coordinator.store.models import EventRow
from support.world import WorldPlayer, running_world, until

DESTINATION = bytes.fromhex("5120") + b"\x07" * 32


async def payment_of(player: WorldPlayer) -> Payment:
    assert player.payment is not None
    payment = await asyncio.wait_for(player.payment, 10)
    assert isinstance(payment, Payment)
    return payment


async def check_sequences() -> None:
    sequences = [row.sequence for row in await EventRow.all().order_by("sequence")]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_winners_are_paid_and_the_contract_closes_with_one_transaction(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        assert {(await payment_of(player)).state for player in players} == {PaymentState.SUCCEEDED}
        await world.oracle.attest(competition_id, (1, 0))
        await world.outcome_confirmed(competition_id)
        prizes = [await world.take_payout(competition_id, players[index]) for index in (0, 1)]
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        assert record.status.split_broadcast is None
        assert len(record.status.closings) == 1
        assert record.status.attestation is not None
        assert record.status.attestation.winners == (1, 0)
        # 60 and 40 percent of 3 * 45,000 sats, less the contract's own fees.
        assert 0 < 81_000 - prizes[1] < 1_500
        assert 0 < 54_000 - prizes[0] < 1_500
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)
        for index, prize in ((0, prizes[0]), (1, prizes[1]), (2, 0)):
            name = f"lightning:{players[index].name}"
            assert after[name] == before[name] - 50_000 + prize
        with pytest.raises(PreconditionFailed, match="won nothing"):
            await payouts.get_payout(
                world.core, world.contracts, competition_id, players[2].entry_id, players[2].pubkey
            )
        await check_sequences()


async def test_a_refund_outcome_gives_everybody_an_equal_share(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, None)
        await world.outcome_confirmed(competition_id)
        prizes = {await world.take_payout(competition_id, player) for player in players}
        assert len(prizes) == 1
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)


async def test_without_an_attestation_the_expiry_refunds_all(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        await world.core.competitions.load(competition_id)
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.oracle.withhold(competition_id)
        # Median time passes the expiry after six blocks that are dated later.
        await world.chain.mine(7, advance_seconds=600)
        await world.wait_for(competition_id, "expiry_broadcasted")
        await world.outcome_confirmed(competition_id)
        for player in players:
            await world.take_payout(competition_id, player)
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        assert record.status.attestation is None
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)


async def test_prizes_that_nobody_asks_for_go_on_chain(tmp_path: Path) -> None:
    """One winner is paid over Lightning, the other takes its prize on chain."""
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        competition_id = await world.create(relative_locktime_blocks=100)
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.outcome_confirmed(competition_id)
        await world.take_payout(competition_id, players[2], hand_over=False)
        await world.chain.mine(98)
        await world.wait_for(competition_id, "delta_broadcasted", mining=True)

        async def sold_back() -> bool:
            status = (await world.core.competitions.load(competition_id)).status
            assert isinstance(status, DeltaBroadcasted)
            if status.split_broadcast.block_height is None:
                await world.chain.mine()
                return False
            return len(status.closings) == 1

        await until(sold_back)
        with pytest.raises(PreconditionFailed, match="too late"):
            await world.take_payout(competition_id, players[0])
        await world.chain.mine(99)
        record = await world.core.competitions.load(competition_id)
        dlc = await world.contracts.get(record)
        assert isinstance(record.status, DeltaBroadcasted)
        assert record.status.attestation is not None
        outcome = f"att{record.status.attestation.outcome}"
        preimage = (await payment_of(players[0])).preimage
        assert preimage is not None
        win = win_input(dlc, outcome, 0, players[0].ephemeral_secret, preimage)
        await world.core.chain.broadcast(spend([win], DESTINATION, 2))
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        assert len(record.status.closings) == 1


async def test_unclaimed_prizes_are_reclaimed_after_twice_delta(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        competition_id = await world.create(relative_locktime_blocks=3)
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.wait_for(competition_id, "delta_broadcasted", mining=True)
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        assert record.status.split_broadcast is not None
        assert len(record.status.closings) == 1


async def test_a_field_that_does_not_fill_is_cancelled_and_every_payment_returns(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(2)
        before = await world.wealth_sats()
        now = int(time.time())
        competition_id = await world.create(
            start_observation_at=now + 5, end_observation_at=now + 6, signing_at=now + 7
        )
        await world.fill(competition_id, players)
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Cancelled)
        assert "2 of at least 3" in record.status.reason
        assert {(await payment_of(player)).state for player in players} == {PaymentState.FAILED}
        assert await world.wealth_sats() == before
        with pytest.raises(PreconditionFailed, match="closed"):
            await tickets.request_ticket(world.core, competition_id, players[0].pubkey)


async def test_a_ticket_that_is_never_paid_makes_room_for_somebody_else(tmp_path: Path) -> None:
    async with running_world(tmp_path, ticket_reservation_seconds=2) as world:
        players = await world.new_players(4)
        competition_id = await world.create()
        lazy = await tickets.request_ticket(world.core, competition_id, players[3].pubkey)
        for player in players[:2]:
            await world.buy_ticket(competition_id, player)
        with pytest.raises(Exhausted) as full:
            await tickets.request_ticket(world.core, competition_id, players[2].pubkey)
        assert full.value.retry_after_seconds is not None

        async def expired() -> bool:
            await lazy.refresh_from_db()
            return lazy.state == "expired"

        await until(expired)
        await world.buy_ticket(competition_id, players[2])
        for player in players[:3]:
            await world.enter(competition_id, player)
        await world.wait_for(competition_id, "awaiting_escrow")
        await world.pay(players[3], lazy.payment_request)
        with pytest.raises(InvalidPaymentRequest, match="expired"):
            await payment_of(players[3])


async def test_a_player_who_does_not_sign_the_funding_costs_nobody_anything(tmp_path: Path) -> None:
    """Payments return at once, escrows by their pre-signed releases."""
    async with running_world(tmp_path, player_signing_seconds=4) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.releases_signed(competition_id, players)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        for player in players[:2]:
            await world.sign_funding(competition_id, player)
        await world.wait_for(competition_id, "failed")
        assert {(await payment_of(player)).state for player in players} == {PaymentState.FAILED}
        record = await world.core.competitions.load(competition_id)
        assert isinstance(record.status, Failed)
        assert "1 of 3 players" in record.status.reason
        assert record.status.escrow is not None
        await world.chain.mine(record.status.escrow.release_blocks)
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Failed)
        assert len(record.status.release_txids) == 3
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)


async def test_signatures_of_others_are_refused(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.escrow_planned(competition_id)
        forger = WorldPlayer(
            "forger", key=players[0].key, entry_id=players[0].entry_id, ticket_id=players[0].ticket_id
        )
        with pytest.raises(SigningError):
            await world.sign_release(competition_id, forger)
        submit, entry_id = entries.submit_signatures, players[0].entry_id
        owner = players[0].pubkey
        for wrong in ("30" * 71, "", "zz"):
            with pytest.raises(InvalidInput, match="escrow_release_signature"):
                await submit(world.core, entry_id, wrong, "", owner)
        # Of the player, but for a release that is valid earlier than the one agreed.
        status = (await world.core.competitions.load(competition_id)).status
        assert isinstance(status, AwaitingEscrow)
        assert status.escrow is not None
        coin, agreed = escrow_coin(status.roster, status.escrow, 0), status.escrow.release_blocks
        for blocks in (LEAST_RELEASE_BLOCKS, agreed - 1, agreed + 1):
            other = release_of(coin, replace(status.escrow, release_blocks=blocks))
            signature = sign_release(players[0].ephemeral_secret, other, coin.value_sats, coin.escrow, blocks)
            with pytest.raises(InvalidInput, match="escrow_release_signature"):
                await submit(world.core, entry_id, signature.hex(), "", owner)
        with pytest.raises(PreconditionFailed, match="not asked for"):
            await submit(world.core, entry_id, "", "30" * 71, owner)
        with pytest.raises(PermissionDenied):
            await submit(world.core, entry_id, "30" * 71, "", players[1].pubkey)


@pytest.mark.parametrize(
    "state", ["collecting_entries", "awaiting_escrow", "funding_ready", "outcome_broadcasted"]
)
async def test_a_restarted_core_goes_on(tmp_path: Path, state: str) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()

        async def restart_in(name: str) -> None:
            if name == state:
                await world.restart()

        for player in players:
            await world.buy_ticket(competition_id, player)
            await world.enter(competition_id, player)
            if player is players[0]:
                await restart_in("collecting_entries")
        players = sorted(players, key=lambda player: player.ticket_id)
        await world.escrow_planned(competition_id)
        await restart_in("awaiting_escrow")
        await world.releases_signed(competition_id, players)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        await restart_in("funding_ready")
        for player in players:
            await world.sign_funding(competition_id, player)
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)
        await world.oracle.attest(competition_id, (0, 1))
        await world.outcome_confirmed(competition_id)
        await restart_in("outcome_broadcasted")
        for index in (0, 1):
            await world.take_payout(competition_id, players[index])
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)
        await check_sequences()


async def test_an_admin_cancels_before_funding(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        await world.fill(competition_id, players)
        await world.escrow_planned(competition_id)
        await cancel_competition(world.core, competition_id, "storm warning")
        await cancel_competition(world.core, competition_id, "storm warning")
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Cancelled)
        assert record.status.reason == "storm warning"
        assert {(await payment_of(player)).state for player in players} == {PaymentState.FAILED}
        assert await world.wealth_sats() == before
        assert not [coin for coin in await world.core.wallet.coins() if coin.locked]
