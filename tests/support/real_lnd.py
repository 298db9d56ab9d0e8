"""Two real LND nodes with a channel between them, on a simnet of btcd. A development check: it needs the
programs btcd, btcctl, lnd and lncli in the folder that COORDINATOR_LND_PROGRAMS names (docs/lightning.md)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embit import base58

from coordinator.adapters.lnd import LndLightning
from support.gateway import free_port
from support.world import until

PROGRAMS = os.environ.get("COORDINATOR_LND_PROGRAMS", "")

STARTING_SECONDS = 120
CHANNEL_SATS = 10_000_000
PUSHED_SATS = 4_000_000
# btcd's simnet activates segwit and taproot by miners' signals, as the real chain did.
SOFT_FORKS_ACTIVE_AT = 420
# P2PKH on simnet (version 0x3f) of a hash that nobody has a key of.
NOBODYS_ADDRESS = str(base58.encode_check(b"\x3f" + bytes(20)))


async def output_of(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[-3:]}: {err.decode().strip() or out.decode().strip()}")
    return out.decode()


@asynccontextmanager
async def process_of(log: Path, *command: str) -> AsyncIterator[None]:
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(*command, stdout=sink, stderr=sink)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


class Btcd:
    """A chain whose blocks a test mines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rpc = f"127.0.0.1:{free_port()}"
        self._listen = f"127.0.0.1:{free_port()}"
        self._running = AsyncExitStack()
        folder.mkdir(parents=True)

    @property
    def certificate(self) -> Path:
        return self.folder / "rpc.cert"

    async def start(self, mining_address: str | None = None) -> None:
        options = [f"--miningaddr={mining_address}"] if mining_address else []
        await self._running.enter_async_context(
            process_of(
                self.folder / "log",
                f"{PROGRAMS}/btcd",
                "--simnet",
                "--txindex",
                f"--datadir={self.folder}",
                f"--logdir={self.folder}",
                f"--configfile={self.folder}/none",
                "--rpcuser=u",
                "--rpcpass=p",
                f"--rpclisten={self.rpc}",
                f"--listen={self._listen}",
                f"--rpccert={self.certificate}",
                f"--rpckey={self.folder}/rpc.key",
                *options,
            )
        )

        async def answers() -> bool:
            try:
                await self.call("getblockcount")
            except RuntimeError:
                return False
            return True

        await until(answers, STARTING_SECONDS)

    async def stop(self) -> None:
        await self._running.aclose()

    async def call(self, *arguments: str) -> str:
        return await output_of(
            f"{PROGRAMS}/btcctl",
            f"--configfile={self.folder}/none",
            "--simnet",
            "--rpcuser=u",
            "--rpcpass=p",
            f"--rpcserver={self.rpc}",
            f"--rpccert={self.certificate}",
            *arguments,
        )

    async def mine(self, blocks: int) -> None:
        await self.call("generate", str(blocks))

    async def height(self) -> int:
        return int(await self.call("getblockcount"))


class Lnd:
    """One node."""

    def __init__(self, folder: Path, btcd: Btcd) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.peer_address = f"127.0.0.1:{free_port()}"
        self._btcd = btcd
        self._running = AsyncExitStack()
        folder.mkdir(parents=True)

    @property
    def _macaroon(self) -> Path:
        return self.folder / "data/chain/bitcoin/simnet/admin.macaroon"

    async def start(self) -> None:
        await self._running.enter_async_context(
            process_of(
                self.folder / "log",
                f"{PROGRAMS}/lnd",
                f"--lnddir={self.folder}",
                "--noseedbackup",
                "--norest",
                "--nobootstrap",
                "--bitcoin.simnet",
                "--bitcoin.node=btcd",
                f"--btcd.rpchost={self._btcd.rpc}",
                "--btcd.rpcuser=u",
                "--btcd.rpcpass=p",
                f"--btcd.rpccert={self._btcd.certificate}",
                f"--rpclisten={self.address}",
                f"--listen={self.peer_address}",
                "--trickledelay=50",
            )
        )
        await until(self.synced, STARTING_SECONDS)

    async def stop(self) -> None:
        await self._running.aclose()

    async def call(self, *arguments: str) -> dict[str, Any]:
        text = await output_of(
            f"{PROGRAMS}/lncli",
            f"--lnddir={self.folder}",
            "--network=simnet",
            f"--rpcserver={self.address}",
            *arguments,
        )
        return json.loads(text) if text.strip() else {}

    async def synced(self) -> bool:
        try:
            info = await self.call("getinfo")
        except RuntimeError:
            return False
        return bool(info["synced_to_chain"]) and info["block_height"] == await self._btcd.height()

    def client(self, **options: float) -> LndLightning:
        return LndLightning(
            self.address,
            tls_certificate=(self.folder / "tls.cert").read_bytes(),
            macaroon_hex=self._macaroon.read_bytes().hex(),
            **options,
        )


@dataclass
class RealLightning:
    """The coordinator's node, a player's node, and their chain."""

    btcd: Btcd
    coordinator: Lnd
    player: Lnd

    async def mine(self, blocks: int) -> None:
        """Mines, and waits until both nodes have seen it."""
        await self.btcd.mine(blocks)
        for node in (self.coordinator, self.player):
            await until(node.synced, STARTING_SECONDS)

    async def connected(self) -> bool:
        """Whether the channel can be used from both ends: it is up, and each knows the other's policy."""
        for node in (self.coordinator, self.player):
            if not (await node.call("listchannels", "--active_only"))["channels"]:
                return False
            edges = (await node.call("describegraph", "--include_unannounced"))["edges"]
            if not edges or not all(edge["node1_policy"] and edge["node2_policy"] for edge in edges):
                return False
        return True


@asynccontextmanager
async def real_lightning(folder: Path) -> AsyncIterator[RealLightning]:
    """Started, with one channel of `CHANNEL_SATS` that the player opened; takes about half a minute."""
    btcd = Btcd(folder / "btcd")
    coordinator, player = Lnd(folder / "coordinator", btcd), Lnd(folder / "player", btcd)
    try:
        # LND serves nothing before its chain is synced, and a chain without a recent block is not.
        await btcd.start(mining_address=NOBODYS_ADDRESS)
        await btcd.mine(1)
        await asyncio.gather(coordinator.start(), player.start())
        address = (await player.call("newaddress", "p2wkh"))["address"]
        await btcd.stop()
        await btcd.start(mining_address=address)
        await btcd.mine(SOFT_FORKS_ACTIVE_AT)
        lightning = RealLightning(btcd, coordinator, player)
        await lightning.mine(1)
        pubkey = (await coordinator.call("getinfo"))["identity_pubkey"]
        await player.call("connect", f"{pubkey}@{coordinator.peer_address}")
        await player.call(
            "openchannel", f"--node_key={pubkey}", f"--local_amt={CHANNEL_SATS}", f"--push_amt={PUSHED_SATS}"
        )
        await lightning.mine(6)
        await until(lightning.connected, STARTING_SECONDS)
        yield lightning
    finally:
        await asyncio.gather(player.stop(), coordinator.stop())
        await btcd.stop()
