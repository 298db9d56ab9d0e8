"""The admin command's parts that need no core: parser, times, terms, JSON, tables, and what it waits for."""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import betterproto
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordinator.admin.connection import Connection, check_address, load_key
from coordinator.admin.errors import AdminError, Exit, exit_of
from coordinator.admin.jsonform import message_json
from coordinator.admin.output import Output, Styled, clean, sats
from coordinator.admin.parser import TERMS_FLAGS, TIME_FLAGS
from coordinator.admin.progress import Progress, Reached, progress_bar, reached
from coordinator.admin.run import COMMANDS
from coordinator.admin.session import MAX_PAGE, all_pages
from coordinator.admin.terms import create_request
from coordinator.admin.timeform import parse_duration, parse_moment, show_distance, show_duration, show_moment
from coordinator.cli import build_parser
from coordinator.domain.states import STATES
from coordinator.v1 import competition_pb2, entry_pb2, event_pb2, wallet_pb2
from coordinator_client.errors import ApiError
from coordinator_client.nostr import NostrKey
from coordinator_client.proto.coordinator import v1
from coordinator_gateway.jsoncodec import encode
from support.admin_cli import key_file, quiet_environment

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def parse(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["admin", *words])


# --- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d12h", 129_600),
        ("1w", 604_800),
        ("0s", 0),
        (" 1h5m ", 3900),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2h2h", "5m1h", "-1h", "1.5h", "2 h", "1y", "٣h", "9999999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_moment("2026-11-25T18:00:00Z") == datetime(2026, 11, 25, 18, tzinfo=UTC)
    assert parse_moment("2026-11-25T18:00:00+02:00") == datetime(2026, 11, 25, 16, tzinfo=UTC)
    monkeypatch.setenv("TZ", "America/Chicago")
    time.tzset()
    try:
        assert parse_moment("2026-11-25 18:00") == datetime(2026, 11, 26, 0, tzinfo=UTC)
        assert show_moment(datetime(2026, 11, 26, 0, tzinfo=UTC)) == "2026-11-25 18:00:00 CST"
    finally:
        monkeypatch.undo()
        time.tzset()
    for text in ("", "tomorrow", "2026-13-01", "2h", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(ValueError, match="no time"):
            parse_moment(text)
    assert show_moment(datetime.fromtimestamp(0, UTC)) == "-"


def test_durations_for_people() -> None:
    shown = {0: "0s", 59: "59s", 60: "1m", 3661: "1h 1m", 3601: "1h", 90_000: "1d 1h", 8 * 86_400: "8d"}
    assert {seconds: show_duration(seconds) for seconds in shown} == shown
    assert show_distance(NOW + timedelta(seconds=90), NOW) == "in 1m 30s"
    assert show_distance(NOW - timedelta(seconds=90), NOW) == "1m 30s ago"


# --- parser


def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        return [parser]
    return [leaf for action in below for sub in action.choices.values() for leaf in leaves(sub)]


def test_every_command_of_the_parser_can_be_run_and_the_other_way_round() -> None:
    names = {leaf.get_default("admin_command") for leaf in leaves(build_parser())} - {None}
    assert names == {*COMMANDS, "completion"}


def test_states_and_terms_are_those_of_the_api() -> None:
    assert [state.name.lower() for state in v1.CompetitionState if state] == list(STATES)
    fields: Any = v1.CompetitionTerms()
    known = set(fields._betterproto.meta_by_field_name)
    assert {flag.field for flag in TERMS_FLAGS} | set(TIME_FLAGS) == known
    for flag in TERMS_FLAGS:
        assert isinstance(getattr(fields, flag.field), list) == flag.many


@pytest.mark.parametrize(
    "words",
    [("--json", "wallet", "balance"), ("wallet", "--json", "balance"), ("wallet", "balance", "--json")],
)
def test_global_options_stand_anywhere(words: Sequence[str]) -> None:
    arguments = parse(*words)
    assert arguments.json is True
    assert arguments.timeout == 30
    assert arguments.admin_command == "wallet balance"
    assert parse("--timeout", "5", "list").timeout == 5


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("wallet",),
        ("list", "--state", "happy"),
        ("list", "--limit", "0"),
        ("list", "--state", "created", "--live"),
        ("cancel", "x"),
        ("create", "--starts-in", "soon"),
        ("create", "--starts-in", "2h", "--starts-at", "2026-11-25"),
        ("create", "--metric", "luck"),
        ("create", "--entry-fee", "5k"),
        ("wallet", "send", "address", "-5"),
        ("wallet", "send", "address", "1.5"),
        ("wallet", "send", "address", "1000", "--fee-rate", "4294967297"),
        ("wallet", "send", "address", "1000", "--fee-rate", "0"),
        ("attest", "x"),
        ("attest", "x", "--refund", "--withhold"),
        ("attest", "x", "--winners", "a"),
        ("list", "--timeout", "0"),
        ("list", "--timeout", "nan"),
        ("list", "--tim", "5"),
        ("completion", "fish"),
    ],
)
def test_wrong_command_lines(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    assert "usage: coordinator" in capsys.readouterr().err


# --- terms


def test_relative_times_count_from_each_other() -> None:
    terms = create_request(parse("create", "--starts-in", "2h", "--window", "1d"), NOW).terms
    assert terms.start_observation_at == NOW + timedelta(hours=2)
    assert terms.end_observation_at == NOW + timedelta(hours=26)
    assert terms.signing_at == terms.end_observation_at
    at = "2026-12-01T00:00:00Z"
    words = ("create", "--starts-at", at, "--ends-at", "2026-12-02T00:00:00Z", "--signs-after", "1h")
    terms = create_request(parse(*words), NOW).terms
    assert terms.signing_at == datetime(2026, 12, 2, 1, tzinfo=UTC)
    # A window without a start has no end; that the core names both.
    terms = create_request(parse("create", "--window", "1d"), NOW).terms
    assert terms.end_observation_at.timestamp() == 0
    with pytest.raises(AdminError) as beyond:
        create_request(parse("create", "--starts-at", "9999-12-31T00:00:00Z", "--window", "9w"), NOW)
    assert beyond.value.code is Exit.INVALID


def test_a_number_without_room_in_its_field_is_not_cut() -> None:
    with pytest.raises(AdminError) as refused:
        create_request(parse("create", "--entries", "4294967301"), NOW)
    assert refused.value.code is Exit.INVALID
    assert [error.field for error in refused.value.fields] == ["terms.total_allowed_entries (--entries)"]
    assert (
        create_request(parse("create", "--entry-fee", "4294967301"), NOW).terms.entry_fee_sats == 4294967301
    )


# --- JSON


def filled(kind: type[Message], depth: int = 0) -> Any:
    """A message with something in every field, one member of each oneof."""
    message: Any = kind()
    for number, field in enumerate(message.DESCRIPTOR.fields, 1):
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value_type = field.message_type.fields_by_name["value"].type
            target.update({10: 1.5, 2: 3.0} if value_type == field.TYPE_DOUBLE else {"b": "x", "a": "y"})
        elif field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
            target.FromMicroseconds(1_800_000_000_000_000 + 500_000 * number)
        elif field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct":
            target.update({"n": 5, "f": 1.5, "t": "x", "b": True, "l": [1, {"z": None}], "o": {"k": []}})
        elif field.message_type is not None:
            inner = filled(GetMessageClass(field.message_type), depth + 1)
            if field.is_repeated:
                target.extend([inner, GetMessageClass(field.message_type)()])
            else:
                target.CopyFrom(inner)
        else:
            value: Any = {field.CPPTYPE_BOOL: True, field.CPPTYPE_STRING: "text", field.CPPTYPE_ENUM: 2}.get(
                field.cpp_type, number
            )
            if field.type == field.TYPE_BYTES:
                value = b"\x01\xff"
            if field.is_repeated:
                target.extend([value, value])
            else:
                setattr(message, field.name, value)
    return message


@pytest.mark.parametrize(
    "kind",
    [
        competition_pb2.Competition,
        competition_pb2.ListCompetitionsResponse,
        competition_pb2.InspectCompetitionResponse,
        competition_pb2.GetCoordinatorResponse,
        competition_pb2.GetLeaderboardResponse,
        competition_pb2.ContractSignature,
        entry_pb2.ListEntriesResponse,
        event_pb2.Event,
        event_pb2.Snapshot,
        wallet_pb2.GetBalanceResponse,
        wallet_pb2.ListOutputsResponse,
        wallet_pb2.GetEstimatedFeesResponse,
        wallet_pb2.SendResponse,
    ],
)
def test_json_is_the_gateways(kind: type[Message]) -> None:
    for message in (kind(), filled(kind)):
        own: betterproto.Message = getattr(v1, kind.DESCRIPTOR.name)().parse(message.SerializeToString())
        assert message_json(own) == encode(message)
        assert json.loads(json.dumps(message_json(own))) == encode(message)


def test_json_of_a_oneof_has_the_member_that_is_set_only() -> None:
    for field in ("event", "snapshot", "heartbeat"):
        message = event_pb2.WatchResponse()
        getattr(message, field).sequence = 3
        own = v1.WatchResponse().parse(message.SerializeToString())
        assert list(message_json(own)) == [field]


def test_an_enum_value_of_a_newer_core_stays_a_number() -> None:
    message = competition_pb2.Competition()
    message.state = 99  # type: ignore[assignment]
    own = v1.Competition().parse(message.SerializeToString())
    assert message_json(own)["state"] == encode(message)["state"] == 99


# --- output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_tables_are_aligned_by_what_a_terminal_shows() -> None:
    out = io.StringIO()
    Output(False, out=out).table(
        ("NAME", "SATS", "LAST"), [("日本", "1", "x"), ("abc", "1,000", "")], right="SATS"
    )
    assert out.getvalue().splitlines() == ["NAME   SATS  LAST", "日本      1  x", "abc   1,000"]
    empty = io.StringIO()
    Output(False, out=empty).table(("A", "B"), [])
    assert empty.getvalue() == "A  B\n"


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"
    out, err = Terminal(), Terminal()
    output = Output(False, out=out, err=err, environment={})
    output.line("\x1b]0;x\x07", Styled("\x1b[1A", "red"))
    output.facts([("\x1b", "\x1b[31m")])
    output.note("\x1b[2J")
    assert (
        out.getvalue().replace("\x1b[31m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").count("\x1b")
        == 0
    )
    assert err.getvalue() == "\\x1b[2J\n"


def test_colours_and_status_only_where_somebody_looks() -> None:
    for environment, colours in (
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ):
        out = Terminal()
        Output(False, out=out, environment=environment).line(Styled("x", "red"))
        assert ("\x1b[31m" in out.getvalue()) is colours
    err = io.StringIO()
    Output(False, err=err, environment={}).status("waiting")
    assert err.getvalue() == ""
    err = Terminal()
    output = Output(False, out=io.StringIO(), err=err, environment={})
    output.status("waiting")
    output.line("event")
    assert err.getvalue().endswith("\r\x1b[K")
    err = Terminal()
    Output(True, err=err, environment={}).status("waiting")
    assert err.getvalue() == ""


def test_sats() -> None:
    assert sats(2_100_000_000_000_000) == "2,100,000,000,000,000"


# --- connection, errors


@pytest.mark.parametrize(
    ("address", "host"), [("h:1", "h"), ("[::1]:50051", "::1"), ("10.0.0.1:65535", "10.0.0.1")]
)
def test_addresses(address: str, host: str) -> None:
    assert check_address(address) == host


@pytest.mark.parametrize(
    "address", ["", "h", ":1", "h:", "h:0", "h:65536", "::1:5", "grpc://h:1", "h:x", "h:١"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(AdminError) as refused:
        check_address(address)
    assert refused.value.code is Exit.USAGE


def test_options_go_before_the_environment(tmp_path: Path) -> None:
    mine, other = NostrKey.generate(), NostrKey.generate()
    env = {
        "COORDINATOR_ADMIN_ADDRESS": "env:1",
        "COORDINATOR_ADMIN_KEY_FILE": str(key_file(tmp_path, other)),
    }
    connection = Connection.of(parse("list"), env)
    assert (connection.address, connection.key) == ("env:1", other)
    assert "not encrypted" in connection.warnings[0]
    words = ("list", "--address", "localhost:2", "--key-file", str(key_file(tmp_path, mine, as_hex=True)))
    connection = Connection.of(parse(*words), env)
    assert (connection.address, connection.key, connection.warnings) == ("localhost:2", mine, [])
    nobody = Connection.of(parse("list"), {})
    assert nobody.address == "127.0.0.1:50051"
    with pytest.raises(AdminError) as refused:
        nobody.require_key()
    assert refused.value.code is Exit.PERMISSION


@pytest.mark.parametrize("content", ["", "hello", "0" * 64, "f" * 64, "ab" * 31, "nsec1qqqq", "\x00" * 2000])
def test_a_key_file_without_a_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(AdminError) as refused:
        load_key(path)
    assert refused.value.code is Exit.USAGE
    assert not content or content not in str(refused.value)


def test_exit_codes() -> None:
    codes = {
        "UNAUTHENTICATED": 3,
        "PERMISSION_DENIED": 3,
        "NOT_FOUND": 4,
        "INVALID_ARGUMENT": 5,
        "OUT_OF_RANGE": 5,
        "FAILED_PRECONDITION": 6,
        "ALREADY_EXISTS": 6,
        "ABORTED": 7,
        "RESOURCE_EXHAUSTED": 7,
        "INTERNAL": 1,
    }
    assert {code: exit_of(ApiError("R", "d", code=code)) for code in codes} == codes


async def test_paging_stops_at_the_limit() -> None:
    asked: list[tuple[int, str]] = []

    async def fetch(size: int, token: str) -> tuple[list[int], str]:
        asked.append((size, token))
        start = int(token or 0)
        end = min(start + size, 450)
        return list(range(start, end)), str(end) if end < 450 else ""

    assert await all_pages(fetch, None) == (list(range(450)), "")
    assert asked == [(MAX_PAGE, ""), (MAX_PAGE, "200"), (MAX_PAGE, "400")]
    asked.clear()
    assert await all_pages(fetch, 201) == (list(range(201)), "201")
    assert asked == [(200, ""), (1, "200")]


# --- what a watch waits for


def test_reached() -> None:
    yes, wait, never = Reached.YES, Reached.NOT_YET, Reached.NEVER
    cases = [
        ("completed", "completed", "att1", yes),
        ("completed", "delta_broadcasted", "att1", wait),
        ("completed", "failed", "", never),
        ("completed", "cancelled", "", never),
        ("completed", "completed", "exp", yes),
        ("funding_ready", "awaiting_signing", "", wait),
        ("funding_ready", "funding_settled", "", yes),
        ("failed", "failed", "", yes),
        ("failed", "completed", "att0", never),
        ("cancelled", "failed", "", never),
        ("failed", "created", "", wait),
        ("attested", "expiry_broadcasted", "exp", never),
        ("outcome_broadcasted", "completed", "exp", never),
        ("outcome_broadcasted", "completed", "att0", yes),
        ("outcome_broadcasted", "attested", "att0", wait),
        ("expiry_broadcasted", "awaiting_attestation", "", wait),
        ("expiry_broadcasted", "attested", "att0", never),
        ("expiry_broadcasted", "completed", "exp", yes),
        ("completed", "a_newer_state", "", wait),
    ]
    for target, state, outcome, verdict in cases:
        assert reached(target, state, outcome) is verdict, (target, state, outcome)


def test_progress_follows_events() -> None:
    terms = v1.CompetitionTerms(total_allowed_entries=5, start_observation_at=NOW + timedelta(hours=1))
    progress = Progress(v1.Competition(state=v1.CompetitionState.CREATED, terms=terms, state_changed_at=NOW))
    assert progress.describe(NOW) == "created for 0s; 0 of 5 entries; starts in 1h"

    def event(kind: str, state: str, seconds: int, **data: object) -> None:
        at = NOW + timedelta(seconds=seconds)
        item = v1.Event(kind=kind, state=v1.CompetitionState[state.upper()], occurred_at=at)
        progress.take(item, data)

    event("entry.submitted", "collecting_entries", 10, entries=2)
    assert progress.describe(NOW + timedelta(seconds=70)).startswith(
        "collecting_entries for 1m; 2 of 5 entries"
    )
    event("competition.paused", "collecting_entries", 11)
    assert progress.describe(NOW).endswith("; paused")
    event("competition.state_changed", "awaiting_signing", 100)
    event("keymeld.signing_progress", "awaiting_signing", 160, done=5, total=20)
    assert progress.describe(NOW + timedelta(seconds=160)) == (
        "awaiting_signing for 1m  [#####---------------] 5/20 25%; waiting for keymeld to sign every outcome"
    )
    event("competition.state_changed", "funding_ready", 170)
    assert "[" not in progress.describe(NOW)


def test_progress_bars_stay_within_bounds() -> None:
    assert progress_bar(0, 3) == "[--------------------] 0/3 0%"
    assert progress_bar(7, 3) == "[####################] 3/3 100%"


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for leaf in leaves(build_parser()):
        leaf.print_help()
        shown = capsys.readouterr().out
        assert "usage: coordinator" in shown


def test_the_documentation_names_every_command() -> None:
    text = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
    for name in (*COMMANDS, "completion"):
        assert f"`{name}`" in text, name
    for code in Exit:
        assert f"| {int(code)} |" in text


def test_unset_variables_and_streams_do_not_matter() -> None:
    """Help needs no configuration, no key and no terminal."""
    ended = subprocess.run(
        [sys.executable, "-m", "coordinator", "admin", "--help"],
        env={"PATH": os.environ["PATH"], **{k: v for k, v in quiet_environment().items() if k == "HOME"}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert b"exit codes" in ended.stdout
