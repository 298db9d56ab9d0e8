"""The devnet's Lightning network in one process: nodes, each with its own gRPC server, and one ledger."""

import asyncio
import contextlib
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import grpc

from coordinator.lnd import invoices_pb2_grpc, lightning_pb2_grpc, router_pb2_grpc

from .credentials import load_or_create
from .ledger import Ledger, LedgerError
from .node import PREFIXES, Node
from .records import Supply
from .services import InvoicesService, LightningService, Macaroons, RouterService

logger = logging.getLogger(__name__)

Height = Callable[[], int] | Callable[[], Awaitable[int]]

DEFAULT_BALANCE_MSATS = 1_000_000_000_000
"""10 BTC."""
DEFAULT_INBOUND_MSATS = 10_000_000_000_000
DEFAULT_HOLD_EXPIRY_DELTA_BLOCKS = 12

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class LightningNetwork:
    """Lightning nodes that can pay each other, speaking LND's gRPC.

    Args:
        data_dir: holds the ledger, and per node a directory with `tls.cert`, `admin.macaroon` and its keys.
        nodes: names of the nodes that exist from the start; more come by `add_node`.
        height: the height of the chain's tip.
        initial_balance_msats: what a new node can spend, for all or by name.
        inbound_msats: what a new node can receive on top.
        base_fee_msats: what routing costs, per payment.
        network: bitcoin network by LND's name; payment requests carry its prefix.
        hold_expiry_delta_blocks: how many blocks before its HTLC expires an accepted invoice is canceled.
        poll_seconds: how often the chain and the invoices' expiry are looked at.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        nodes: Sequence[str] = ("coordinator", "player"),
        height: Height,
        initial_balance_msats: int | Mapping[str, int] = DEFAULT_BALANCE_MSATS,
        inbound_msats: int = DEFAULT_INBOUND_MSATS,
        base_fee_msats: int = 0,
        network: str = "regtest",
        hold_expiry_delta_blocks: int = DEFAULT_HOLD_EXPIRY_DELTA_BLOCKS,
        poll_seconds: float = 0.25,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if network not in PREFIXES:
            raise ValueError(f"unknown network {network!r}")
        self.data_dir = Path(data_dir)
        self.nodes: dict[str, Node] = {}
        self.network = network
        self._names = [check_name(name) for name in nodes]
        self._height = height
        self._tip: int | None = None
        self._synced = False
        self._initial_balance_msats = initial_balance_msats
        self._inbound_msats = inbound_msats
        self._base_fee_msats = base_fee_msats
        self._hold_expiry_delta_blocks = hold_expiry_delta_blocks
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._host = "127.0.0.1"
        self._ledger: Ledger | None = None
        self._servers: dict[str, grpc.aio.Server] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._adding = asyncio.Lock()

    @property
    def ledger(self) -> Ledger:
        """The network's money; there once the network is started."""
        if self._ledger is None:
            raise RuntimeError("the network is not started")
        return self._ledger

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    async def start(self, host: str = "127.0.0.1", ports: int | Mapping[str, int] = 0) -> None:
        """Open the ledger and serve every node, also those that were added before a restart.

        `ports` is the port of the first of `nodes`, the others following it, or a port by name. 0 means any
        that is free; a node keeps it over restarts while it stays free.
        """
        self._host = host
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(
            self.data_dir / "lightning.sqlite3",
            clock=self._clock,
            hold_expiry_delta_blocks=self._hold_expiry_delta_blocks,
        )
        for name in self._names:
            self._fund(name)
        if isinstance(ports, int):
            ports = {name: ports + index for index, name in enumerate(self._names)} if ports else {}
        for name in self._ledger.node_names():
            await self._serve(name, ports.get(name, 0))
        await self._tick()
        self._ticker = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop serving; what is in flight stays so in the ledger."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None
        await asyncio.gather(*(server.stop(None) for server in self._servers.values()))
        self._servers.clear()
        self.nodes.clear()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    async def add_node(self, name: str, *, balance_msats: int | None = None) -> Node:
        """The node with this name, made, funded and served if it does not exist yet.

        Raises:
            LedgerError: the name or the balance is not acceptable.
        """
        check_name(name)
        async with self._adding:
            if name not in self.nodes:
                self._fund(name, balance_msats)
                await self._serve(name, 0)
        return self.nodes[name]

    def supply(self) -> Supply:
        """All money in the network."""
        return self.ledger.supply()

    async def chain_view(self) -> tuple[int, bool]:
        """The height of the tip as last seen (0: never), and whether it could be asked for just now."""
        await self._tick()
        return self._tip or 0, self._synced

    async def _known_height(self) -> int:
        await self._tick()
        if self._tip is None:
            raise LedgerError("server is still in the process of starting")
        return self._tip

    def _fund(self, name: str, balance_msats: int | None = None) -> None:
        if balance_msats is None:
            initial = self._initial_balance_msats
            balance_msats = initial if isinstance(initial, int) else initial.get(name, DEFAULT_BALANCE_MSATS)
        self.ledger.add_node(
            name, balance_msats=balance_msats, capacity_msats=balance_msats + self._inbound_msats
        )

    async def _serve(self, name: str, port: int) -> None:
        directory = self.data_dir / name
        node = Node(
            name,
            credentials=load_or_create(directory, self._host),
            directory=directory,
            ledger=self.ledger,
            network=self.network,
            base_fee_msats=self._base_fee_msats,
            clock=self._clock,
            refresh_height=self._known_height,
            node_by_pubkey=self._node_by_pubkey,
        )
        server = grpc.aio.server(
            interceptors=[Macaroons(node.macaroon_hex)],
            options=[
                # Without this, a port that another process serves would be shared with it silently.
                ("grpc.so_reuseport", 0),
                # Clients may ping this often, as with LND, to notice a dead connection.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )
        lightning_pb2_grpc.add_LightningServicer_to_server(LightningService(node, self.chain_view), server)
        invoices_pb2_grpc.add_InvoicesServicer_to_server(InvoicesService(node, self.chain_view), server)
        router_pb2_grpc.add_RouterServicer_to_server(RouterService(node), server)
        tls = grpc.ssl_server_credentials([(node.credentials.tls_key, node.credentials.tls_cert)])
        if port:
            server.add_secure_port(f"{self._host}:{port}", tls)
        else:
            port = self._any_port(server, tls, self.ledger.port(name))
        await server.start()
        self.ledger.remember_port(name, port)
        node.address = f"{self._host}:{port}"
        self.nodes[name] = node
        self._servers[name] = server
        logger.info("lightning node %s serves %s", name, node.address)

    def _any_port(self, server: grpc.aio.Server, tls: grpc.ServerCredentials, last: int | None) -> int:
        if last is not None:
            with contextlib.suppress(RuntimeError):
                return server.add_secure_port(f"{self._host}:{last}", tls)
        return server.add_secure_port(f"{self._host}:0", tls)

    def _node_by_pubkey(self, pubkey: bytes) -> str | None:
        return next((name for name, node in self.nodes.items() if node.credentials.pubkey == pubkey), None)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._tick()
            except Exception:
                logger.exception("lightning network tick failed")

    async def _tick(self) -> None:
        """Look at the chain, then cancel what has expired and go on with what a crash interrupted."""
        try:
            height = self._height()
            self._tip = await height if inspect.isawaitable(height) else height
            self._synced = True
        except Exception as error:
            if self._synced or self._tip is None:
                logger.warning("the chain's height is not known: %s", error)
            self._synced = False
        if self._ledger is None:
            return
        if self._tip is not None:
            self._ledger.deliver(self._tip)
        self._ledger.expire(self._tip)


def check_name(name: str) -> str:
    """The name if it can be a node's; it becomes part of paths and addresses.

    Raises:
        LedgerError: it cannot.
    """
    if not _NAME.fullmatch(name) or name in ("nodes", "supply"):
        raise LedgerError(f"not a node name: {name!r}")
    return name
