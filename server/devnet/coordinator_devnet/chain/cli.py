"""The devnet chain as a process of its own."""

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from .app import create_app
from .node import ChainNode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3002, help="Esplora REST port (default 3002)")
    parser.add_argument("--data-dir", type=Path, default=Path(".devnet/chain"))
    parser.add_argument(
        "--mine-interval", type=float, default=None, metavar="SECONDS", help="mine a block this often"
    )


async def serve(args: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM."""
    node = ChainNode(args.data_dir, mine_interval_seconds=args.mine_interval)
    await node.start()
    try:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(node), host=args.host, port=args.port, log_level="warning", lifespan="off"
            )
        )
        await server.serve()
    finally:
        await node.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse options and run."""
    parser = argparse.ArgumentParser(description="Esplora REST in front of a regtest chain that mines")
    add_arguments(parser)
    # uvicorn stops at SIGINT, lets the node close, and then raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
