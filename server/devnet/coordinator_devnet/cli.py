"""`python -m coordinator_devnet`: each part alone, all of them, the whole product, or a demonstration."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import Sequence

# Command, module with `add_arguments` and `serve`, what it is.
COMMANDS = (
    ("chain", "coordinator_devnet.chain.cli", "a regtest chain on Bitcoin Core's engine behind Esplora REST"),
    ("lightning", "coordinator_devnet.lightning.cli", "Lightning nodes that speak LND's gRPC"),
    ("keymeld", "coordinator_devnet.keymeld.cli", "the remote MuSig2 service with several enclaves"),
    ("oracle", "coordinator_devnet.oracle.cli", "a weather oracle on recorded observations"),
    ("all", "coordinator_devnet.world", "all four in one process"),
    ("run", "coordinator_devnet.stack", "devnet, core and gateway together"),
    ("demo", "coordinator_devnet.demo", "play a competition and count the sats"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 130 after Ctrl-C at any moment."""
    with contextlib.suppress(KeyboardInterrupt):
        return _main(argv)
    return 130


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="coordinator_devnet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    arguments = sys.argv[1:] if argv is None else list(argv)
    # Only the wanted part is imported: the others take a while to load.
    wanted = arguments[0] if arguments else ""
    for name, module_name, description in COMMANDS:
        command = commands.add_parser(name, help=description, description=description)
        if name == wanted:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(serve=module.serve)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return asyncio.run(args.serve(args)) or 0
