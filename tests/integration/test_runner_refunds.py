"""Escrows of competitions that end before funding: their releases are recorded, sent, and seen buried."""

from pathlib import Path

import pytest

from coordinator.contract.escrow import ESCROW_CLAWBACK_BLOCKS
from coordinator.contract.tx import Transaction
from coordinator.domain.competition import EscrowPlan
from coordinator.domain.endings import ending_words
from coordinator.domain.htlcs import HOPS_BLOCKS
from coordinator.domain.states import AwaitingEscrow, Cancelled
from coordinator.operations.competitions import cancel_competition
from coordinator.ports.chain import ChainUnavailable
from coordinator.store.models import EventRow
from coordinator.store.transactions import recorded_transaction
from support.hand_driven import HandDrivenWorld, hand_driven
from support.reorgs import (
    bury,
    confirmations,
    entered,
    is_known,
    locked_outpoints,
    reorganise,
    status_of,
    stopped,
)
from support.world import World, running_world, until


async def cancelled_after_escrow(world: World) -> tuple[str, EscrowPlan]:
    """A competition that an admin cancels once its escrow transaction is in a block; its id and escrows."""
    competition_id, players = await entered(world)
    await world.releases_signed(competition_id, players)
    await world.wait_for(competition_id, "funding_ready", mining=True)
    await cancel_competition(world.core, competition_id, "storm warning")

    async def ended() -> bool:
        return isinstance(await status_of(world, competition_id), Cancelled)

    await until(ended)
    status = await status_of(world, competition_id)
    assert isinstance(status, Cancelled)
    assert status.escrow is not None
    return competition_id, status.escrow


async def test_releases_are_recorded_before_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the node cannot be reached at that moment: they are sent later, and only these."""
    async with running_world(tmp_path) as world:
        competition_id, escrow = await cancelled_after_escrow(world)
        attempts: list[str] = []

        async def unreachable(transaction: bytes) -> str:
            attempts.append(Transaction.parse(transaction).txid)
            raise ChainUnavailable("nobody there")

        with monkeypatch.context() as patched:
            patched.setattr(world.core.chain, "broadcast", unreachable)
            await world.chain.mine(escrow.release_blocks)

            async def attempted() -> bool:
                return bool(attempts)

            await until(attempted)
            status = await status_of(world, competition_id)
            assert isinstance(status, Cancelled)
            assert len(status.release_txids) == 3
            assert set(attempts) <= set(status.release_txids)
            assert all([await recorded_transaction(txid) is not None for txid in status.release_txids])
            assert not any([await is_known(world, txid) for txid in status.release_txids])
            assert len(await locked_outpoints()) >= 1
        await world.restart()
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Cancelled)
        assert record.status.release_txids == status.release_txids
        for txid in status.release_txids:
            assert await confirmations(world, txid) >= 6
        assert (await world.event_kinds(competition_id)).count("transaction.broadcast") == 4
        assert not await locked_outpoints()
        assert await confirmations(world, escrow.txid) > escrow.release_blocks


def test_a_release_waits_for_as_long_as_the_payments_may_be_settled(tmp_path: Path) -> None:
    """Held for 1,008 blocks, as on regtest: the coins come back that much later, and not a block before."""
    with hand_driven(tmp_path) as driven:
        driven.run(_released_late(driven))


async def _released_late(driven: HandDrivenWorld) -> None:
    world = driven.world
    competition_id, players = await entered(world)
    status = (await driven.settle(competition_id)).status
    assert isinstance(status, AwaitingEscrow)
    assert status.escrow is not None
    agreed, expiries = status.escrow.release_blocks, []
    for player in status.roster:
        invoice = await world.core.lightning.lookup_invoice(player.ticket_hash)
        assert invoice is not None
        expiries += [htlc.expiry_height for htlc in invoice.htlcs]
    left = max(expiries) - world.chain.node.height()
    assert left > 1000
    assert agreed == left + HOPS_BLOCKS + ESCROW_CLAWBACK_BLOCKS
    planned = await EventRow.get(competition_id=competition_id, kind="escrow.planned")
    assert planned.data["release_blocks"] == agreed

    await world.releases_signed(competition_id, players)
    await driven.settle(competition_id)
    await world.chain.mine()
    assert (await driven.settle(competition_id)).status.name == "funding_ready"
    await cancel_competition(world.core, competition_id, "storm warning")

    async def released() -> int:
        status = (await driven.settle(competition_id)).status
        assert isinstance(status, Cancelled)
        assert f" {agreed:,} blocks (about {round(agreed / 144)} days)" in ending_words(status)
        return len(status.release_txids)

    assert await released() == 0
    await world.chain.mine(agreed - 1 - await confirmations(world, status.escrow.txid))
    assert await released() == 0
    await world.chain.mine()
    assert await released() == 3
    await world.chain.mine(6)
    record = await driven.settle(competition_id)
    assert isinstance(record.status, Cancelled)
    assert (record.status.money_returned, record.at_rest) == (True, True)


@pytest.mark.parametrize("depth", [1, 6])
async def test_an_escrow_that_a_reorganisation_takes_away_comes_back_and_is_released(
    tmp_path: Path, depth: int
) -> None:
    async with running_world(tmp_path) as world:
        competition_id, escrow = await cancelled_after_escrow(world)
        async with stopped(world):
            await bury(world, escrow.txid, depth)
            await reorganise(world, depth, drop=(escrow.txid,))
            assert not await is_known(world, escrow.txid)
        await until(lambda: is_known(world, escrow.txid))
        await world.chain.mine(escrow.release_blocks)
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Cancelled)
        assert len(record.status.release_txids) == 3


@pytest.mark.parametrize("depth", [1, 5])
async def test_a_release_that_is_lost_is_sent_again_before_the_competition_rests(
    tmp_path: Path, depth: int
) -> None:
    async with running_world(tmp_path) as world:
        competition_id, escrow = await cancelled_after_escrow(world)
        await world.chain.mine(escrow.release_blocks)

        async def sent() -> bool:
            status = await status_of(world, competition_id)
            assert isinstance(status, Cancelled)
            txids = status.release_txids
            return len(txids) == 3 and all([await is_known(world, txid) for txid in txids])

        await until(sent)
        status = await status_of(world, competition_id)
        assert isinstance(status, Cancelled)
        first = status.release_txids[0]
        async with stopped(world):
            await bury(world, first, depth)
            await reorganise(world, depth, drop=status.release_txids)
            assert not await is_known(world, first)
        await until(lambda: is_known(world, first))
        assert not (await world.core.competitions.load(competition_id)).at_rest
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Cancelled)
        assert record.status.release_txids == status.release_txids
        assert await confirmations(world, first) >= 6
