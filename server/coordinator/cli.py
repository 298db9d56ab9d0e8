"""The `coordinator` command."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="coordinator", description="The coordinator's gRPC core.")
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the API and drive competitions (settings: COORDINATOR_*)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Importing the core takes a while; `--help` need not.
    from coordinator.app import serve
    from coordinator.config import ConfigError, Settings

    try:
        settings = Settings.from_environment()
    except ConfigError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 2
    asyncio.run(serve(settings))
    return 0
