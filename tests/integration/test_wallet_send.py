"""Sending from the wallet on a real chain: once per idempotency key, and nothing stuck after a rejection."""

from pathlib import Path

import pytest

from coordinator.domain.errors import AlreadyExists, PreconditionFailed
from coordinator.ports.chain import TransactionRejected
from support.world import running_world

ADDRESS = "bcrt1p8wpt9v4frpf3tkn0srd97pksgsxc5hs52lafxwru9kgeephvs7rqjeprhg"


async def test_a_key_sends_once_and_for_one_payment_only(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        wallet = world.core.wallet
        first = await wallet.send(ADDRESS, 100_000, 2, "rent")
        assert await wallet.send(ADDRESS, 100_000, 2, "rent") == first
        with pytest.raises(AlreadyExists):
            await wallet.send(ADDRESS, 100_001, 2, "rent")
        await world.chain.mine()
        received = await world.core.chain.utxos(ADDRESS)
        assert [(utxo.txid, utxo.value_sats) for utxo in received] == [(first[0], 100_000)]


async def test_a_rejected_payment_frees_its_coins_and_is_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(tmp_path) as world:
        wallet, chain = world.core.wallet, world.core.chain
        before = await wallet.balance()

        async def reject(transaction: bytes) -> str:
            raise TransactionRejected("min relay fee not met")

        with monkeypatch.context() as patched:
            patched.setattr(chain, "broadcast", reject)
            with pytest.raises(TransactionRejected):
                await wallet.send(ADDRESS, 100_000, 2, "rent")
        with pytest.raises(PreconditionFailed, match="rejected"):
            await wallet.send(ADDRESS, 100_000, 2, "rent")
        assert await wallet.balance() == before
        assert not await chain.utxos(ADDRESS)
        await wallet.send(ADDRESS, 100_000, 2, "rent again")
