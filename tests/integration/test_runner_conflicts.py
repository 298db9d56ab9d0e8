"""Winners who use their own ways out while the coordinator uses its: whoever is mined first counts."""

from pathlib import Path

import pytest

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.payouts import EXPIRY, outcome_index, outcome_key, win_key
from coordinator.contract.spends import (
    expiry_transaction,
    outcome_transaction,
    spend,
    split_transaction,
    win_input,
)
from coordinator.domain import states
from coordinator.store.contract_store import load_outcome
from coordinator.store.models import EventRow
from support.reorgs import (
    confirmations,
    entered,
    is_known,
    reorganise,
    rewind,
    status_of,
    stopped,
)
from support.world import World, WorldPlayer, running_world, until

DESTINATION = bytes.fromhex("5120") + b"\x07" * 32


async def preimage_of(player: WorldPlayer) -> bytes:
    """What the player's own Lightning wallet knows since the ticket was settled."""
    assert player.payment is not None
    preimage = getattr(await player.payment, "preimage", None)
    assert isinstance(preimage, bytes)
    return preimage


async def signatures_of(competition_id: str, dlc: TicketedDLC, outcome: str) -> ContractSignatures:
    """What every player can get from the API for an outcome."""
    signatures = await load_outcome(competition_id, dlc, outcome)
    assert signatures is not None
    return signatures


async def split_by(
    dlc: TicketedDLC, competition_id: str, outcome: str, index: int, player: WorldPlayer
) -> bytes:
    signatures = await signatures_of(competition_id, dlc, outcome)
    signature = signatures.split[win_key(outcome, index)]
    return split_transaction(dlc, outcome, index, signature, await preimage_of(player))


async def push(world: World, transaction: bytes) -> None:
    response = await world.chain.http.post("/tx", content=transaction.hex())
    assert response.status_code == 200, response.text


async def received_sats(world: World) -> int:
    """What arrived at the winner's destination."""
    entries = await world.chain.json("/devnet/chain/supply")
    assert isinstance(entries, dict)
    return sum(
        sats for address, sats in entries["balances"].items() if address.startswith("bcrt1pqurswpc8qurs")
    )


async def void_events(competition_id: str) -> list[EventRow]:
    return await EventRow.filter(competition_id=competition_id, kind="transaction.void")


@pytest.mark.parametrize("name", ["completed", "delta_broadcasted"])
async def test_a_winner_takes_one_of_the_prizes_that_a_closing_transaction_reclaims(
    tmp_path: Path, name: str
) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world, relative_locktime_blocks=3)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        record = await world.wait_for(competition_id, "completed", mining=True)
        assert isinstance(record.status, states.Completed)
        (closing,) = record.status.closings
        await until(lambda: is_known(world, closing.txid))
        dlc = await world.contracts.of(record.status)
        assert record.status.attestation is not None
        outcome = outcome_key(record.status.attestation.outcome)
        win = win_input(dlc, outcome, 0, players[0].ephemeral_secret, await preimage_of(players[0]))
        async with stopped(world):
            if name == "delta_broadcasted":
                await rewind(world, competition_id, states.DeltaBroadcasted)
            await reorganise(world, max(1, await confirmations(world, closing.txid)), drop=(closing.txid,))
            assert not await is_known(world, closing.txid)
            claim = spend([win], DESTINATION, 2)
            await push(world, claim)
            await world.chain.mine()
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, states.Completed)
        (void,) = await void_events(competition_id)
        assert void.data["txid"] == closing.txid
        (other,) = record.status.closings
        assert other.txid != closing.txid
        assert await confirmations(world, other.txid) >= 6
        assert await received_sats(world) > 0


async def test_a_winner_splits_what_is_being_closed_together(tmp_path: Path) -> None:
    """The closing transaction is void then; what the winners sold is taken out of the split outputs."""
    async with running_world(tmp_path) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id, players = await entered(world, players=players, relative_locktime_blocks=100)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.outcome_confirmed(competition_id)
        for index in (0, 2):
            await world.take_payout(competition_id, players[index])
        record = await world.wait_for(competition_id, "completed")
        assert isinstance(record.status, states.Completed)
        (closing,) = record.status.closings
        dlc = await world.contracts.of(record.status)
        assert record.status.attestation is not None
        outcome = outcome_key(record.status.attestation.outcome)
        await until(lambda: is_known(world, closing.txid))
        async with stopped(world):
            await world.chain.mine(100, exclude_txids=[closing.txid])
            await reorganise(world, 1, drop=(closing.txid,))
            split = await split_by(dlc, competition_id, outcome, 0, players[0])
            await push(world, split)
            await world.chain.mine()
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, states.Completed)
        assert record.status.split_broadcast is not None
        assert record.status.split_broadcast.transaction == split
        assert [void.data["txid"] for void in await void_events(competition_id)] == [closing.txid]
        assert closing.txid not in {c.txid for c in record.status.closings}
        after = await world.wealth_sats()
        lost = sum(before.values()) - sum(after.values())
        # Fees only: the winners were paid once, the coordinator has the whole pot back.
        assert 0 < lost < 5_000


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_winner_sends_the_split_of_another_ranking(tmp_path: Path, recorded: bool) -> None:
    """Possible within the same winners; the chain's split counts, also where ours was recorded before."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world, relative_locktime_blocks=3)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.outcome_confirmed(competition_id)
        if recorded:
            await world.wait_for(competition_id, "delta_broadcasted", mining=True)
        status = await status_of(world, competition_id)
        assert isinstance(status, states.OutcomeBroadcasted | states.DeltaBroadcasted)
        dlc = await world.contracts.of(status)
        assert status.attestation is not None
        attested = outcome_key(status.attestation.outcome)
        (other,) = [
            key for key in dlc.outcomes() if key != attested and dlc.winners(key) == dlc.winners(attested)
        ]
        async with stopped(world):
            if isinstance(status, states.DeltaBroadcasted):
                ours = status.split_broadcast.txid
                await reorganise(world, max(1, await confirmations(world, ours)), drop=(ours,))
            while (await confirmations(world, status.outcome_broadcast.txid)) < 3:
                await world.chain.mine()
            await push(world, await split_by(dlc, competition_id, other, 0, players[0]))
            await world.chain.mine()
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, states.Completed)
        assert record.status.split_outcome == outcome_index(other)
        (closing,) = record.status.closings
        assert await confirmations(world, closing.txid) >= 6


async def past_the_expiry(world: World) -> None:
    """Median time passes the expiry after six blocks that are dated later."""
    await world.chain.mine(7, advance_seconds=600)


async def test_somebodys_expiry_transaction_comes_before_a_late_attestation(tmp_path: Path) -> None:
    """Everybody gets an equal share: what is mined counts, not what the oracle says afterwards."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        status = await status_of(world, competition_id)
        assert isinstance(status, states.AwaitingAttestation)
        dlc = await world.contracts.of(status)
        async with stopped(world):
            await past_the_expiry(world)
            signatures = await signatures_of(competition_id, dlc, EXPIRY)
            await push(world, expiry_transaction(dlc, signatures.outcome[EXPIRY]))
            await world.chain.mine()
            await world.oracle.attest(competition_id, (2, 0))
        await world.wait_for(competition_id, "expiry_broadcasted")
        await world.outcome_confirmed(competition_id)
        prizes = {await world.take_payout(competition_id, player) for player in players}
        assert len(prizes) == 1
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, states.Completed)
        assert record.status.attestation is None


async def test_an_outcome_transaction_comes_before_the_expiry_one(tmp_path: Path) -> None:
    """Its signature gives the attestation away that the oracle kept back."""
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        await past_the_expiry(world)
        record = await world.wait_for(competition_id, "expiry_broadcasted")
        assert isinstance(record.status, states.ExpiryBroadcasted)
        expiry = record.status.outcome_broadcast.txid
        await until(lambda: is_known(world, expiry))
        dlc = await world.contracts.of(record.status)
        async with stopped(world):
            await world.chain.mine(exclude_txids=[expiry])
            await reorganise(world, 1, drop=(expiry,))
            event = await world.oracle.attest(competition_id, (2, 0))
            assert event.attestation is not None
            outcome = dlc.outcome_for_attestation(event.attestation)
            assert outcome is not None
            signature = (await signatures_of(competition_id, dlc, outcome)).outcome[outcome]
            await push(world, outcome_transaction(dlc, outcome, signature, event.attestation))
            await world.chain.mine()
        record = await world.wait_for(competition_id, "outcome_broadcasted")
        assert isinstance(record.status, states.OutcomeBroadcasted)
        assert record.status.attestation.secret == event.attestation
        assert record.status.attestation.winners == (2, 0)
        await world.outcome_confirmed(competition_id)
        for index in (2, 0):
            await world.take_payout(competition_id, players[index])
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, states.Completed)
