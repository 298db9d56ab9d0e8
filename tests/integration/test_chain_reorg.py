"""Reorganisations, restarts and crashes of the devnet chain."""

import asyncio
import os
import signal
import sys

import httpx
import pytest

from coordinator_devnet.chain.transactions import Outpoint
from support.chain import Coin, Player, funded_coin, running_chain

ALICE, BOB = Player("alice"), Player("bob")


@pytest.fixture
async def chain(tmp_path):
    async with running_chain(tmp_path / "chain") as running:
        yield running


async def reorg(chain, depth: int, **options: object) -> list[str]:
    return (await chain.post("/devnet/chain/reorg", {"depth": depth, **options}))["hashes"]


@pytest.mark.parametrize("depth", range(1, 7))
async def test_transactions_of_replaced_blocks_return_and_confirm_again(chain, depth):
    coin = await funded_coin(chain, ALICE.address, 1_000_000)
    left: list[str] = []
    sent: list[str] = []
    for _ in range(depth):
        tx = ALICE.spend([coin], [(ALICE.script, coin.value_sats - 500)])
        sent.append(await chain.send(tx))
        coin = Coin(Outpoint(tx.txid, 0), coin.value_sats - 500)
        left += await chain.mine()
    height = chain.node.height()
    before = await chain.json("/devnet/chain/supply")

    hashes = await reorg(chain, depth)
    assert len(hashes) == depth + 1
    assert chain.node.height() == height + 1
    assert (await chain.get("/blocks/tip/hash")).text == hashes[-1]
    for block_hash in left:
        assert await chain.json(f"/block/{block_hash}/status") == {"in_best_chain": False}
        # A stale block is still there to be read.
        assert (await chain.get(f"/block/{block_hash}/raw")).status_code == 200
    for position, block_hash in enumerate(hashes[:-1]):
        status = await chain.json(f"/block/{block_hash}/status")
        assert (status["in_best_chain"], status["next_best"]) == (True, hashes[position + 1])
    # The whole family is back, parents first, none of it confirmed, and the address index agrees.
    assert await chain.json("/mempool/txids") == sent
    assert not any([(await chain.json(f"/tx/{txid}/status"))["confirmed"] for txid in sent])
    [unspent] = await chain.json(f"/address/{ALICE.address}/utxo")
    assert (unspent["txid"], unspent["status"]) == (sent[-1], {"confirmed": False})

    [block_hash] = await chain.mine()
    assert (await chain.json(f"/block/{block_hash}/txids"))[1:] == sent
    after = await chain.json("/devnet/chain/supply")
    assert after["balances"][ALICE.address] == before["balances"][ALICE.address]
    assert after["issued_sats"] == after["utxo_total_sats"] == after["max_issued_sats"]


async def test_dropped_transactions_stay_away_and_their_coins_are_free(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    parent = ALICE.spend([coin], [(ALICE.script, 90_000)])
    child = ALICE.spend([Coin(Outpoint(parent.txid, 0), 90_000)], [(BOB.script, 80_000)])
    await chain.send(parent)
    await chain.send(child)
    await chain.mine()
    await reorg(chain, 1, drop_txids=[parent.txid])
    assert await chain.json("/mempool/txids") == []
    assert (await chain.get(f"/tx/{parent.txid}")).status_code == 404
    assert (await chain.get(f"/tx/{child.txid}")).status_code == 404
    conflicting = ALICE.spend([coin], [(BOB.script, 95_000)])
    await chain.send(conflicting)
    await chain.mine()
    assert (await chain.json(f"/tx/{conflicting.txid}/status"))["confirmed"]


async def test_a_branch_can_contain_chosen_transactions(chain):
    coins = [await funded_coin(chain, ALICE.address, 100_000) for _ in range(2)]
    stays, moves = (ALICE.spend([coin], [(BOB.script, 90_000)]) for coin in coins)
    await chain.send(moves)
    await chain.mine()
    await chain.send(stays)
    hashes = await reorg(chain, 1, include_txids=[moves.txid])
    status = await chain.json(f"/tx/{moves.txid}/status")
    assert (status["confirmed"], status["block_hash"]) == (True, hashes[0])
    assert await chain.json("/mempool/txids") == [stays.txid]
    supply = await chain.json("/devnet/chain/supply")
    assert supply["issued_sats"] == supply["max_issued_sats"] == supply["utxo_total_sats"]


async def test_an_invalid_branch_moves_nothing(chain):
    """A child without its parent cannot be in a block: the kernel refuses the branch and keeps the old
    chain.
    """
    coin = await funded_coin(chain, ALICE.address, 100_000)
    parent = ALICE.spend([coin], [(ALICE.script, 90_000)])
    child = ALICE.spend([Coin(Outpoint(parent.txid, 0), 90_000)], [(BOB.script, 80_000)])
    await chain.send(parent)
    await chain.send(child)
    await chain.mine()
    tip, height = chain.node.tip_hash(), chain.node.height()
    response = await chain.http.post("/devnet/chain/reorg", json={"depth": 1, "include_txids": [child.txid]})
    assert (response.status_code, "CONSENSUS" in response.text) == (400, True)
    assert (chain.node.tip_hash(), chain.node.height()) == (tip, height)
    assert (await chain.json(f"/tx/{child.txid}/status"))["confirmed"]
    await chain.mine()
    await reorg(chain, 2)


async def test_a_lock_that_the_new_branch_has_not_reached_keeps_a_transaction_out(chain):
    coin = await funded_coin(chain, ALICE.address, 100_000)
    await chain.mine(9)
    spend = ALICE.spend([coin], [(BOB.script, 90_000)], sequence=10)
    await chain.send(spend)
    await chain.mine()
    # Replacing the coin's own block confirms it anew: the relative lock starts over.
    await reorg(chain, 11)
    assert await chain.json("/mempool/txids") == [coin.outpoint.txid]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"depth": 0},
        {"depth": 100_000},
        {"depth": 2, "blocks": 2},
        {"depth": 1, "include_txids": ["00" * 32]},
    ],
)
async def test_a_wrong_reorg_request_changes_nothing(chain, body):
    tip = chain.node.tip_hash()
    assert (await chain.http.post("/devnet/chain/reorg", json=body)).status_code == 400
    assert chain.node.tip_hash() == tip


async def test_everything_survives_a_restart(tmp_path):
    async with running_chain(tmp_path / "chain") as chain:
        coin = await funded_coin(chain, ALICE.address, 100_000)
        await chain.mine(3)
        await reorg(chain, 2)
        waiting = ALICE.spend([coin], [(ALICE.script, 90_000)])
        child = ALICE.spend([Coin(Outpoint(waiting.txid, 0), 90_000)], [(BOB.script, 80_000)])
        await chain.send(waiting)
        await chain.send(child)
        await chain.post("/devnet/chain/fee_rate", {"sat_per_vb": 7.5})
        before = await chain.json("/devnet/chain/status"), await chain.json("/devnet/chain/supply")
    async with running_chain(tmp_path / "chain") as chain:
        assert (await chain.json("/devnet/chain/status"), await chain.json("/devnet/chain/supply")) == before
        assert await chain.json("/mempool/txids") == [waiting.txid, child.txid]
        assert (await chain.json("/fee-estimates"))["2"] == 7.5
        await chain.mine()
        assert (await chain.json(f"/tx/{child.txid}/status"))["confirmed"]
    assert os.stat(tmp_path / "chain" / "wallet.seed").st_mode & 0o077 == 0


class Process:
    """`coordinator_devnet.chain.cli` as a child process."""

    def __init__(self, data_dir, port: int) -> None:
        self.data_dir, self.port = data_dir, port

    async def __aenter__(self) -> httpx.AsyncClient:
        self.child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coordinator_devnet.chain.cli"),
            *("--port", str(self.port), "--data-dir", str(self.data_dir)),
        )
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}")
        async with asyncio.timeout(30):
            while True:
                assert self.child.returncode is None, "the process ended"
                try:
                    await self.http.get("/blocks/tip/height")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return self.http

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        if self.child.returncode is None:
            self.child.send_signal(signal.SIGKILL)
            await self.child.wait()


async def test_a_killed_process_loses_nothing(tmp_path, unused_port):
    known: list[tuple[str, list[str], object]] = []
    for round_number in range(4):
        async with Process(tmp_path / "chain", unused_port) as http:
            if known:
                tip, txids, supply = known[-1]
                assert (await http.get("/blocks/tip/hash")).text == tip
                assert (await http.get("/mempool/txids")).json() == txids
                assert (await http.get("/devnet/chain/supply")).json() == supply
            body = {"address": ALICE.address, "amount_sats": 10_000 + round_number}
            for _ in range(3):
                (await http.post("/devnet/chain/faucet", json=body)).raise_for_status()
                (await http.post("/devnet/chain/mine", json={"blocks": 2})).raise_for_status()
            (await http.post("/devnet/chain/reorg", json={"depth": 3})).raise_for_status()
            known.append(
                (
                    (await http.get("/blocks/tip/hash")).text,
                    (await http.get("/mempool/txids")).json(),
                    (await http.get("/devnet/chain/supply")).json(),
                )
            )
            assert known[-1][1], "the reorganisation brought faucet payments back"


async def test_a_process_stops_cleanly_on_sigterm_and_starts_again(tmp_path, unused_port):
    for height in (201, 202):
        process = Process(tmp_path / "chain", unused_port)
        async with process as http:
            assert (await http.get("/blocks/tip/height")).text == str(height)
            (await http.post("/devnet/chain/mine", json={"blocks": 1})).raise_for_status()
            process.child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.child.wait(), 10) in (0, -signal.SIGTERM)


async def test_a_process_killed_while_it_mines_recovers(tmp_path, unused_port):
    heights = [0]
    for delay_seconds in (0.05, 0.13, 0.31):
        async with Process(tmp_path / "chain", unused_port) as http:
            height = int((await http.get("/blocks/tip/height")).text)
            assert height >= heights[-1]
            mining = asyncio.create_task(http.post("/devnet/chain/mine", json={"blocks": 1000}))
            await asyncio.sleep(delay_seconds)
            mining.cancel()
            heights.append(height)
    async with Process(tmp_path / "chain", unused_port) as http:
        supply = (await http.get("/devnet/chain/supply")).json()
        assert supply["issued_sats"] == supply["utxo_total_sats"] == supply["max_issued_sats"]


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
