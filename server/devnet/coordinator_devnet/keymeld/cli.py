"""The devnet's keymeld as a process of its own."""

import argparse
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from coordinator_client.keymeld.protocol import MAX_ITEMS_PER_BATCH, MAX_SUBSETS_PER_KEYGEN

from .app import create_app
from .service import KeymeldService, ServiceLimits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="keymeld HTTP port (default 8090)")
    parser.add_argument("--data-dir", type=Path, default=Path(".devnet/keymeld"))
    parser.add_argument("--enclaves", type=int, default=3, help="enclaves to run, a process each (default 3)")
    parser.add_argument(
        "--max-subsets", type=int, default=MAX_SUBSETS_PER_KEYGEN, help="subsets a keygen session may have"
    )
    parser.add_argument(
        "--max-batch-items", type=int, default=MAX_ITEMS_PER_BATCH, help="items a signing session may have"
    )
    parser.add_argument(
        "--parallel-signings", type=int, default=4, help="signing sessions in their rounds at once"
    )


async def serve(args: argparse.Namespace) -> None:
    """Run until SIGINT or SIGTERM."""
    limits = ServiceLimits(
        subsets_per_keygen=args.max_subsets,
        items_per_batch=args.max_batch_items,
        parallel_signings=args.parallel_signings,
    )
    service = KeymeldService(args.data_dir, enclaves=args.enclaves, limits=limits)
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
    parser = argparse.ArgumentParser(description="keymeld: MuSig2 over enclaves, one process each")
    add_arguments(parser)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # uvicorn stops at SIGINT, lets the service close, and then raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
