"""A devnet chain over a real socket, and transactions to throw at it."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from coincurve import PrivateKey
from embit.hashes import hash160

from coordinator_devnet.chain import ChainNode, create_app
from coordinator_devnet.chain.node import MAX_BLOCKS_PER_CALL
from coordinator_devnet.chain.scripts import script_to_address
from coordinator_devnet.chain.transactions import (
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    serialize_outpoint,
    serialize_output,
    sha256d,
    with_length,
)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: pytest keeps SIGINT."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    """Serve an ASGI application on an ephemeral port of the loopback; yields its base URL."""
    # asyncio switches Nagle's algorithm off only where the protocol is named, and with it 40 ms a POST.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@dataclass
class RunningChain:
    """A started node and where it is served."""

    base_url: str
    node: ChainNode
    http: httpx.AsyncClient

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path)

    async def json(self, path: str) -> object:
        response = await self.http.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: object) -> dict:
        response = await self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def mine(self, blocks: int = 1, **options: object) -> list[str]:
        hashes: list[str] = []
        while True:
            some = min(blocks - len(hashes), MAX_BLOCKS_PER_CALL)
            hashes += (await self.post("/devnet/chain/mine", {"blocks": some, **options}))["hashes"]
            if len(hashes) == blocks:
                return hashes

    async def faucet(self, address: str, amount_sats: int) -> str:
        body = {"address": address, "amount_sats": amount_sats}
        return (await self.post("/devnet/chain/faucet", body))["txid"]

    async def send(self, tx: Transaction) -> str:
        response = await self.http.post("/tx", content=tx.raw.hex())
        assert response.status_code == 200, response.text
        assert response.text == tx.txid
        return response.text

    async def refused(self, tx: Transaction) -> str:
        """The reason for which the node refuses a transaction."""
        response = await self.http.post("/tx", content=tx.raw.hex())
        assert response.status_code == 400, response.text
        assert response.text.startswith('sendrawtransaction RPC error: {"code":-2')
        return response.text


@asynccontextmanager
async def running_chain(
    data_dir: Path, *, mine_interval_seconds: float | None = None
) -> AsyncIterator[RunningChain]:
    """A node on `data_dir`, served on an ephemeral port."""
    node = ChainNode(data_dir, mine_interval_seconds=mine_interval_seconds)
    await node.start()
    try:
        async with serving(create_app(node)) as base_url, httpx.AsyncClient(base_url=base_url) as http:
            yield RunningChain(base_url, node, http)
    finally:
        await node.stop()


@dataclass(frozen=True)
class Coin:
    """An output that a test can spend."""

    outpoint: Outpoint
    value_sats: int


@dataclass(frozen=True)
class Player:
    """A key with a P2WPKH address, and a P2WSH script that adds opcodes in front of its signature check."""

    name: str
    key: PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", PrivateKey(hashlib.sha256(self.name.encode()).digest()))

    @property
    def public_key(self) -> bytes:
        return self.key.public_key.format()

    @property
    def key_hash(self) -> bytes:
        return bytes(hash160(self.public_key))

    @property
    def script(self) -> bytes:
        return b"\x00\x14" + self.key_hash

    @property
    def address(self) -> str:
        address = script_to_address(self.script)
        assert address is not None
        return address

    def guarded(self, prefix: bytes) -> "Guarded":
        """P2WSH of `<prefix> <key> OP_CHECKSIG`."""
        return Guarded(self, prefix + b"\x21" + self.public_key + b"\xac")

    def spend(
        self,
        coins: Sequence[Coin],
        outputs: Sequence[tuple[bytes, int]],
        *,
        sequence: int = 0xFFFFFFFD,
        locktime: int = 0,
        version: int = 2,
        guard: "Guarded | None" = None,
    ) -> Transaction:
        """A transaction that spends coins of this key (or of one of its guarded scripts)."""
        script_code = guard.witness_script if guard else b"\x76\xa9\x14" + self.key_hash + b"\x88\xac"
        bare = [TxInput(coin.outpoint, b"", sequence) for coin in coins]
        txouts = tuple(TxOutput(value, script) for script, value in outputs)
        inputs = []
        for txin, coin in zip(bare, coins, strict=True):
            digest = sha256d(
                version.to_bytes(4, "little")
                + sha256d(b"".join(serialize_outpoint(other.outpoint) for other in bare))
                + sha256d(sequence.to_bytes(4, "little") * len(bare))
                + serialize_outpoint(txin.outpoint)
                + with_length(script_code)
                + coin.value_sats.to_bytes(8, "little")
                + sequence.to_bytes(4, "little")
                + sha256d(b"".join(serialize_output(output) for output in txouts))
                + locktime.to_bytes(4, "little")
                + b"\x01\x00\x00\x00"
            )
            signature = self.key.sign(digest, hasher=None) + b"\x01"
            witness = (signature, guard.witness_script) if guard else (signature, self.public_key)
            inputs.append(TxInput(txin.outpoint, b"", sequence, witness))
        return Transaction(version, tuple(inputs), txouts, locktime)


@dataclass(frozen=True)
class Guarded:
    """A P2WSH output of a player."""

    owner: Player
    witness_script: bytes

    @property
    def script(self) -> bytes:
        return b"\x00\x20" + hashlib.sha256(self.witness_script).digest()

    @property
    def address(self) -> str:
        address = script_to_address(self.script)
        assert address is not None
        return address


async def funded_coin(chain: RunningChain, address: str, amount_sats: int, *, mined: bool = True) -> Coin:
    """Ask the faucet for a coin."""
    txid = await chain.faucet(address, amount_sats)
    if mined:
        await chain.mine()
    tx = await chain.json(f"/tx/{txid}")
    vout = next(i for i, out in enumerate(tx["vout"]) if out.get("scriptpubkey_address") == address)
    return Coin(Outpoint(txid, vout), amount_sats)
