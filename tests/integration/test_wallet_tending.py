"""The wallet's payments on a real chain: sent whatever happens, locked until buried, of coins that stay."""

from pathlib import Path

import pytest

from coordinator.contract.utxo import Output
from coordinator.domain.wallet.errors import InsufficientFunds
from coordinator.domain.wallet.locks import payment_lock
from coordinator.operations import wallet as operations
from coordinator.ports.chain import ChainUnavailable
from support.reorgs import (
    bury,
    confirmations,
    entered,
    funded_status,
    is_known,
    locked_outpoints,
    reorganise,
)
from support.world import World, running_world

ADDRESS = "bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqjeprhg"


async def fee_rate_of(world: World, txid: str) -> float:
    entry = await world.chain.json(f"/tx/{txid}")
    return entry["fee"] / (entry["weight"] / 4)  # type: ignore[index]


async def test_a_payment_pays_the_chosen_fee_rate_or_the_estimate(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        await world.chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 7})
        for asked, expected in ((3, 3), (0, 7), (11, 11)):
            txid, fee_sats = await operations.send(world.core, ADDRESS, 100_000, asked, f"fee {asked}")
            entry = await world.chain.json(f"/tx/{txid}")
            assert entry["fee"] == fee_sats  # type: ignore[index]
            assert expected <= await fee_rate_of(world, txid) < expected + 0.1


async def test_coins_of_a_payment_are_free_once_it_is_buried(tmp_path: Path) -> None:
    """Until then it may come back, whatever happens to the blocks."""
    async with running_world(tmp_path) as world:
        txid, _ = await world.core.wallet.send(ADDRESS, 100_000, 2, "rent")
        for depth in range(1, 6):
            await bury(world, txid, depth)
            await world.core.wallet.tend()
            assert await world.core.wallet.is_locked([payment_lock("rent")])
            await reorganise(world, depth, drop=(txid,))
            assert not await is_known(world, txid)
            await world.restart()
            await world.core.wallet.tend()
            assert await is_known(world, txid)
        await bury(world, txid, 6)
        await world.core.wallet.tend()
        assert not await locked_outpoints()
        # The same key is still the same payment.
        assert (await world.core.wallet.send(ADDRESS, 100_000, 2, "rent"))[0] == txid


async def test_a_recorded_payment_is_sent_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node was out of reach, then the core died: the payment was promised."""

    async def unreachable(_: bytes) -> str:
        raise ChainUnavailable("nobody there")

    async with running_world(tmp_path) as world:
        with monkeypatch.context() as patched:
            patched.setattr(world.core.chain, "broadcast", unreachable)
            with pytest.raises(ChainUnavailable):
                await world.core.wallet.send(ADDRESS, 100_000, 2, "rent")
        assert not await world.core.chain.utxos(ADDRESS)
        await world.restart()
        await world.core.wallet.tend()
        (received,) = await world.core.chain.utxos(ADDRESS)
        assert received.value_sats == 100_000
        txid, _ = await world.core.wallet.send(ADDRESS, 100_000, 2, "rent")
        assert txid == received.txid
        assert len(await world.core.chain.utxos(ADDRESS)) == 1


async def test_only_coins_that_stay_are_spent(tmp_path: Path) -> None:
    """A deposit in no block may be replaced by its sender; the wallet's own change may not."""
    async with running_world(tmp_path) as world:
        wallet = world.core.wallet
        balance = await wallet.balance()
        await world.chain.faucet(await wallet.receive_address(), 10_000_000)
        assert (await wallet.balance()).unconfirmed_sats == 10_000_000
        script = wallet.keys.descriptor.script_pubkey(0, 0)  # type: ignore[arg-type]
        with pytest.raises(InsufficientFunds):
            await wallet.plan([Output(script, balance.confirmed_sats + 1_000_000)], 1)
        # Its own unconfirmed change pays for the next payment.
        await wallet.send(ADDRESS, 100_000, 2, "first")
        second, _ = await wallet.send(ADDRESS, balance.confirmed_sats - 1_000_000, 2, "second")
        await world.chain.mine()
        assert await confirmations(world, second) == 1
        await wallet.send(ADDRESS, 9_000_000, 2, "third")


async def test_every_output_says_what_it_came_from(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        deposit = await world.chain.faucet(await world.core.wallet.receive_address(), 10_000_000)
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        status = await funded_status(world, competition_id)
        payment, _ = await world.core.wallet.send(ADDRESS, 9_000_000, 2, "rent")
        labels = {output.txid: output.label for output in await operations.list_outputs(world.core)}
        known = {
            deposit: "deposit",
            status.escrow.txid: f"escrow {competition_id}",
            status.funding.txid: f"funding {competition_id}",
            payment: "payment",
        }
        assert labels.items() <= known.items()
        assert {status.funding.txid, payment} <= labels.keys()
