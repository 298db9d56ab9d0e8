"""The command line of `coordinator admin`. Imports little: `--help` and completion need no client."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.admin.timeform import parse_duration, parse_moment
from coordinator.domain.states import STATES
from coordinator.domain.terms import SCORING_FIELDS

_EPILOG: Final = """\
exit codes:
  0 ok                        4 not found
  1 unexpected                5 invalid input; each wrong field is named
  2 wrong command line        6 not possible in this state
  3 no or wrong key           7 core, chain, ... unavailable, or too slow
                              130 interrupted, or not confirmed

Options may stand before or after the command. See docs/admin.md."""


@dataclass(frozen=True, slots=True)
class TermsFlag:
    """A field of CompetitionTerms and the option that sets it."""

    field: str
    flag: str
    metavar: str
    help: str
    many: bool = False
    choices: tuple[str, ...] | None = None
    text: bool = False
    switch: bool = False


TERMS_FLAGS: Final = (
    TermsFlag("name", "--name", "TEXT", "what players read in lists", text=True),
    TermsFlag("entry_fee_sats", "--entry-fee", "SATS", "what one ticket costs"),
    TermsFlag(
        "coordinator_fee_percent", "--coordinator-fee", "PERCENT", "the coordinator's part of each fee"
    ),
    TermsFlag(
        "total_competition_pool_sats", "--pool", "SATS", "what is played for (default: what entries pay)"
    ),
    TermsFlag("total_allowed_entries", "--entries", "N", "the most entries"),
    TermsFlag("min_entries", "--min-entries", "N", "how many it needs to start (default: all)"),
    TermsFlag("number_of_places_win", "--places", "N", "how many places win"),
    TermsFlag("number_of_values_per_entry", "--values", "N", "predictions in an entry"),
    TermsFlag(
        "locations", "--station", "ID", "station to predict for; repeat for more", many=True, text=True
    ),
    TermsFlag(
        "scoring_fields",
        "--metric",
        "NAME",
        f"what is predicted there; repeat for more: {', '.join(SCORING_FIELDS)}",
        many=True,
        choices=SCORING_FIELDS,
        text=True,
    ),
    TermsFlag("relative_locktime_blocks", "--delta", "BLOCKS", "the contract's relative lock time"),
    TermsFlag("fee_rate_sats_per_vb", "--fee-rate", "SAT_PER_VB", "of the contract's transactions"),
    TermsFlag(
        "require_signing_approval",
        "--require-signing-approval",
        "",
        "every player must approve what its key signs (default: as each chooses)",
        switch=True,
    ),
)
TIME_FLAGS: Final = {
    "start_observation_at": "--starts-in/--starts-at",
    "end_observation_at": "--window/--ends-at",
    "signing_at": "--signs-after/--signs-at",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares everything under `coordinator admin`. The command's name ends up in `admin_command`."""
    parser.description = "Run competitions and the wallet of a coordinator over gRPC."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_globals(parser)
    commands = _Commands(parser, "")
    _add_competitions(commands)
    _add_wallet(commands)
    commands.add("whoami", "show the key's identity and the coordinator's facts")
    attest = commands.add("attest", "devnet only: make the oracle attest to an outcome, or never to do so")
    _id(attest)
    outcome = attest.add_mutually_exclusive_group(required=True)
    outcome.add_argument(
        "--winners", type=_indices, metavar="I,J,…", help="player indices of the winners, best first"
    )
    outcome.add_argument("--refund", action="store_true", help="equal shares to all")
    outcome.add_argument("--withhold", action="store_true", help="never attest by itself")
    attest.add_argument("--oracle-url", metavar="URL", help="(default: as the coordinator says)")
    completion = commands.add("completion", "print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh"))


class _Commands:
    """Subcommands of one parser, each with the global options."""

    def __init__(self, parser: argparse.ArgumentParser, prefix: str) -> None:
        self._prefix = prefix
        self._subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(self, name: str, help_text: str) -> argparse.ArgumentParser:
        parser = self._subparsers.add_parser(
            name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", allow_abbrev=False
        )
        parser.set_defaults(admin_command=f"{self._prefix}{name}")
        _add_globals(parser, again=True)
        return parser


def _add_globals(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """The options that every command has. Further down they have no default, or it would undo one above."""
    group = parser.add_argument_group("connection and output")

    def add(*flags: str, default: Any = None, **options: Any) -> None:
        group.add_argument(*flags, default=argparse.SUPPRESS if again else default, **options)

    add("--address", metavar="HOST:PORT", help="of the core (default: 127.0.0.1:50051)")
    add("--authority", metavar="HOST:PORT", help="the core's own name to sign for, if it is not the address")
    add("--key-file", type=Path, metavar="FILE", help="the admin's secret key, nsec or hex")
    add("--tls", action="store_true", default=False, help="TLS with the system's certificate authorities")
    add("--tls-ca", type=Path, metavar="FILE", help="TLS with this certificate authority (PEM)")
    add("--client-cert", type=Path, metavar="FILE", help="the client's certificate (PEM)")
    add("--client-key", type=Path, metavar="FILE", help="its key (PEM)")
    add("--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="of a single call (default: 30)")
    add("--json", action="store_true", default=False, help="one JSON document; for streams, a line each")


def _add_competitions(commands: _Commands) -> None:
    _add_create(commands.add("create", "create a competition"))
    listing = commands.add("list", "list competitions, newest first")
    states = listing.add_mutually_exclusive_group()
    states.add_argument(
        "--state",
        action="append",
        default=[],
        choices=tuple(STATES),
        metavar="STATE",
        help=f"only those in this state; repeat for more: {', '.join(STATES)}",
    )
    states.add_argument("--live", action="store_true", help="only those that are not over")
    _paging(listing)
    _id(commands.add("show", "show a competition"))
    inspect = commands.add("inspect", "show history, last error, next attempt and money in motion")
    _id(inspect)
    inspect.add_argument("--stored", action="store_true", help="also the state as it is stored")
    _add_watch(commands.add("watch", "follow events as they happen"))
    cancel = commands.add("cancel", "cancel a competition before it is funded; everybody is refunded")
    _id(cancel)
    cancel.add_argument("--reason", required=True, metavar="TEXT", help="shown to players")
    _id(commands.add("pause", "stop selling tickets and taking entries"))
    _id(commands.add("resume", "go on after a pause"))
    _id(commands.add("retry", "take the next step now instead of at the next attempt's time"))
    entries = commands.add("entries", "list a competition's entries")
    _id(entries)
    _paging(entries)
    _id(commands.add("leaderboard", "show entries by score"))
    _id(commands.add("keymeld", "show how far key generation and signing are"))


def _add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="terms as the REST API takes them (JSON), - for standard input; options go before the file",
    )
    create.add_argument("--id", metavar="UUIDv7", help="(default: a new one)")
    terms = create.add_argument_group("terms")
    for flag in TERMS_FLAGS:
        options: dict[str, Any] = {"type": str if flag.text else _count}
        if flag.many:
            options |= {"action": "append", "choices": flag.choices}
        if flag.switch:
            options = {"action": "store_true", "default": None}
        else:
            options["metavar"] = flag.metavar
        terms.add_argument(flag.flag, dest=flag.field, help=flag.help, **options)
    times = create.add_argument_group(
        "times", "Durations: 90s, 30m, 2h, 1d12h. Times: 2026-11-25T18:00:00Z, without a zone local."
    )
    start = times.add_mutually_exclusive_group()
    start.add_argument("--starts-in", type=_duration, metavar="DURATION", help="from now to the start")
    start.add_argument("--starts-at", type=_moment, metavar="TIME", help="when observations start to count")
    end = times.add_mutually_exclusive_group()
    end.add_argument("--window", type=_duration, metavar="DURATION", help="from start to end")
    end.add_argument("--ends-at", type=_moment, metavar="TIME", help="when observations stop to count")
    sign = times.add_mutually_exclusive_group()
    sign.add_argument(
        "--signs-after", type=_duration, metavar="DURATION", help="from end to attestation (default: 0s)"
    )
    sign.add_argument("--signs-at", type=_moment, metavar="TIME", help="when the oracle attests")


def _add_watch(watch: argparse.ArgumentParser) -> None:
    watch.add_argument("competition_id", nargs="?", default="", metavar="ID", help="only this one")
    watch.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND",
        help="only this kind of event, or a group like ticket.*; repeat for more",
    )
    watch.add_argument(
        "--after", type=_count, metavar="SEQUENCE", help="start behind this event (default: with what is now)"
    )
    watch.add_argument(
        "--until", choices=tuple(STATES), metavar="STATE", help="end once the competition is there; needs ID"
    )
    watch.add_argument(
        "--give-up-after",
        type=_duration,
        metavar="DURATION",
        help="end when the connection stays lost for so long (default: never)",
    )


def _add_wallet(commands: _Commands) -> None:
    wallet = _Commands(commands.add("wallet", "the coordinator's money"), "wallet ")
    wallet.add("balance", "show balances on chain and in Lightning channels")
    wallet.add("address", "show the next fresh address")
    _paging(wallet.add("outputs", "list unspent outputs"))
    wallet.add("fees", "show estimated fee rates")
    send = wallet.add("send", "send to an address; asks before it does")
    send.add_argument("recipient", metavar="ADDRESS", help="where to")
    send.add_argument("amount_sats", type=_count, metavar="SATS", help="how much")
    send.add_argument(
        "--fee-rate",
        type=_fee_rate,
        default=0,
        metavar="SAT_PER_VB",
        help="(default: the estimate for 6 blocks)",
    )
    send.add_argument(
        "--idempotency-key", metavar="KEY", help="the same key sends once, however often it is tried"
    )
    send.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("competition_id", metavar="ID", help="the competition's id")


def _paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_positive, metavar="N", help="show at most so many (default: all)")


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """As argparse takes it: with a message of its own."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _parse_count(text: str) -> int:
    """A whole number; 1_000_000 is easier to get right than 1000000."""
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        raise ValueError(f"{text!r} is no whole number")
    return int(digits)


def _parse_positive(text: str) -> int:
    number = _parse_count(text)
    if number == 0:
        raise ValueError("must be at least 1")
    return number


def _parse_fee_rate(text: str) -> int:
    """Bounded, since the field has 32 bits and a larger number would lose its upper ones on the way."""
    rate = _parse_count(text)
    if not 1 <= rate < 2**31:
        raise ValueError("must be at least 1 and below 2147483648")
    return rate


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise ValueError(f"{text!r} is no number of seconds from 0 to 86,400")
    return seconds


def _parse_indices(text: str) -> list[int]:
    return [_parse_count(part.strip()) for part in text.split(",")]


_count = _typed(_parse_count)
_positive = _typed(_parse_positive)
_fee_rate = _typed(_parse_fee_rate)
_seconds = _typed(_parse_seconds)
_indices = _typed(_parse_indices)
_duration = _typed(parse_duration)
_moment = _typed(parse_moment)
