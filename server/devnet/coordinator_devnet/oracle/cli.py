"""The devnet oracle as a process of its own."""

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from .app import create_app
from .service import OracleService


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9800, help="HTTP port (default 9800)")
    parser.add_argument("--data-dir", type=Path, default=Path(".devnet/oracle"))
    parser.add_argument(
        "--seed", type=seed, default=None, metavar="HEX", help="32 bytes that key and nonces come from"
    )
    parser.add_argument(
        "--expiry-after",
        type=int,
        default=86_400,
        metavar="SECONDS",
        help="from signing date to expiry (default: a day)",
    )


def seed(text: str) -> bytes:
    """64 hexadecimal digits as bytes; raises ValueError."""
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError("a seed has 32 bytes")
    return value


async def serve(args: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM."""
    service = OracleService(args.data_dir, seed=args.seed, expiry_after_seconds=args.expiry_after)
    await service.start()
    try:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(service), host=args.host, port=args.port, log_level="warning", lifespan="off"
            )
        )
        await server.serve()
    finally:
        await service.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse options and run."""
    parser = argparse.ArgumentParser(description="A weather oracle over recorded weather, for devnet")
    add_arguments(parser)
    # uvicorn stops at SIGINT, lets the service stop, and then raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
