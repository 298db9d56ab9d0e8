"""What the devnet mempool lets in, replaces and mines, judged by Bitcoin Core's own script engine."""

import math
import time

import pytest

from coordinator_devnet.chain.transactions import Outpoint, Transaction, TxInput, TxOutput
from support.chain import Coin, Player, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")
OP_CLTV_DROP, OP_CSV_DROP = b"\xb1\x75", b"\xb2\x75"


@pytest.fixture
async def chain(tmp_path):
    async with running_chain(tmp_path / "chain") as running:
        yield running


def push_number(value: int) -> bytes:
    if 1 <= value <= 16:
        return bytes([0x50 + value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return bytes([len(data)]) + data


async def test_a_signature_of_someone_else_is_refused(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    forged = ALICE.spend([coin], [(BOB.script, 90_000)])
    signature = BOB.spend([coin], [(BOB.script, 90_000)]).inputs[0].witness[0]
    forged = Transaction(
        2,
        (TxInput(coin.outpoint, b"", 0xFFFFFFFD, (signature, ALICE.public_key)),),
        forged.outputs,
        0,
    )
    assert "mandatory-script-verify-flag-failed" in await chain.refused(forged)
    await chain.send(ALICE.spend([coin], [(BOB.script, 90_000)]))


async def test_a_signature_does_not_cover_changed_outputs(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    signed = ALICE.spend([coin], [(BOB.script, 90_000)])
    stolen = Transaction(2, signed.inputs, (TxOutput(90_000, Player("thief").script),), 0)
    assert "mandatory-script-verify-flag-failed" in await chain.refused(stolen)


async def test_missing_and_spent_inputs_are_refused(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    unknown = ALICE.spend([Coin(Outpoint("11" * 32, 0), 100_000)], [(BOB.script, 90_000)])
    assert '"code":-25,"message":"bad-txns-inputs-missingorspent"' in await chain.refused(unknown)
    await chain.send(ALICE.spend([coin], [(BOB.script, 90_000)]))
    await chain.mine()
    again = ALICE.spend([coin], [(ALICE.script, 90_000)])
    assert '"code":-25,"message":"bad-txns-inputs-missingorspent"' in await chain.refused(again)


async def test_broadcasting_twice(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)])
    await chain.send(tx)
    await chain.send(tx)
    assert await chain.json("/mempool/txids") == [tx.txid]
    await chain.mine()
    assert '{"code":-27,"message":"Transaction outputs already in utxo set"}' in await chain.refused(tx)


@pytest.mark.parametrize("body", ["", "zz", "00", "0200000000", "02" * 100])
async def test_what_is_no_transaction_is_refused(chain, body):
    response = await chain.http.post("/tx", content=body)
    assert response.status_code == 400
    assert '"code":-22' in response.text


async def test_trailing_bytes_are_refused(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    tx = ALICE.spend([coin], [(BOB.script, 90_000)])
    response = await chain.http.post("/tx", content=tx.raw.hex() + "00")
    assert (response.status_code, '"code":-22' in response.text) == (400, True)


@pytest.mark.parametrize(
    ("outputs", "options", "reason"),
    [
        ([(BOB.script, 99_999)], {}, "min relay fee not met, 1 < "),
        ([(BOB.script, 100_001)], {}, "bad-txns-in-belowout"),
        ([(BOB.script, 293)], {}, "dust"),
        ([(b"\x51\x20" + b"\x02" * 32, 329)], {}, "dust"),
        ([(b"\x51", 50_000), (BOB.script, 10_000)], {}, "scriptpubkey"),
        ([(b"\x6a\x01x", 0), (b"\x6a\x01y", 0), (BOB.script, 50_000)], {}, "multi-op-return"),
        ([(BOB.script, 50_000)], {"version": 4}, "version"),
        ([], {}, "bad-txns-vout-empty"),
        ([(BOB.script, 21_000_001 * 100_000_000)], {}, "bad-txns-vout-toolarge"),
        ([(BOB.script, 2_000)] * 12_000, {}, "tx-size"),
    ],
)
async def test_policy(chain, outputs, options, reason):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    assert f'"message":"{reason}' in await chain.refused(ALICE.spend([coin], outputs, **options))
    assert await chain.json("/mempool/txids") == []


async def test_the_least_fee_and_the_least_value_are_let_in(chain):
    coin = await funded_coin(chain, ALICE.address, 10_000)
    vsize = ALICE.spend([coin], [(BOB.script, 294), (ALICE.script, 9_000)]).vsize
    tx = ALICE.spend([coin], [(BOB.script, 294), (ALICE.script, 10_000 - 294 - vsize)])
    await chain.send(tx)
    assert (await chain.json(f"/tx/{tx.txid}"))["fee"] == vsize


async def test_replacement_needs_a_higher_rate_and_pays_for_its_relay(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    first = ALICE.spend([coin], [(BOB.script, 99_000)])
    child = BOB.spend([Coin(Outpoint(first.txid, 0), 99_000)], [(BOB.script, 98_000)])
    await chain.send(first)
    await chain.send(child)
    assert "insufficient fee" in await chain.refused(ALICE.spend([coin], [(ALICE.script, 99_000)]))
    # More than the parent alone pays, but less than parent and child together.
    assert "less fees than conflicting txs" in await chain.refused(
        ALICE.spend([coin], [(ALICE.script, 98_500)])
    )
    # As much as both, but nothing for relaying the replacement.
    assert "not enough additional fees" in await chain.refused(ALICE.spend([coin], [(ALICE.script, 98_000)]))
    replacement = ALICE.spend([coin], [(ALICE.script, 98_000 - 200)])
    await chain.send(replacement)
    assert await chain.json("/mempool/txids") == [replacement.txid]
    assert (await chain.get(f"/tx/{first.txid}")).status_code == 404
    assert (await chain.get(f"/tx/{child.txid}")).status_code == 404
    await chain.mine()
    assert (await chain.json(f"/tx/{replacement.txid}/status"))["confirmed"]


async def test_a_forged_replacement_evicts_nothing(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    first = ALICE.spend([coin], [(BOB.script, 99_000)])
    await chain.send(first)
    richer = ALICE.spend([coin], [(ALICE.script, 50_000)])
    forged = Transaction(2, first.inputs, richer.outputs, 0)
    assert "mandatory-script-verify-flag-failed" in await chain.refused(forged)
    assert await chain.json("/mempool/txids") == [first.txid]


async def test_a_replacement_may_not_spend_what_it_replaces(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    first = ALICE.spend([coin], [(ALICE.script, 99_000)])
    await chain.send(first)
    circular = ALICE.spend([coin, Coin(Outpoint(first.txid, 0), 99_000)], [(BOB.script, 100_000)])
    assert "bad-txns-spends-conflicting-tx" in await chain.refused(circular)


async def test_a_child_pays_for_its_parent(chain):
    """Where blocks start at 20 sat/vB, a parent at 1 sat/vB waits until a child lifts the package."""
    coin = await funded_coin(chain, ALICE.address, 1_000_000)
    await chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 20, "enforce": True})
    vsize = ALICE.spend([coin], [(ALICE.script, 999_000)]).vsize
    parent = ALICE.spend([coin], [(ALICE.script, 1_000_000 - vsize)])
    await chain.send(parent)
    await chain.mine()
    assert await chain.json("/mempool/txids") == [parent.txid]

    def child(fee: int) -> Transaction:
        value = parent.outputs[0].value_sats
        return ALICE.spend([Coin(Outpoint(parent.txid, 0), value)], [(BOB.script, value - fee)])

    too_little = 20 * (parent.vsize + child(0).vsize) - vsize - 2 * 20
    await chain.send(child(too_little))
    await chain.mine()
    assert len(await chain.json("/mempool/txids")) == 2
    enough = child(math.ceil(20 * (parent.weight + child(0).weight) / 4) - vsize + 200)
    await chain.send(enough)
    [block_hash] = await chain.mine()
    txids = await chain.json(f"/block/{block_hash}/txids")
    assert txids[1:] == [parent.txid, enough.txid]


async def test_blocks_are_ordered_by_what_packages_pay(chain):
    coins = [await funded_coin(chain, ALICE.address, 100_000) for _ in range(3)]
    cheap, dear, parent = (
        ALICE.spend([coin], [(ALICE.script, 100_000 - fee)])
        for coin, fee in zip(coins, (500, 5_000, 200), strict=True)
    )
    child = ALICE.spend([Coin(Outpoint(parent.txid, 0), 99_800)], [(BOB.script, 99_800 - 3_000)])
    for tx in (cheap, dear, parent, child):
        await chain.send(tx)
    [block_hash] = await chain.mine()
    txids = await chain.json(f"/block/{block_hash}/txids")
    assert txids[1:] == [dear.txid, parent.txid, child.txid, cheap.txid]


async def test_chains_of_unconfirmed_transactions_end_at_25(chain):
    coin = await funded_coin(chain, ALICE.address, 1_000_000)
    for _ in range(25):
        tx = ALICE.spend([coin], [(ALICE.script, coin.value_sats - 200)])
        await chain.send(tx)
        coin = Coin(Outpoint(tx.txid, 0), coin.value_sats - 200)
    late = ALICE.spend([coin], [(ALICE.script, coin.value_sats - 200)])
    assert "too-long-mempool-chain" in await chain.refused(late)
    await chain.mine()
    await chain.send(late)


async def test_absolute_height_lock_opens_on_time(chain):
    unlock_height = chain.node.height() + 5
    vault = ALICE.guarded(push_number(unlock_height) + OP_CLTV_DROP)
    coin = await funded_coin(chain, vault.address, 100_000)
    early = ALICE.spend([coin], [(BOB.script, 90_000)], locktime=unlock_height - 1, guard=vault)
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], locktime=unlock_height, guard=vault)
    # A transaction with locktime h is final in block h + 1.
    await chain.mine(unlock_height - 1 - chain.node.height())
    assert '"message":"non-final"' in await chain.refused(spend)
    assert "mandatory-script-verify-flag-failed" in await chain.refused(early)
    await chain.mine()
    await chain.send(spend)
    await chain.mine()
    assert (await chain.json(f"/tx/{spend.txid}/status"))["block_height"] == unlock_height + 1


async def test_absolute_time_lock_is_measured_by_median_time(chain):
    unlock_at = int(time.time()) + 3000
    vault = ALICE.guarded(push_number(unlock_at) + OP_CLTV_DROP)
    coin = await funded_coin(chain, vault.address, 100_000)
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], locktime=unlock_at, guard=vault)
    await chain.mine(5, advance_seconds=4000)
    assert chain.node.median_time_at() <= unlock_at
    assert '"message":"non-final"' in await chain.refused(spend)
    await chain.mine(2, advance_seconds=4000)
    assert chain.node.median_time_at() > unlock_at
    await chain.send(spend)
    await chain.mine()
    assert (await chain.json(f"/tx/{spend.txid}/status"))["confirmed"]


async def test_relative_height_lock_opens_on_time(chain):
    vault = ALICE.guarded(push_number(10) + OP_CSV_DROP)
    coin = await funded_coin(chain, vault.address, 100_000)
    confirmed_height = chain.node.height()
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=10, guard=vault)
    too_short = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=9, guard=vault)
    await chain.mine(8)
    assert '"message":"non-BIP68-final"' in await chain.refused(spend)
    assert "mandatory-script-verify-flag-failed" in await chain.refused(too_short)
    await chain.mine()
    await chain.send(spend)
    await chain.mine()
    assert (await chain.json(f"/tx/{spend.txid}/status"))["block_height"] == confirmed_height + 10


async def test_relative_time_lock_is_measured_by_median_time(chain):
    units = 4  # of 512 seconds
    sequence = 1 << 22 | units
    vault = ALICE.guarded(push_number(sequence) + OP_CSV_DROP)
    await chain.mine(11)  # past the initial blocks, so that median time moves with the clock
    before = chain.node.median_time_at()
    coin = await funded_coin(chain, vault.address, 100_000)
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=sequence, guard=vault)
    await chain.mine(6, advance_seconds=units * 512 - 30)
    assert before + units * 512 - 60 < chain.node.median_time_at() < before + units * 512
    assert '"message":"non-BIP68-final"' in await chain.refused(spend)
    await chain.mine(6, advance_seconds=units * 512 + 30)
    assert chain.node.median_time_at() >= before + units * 512
    await chain.send(spend)
    await chain.mine()
    assert (await chain.json(f"/tx/{spend.txid}/status"))["confirmed"]


async def test_a_relative_lock_on_an_unconfirmed_coin_waits(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000, mined=False)
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=1)
    assert '"message":"non-BIP68-final"' in await chain.refused(spend)
    await chain.mine()
    await chain.send(spend)
    await chain.mine()
    assert (await chain.json(f"/tx/{spend.txid}/status"))["confirmed"]


async def test_a_block_that_spends_the_same_coin_removes_the_loser(chain):
    """The winner comes by a reorganisation, as another miner's block would bring it."""
    coin = await funded_coin(chain, ALICE.address, 100_000)
    winner = ALICE.spend([coin], [(BOB.script, 99_000)])
    await chain.send(winner)
    await chain.mine()
    await chain.post("/devnet/chain/reorg", {"depth": 1, "drop_txids": [winner.txid]})
    loser = ALICE.spend([coin], [(ALICE.script, 98_000)])
    await chain.send(loser)
    child = ALICE.spend([Coin(Outpoint(loser.txid, 0), 98_000)], [(BOB.script, 97_000)])
    await chain.send(child)
    richer = ALICE.spend([coin], [(BOB.script, 50_000)])
    await chain.send(richer)
    await chain.mine()
    assert await chain.json("/mempool/txids") == []
    assert (await chain.get(f"/tx/{loser.txid}")).status_code == 404
    assert (await chain.json(f"/tx/{coin.outpoint.txid}/outspend/{coin.outpoint.vout}"))[
        "txid"
    ] == richer.txid
