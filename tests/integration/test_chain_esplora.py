"""The Esplora shapes of the devnet chain: what clients of Blockstream's servers rely on."""

import hashlib

import pytest

from coordinator_devnet.chain.blocks import merkle_root, parse_transactions
from coordinator_devnet.chain.scripts import script_to_address
from coordinator_devnet.chain.transactions import Outpoint, Transaction, sha256d
from support.chain import Coin, Player, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")
GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
UNKNOWN = "ab" * 32


@pytest.fixture
async def chain(tmp_path):
    async with running_chain(tmp_path / "chain") as running:
        yield running


async def test_blocks(chain):
    await chain.faucet(ALICE.address, 50_000)
    [block_hash] = await chain.mine()
    assert (await chain.get("/block-height/0")).text == GENESIS
    assert (await chain.get(f"/block-height/{chain.node.height()}")).text == block_hash
    assert (await chain.get("/block-height/100000")).status_code == 404

    block = await chain.json(f"/block/{block_hash}")
    raw = (await chain.get(f"/block/{block_hash}/raw")).content
    header = bytes.fromhex((await chain.get(f"/block/{block_hash}/header")).text)
    transactions = parse_transactions(raw)
    assert raw[:80] == header
    assert sha256d(header)[::-1].hex() == block_hash
    assert set(block) == {
        *("id", "height", "version", "timestamp", "tx_count", "size", "weight", "merkle_root"),
        *("previousblockhash", "mediantime", "nonce", "bits", "difficulty"),
    }
    assert block["size"] == len(raw)
    assert block["weight"] == 4 * (len(raw) - sum(tx.size for tx in transactions)) + sum(
        tx.weight for tx in transactions
    )
    assert (
        block["merkle_root"]
        == merkle_root([sha256d(tx.serialize(with_witness=False)) for tx in transactions])[::-1].hex()
    )
    assert (block["bits"], block["tx_count"]) == (0x207FFFFF, 2)
    assert block["difficulty"] == pytest.approx(4.656542373906925e-10)
    assert block["previousblockhash"] == (await chain.get(f"/block-height/{block['height'] - 1}")).text
    times = [
        (await chain.json(f"/block/{chain.node.index.block_at(block['height'] - i).block_hash}"))["timestamp"]
        for i in range(11)
    ]
    assert block["mediantime"] == sorted(times)[5]

    assert await chain.json(f"/block/{block_hash}/txids") == [tx.txid for tx in transactions]
    assert (await chain.get(f"/block/{block_hash}/txid/1")).text == transactions[1].txid
    assert [tx["txid"] for tx in await chain.json(f"/block/{block_hash}/txs")] == [
        tx.txid for tx in transactions
    ]
    assert [b["height"] for b in await chain.json("/blocks")] == list(
        range(block["height"], block["height"] - 10, -1)
    )
    assert [b["height"] for b in await chain.json("/blocks/3")] == [3, 2, 1, 0]
    for path in ("", "/header", "/raw", "/txids", "/txs"):
        response = await chain.get(f"/block/{UNKNOWN}{path}")
        assert (response.status_code, response.text) == (404, "Block not found")
    assert await chain.json(f"/block/{UNKNOWN}/status") == {"in_best_chain": False}
    assert (await chain.get("/block/nonsense")).status_code == 400


async def test_a_transaction(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 60_000), (ALICE.script, 39_000), (b"\x6a\x02hi", 0)])
    await chain.send(tx)
    body = await chain.json(f"/tx/{tx.txid}")
    assert {key: body[key] for key in ("txid", "version", "locktime", "size", "weight", "fee", "status")} == {
        "txid": tx.txid,
        "version": 2,
        "locktime": 0,
        "size": tx.size,
        "weight": tx.weight,
        "fee": 1_000,
        "status": {"confirmed": False},
    }
    [vin] = body["vin"]
    assert vin == {
        "txid": coin.outpoint.txid,
        "vout": coin.outpoint.vout,
        "prevout": {
            "scriptpubkey": ALICE.script.hex(),
            "scriptpubkey_asm": f"OP_0 OP_PUSHBYTES_20 {ALICE.key_hash.hex()}",
            "scriptpubkey_type": "v0_p2wpkh",
            "scriptpubkey_address": ALICE.address,
            "value": 100_000,
        },
        "scriptsig": "",
        "scriptsig_asm": "",
        "witness": [item.hex() for item in tx.inputs[0].witness],
        "is_coinbase": False,
        "sequence": 0xFFFFFFFD,
    }
    assert body["vout"][2] == {
        "scriptpubkey": "6a026869",
        "scriptpubkey_asm": "OP_RETURN OP_PUSHBYTES_2 6869",
        "scriptpubkey_type": "op_return",
        "value": 0,
    }
    assert (await chain.get(f"/tx/{tx.txid}/hex")).text == tx.raw.hex()
    assert (await chain.get(f"/tx/{tx.txid}/raw")).content == tx.raw

    [block_hash] = await chain.mine()
    block = await chain.json(f"/block/{block_hash}")
    status = {
        "confirmed": True,
        "block_height": block["height"],
        "block_hash": block_hash,
        "block_time": block["timestamp"],
    }
    assert await chain.json(f"/tx/{tx.txid}/status") == status
    assert (await chain.json(f"/tx/{tx.txid}"))["status"] == status


async def test_a_p2wsh_input_shows_its_script(chain):
    vault = ALICE.guarded(b"\x51\xb2\x75")
    coin = await funded_coin(chain, vault.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=1, guard=vault)
    await chain.send(tx)
    [vin] = (await chain.json(f"/tx/{tx.txid}"))["vin"]
    assert vin["prevout"]["scriptpubkey_type"] == "v0_p2wsh"
    expected = f"OP_PUSHNUM_1 OP_CSV OP_DROP OP_PUSHBYTES_33 {ALICE.public_key.hex()} OP_CHECKSIG"
    assert vin["inner_witnessscript_asm"] == expected


async def test_unknown_transactions(chain):
    for path in ("", "/hex", "/raw", "/outspends", "/merkle-proof"):
        response = await chain.get(f"/tx/{UNKNOWN}{path}")
        assert (response.status_code, response.text.startswith("Transaction not found")) == (404, True)
    # As electrs does: the status of what was never seen is "not confirmed", its outputs are "not spent".
    assert await chain.json(f"/tx/{UNKNOWN}/status") == {"confirmed": False}
    assert await chain.json(f"/tx/{UNKNOWN}/outspend/0") == {"spent": False}
    assert (await chain.get("/tx/xyz")).status_code == 400


async def test_a_coinbase(chain):
    [block_hash] = await chain.mine()
    txid = (await chain.json(f"/block/{block_hash}/txids"))[0]
    body = await chain.json(f"/tx/{txid}")
    assert (body["fee"], body["vin"][0]["is_coinbase"], body["vin"][0]["prevout"]) == (0, True, None)
    assert sum(out["value"] for out in body["vout"]) == 25 * 100_000_000


async def test_outspends(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(ALICE.script, 50_000), (BOB.script, 49_000)])
    await chain.send(tx)
    path = f"/tx/{coin.outpoint.txid}/outspend/{coin.outpoint.vout}"
    assert await chain.json(path) == {
        "spent": True,
        "txid": tx.txid,
        "vin": 0,
        "status": {"confirmed": False},
    }
    assert await chain.json(f"/tx/{tx.txid}/outspends") == [{"spent": False}, {"spent": False}]
    await chain.mine()
    spend = await chain.json(path)
    assert (spend["txid"], spend["status"]["block_height"]) == (tx.txid, chain.node.height())
    assert (await chain.json(f"/tx/{coin.outpoint.txid}/outspends"))[coin.outpoint.vout] == spend


async def test_a_merkle_proof_leads_to_the_root(chain):
    for amount_sats in range(10_000, 10_006):
        await chain.faucet(BOB.address, amount_sats)
    [block_hash] = await chain.mine()
    block = await chain.json(f"/block/{block_hash}")
    for position, txid in enumerate(await chain.json(f"/block/{block_hash}/txids")):
        proof = await chain.json(f"/tx/{txid}/merkle-proof")
        assert (proof["block_height"], proof["pos"]) == (block["height"], position)
        node, index = bytes.fromhex(txid)[::-1], position
        for sibling in proof["merkle"]:
            other = bytes.fromhex(sibling)[::-1]
            node = sha256d(other + node if index & 1 else node + other)
            index >>= 1
        assert node[::-1].hex() == block["merkle_root"]


async def test_an_address_and_its_scripthash(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 60_000), (ALICE.script, 39_000)])
    await chain.send(tx)
    body = await chain.json(f"/address/{ALICE.address}")
    assert body == {
        "address": ALICE.address,
        "chain_stats": {
            "tx_count": 1,
            "funded_txo_count": 1,
            "funded_txo_sum": 100_000,
            "spent_txo_count": 0,
            "spent_txo_sum": 0,
        },
        "mempool_stats": {
            "tx_count": 1,
            "funded_txo_count": 1,
            "funded_txo_sum": 39_000,
            "spent_txo_count": 1,
            "spent_txo_sum": 100_000,
        },
    }
    script_hash = hashlib.sha256(ALICE.script).hexdigest()
    same = await chain.json(f"/scripthash/{script_hash}")
    assert (same["scripthash"], same["chain_stats"]) == (script_hash, body["chain_stats"])
    # A coin that a waiting transaction spends is not unspent.
    utxo = [{"txid": tx.txid, "vout": 1, "status": {"confirmed": False}, "value": 39_000}]
    assert await chain.json(f"/address/{ALICE.address}/utxo") == utxo
    assert await chain.json(f"/scripthash/{script_hash}/utxo") == utxo
    for prefix in (f"/address/{ALICE.address}", f"/scripthash/{script_hash}"):
        assert [t["txid"] for t in await chain.json(f"{prefix}/txs")] == [tx.txid, coin.outpoint.txid]
        assert [t["txid"] for t in await chain.json(f"{prefix}/txs/mempool")] == [tx.txid]
        assert [t["txid"] for t in await chain.json(f"{prefix}/txs/chain")] == [coin.outpoint.txid]
    assert (await chain.get("/address/bcrt1nonsense/utxo")).status_code == 400
    unused = Player("unused").address
    assert await chain.json(f"/address/{unused}/utxo") == []


async def test_history_pages_by_25(chain):
    txids = []
    for amount_sats in range(10_000, 10_030):
        txids.append(await chain.faucet(BOB.address, amount_sats))
        await chain.mine()
    first = [tx["txid"] for tx in await chain.json(f"/address/{BOB.address}/txs/chain")]
    rest = [tx["txid"] for tx in await chain.json(f"/address/{BOB.address}/txs/chain/{first[-1]}")]
    assert (len(first), first + rest) == (25, txids[::-1])


async def test_mempool_and_fees(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 99_000)])
    await chain.send(tx)
    assert await chain.json("/mempool") == {
        "count": 1,
        "vsize": tx.vsize,
        "total_fee": 1_000,
        "fee_histogram": [[1_000 / tx.vsize, tx.vsize]],
    }
    assert await chain.json("/mempool/recent") == [
        {"txid": tx.txid, "fee": 1_000, "vsize": tx.vsize, "value": 99_000}
    ]
    estimates = await chain.json("/fee-estimates")
    assert {"1", "2", "3", "6", "25", "144", "504", "1008"} <= set(estimates)
    await chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 12.25})
    assert set((await chain.json("/fee-estimates")).values()) == {12.25}
    for wrong in (0, -1, "2", None, True, 1e9):
        response = await chain.http.post("/devnet/chain/fee_rate", json={"sat_per_vb": wrong})
        assert response.status_code == 400


async def test_every_address_form_round_trips_through_the_faucet(chain):
    scripts = {
        "p2pkh": b"\x76\xa9\x14" + ALICE.key_hash + b"\x88\xac",
        "p2sh": b"\xa9\x14" + ALICE.key_hash + b"\x87",
        "v0_p2wpkh": ALICE.script,
        "v0_p2wsh": ALICE.guarded(b"").script,
        "v1_p2tr": b"\x51\x20" + ALICE.public_key[1:],
    }
    for kind, script in scripts.items():
        txid = await chain.faucet(script_to_address(script), 20_000)
        outputs = (await chain.json(f"/tx/{txid}"))["vout"]
        assert (kind, script.hex()) in [(out["scriptpubkey_type"], out["scriptpubkey"]) for out in outputs]


async def test_transactions_round_trip_through_our_codec(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)], locktime=3)
    assert Transaction.parse(tx.raw) == tx
    assert Outpoint(tx.txid, 0).txid == Transaction.parse(tx.raw).txid
    assert Coin(coin.outpoint, 100_000) == coin
