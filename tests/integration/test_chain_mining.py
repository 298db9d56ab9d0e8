"""Blocks, faucet and supply of the devnet chain, over a real socket."""

import asyncio
import time

import pytest

from coordinator_devnet.chain import ChainNode, EngineError
from coordinator_devnet.chain.node import INITIAL_BLOCKS
from coordinator_devnet.chain.scripts import script_hash
from coordinator_devnet.chain.transactions import Outpoint
from support.chain import Coin, Player, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")
NOBODY = "bcrt1q" + "q" * 33


@pytest.fixture
async def chain(tmp_path):
    async with running_chain(tmp_path / "chain") as running:
        yield running


async def test_a_new_chain_has_mature_coins_and_plausible_times(chain):
    assert int((await chain.get("/blocks/tip/height")).text) == INITIAL_BLOCKS
    tip = await chain.json(f"/block/{(await chain.get('/blocks/tip/hash')).text}")
    assert abs(tip["timestamp"] - time.time()) < 60
    assert tip["timestamp"] - 3600 <= tip["mediantime"] < tip["timestamp"]
    assert (await chain.json("/devnet/chain/supply"))["wallet_sats"] > 100 * 50 * 100_000_000


async def test_faucet_pays_into_the_mempool_and_a_block_confirms(chain):
    txid = await chain.faucet(ALICE.address, 123_456)
    assert (await chain.json(f"/tx/{txid}/status")) == {"confirmed": False}
    assert txid in await chain.json("/mempool/txids")
    [unconfirmed] = await chain.json(f"/address/{ALICE.address}/utxo")
    assert (unconfirmed["value"], unconfirmed["status"]) == (123_456, {"confirmed": False})

    [block_hash] = await chain.mine()
    status = await chain.json(f"/tx/{txid}/status")
    assert (status["confirmed"], status["block_hash"]) == (True, block_hash)
    assert await chain.json("/mempool/txids") == []
    [confirmed] = await chain.json(f"/address/{ALICE.address}/utxo")
    assert confirmed["status"]["block_height"] == INITIAL_BLOCKS + 1


async def test_faucet_serves_many_requests_between_blocks(chain):
    for amount_sats in range(10_000, 10_200):
        await chain.faucet(ALICE.address, amount_sats)
    await chain.mine()
    assert len(await chain.json(f"/address/{ALICE.address}/utxo")) == 200
    assert await chain.json("/mempool/txids") == []


@pytest.mark.parametrize(
    "body",
    [
        {"address": ALICE.address, "amount_sats": 0},
        {"address": ALICE.address, "amount_sats": 100},  # dust
        {"address": ALICE.address, "amount_sats": 21_000_000 * 100_000_000},
        {"address": ALICE.address, "amount_sats": -5},
        {"address": ALICE.address, "amount_sats": 1.5},
        {"address": NOBODY, "amount_sats": 10_000},
        {"address": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "amount_sats": 10_000},  # mainnet
        {"amount_sats": 10_000},
        {"address": ALICE.address, "amount_sats": 10_000, "surprise": 1},
        [],
    ],
)
async def test_a_wrong_faucet_request_changes_nothing(chain, body):
    response = await chain.http.post("/devnet/chain/faucet", json=body)
    assert response.status_code == 400
    assert response.json()["error"]
    assert await chain.json("/mempool/txids") == []


@pytest.mark.parametrize(
    "body",
    [
        {"blocks": -1},
        {"blocks": 100_000},
        {"blocks": "1"},
        {"blocks": 1, "advance_seconds": 7201},
        {"blocks": 1, "address": "x"},
    ],
)
async def test_a_wrong_mining_request_changes_nothing(chain, body):
    assert (await chain.http.post("/devnet/chain/mine", json=body)).status_code == 400
    assert chain.node.height() == INITIAL_BLOCKS


async def test_coinbases_pay_where_asked(chain):
    await chain.mine(2, address=BOB.address)
    stats = (await chain.json(f"/address/{BOB.address}"))["chain_stats"]
    assert (stats["tx_count"], stats["funded_txo_sum"]) == (2, 2 * 25 * 100_000_000)


async def test_coinbase_matures_after_a_hundred_blocks(chain):
    [block_hash] = await chain.mine(address=BOB.address)
    txid = (await chain.json(f"/block/{block_hash}/txids"))[0]
    coin = Coin(Outpoint(txid, 0), 25 * 100_000_000)
    spend = BOB.spend([coin], [(ALICE.script, coin.value_sats - 1000)])
    await chain.mine(98)
    assert "bad-txns-premature-spend-of-coinbase" in await chain.refused(spend)
    await chain.mine(1)
    await chain.send(spend)
    await chain.mine(1)
    assert (await chain.json(f"/tx/{spend.txid}/status"))["confirmed"]


async def test_advancing_time_moves_the_median_after_six_blocks(chain):
    before = chain.node.median_time_at()
    answer = await chain.post("/devnet/chain/mine", {"blocks": 6, "advance_seconds": 6000})
    assert answer["median_time_at"] == chain.node.median_time_at()
    assert answer["median_time_at"] >= time.time() + 6000 - 60
    assert answer["median_time_at"] > before + 6000
    # Blocks after that still find room below the two hours that consensus allows.
    await chain.mine(100, advance_seconds=7200)
    await chain.mine(100)


async def test_exclude_leaves_a_transaction_and_its_children_waiting(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    parent = ALICE.spend([coin], [(ALICE.script, 90_000)])
    child = ALICE.spend([Coin(Outpoint(parent.txid, 0), 90_000)], [(BOB.script, 80_000)])
    await chain.send(parent)
    await chain.send(child)
    other = await chain.faucet(BOB.address, 5_000)
    await chain.mine(2, exclude_txids=[parent.txid])
    assert set(await chain.json("/mempool/txids")) == {parent.txid, child.txid}
    assert (await chain.json(f"/tx/{other}/status"))["confirmed"]
    await chain.mine()
    assert await chain.json("/mempool/txids") == []


async def test_blocks_come_on_a_timer(tmp_path):
    async with running_chain(tmp_path / "chain", mine_interval_seconds=0.02) as chain:
        txid = await chain.faucet(ALICE.address, 50_000)
        async with asyncio.timeout(10):
            while not (await chain.json(f"/tx/{txid}/status"))["confirmed"]:
                await asyncio.sleep(0.01)


async def test_supply_adds_up(chain):
    coin = await funded_coin(chain, ALICE.address, 1_000_000)
    await chain.send(
        ALICE.spend([coin], [(BOB.script, 600_000), (b"\x6a\x04burn", 1_000), (ALICE.script, 390_000)])
    )
    await chain.mine()
    wallet = (await chain.json("/devnet/chain/status"))["wallet_address"]
    wallet_script = chain.node.wallet.script
    bob_coin = next(iter(chain.node.index.history(script_hash(BOB.script)).unspent))
    await chain.send(BOB.spend([Coin(bob_coin, 600_000)], [(wallet_script, 595_000)]))
    await chain.mine(2, address=BOB.address)
    supply = await chain.json("/devnet/chain/supply")
    assert supply["issued_sats"] == supply["max_issued_sats"]
    assert supply["issued_sats"] == supply["utxo_total_sats"] + supply["burned_sats"]
    assert supply["burned_sats"] == 1_000
    assert supply["circulating_fees_sats"] == 9_000 + 5_000
    assert supply["circulating_sats"] == (
        supply["paid_out_sats"]
        + supply["mined_elsewhere_sats"]
        - supply["paid_in_sats"]
        - supply["circulating_fees_sats"]
        - supply["circulating_burned_sats"]
    )
    assert supply["balances"][ALICE.address] == 390_000
    assert supply["balances"][BOB.address] == supply["mined_elsewhere_sats"] == 2 * 25 * 100_000_000 + 5_000
    assert sum(supply["balances"].values()) == supply["utxo_total_sats"]
    assert supply["balances"][wallet] == supply["wallet_sats"]


async def test_a_data_directory_serves_one_node_at_a_time(chain, tmp_path):
    with pytest.raises(EngineError):
        await ChainNode(tmp_path / "chain").start()
    await chain.mine()
