"""A devnet Lightning network for tests: a height and a clock that tests move, and clients of its nodes."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

from coordinator.adapters.lnd import LndLightning
from coordinator.lnd import invoices_pb2_grpc, lightning_pb2_grpc, router_pb2_grpc
from coordinator.ports.lightning import Payment
from coordinator_devnet.lightning import LightningNetwork, Node


class Chain:
    """A block height that a test sets; None stands for a chain that cannot be reached."""

    def __init__(self, height: int | None = 500) -> None:
        self.height = height

    def __call__(self) -> int:
        if self.height is None:
            raise ConnectionError("no chain")
        return self.height


class Clock:
    """The time of day, moved forward by a test."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


class Stubs:
    """LND's own services of a node, for tests of what goes over the wire."""

    def __init__(self, node: Node, macaroon_hex: str | None = None) -> None:
        self.channel = grpc.aio.secure_channel(
            node.address, grpc.ssl_channel_credentials(node.tls_cert_path.read_bytes())
        )
        self.metadata = (("macaroon", node.macaroon_hex if macaroon_hex is None else macaroon_hex),)
        self.lightning = lightning_pb2_grpc.LightningStub(self.channel)
        self.invoices = invoices_pb2_grpc.InvoicesStub(self.channel)
        self.router = router_pb2_grpc.RouterStub(self.channel)

    async def __aenter__(self) -> "Stubs":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()


@asynccontextmanager
async def lightning_network(data_dir: Path, **options: Any) -> AsyncIterator[LightningNetwork]:
    """A network that runs while the context is open."""
    network = LightningNetwork(data_dir, **{"height": Chain(), "poll_seconds": 0.05, **options})
    await network.start()
    try:
        yield network
    finally:
        await network.stop()


@asynccontextmanager
async def lnd(node: Node) -> AsyncIterator[LndLightning]:
    """The coordinator's adapter, connected to this node with the files that it left on disk."""
    client = LndLightning(
        node.address,
        tls_certificate=node.tls_cert_path.read_bytes(),
        macaroon_hex=node.macaroon_path.read_bytes().hex(),
    )
    try:
        yield client
    finally:
        await client.aclose()


def new_preimage() -> tuple[bytes, bytes]:
    """A random preimage and its hash."""
    preimage = secrets.token_bytes(32)
    return preimage, sha256(preimage).digest()


async def drain(payments: AsyncIterator[Payment]) -> list[Payment]:
    """All states of a payment."""
    return [payment async for payment in payments]
