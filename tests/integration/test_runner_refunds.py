"""Escrows of competitions that end before funding: their releases are recorded, sent, and seen buried."""

from pathlib import Path

import pytest

from coordinator.contract.tx import Transaction
from coordinator.domain.competition import EscrowPlan
from coordinator.domain.states import Cancelled
from coordinator.operations.competitions import cancel_competition
from coordinator.ports.chain import ChainUnavailable
from coordinator.store.transactions import recorded_transaction
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
