"""The command `coordinator-recover`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import math
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from coordinator.adapters.esplora import EsploraChain
from coordinator.adapters.weather_oracle import WeatherOracle
from coordinator.contract.network import Network
from coordinator.domain.wallet.address import script_from_address
from coordinator.domain.wallet.errors import WalletError
from coordinator.ports.chain import ChainError
from coordinator.ports.oracle import OracleError
from coordinator.recover.clawback import Clawback, ClawbackOptions, own_escrow
from coordinator.recover.errors import Exit, RecoverError, refused
from coordinator.recover.material import PlayerSecrets, parse_contract, parse_scalar_hex
from coordinator.recover.recovery import Options, Recovery
from coordinator_client.nostr import NostrKey

_DESCRIPTION = """\
Take a prize from a competition's contract without the coordinator. You need the public contract, your entry's
private key, your ticket's preimage, and the oracle's attestation (or, after the event expired, --expiry).
Without --broadcast everything is checked and the transactions are printed; nothing is sent."""

_EPILOG = """\
exit codes:
  0  the prize is in a block (with --broadcast), or all is well and was printed (without)
  1  refused: contract, key, preimage, attestation or destination is wrong; nothing was sent
  2  the command line is wrong
  3  you did not win: there is nothing to take
  4  not yet: something has to happen first; run it again later, or use --wait
  5  the money went elsewhere (sold back, closed together, reclaimed after its time)
  6  chain or oracle did not answer, or the node refused a transaction

Secrets are never taken from the command line. See docs/recovery.md.

Your ticket was paid and no contract was funded? See: coordinator-recover clawback --help"""

_CLAWBACK_DESCRIPTION = """\
Take back what you paid for a ticket whose payment was settled although no contract was funded: your escrow,
with the ticket's preimage and your entry's private key, from 144 blocks after the escrow transaction's block
on. Do it before the escrow's release is valid, 288 blocks after that block or later (the program says when):
then the coordinator can take the escrow back. Without --broadcast nothing is sent."""

_CLAWBACK_EPILOG = """\
exit codes:
  0  the money is in a block (with --broadcast), or all is well and was printed (without)
  1  refused: contract, key, preimage or destination is wrong; nothing was sent
  2  the command line is wrong
  4  not yet: run it again later, or use --wait
  5  the escrow was spent: into the contract, or back to the coordinator
  6  the chain did not answer, or the node refused the transaction"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    logging.basicConfig(level=logging.WARNING)
    if given[:1] == ["clawback"]:
        clawing = _clawback_parser()
        wanted = clawing.parse_args(given[1:])
        if wanted.wait and not wanted.broadcast:
            clawing.error("--wait needs --broadcast")
        return _exit_code(_clawback(wanted))
    parser = _parser()
    arguments = parser.parse_args(given)
    if arguments.broadcast and not (arguments.esplora and arguments.destination):
        parser.error("--broadcast needs --esplora and --destination")
    if arguments.wait and not arguments.broadcast:
        parser.error("--wait needs --broadcast")
    if bool(arguments.oracle_url) != bool(arguments.event_id):
        parser.error("--oracle-url and --event-id belong together")
    return _exit_code(_run(arguments))


def _exit_code(work: Coroutine[Any, Any, Exit]) -> int:
    try:
        return asyncio.run(work)
    except RecoverError as error:
        print(f"coordinator-recover: {error}", file=sys.stderr)
        return error.code
    except (ChainError, OracleError) as error:
        print(f"coordinator-recover: {error}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        print("coordinator-recover: interrupted; run it again, it finds what is done", file=sys.stderr)
        return Exit.UNFINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordinator-recover",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("contract", type=Path, help="the contract: JSON from the API with signatures, or a contract file")
    _add_secrets(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--attestation", metavar="HEX", help="the oracle's attestation, 32 bytes")
    source.add_argument(
        "--oracle-url", metavar="URL", help="ask this oracle for the attestation; needs --event-id"
    )
    source.add_argument(
        "--expiry", action="store_true", help="the event expired without attestation: take your share"
    )
    add("--event-id", metavar="ID", help="the oracle's event: the competition's id")
    add("--esplora", metavar="URL", help="Esplora API, for example https://mempool.space/api")
    add("--network", choices=[str(network) for network in Network], default=str(Network.MAINNET))
    add("--destination", metavar="ADDRESS", help="where the prize goes")
    add(
        "--fee-rate",
        type=_fee_rate,
        metavar="SAT_PER_VB",
        help="of the win transaction (default: the chain's estimate); a higher one replaces what waits",
    )
    add("--broadcast", action="store_true", help="send what is valid now; needs --esplora and --destination")
    add("--wait", action="store_true", help="with --broadcast: stay until the prize is in a block")
    add("--poll-seconds", type=float, default=30, help="with --wait: how often to look (default 30)")
    return parser


def _clawback_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordinator-recover clawback",
        description=_CLAWBACK_DESCRIPTION,
        epilog=_CLAWBACK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "contract",
        type=Path,
        help="JSON of the contract from the API, saved when you signed the release or later",
    )
    _add_secrets(parser)
    add("--esplora", metavar="URL", required=True, help="Esplora API, for example https://mempool.space/api")
    add("--network", choices=[str(network) for network in Network], default=str(Network.MAINNET))
    add("--destination", metavar="ADDRESS", required=True, help="where the money goes")
    add("--fee-rate", type=_fee_rate, metavar="SAT_PER_VB", help="default: the chain's estimate")
    add("--broadcast", action="store_true", help="send it as soon as it is valid")
    add("--wait", action="store_true", help="with --broadcast: stay until it is in a block")
    add("--poll-seconds", type=float, default=30, help="with --wait: how often to look (default 30)")
    return parser


def _add_secrets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file with the entry's ephemeral private key, hex (asked for if absent)",
    )
    parser.add_argument(
        "--preimage-file",
        type=Path,
        metavar="FILE",
        help="file with the ticket preimage, hex (asked for if absent)",
    )


def _fee_rate(text: str) -> float:
    rate = float(text)
    if not (math.isfinite(rate) and 1 <= rate <= 10_000):
        raise argparse.ArgumentTypeError("must be from 1 to 10000")
    return rate


async def _run(arguments: argparse.Namespace) -> Exit:
    network = Network(arguments.network)
    options = Options(
        network=network,
        destination=_destination(arguments.destination, network),
        fee_rate_sats_per_vb=arguments.fee_rate,
        attestation=None
        if arguments.attestation is None
        else parse_scalar_hex(arguments.attestation, "attestation"),
        event_id=arguments.event_id,
        expiry=arguments.expiry,
        broadcast=arguments.broadcast,
        wait=arguments.wait,
        poll_seconds=arguments.poll_seconds,
    )
    contract = parse_contract(_read(arguments.contract))
    secrets = _secrets(arguments)
    async with AsyncExitStack() as stack:
        chain = oracle = None
        if arguments.esplora:
            chain = EsploraChain(arguments.esplora)
            stack.push_async_callback(chain.aclose)
        if arguments.oracle_url:
            # Reading needs no login; the key is for what the adapter never does here.
            oracle = WeatherOracle(arguments.oracle_url, NostrKey.generate())
            stack.push_async_callback(oracle.aclose)
        return await Recovery(contract, secrets, options, chain, oracle).run()


async def _clawback(arguments: argparse.Namespace) -> Exit:
    options = ClawbackOptions(
        destination=_script(arguments.destination, Network(arguments.network)),
        fee_rate_sats_per_vb=arguments.fee_rate,
        broadcast=arguments.broadcast,
        wait=arguments.wait,
        poll_seconds=arguments.poll_seconds,
    )
    data = _read(arguments.contract)
    secrets = _secrets(arguments)
    escrow = own_escrow(data, secrets)
    chain = EsploraChain(arguments.esplora)
    try:
        return await Clawback(escrow, secrets, options, chain).run()
    finally:
        await chain.aclose()


def _secrets(arguments: argparse.Namespace) -> PlayerSecrets:
    return PlayerSecrets(
        _secret(arguments.key_file, "private key"), _secret(arguments.preimage_file, "ticket preimage")
    )


def _destination(address: str | None, network: Network) -> bytes | None:
    return None if address is None else _script(address, network)


def _script(address: str, network: Network) -> bytes:
    try:
        return script_from_address(address, network, field="destination")
    except WalletError as error:
        raise refused(f"{error} (--network says which network is meant)") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise refused(f"{path} cannot be read: {error.strerror}") from None


def _secret(path: Path | None, what: str) -> bytes:
    """From a file, from the terminal without showing it, or from a line of standard input."""
    if path is not None:
        text = _read(path).decode("utf-8", "replace")
    elif sys.stdin.isatty():
        text = getpass.getpass(f"{what.capitalize()} (64 hex digits, not shown): ")
    else:
        text = sys.stdin.readline()
    return parse_scalar_hex(text, what)
