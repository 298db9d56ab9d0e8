"""The coordinator's Esplora adapter against the devnet chain."""

import socket

import pytest

from coordinator.adapters.esplora import EsploraChain
from coordinator.ports.chain import (
    Chain,
    ChainError,
    ChainTip,
    ChainUnavailable,
    Outspend,
    TransactionRejected,
    TransactionStatus,
    Utxo,
)
from coordinator_devnet.chain.transactions import Outpoint
from support.chain import Coin, Player, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")
UNKNOWN = "ab" * 32


@pytest.fixture
async def chain(tmp_path):
    async with running_chain(tmp_path / "chain") as running:
        yield running


@pytest.fixture
async def adapter(chain):
    esplora = EsploraChain(chain.base_url)
    yield esplora
    await esplora.aclose()


async def test_tip_and_fees(chain, adapter):
    port: Chain = adapter
    node = chain.node
    assert await port.tip() == ChainTip(node.height(), node.tip_hash(), node.median_time_at())
    await chain.mine()
    assert (await port.tip()).height == node.height()
    node.set_fee_rate(4.5)
    rates = await port.fee_rates()
    assert (rates[1], rates[6], rates[144]) == (4.5, 4.5, 4.5)


async def test_a_transaction_from_broadcast_to_reorganisation(chain, adapter):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)])
    assert await adapter.transaction(tx.txid) is None
    assert await adapter.transaction_status(tx.txid) is None
    assert await adapter.outspend(*coin.outpoint) is None

    assert await adapter.broadcast(tx.raw) == tx.txid
    assert await adapter.transaction(tx.txid) == tx.raw
    assert await adapter.transaction_status(tx.txid) == TransactionStatus(False, None, None, None)
    assert await adapter.outspend(*coin.outpoint) == Outspend(tx.txid, 0, False, None)
    assert await adapter.utxos(BOB.address) == [Utxo(tx.txid, 0, 90_000, False, None)]
    assert await adapter.utxos(ALICE.address) == []

    [block_hash] = await chain.mine()
    height, time_at = chain.node.height(), chain.node.index.tip.header.time_at
    assert await adapter.transaction_status(tx.txid) == TransactionStatus(True, height, block_hash, time_at)
    assert await adapter.outspend(*coin.outpoint) == Outspend(tx.txid, 0, True, height)
    assert await adapter.utxos(BOB.address) == [Utxo(tx.txid, 0, 90_000, True, height)]

    chain.node.reorg(1, drop_txids=[tx.txid])
    assert await adapter.transaction_status(tx.txid) is None
    assert await adapter.outspend(*coin.outpoint) is None
    assert await adapter.broadcast(tx.raw) == tx.txid


async def test_broadcast_is_idempotent_in_mempool_in_chain_and_once_spent(chain, adapter):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)])
    for _ in range(2):
        assert await adapter.broadcast(tx.raw) == tx.txid
    await chain.mine()
    assert await adapter.broadcast(tx.raw) == tx.txid
    spend = BOB.spend([Coin(Outpoint(tx.txid, 0), 90_000)], [(ALICE.script, 80_000)])
    await adapter.broadcast(spend.raw)
    await chain.mine()
    # Now the node answers "missing or spent inputs", as for a transaction that it has never seen.
    assert await adapter.broadcast(tx.raw) == tx.txid


async def test_refusals_carry_the_nodes_reason(chain, adapter):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    refused = {
        "bad-txns-inputs-missingorspent": ALICE.spend(
            [Coin(Outpoint(UNKNOWN, 0), 9_000)], [(BOB.script, 8_000)]
        ),
        "non-final": ALICE.spend([coin], [(BOB.script, 90_000)], locktime=100_000),
        "non-BIP68-final": ALICE.spend([coin], [(BOB.script, 90_000)], sequence=100),
        "dust": ALICE.spend([coin], [(BOB.script, 1)]),
    }
    for reason, tx in refused.items():
        with pytest.raises(TransactionRejected) as caught:
            await adapter.broadcast(tx.raw)
        assert caught.value.reason == reason
        assert await adapter.transaction_status(tx.txid) is None
    for raw in (b"", b"\x00", refused["dust"].raw[:-1], refused["dust"].raw + b"\x00"):
        with pytest.raises(TransactionRejected):
            await adapter.broadcast(raw)


async def test_wrong_arguments_are_errors_and_not_requests(chain, adapter):
    for txid in ("", "xyz", UNKNOWN.upper(), UNKNOWN + "/hex", "../block/" + UNKNOWN):
        with pytest.raises(ChainError):
            await adapter.transaction(txid)
        with pytest.raises(ChainError):
            await adapter.transaction_status(txid)
    for address in ("", "../mempool", "bcrt1qnonsense0000000000000"):
        with pytest.raises(ChainError):
            await adapter.utxos(address)


async def test_nobody_there():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unused_tcp_port = closed.getsockname()[1]
    adapter = EsploraChain(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ChainUnavailable):
        await adapter.tip()
    tx = ALICE.spend([Coin(Outpoint(UNKNOWN, 0), 9_000)], [(BOB.script, 8_000)])
    with pytest.raises(ChainUnavailable):
        await adapter.broadcast(tx.raw)
    await adapter.aclose()
