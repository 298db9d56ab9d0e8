"""Run the devnet's Lightning network as a program."""

import argparse
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import httpx
import uvicorn

from .http import create_app
from .network import DEFAULT_BALANCE_MSATS, DEFAULT_HOLD_EXPIRY_DELTA_BLOCKS, LightningNetwork


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `serve` reads."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".devnet/lightning"),
        help="ledger, and per node keys, certificate and macaroon",
    )
    parser.add_argument("--nodes", default="coordinator,player", help="names of the nodes, by commas")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--grpc-port", type=int, default=10009, help="port of the first node, the others following; 0: any"
    )
    parser.add_argument("--http-port", type=int, default=10080, help="port of the devnet HTTP API")
    parser.add_argument(
        "--esplora-url", default="http://127.0.0.1:3002", help="where the chain's height is read"
    )
    parser.add_argument("--network", default="regtest", help="bitcoin network, by LND's name")
    parser.add_argument(
        "--initial-balance-msats", type=int, default=DEFAULT_BALANCE_MSATS, help="what a new node can spend"
    )
    parser.add_argument("--base-fee-msats", type=int, default=0, help="what routing a payment costs")
    parser.add_argument(
        "--hold-expiry-delta-blocks",
        type=int,
        default=DEFAULT_HOLD_EXPIRY_DELTA_BLOCKS,
        help="how long before its HTLC expires an accepted invoice is canceled",
    )
    parser.add_argument("--poll-seconds", type=float, default=0.5, help="how often the chain is looked at")


async def serve(args: argparse.Namespace) -> None:
    """Serve the nodes' gRPC and the HTTP API until SIGINT, SIGTERM or cancellation."""
    url = f"{args.esplora_url.rstrip('/')}/blocks/tip/height"
    async with httpx.AsyncClient(timeout=2) as client:

        async def height() -> int:
            response = await client.get(url)
            return int(response.raise_for_status().text)

        network = LightningNetwork(
            args.data_dir,
            nodes=[name.strip() for name in args.nodes.split(",") if name.strip()],
            height=height,
            network=args.network,
            initial_balance_msats=args.initial_balance_msats,
            base_fee_msats=args.base_fee_msats,
            hold_expiry_delta_blocks=args.hold_expiry_delta_blocks,
            poll_seconds=args.poll_seconds,
        )
        await network.start(args.host, args.grpc_port)
        try:
            config = uvicorn.Config(
                create_app(network), host=args.host, port=args.http_port, log_level="warning", lifespan="off"
            )
            await uvicorn.Server(config).serve()
        finally:
            await network.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="coordinator_devnet.lightning", description=__doc__)
    add_arguments(parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # httpx logs every request; one each poll would drown the rest.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # uvicorn stops at SIGINT, lets the network stop, and then raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args(argv)))
