"""Sending recorded transactions on a real chain: lost parents, closed locks, conflicts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.adapters.esplora import EsploraChain
from coordinator.ports.chain import TransactionRejected
from coordinator.store.database import close_database, open_database
from coordinator.store.transactions import record_transaction, recorded_transaction
from coordinator.wallet import Conflicted, ensure_sent
from coordinator_devnet.chain.transactions import Outpoint, Transaction
from support.chain import Coin, Player, RunningChain, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[RunningChain]:
    await open_database(f"sqlite:///{tmp_path}/core.sqlite3")
    try:
        async with running_chain(tmp_path / "chain") as running:
            yield running
    finally:
        await close_database()


@pytest.fixture
async def adapter(chain: RunningChain) -> AsyncIterator[EsploraChain]:
    esplora = EsploraChain(chain.base_url)
    yield esplora
    await esplora.aclose()


def family(coin: Coin, generations: int) -> list[Transaction]:
    """Transactions that each spend the one before."""
    made = []
    for _ in range(generations):
        value_sats = coin.value_sats - 500
        made.append(ALICE.spend([coin], [(ALICE.script, value_sats)]))
        coin = Coin(Outpoint(made[-1].txid, 0), value_sats)
    return made


async def test_a_whole_line_of_lost_ancestors_is_sent_again(chain, adapter) -> None:
    line = family(await funded_coin(chain, ALICE.address, 100_000), 4)
    for tx in line:
        await record_transaction(tx.txid, tx.raw, "payment", 1)
        assert await recorded_transaction(tx.txid) == tx.raw
    assert await ensure_sent(adapter, line[-1].raw) is None
    assert await chain.json("/mempool/txids") == [tx.txid for tx in line]
    await chain.mine()
    # Mined and lost, with all that came after the second.
    await chain.post("/devnet/chain/reorg", {"depth": 1, "drop_txids": [line[1].txid]})
    assert await ensure_sent(adapter, line[-1].raw) is None
    await chain.mine()
    seen = await ensure_sent(adapter, line[-1].raw)
    assert seen is not None
    assert seen.block_height == chain.node.height()


async def test_a_parent_of_somebody_else_cannot_be_brought_back(chain, adapter) -> None:
    parent, child = family(await funded_coin(chain, ALICE.address, 100_000), 2)
    with pytest.raises(TransactionRejected, match="missingorspent"):
        await ensure_sent(adapter, child.raw)
    assert await chain.json("/mempool/txids") == []
    await chain.send(parent)
    await ensure_sent(adapter, child.raw)
    assert await chain.json("/mempool/txids") == [parent.txid, child.txid]


async def test_a_closed_lock_is_waited_for(chain, adapter) -> None:
    coin = await funded_coin(chain, ALICE.address, 100_000)
    relative = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=4)
    other = await funded_coin(chain, ALICE.address, 100_000)
    absolute = ALICE.spend([other], [(BOB.script, 90_000)], locktime=chain.node.height() + 3)
    for tx in (relative, absolute):
        assert await ensure_sent(adapter, tx.raw) is None
    assert await chain.json("/mempool/txids") == []
    await chain.mine(3)
    for tx in (relative, absolute):
        await ensure_sent(adapter, tx.raw)
    assert await chain.json("/mempool/txids") == [relative.txid, absolute.txid]


@pytest.mark.parametrize("mined", [True, False])
async def test_a_conflict_names_who_was_faster(chain, adapter, mined: bool) -> None:
    coin = await funded_coin(chain, ALICE.address, 100_000)
    slow = ALICE.spend([coin], [(BOB.script, 99_800)])
    fast = ALICE.spend([coin], [(BOB.script, 90_000)])
    await record_transaction(slow.txid, slow.raw, "payment", 1)
    await chain.send(fast)
    if mined:
        await chain.mine()
    with pytest.raises(Conflicted) as conflict:
        await ensure_sent(adapter, slow.raw)
    assert (conflict.value.txid, conflict.value.spender) == (slow.txid, fast.txid)
    # The same one generation later: it is the parent that is void.
    child = ALICE.spend([Coin(Outpoint(slow.txid, 0), 99_800)], [(BOB.script, 90_000)])
    with pytest.raises(Conflicted) as conflict:
        await ensure_sent(adapter, child.raw)
    assert (conflict.value.txid, conflict.value.spender) == (slow.txid, fast.txid)
