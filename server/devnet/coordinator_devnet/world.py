"""The whole embedded world in one process: chain, Lightning, keymeld and oracle, each on its own port.

They meet over the same interfaces as everybody else; only the Lightning network reads the chain's height
directly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from coordinator_client.keymeld.protocol import MAX_ITEMS_PER_BATCH, MAX_SUBSETS_PER_KEYGEN

from . import chain, keymeld, lightning, oracle

# Where the parts listen unless told otherwise; `run` and `demo` use the same.
CHAIN_PORT = 3002
LIGHTNING_GRPC_PORT = 10009
LIGHTNING_HTTP_PORT = 9101
KEYMELD_PORT = 9102
ORACLE_PORT = 9103
MINE_INTERVAL_SECONDS = 10.0
EXPIRY_AFTER_SECONDS = 30


class _Server(uvicorn.Server):
    """One of several servers in a process: signals are handled once, by the world."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the process's signal handlers alone."""
        yield


@asynccontextmanager
async def serving(app: Callable[..., Any], host: str, port: int) -> AsyncIterator[None]:
    """Serves an ASGI application until left.

    Raises:
        OSError: the port is taken.
    """
    # With the protocol named, asyncio turns Nagle's algorithm off, which delays answers.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--data-dir", type=Path, default=Path("data/devnet"), help="where everything is kept")
    parser.add_argument("--chain-port", type=int, default=CHAIN_PORT, help="Esplora REST")
    parser.add_argument("--lightning-grpc-port", type=int, default=LIGHTNING_GRPC_PORT, help="LND gRPC")
    parser.add_argument(
        "--lightning-port", type=int, default=LIGHTNING_HTTP_PORT, help="Lightning devnet HTTP"
    )
    parser.add_argument("--keymeld-port", type=int, default=KEYMELD_PORT, help="keymeld HTTP")
    parser.add_argument("--oracle-port", type=int, default=ORACLE_PORT, help="oracle HTTP")
    parser.add_argument(
        "--mine-interval",
        type=float,
        default=MINE_INTERVAL_SECONDS,
        metavar="SECONDS",
        help="mine a block this often; 0: only when asked to",
    )
    parser.add_argument(
        "--expiry-after",
        type=int,
        default=EXPIRY_AFTER_SECONDS,
        metavar="SECONDS",
        help="from an event's signing date to its expiry (the live oracle: a day)",
    )
    parser.add_argument("--keymeld-max-subsets", type=int, default=MAX_SUBSETS_PER_KEYGEN)
    parser.add_argument("--keymeld-max-batch-items", type=int, default=MAX_ITEMS_PER_BATCH)


@asynccontextmanager
async def running(args: argparse.Namespace) -> AsyncIterator[None]:
    """Starts all four parts, and stops them when left."""
    folder: Path = args.data_dir
    async with AsyncExitStack() as stack:
        node = chain.ChainNode(folder / "chain", mine_interval_seconds=args.mine_interval or None)
        await node.start()
        stack.push_async_callback(node.stop)
        await stack.enter_async_context(serving(chain.create_app(node), args.host, args.chain_port))
        network = lightning.LightningNetwork(folder / "lightning", height=node.height)
        await network.start(args.host, args.lightning_grpc_port)
        stack.push_async_callback(network.stop)
        await stack.enter_async_context(
            serving(lightning.create_app(network), args.host, args.lightning_port)
        )
        limits = keymeld.ServiceLimits(
            subsets_per_keygen=args.keymeld_max_subsets, items_per_batch=args.keymeld_max_batch_items
        )
        service = keymeld.KeymeldService(folder / "keymeld", limits=limits)
        await service.start()
        stack.push_async_callback(service.stop)
        await stack.enter_async_context(serving(keymeld.create_app(service), args.host, args.keymeld_port))
        seer = oracle.OracleService(folder / "oracle", expiry_after_seconds=args.expiry_after)
        await seer.start()
        stack.push_async_callback(seer.stop)
        await stack.enter_async_context(serving(oracle.create_app(seer), args.host, args.oracle_port))
        yield


async def serve(args: argparse.Namespace) -> int:
    """Runs until SIGINT or SIGTERM. Returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(args):
            print("devnet is up", flush=True)
            await stop.wait()
    except OSError as error:
        print(f"devnet: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0
