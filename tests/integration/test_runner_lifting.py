"""Transactions that stick, on a chain whose blocks leave out what pays too little: children pull them in."""

from pathlib import Path

import pytest

from coordinator.contract.tx import Transaction
from coordinator.domain.states import DeltaBroadcasted
from coordinator.domain.wallet.locks import child_lock
from coordinator.ports.chain import ChainUnavailable
from coordinator.runner.lifting import MAX_CHILD_FEE_PERCENT, STUCK_BLOCKS
from coordinator.store.models import EventRow, IntentRow
from support.reorgs import (
    confirmations,
    entered,
    funded_status,
    is_known,
    locked_outpoints,
    status_of,
    stopped,
)
from support.world import World, running_world, until


async def full_blocks(world: World, sats_per_vb: float) -> None:
    """From now on blocks take only what pays this much, and estimates say so."""
    await world.chain.post("/devnet/chain/fee_rate", {"sat_per_vb": sats_per_vb, "enforce": True})


async def children_of(txid: str) -> list[dict[str, object]]:
    row = await IntentRow.get_or_none(key=child_lock(txid))
    return [] if row is None else list(row.data["children"])  # type: ignore[call-overload]


async def lifted(competition_id: str) -> list[EventRow]:
    return await EventRow.filter(competition_id=competition_id, kind="transaction.lifted").order_by(
        "sequence"
    )


async def passed_by(world: World, txid: str, children: int) -> dict[str, object]:
    """Mines blocks that leave a transaction out until it has so many children; returns the last."""
    await until(lambda: is_known(world, txid))

    async def helped() -> bool:
        made = await children_of(txid)
        if len(made) < children:
            await world.chain.mine()
            return False
        return await is_known(world, str(made[-1]["txid"]))

    await until(helped)
    assert await confirmations(world, txid) == 0
    return (await children_of(txid))[-1]


async def package_rate(world: World, *txids: str) -> float:
    entries = [await world.chain.json(f"/tx/{txid}") for txid in txids]
    return sum(e["fee"] for e in entries) / (sum(e["weight"] for e in entries) / 4)  # type: ignore[index]


async def stuck_in(world: World, role: str) -> tuple[str, str]:
    """A competition whose escrow or funding transaction waits while blocks are full; its id and the txid."""
    competition_id, players = await entered(world)
    if role == "escrow":
        await world.escrow_planned(competition_id)
        await full_blocks(world, 20)
        await world.releases_signed(competition_id, players)
        status = await status_of(world, competition_id)
        return competition_id, status.escrow.txid  # type: ignore[union-attr]
    await world.releases_signed(competition_id, players)
    await world.wait_for(competition_id, "funding_ready", mining=True)
    await full_blocks(world, 20)
    for player in players:
        await world.sign_funding(competition_id, player)
    await world.wait_for(competition_id, "funding_broadcasted")
    return competition_id, (await funded_status(world, competition_id)).funding.txid


@pytest.mark.parametrize("role", ["escrow", "funding"])
async def test_change_pulls_a_stuck_transaction_into_a_block(tmp_path: Path, role: str) -> None:
    async with running_world(tmp_path) as world:
        competition_id, txid = await stuck_in(world, role)
        child = await passed_by(world, txid, 1)
        child_txid = str(child["txid"])
        spent = {
            str(txin.outpoint) for txin in Transaction.parse(bytes.fromhex(str(child["transaction"]))).inputs
        }
        assert spent <= await locked_outpoints()
        assert any(outpoint.startswith(txid) for outpoint in spent)
        assert await package_rate(world, txid, child_txid) >= 20
        (event,) = await lifted(competition_id)
        assert event.data == {
            "role": role,
            "txid": txid,
            "child_txid": child_txid,
            "fee_sats": child["fee_sats"],
        }
        await world.chain.mine()
        assert await confirmations(world, txid) == await confirmations(world, child_txid) == 1
        following = "funding_ready" if role == "escrow" else "awaiting_attestation"
        await world.wait_for(competition_id, following)


async def test_a_child_that_sticks_is_replaced_by_a_dearer_one(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, txid = await stuck_in(world, "funding")
        first = await passed_by(world, txid, 1)
        await full_blocks(world, 45)
        second = await passed_by(world, txid, 2)
        assert not await is_known(world, str(first["txid"]))
        assert int(str(second["fee_sats"])) > int(str(first["fee_sats"]))
        assert await package_rate(world, txid, str(second["txid"])) >= 45
        for made in (first, second):
            destination = Transaction.parse(bytes.fromhex(str(made["transaction"]))).outputs[0].script_pubkey
            assert (
                destination.hex()
                == Transaction.parse(bytes.fromhex(str(second["transaction"]))).outputs[0].script_pubkey.hex()
            )
        await world.chain.mine()
        assert await confirmations(world, txid) == 1
        await world.wait_for(competition_id, "awaiting_attestation")
        assert len(await lifted(competition_id)) == len(await children_of(txid)) >= 2


async def test_no_child_pays_more_than_a_quarter_of_what_is_at_stake(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, txid = await stuck_in(world, "funding")
        await full_blocks(world, 2_000)
        child = await passed_by(world, txid, 1)
        status = await funded_status(world, competition_id)
        most = status.funding.funding_value_sats * MAX_CHILD_FEE_PERCENT // 100
        assert int(str(child["fee_sats"])) == most
        # The change alone does not hold that much: a coin of the wallet's helps.
        assert len(Transaction.parse(bytes.fromhex(str(child["transaction"]))).inputs) == 2
        await world.chain.mine(6)
        assert await world.core.wallet.is_locked([child_lock(txid)])
        assert len(await children_of(txid)) == 1
        await full_blocks(world, 20)
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)


async def test_a_child_is_recorded_before_it_is_sent_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a node out of reach nor a restart makes a second one; one that is lost is sent again."""
    async with running_world(tmp_path) as world:
        competition_id, txid = await stuck_in(world, "funding")

        async def looked_at() -> bool:
            return await IntentRow.filter(key=child_lock(txid)).exists()

        await until(looked_at)

        async def unreachable(_: bytes) -> str:
            raise ChainUnavailable("nobody there")

        with monkeypatch.context() as patched:
            patched.setattr(world.core.chain, "broadcast", unreachable)

            async def recorded() -> bool:
                return bool(await children_of(txid))

            await world.chain.mine(STUCK_BLOCKS)
            await until(recorded)
            (child,) = await children_of(txid)
            assert not await is_known(world, str(child["txid"]))
        await world.restart()
        await until(lambda: is_known(world, str(child["txid"])))
        async with stopped(world):
            assert world.chain.node.mempool.get(str(child["txid"])) is not None
            world.chain.node.mempool.drop([str(child["txid"])])
            assert not await is_known(world, str(child["txid"]))
        await until(lambda: is_known(world, str(child["txid"])))
        assert [made["txid"] for made in await children_of(txid)] == [child["txid"]]
        assert len(await lifted(competition_id)) == 1
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)


async def test_what_pays_what_the_estimate_asks_has_no_child(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world)
        await world.releases_signed(competition_id, players)
        status = await status_of(world, competition_id)
        txid = status.escrow.txid  # type: ignore[union-attr]
        await until(lambda: is_known(world, txid))
        for _ in range(4):
            await world.chain.mine(exclude_txids=[txid])
            await world.restart()
        assert await children_of(txid) == []
        await world.wait_for(competition_id, "funding_ready", mining=True)


async def test_a_split_that_sticks_is_helped_by_what_takes_a_sold_prize(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id, players = await entered(world, relative_locktime_blocks=100)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (2, 0))
        await world.outcome_confirmed(competition_id)
        await world.take_payout(competition_id, players[2], hand_over=False)
        await world.chain.mine(97)
        await full_blocks(world, 20)
        record = await world.wait_for(competition_id, "delta_broadcasted", mining=True)
        assert isinstance(record.status, DeltaBroadcasted)
        split = record.status.split_broadcast.txid

        async def taken() -> bool:
            status = await status_of(world, competition_id)
            return isinstance(status, DeltaBroadcasted) and len(status.closings) == 1

        await until(taken)
        status = await status_of(world, competition_id)
        assert isinstance(status, DeltaBroadcasted)
        (closing,) = status.closings
        child = await passed_by(world, closing.txid, 1)
        assert await confirmations(world, split) == 0
        assert await package_rate(world, split, closing.txid, str(child["txid"])) >= 20
        await world.chain.mine()
        assert await confirmations(world, split) == await confirmations(world, closing.txid) == 1
