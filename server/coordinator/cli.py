"""The `coordinator` command."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from coordinator.admin.parser import add_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "admin":
        return _admin(parser, arguments)
    _log(arguments.log_level or "INFO")
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


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="coordinator", description="The coordinator's gRPC core.")
    parser.add_argument(
        "--log-level",
        type=str.upper,
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        help="(default: INFO to serve, ERROR for admin)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the API and drive competitions (settings: COORDINATOR_*)")
    admin = commands.add_parser("admin", help="run competitions and the wallet over gRPC", allow_abbrev=False)
    add_arguments(admin)
    return parser


def _admin(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.admin_command == "completion":
        from coordinator.admin.completion import script

        print(script(arguments.shell, parser), end="")
        return 0
    _log(arguments.log_level or "ERROR")
    from coordinator.admin.run import run

    return run(arguments)


def _log(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
