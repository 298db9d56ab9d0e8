"""`coordinator admin` against the core's API on a real socket: each command, its JSON, its exit codes."""

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from coordinator.domain.ids import is_uuid7, new_uuid7
from coordinator.store.models import CompetitionRow
from coordinator.v1 import competition_pb2 as pb
from coordinator_client.nostr import NostrKey
from coordinator_gateway.jsoncodec import encode
from support.admin_cli import AdminCli, key_file
from support.api import ADMIN, Api, running_api
from support.proxy import Proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

TERMS = (
    *("--name", "Thursday", "--entry-fee", "5_000", "--coordinator-fee", "10", "--entries", "5"),
    *("--min-entries", "3", "--places", "2", "--values", "3", "--station", "KORD", "--station", "KDEN"),
    *("--metric", "temp_high", "--metric", "wind_speed"),
)
TIMES = ("--starts-in", "2h", "--window", "1d", "--signs-after", "30m")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api"), heartbeat_seconds=0.5) as running:
        yield running


@pytest.fixture
def admin(api: Api, tmp_path: Path) -> AdminCli:
    return AdminCli(tmp_path, api.port)


@pytest.fixture
def stranger(api: Api, tmp_path: Path) -> AdminCli:
    return AdminCli(tmp_path, api.port, key=None)


async def new_competition(admin: AdminCli, *words: str) -> str:
    created = await admin("create", "--json", *TERMS, *TIMES, *words)
    assert created.code == 0, created.err
    return str(created.document["id"])


async def stored(api: Api, competition_id: str) -> pb.Competition:
    answer = await api.call(
        "CompetitionService/GetCompetition", pb.GetCompetitionRequest(competition_id=competition_id)
    )
    competition: pb.Competition = answer.competition
    return competition


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- create


async def test_create_sets_every_term(api: Api, admin: AdminCli) -> None:
    before = int(time.time())
    own_id = new_uuid7()
    more = ("--pool", "30_000", "--delta", "20", "--fee-rate", "7", "--id", own_id)
    ended = await admin("create", "--json", *TERMS, *TIMES, *more)
    assert ended.code == 0
    assert ended.err == ""
    terms = (await stored(api, own_id)).terms
    assert (terms.name, terms.entry_fee_sats, terms.coordinator_fee_percent) == ("Thursday", 5000, 10)
    assert (terms.total_allowed_entries, terms.min_entries, terms.number_of_places_win) == (5, 3, 2)
    assert (list(terms.locations), terms.number_of_values_per_entry) == (["KORD", "KDEN"], 3)
    assert list(terms.scoring_fields) == ["temp_high", "wind_speed"]
    assert (terms.total_competition_pool_sats, terms.relative_locktime_blocks) == (30_000, 20)
    assert terms.fee_rate_sats_per_vb == 7
    start = terms.start_observation_at.seconds
    assert before + 7200 <= start <= time.time() + 7200
    assert terms.end_observation_at.seconds == start + 86_400
    assert terms.signing_at.seconds == start + 86_400 + 1800
    # The document is what the gateway would answer, field by field.
    assert ended.document == encode(await stored(api, own_id))


async def test_create_from_a_file_with_options_before_it(api: Api, admin: AdminCli, tmp_path: Path) -> None:
    template = json.loads((await admin("show", "--json", await new_competition(admin))).out)["terms"]
    file = tmp_path / "terms.json"
    file.write_text(json.dumps(template | {"name": "from the file"}))
    ended = await admin("create", "--json", "--file", str(file))
    assert ended.code == 0
    assert ended.document["terms"] == template | {"name": "from the file"}
    assert is_uuid7(ended.document["id"])
    # An option goes before the file, and relative times count from the file's.
    changed = await admin(
        "create", "--json", "--file", "-", "--name", "new", "--window", "2h", stdin=file.read_text()
    )
    assert changed.document["terms"]["name"] == "new"
    got = changed.document["terms"]
    assert moment(got["end_observation_at"]) - moment(got["start_observation_at"]) == 7200
    assert got["signing_at"] == template["signing_at"]
    # The body that REST takes; the same id with the same terms is the same competition.
    body = {"id": ended.document["id"], "terms": template | {"name": "from the file"}}
    again = await admin("create", "--json", "--file", "-", stdin=json.dumps(body))
    assert again.document == ended.document
    body["terms"]["name"] = "other"
    assert (await admin("create", "--file", "-", stdin=json.dumps(body))).code == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "must hold a JSON object"),
        ('{"name": "a", "name": "b"}', "twice"),
        ('{"naem": "a"}', "terms.naem: is no field"),
        ('{"terms": {}, "ids": "x"}', "ids: is no field"),
        ('{"name": 5}', "terms.name (--name): must be text"),
        ('{"entry_fee_sats": "5000"}', "terms.entry_fee_sats (--entry-fee): must be a whole number"),
        (
            '{"total_allowed_entries": 4294967301}',
            "terms.total_allowed_entries (--entries): 4,294,967,301 is out",
        ),
        (
            '{"start_observation_at": "tomorrow"}',
            "terms.start_observation_at (--starts-in/--starts-at): must be",
        ),
    ],
)
async def test_a_file_that_is_wrong_is_refused_before_anything_is_asked(
    stranger: AdminCli, admin: AdminCli, text: str, told: str
) -> None:
    count = await CompetitionRow.all().count()
    ended = await admin("create", *TIMES[2:], "--file", "-", stdin=text)
    assert ended.code == 5
    assert told in ended.err
    assert ended.out == ""
    assert await CompetitionRow.all().count() == count


async def test_every_wrong_field_is_named_with_its_option(api: Api, admin: AdminCli) -> None:
    count = await CompetitionRow.all().count()
    wrong = ("--entry-fee", "999", "--places", "9")
    ended = await admin("create", *TERMS, *wrong, *TIMES)
    assert ended.code == 5
    assert "terms.entry_fee_sats (--entry-fee): must be 1,000 to 100,000,000, is 999" in ended.err
    assert "terms.number_of_places_win (--places): must be 1 to 5" in ended.err
    as_json = await admin("--json", "create", *TERMS, *wrong, *TIMES)
    assert as_json.code == 5
    assert as_json.out == ""
    assert as_json.error["exit"] == 5
    assert as_json.error["reason"] == "INVALID_INPUT"
    assert [f["field"] for f in as_json.error["fields"]] == [
        "terms.entry_fee_sats (--entry-fee)",
        "terms.number_of_places_win (--places)",
    ]
    missing = await admin("create", "--name", "no times")
    assert missing.code == 5
    assert "terms.signing_at (--signs-after/--signs-at): is missing" in missing.err
    assert await CompetitionRow.all().count() == count


# --- reading


async def test_list_follows_pages_and_filters(api: Api, admin: AdminCli, stranger: AdminCli) -> None:
    ids = [await new_competition(admin) for _ in range(2)]
    await admin("cancel", ids[0], "--reason", "none")
    everything = (await stranger("list", "--json")).document
    assert everything["next_page_token"] == ""
    listed = [c["id"] for c in everything["competitions"]]
    assert listed[:2] == ids[::-1]
    assert len(listed) == await CompetitionRow.all().count()
    first = (await stranger("list", "--json", "--limit", "1")).document
    assert [c["id"] for c in first["competitions"]] == ids[1:]
    assert first["next_page_token"] != ""
    cancelled = (await stranger("list", "--json", "--state", "cancelled")).document["competitions"]
    assert ids[0] in [c["id"] for c in cancelled]
    assert {c["state"] for c in cancelled} == {"cancelled"}
    live = (await stranger("list", "--json", "--live")).document["competitions"]
    assert ids[1] in [c["id"] for c in live]
    assert ids[0] not in [c["id"] for c in live]
    table = await stranger("list", "--limit", "2")
    header, *rows = table.out.splitlines()
    assert header.split() == ["ID", "STATE", "ENTRIES", "FEE", "STARTS", "NAME"]
    assert [row.split()[:4] for row in rows] == [
        [ids[1], "created", "0/5", "5,000"],
        [ids[0], "cancelled", "0/5", "5,000"],
    ]
    assert header.index("FEE") + 3 == rows[0].index("5,000") + 5  # to the right
    assert "\x1b" not in table.out
    assert "more than 2" in table.err


async def test_show_and_inspect(api: Api, admin: AdminCli, stranger: AdminCli) -> None:
    competition_id = await new_competition(admin)
    shown = await stranger("show", competition_id)
    assert shown.code == 0
    facts = dict(line.split("  ", 1) for line in shown.out.splitlines() if line[:1].strip())
    assert facts["id"].strip() == competition_id
    assert facts["entry fee"].strip() == "5,000 sats, 10 % for the coordinator"
    assert facts["predictions"].strip() == "3 of temp_high, wind_speed at KORD, KDEN"
    assert "UTC (in 1h 59m)" in facts["starts"]
    inspected = (await admin("inspect", competition_id, "--json")).document
    assert inspected["competition"]["id"] == competition_id
    assert [change["state"] for change in inspected["history"]] == ["created"]
    assert json.loads(inspected["state_json"])
    text = (await admin("inspect", competition_id, "--stored")).out
    assert "History" in text
    assert "last error" in text
    assert '"' in text.partition("Stored state")[2]
    assert (await stranger("inspect", competition_id)).code == 3


async def test_text_of_any_script(admin: AdminCli, stranger: AdminCli) -> None:
    competition_id = await new_competition(admin)
    await admin("cancel", competition_id, "--reason", "日本 für alle")
    assert "日本 für alle" in (await stranger("show", competition_id)).out
    assert (await stranger("show", competition_id, "--json")).document["failure_reason"].startswith("日本")


async def test_whoami(api: Api, admin: AdminCli, stranger: AdminCli, tmp_path: Path) -> None:
    known = (await admin("whoami", "--json")).document
    assert known["user"]["npub"] == ADMIN.npub
    assert known["user"]["is_admin"] is True
    assert known["coordinator"]["network"] == "regtest"
    other = NostrKey.generate()
    text = await admin("whoami", "--key-file", str(key_file(tmp_path, other, as_hex=True)))
    assert other.npub in text.out
    assert "admin           no" in text.out
    nobody = (await stranger("whoami", "--json")).document
    assert nobody["user"] is None
    assert ADMIN.nsec not in text.out + text.err


async def test_entries_and_leaderboard_of_an_empty_field(admin: AdminCli, stranger: AdminCli) -> None:
    competition_id = await new_competition(admin)
    assert (await stranger("entries", competition_id, "--json")).document == {
        "entries": [],
        "next_page_token": "",
    }
    assert (await stranger("leaderboard", competition_id, "--json")).document == {"rows": [], "final": False}
    assert (await stranger("entries", competition_id)).out.startswith("INDEX  ENTRY")


# --- orders


async def test_pause_resume_retry_cancel(api: Api, admin: AdminCli) -> None:
    competition_id = await new_competition(admin)
    assert (await admin("pause", competition_id, "--json")).document["paused"] is True
    assert (await stored(api, competition_id)).paused
    assert "paused" in (await admin("list", "--limit", "1")).out
    assert (await admin("resume", competition_id, "--json")).document["paused"] is False
    assert (await admin("retry", competition_id, "--json")).document["id"] == competition_id
    cancelled = (await admin("cancel", competition_id, "--reason", "rain", "--json")).document
    assert cancelled["state"] == "cancelled"
    assert cancelled["failure_reason"].startswith("rain")
    assert (await admin("cancel", competition_id, "--reason", "rain")).code == 0
    for order in ("pause", "resume"):
        refused = await admin(order, competition_id, "--json")
        assert (refused.code, refused.error["reason"]) == (6, "COMPETITION_CLOSED")
    assert not (await stored(api, competition_id)).paused


async def test_approval_and_keymeld(admin: AdminCli, stranger: AdminCli) -> None:
    competition_id = await new_competition(admin)
    found = (await stranger("keymeld", competition_id, "--json")).document
    assert (found["keygen_status"], found["approval_required"]) == ("not_started", False)
    assert "as each player chooses" in (await stranger("show", competition_id)).out
    approved_id = await new_competition(admin, "--require-signing-approval")
    assert (await stranger("keymeld", approved_id, "--json")).document["approval_required"] is True
    assert "of every player" in (await stranger("show", approved_id)).out


async def test_orders_need_an_admins_key(
    api: Api, admin: AdminCli, stranger: AdminCli, tmp_path: Path
) -> None:
    competition_id = await new_competition(admin)
    other = str(key_file(tmp_path, NostrKey.generate()))
    orders = [
        ("create", *TERMS, *TIMES),
        ("cancel", competition_id, "--reason", "x"),
        ("pause", competition_id),
        ("retry", competition_id),
        ("wallet", "balance"),
        ("wallet", "send", "--yes", "bcrt1qqqq", "1000"),
    ]
    for order in orders:
        refused = await admin("--key-file", other, *order)
        assert refused.code == 3, order
        assert "[NOT_ADMIN]" in refused.err
    without = await stranger("--json", *orders[1])
    assert without.code == 3
    assert without.error["reason"] == "NO_KEY"
    wrong_name = await admin("--authority", "elsewhere:1", "wallet", "balance")
    assert wrong_name.code == 3
    assert "[AUTH_WRONG_URL]" in wrong_name.err
    assert (await stored(api, competition_id)).state == pb.COMPETITION_STATE_CREATED


# --- wallet


async def test_wallet(api: Api, admin: AdminCli) -> None:
    balance = (await admin("wallet", "balance", "--json")).document
    assert balance["confirmed_sats"] > 100_000_000
    assert set(balance) == {"confirmed_sats", "unconfirmed_sats", "locked_sats", "lightning_sats"}
    assert f"{balance['confirmed_sats']:,}" in (await admin("wallet", "balance")).out
    address = (await admin("wallet", "address")).out.strip()
    assert address == (await admin("wallet", "--json", "address")).document["address"]
    assert address.startswith("bcrt1p")
    found = (await admin("wallet", "outputs", "--json")).document["outputs"]
    assert sum(o["value_sats"] for o in found) == balance["confirmed_sats"]
    assert f"{found[0]['txid']}:{found[0]['vout']}" in (await admin("wallet", "outputs")).out
    rates = (await admin("wallet", "fees", "--json")).document["sats_per_vb_by_target_blocks"]
    assert all(float(rate) > 0 for rate in rates.values())
    assert (await admin("wallet", "fees")).out.split()[:2] == ["BLOCKS", "SAT/VB"]


async def test_send_needs_a_yes_and_sends_once_per_key(api: Api, admin: AdminCli) -> None:
    recipient = await api.core.wallet.receive_address()
    order = ("wallet", "send", recipient, "1_234_567")
    refused = await admin(*order)
    assert refused.code == 2
    assert "--yes" in refused.err
    code, shown = await admin.on_terminal(*order, answers={"Type yes:": "no\n"})
    assert code == 130
    assert "Send 1,234,567 sats on regtest to " + recipient in shown
    assert "nothing was sent" in shown
    balance = (await admin("wallet", "balance", "--json")).document
    assert balance["unconfirmed_sats"] == 0
    code, shown = await admin.on_terminal(*order, answers={"Type yes:": "\x03"})
    assert code == 130
    assert (await admin("wallet", "balance", "--json")).document == balance
    sent = await admin(*order, "--json", "--yes", "--idempotency-key", "k1", "--fee-rate", "3")
    assert sent.code == 0
    assert sent.document["idempotency_key"] == "k1"
    assert sent.document["fee_sats"] > 0
    assert "idempotency key: k1" in sent.err
    again = await admin(*order, "--json", "--yes", "--idempotency-key", "k1", "--fee-rate", "3")
    assert again.document == sent.document
    other = await admin("wallet", "send", recipient, "1000", "--yes", "--idempotency-key", "k1")
    assert other.code == 6
    code, shown = await admin.on_terminal(*order, answers={"Type yes:": "yes\n"})
    assert code == 0
    assert sent.document["txid"] not in shown
    bad = await admin("wallet", "send", "not-an-address", "1000", "--yes", "--json")
    assert bad.code == 5
    assert [f["field"] for f in bad.error["fields"]] == ["address"]


# --- errors


async def test_exit_codes_of_what_is_not_there(admin: AdminCli) -> None:
    for command in (("show",), ("inspect",), ("watch",), ("entries",), ("leaderboard",), ("retry",)):
        ended = await admin(*command, new_uuid7())
        assert ended.code == 4, (command, ended)
        assert ended.err.startswith("error: ")
    malformed = await admin("show", "abc", "--json")
    assert malformed.code == 5
    assert [f["field"] for f in malformed.error["fields"]] == ["competition_id"]


async def test_a_core_that_is_not_there_or_does_not_answer(admin: AdminCli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        for command in (("list",), ("watch",), ("wallet", "balance")):
            ended = await admin("--address", nobody, "--json", *command)
            assert ended.code == 7, command
            assert ended.error["reason"] == "UNAVAILABLE"
        # Listens and says nothing.
        free.listen()
        silent = await admin("list", "--address", nobody, "--timeout", "0.5")
        assert silent.code == 7
        lost = await admin("create", *TERMS, *TIMES, "--address", nobody, "--timeout", "0.5")
        assert lost.code == 7
        assert "`show 0" in lost.err
        unsure = await admin("wallet", "send", "x", "1", "--yes", "--address", nobody, "--timeout", "0.5")
        assert unsure.code == 7
        assert "repeat with --idempotency-key" in unsure.err


async def test_a_reader_that_has_enough_is_no_error(api: Api, admin: AdminCli) -> None:
    process = await admin.start("list", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert await process.stderr.read() == b""


async def test_colours_only_for_those_who_want_them(admin: AdminCli) -> None:
    competition_id = await new_competition(admin)
    _, shown = await admin.on_terminal("show", competition_id)
    assert "\x1b[36mcreated\x1b[0m" in shown
    _, plain = await admin.on_terminal("show", competition_id, env={"NO_COLOR": "1"})
    assert "\x1b" not in plain
    _, dumb = await admin.on_terminal("show", competition_id, env={"TERM": "dumb"})
    assert "\x1b" not in dumb
    _, document = await admin.on_terminal("show", competition_id, "--json")
    assert json.loads(document)["id"] == competition_id


# --- watch


class Watching:
    """A watch that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, seconds: float = 20) -> Any:
        assert self.process.stdout is not None
        text = await asyncio.wait_for(self.process.stdout.readline(), seconds)
        if not text:
            assert self.process.stderr is not None
            raise AssertionError(f"it ended: {(await self.process.stderr.read()).decode()}")
        return json.loads(text)

    async def end(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 20)


async def test_watch_until_a_state_is_reached(api: Api, admin: AdminCli) -> None:
    competition_id = await new_competition(admin)
    watching = Watching(await admin.start("watch", competition_id, "--json", "--until", "cancelled"))
    snapshot = (await watching.line())["snapshot"]
    assert [c["id"] for c in snapshot["competitions"]] == [competition_id]
    await admin("pause", competition_id)
    event = (await watching.line())["event"]
    assert event["kind"] == "competition.paused"
    assert event["competition_id"] == competition_id
    assert event["sequence"] > snapshot["sequence"]
    await admin("cancel", competition_id, "--reason", "over")
    kinds = []
    while not kinds or kinds[-1][1] != "cancelled":
        event = (await watching.line())["event"]
        kinds.append((event["kind"], event["state"]))
    assert await watching.end() == 0
    # There already, or never to come.
    assert (await admin("watch", competition_id, "--until", "cancelled")).code == 0
    never = await admin("watch", competition_id, "--until", "completed", "--json")
    assert never.code == 6
    assert never.error["reason"] == "STATE_NEVER_COMES"
    assert len(never.lines) == 1
    after = await admin("watch", competition_id, "--until", "cancelled", "--after", str(event["sequence"]))
    assert after.code == 0
    replay = await admin("watch", competition_id, "--until", "cancelled", "--json", "--after", "0")
    replayed = [line["event"] for line in replay.lines]
    assert replayed[0]["kind"] == "competition.created"
    assert {e["competition_id"] for e in replayed} == {competition_id}
    sequences = [e["sequence"] for e in replayed]
    assert sequences == sorted(set(sequences))


async def test_watch_for_people(admin: AdminCli) -> None:
    competition_id = await new_competition(admin)
    await admin("cancel", competition_id, "--reason", "no sun")
    ended = await admin("watch", competition_id, "--until", "cancelled", "--after", "0")
    assert ended.code == 0
    assert "created → cancelled" in ended.out or "competition.cancelled  reason=no sun" in ended.out
    past = ("watch", competition_id, "--until", "cancelled", "--after", "0", "--json")
    only = await admin(*past, "--kind", "competition.created")
    assert [line["event"]["kind"] for line in only.lines] == ["competition.created"]
    wrong = await admin("watch", competition_id, "--kind", "NO KIND")
    assert wrong.code == 5
    assert "kinds[0]" in wrong.err
    assert (await admin("watch", "--until", "completed")).code == 2
    future = await admin("watch", "--after", "999999999", "--json")
    assert future.code == 5
    assert future.error["reason"] == "SEQUENCE_IN_THE_FUTURE"


async def test_watch_shows_on_a_terminal_what_it_waits_for(admin: AdminCli) -> None:
    competition_id = await new_competition(admin)

    async def cancel() -> None:
        await admin("cancel", competition_id, "--reason", "enough")

    code, shown = await admin.on_terminal(
        "watch", competition_id, "--until", "cancelled", answers={"created for": cancel}
    )
    assert code == 0
    assert "; 0 of 5 entries; starts in 1h 59m" in shown
    assert re.search(r"created for \d+s", shown)


async def test_interrupting_a_watch(admin: AdminCli) -> None:
    watching = Watching(await admin.start("watch", "--json"))
    await watching.line()
    watching.process.send_signal(signal.SIGINT)
    assert await watching.end() == 130
    assert watching.process.stderr is not None
    assert await watching.process.stderr.read() == b""


async def test_a_watch_resumes_where_the_connection_was_lost(api: Api, admin: AdminCli) -> None:
    competition_id = await new_competition(admin)
    proxy = Proxy(api.port)
    await proxy.listen()
    admin.environment["COORDINATOR_ADMIN_ADDRESS"] = f"127.0.0.1:{proxy.port}"
    watching = Watching(await admin.start("watch", competition_id, "--json", "--until", "cancelled"))
    admin.environment["COORDINATOR_ADMIN_ADDRESS"] = f"127.0.0.1:{api.port}"
    seen = [(await watching.line())["snapshot"]["sequence"]]
    kinds = []
    for number in range(3):
        await admin("pause" if number % 2 == 0 else "resume", competition_id)
        if number == 1:
            event = (await watching.line())["event"]
            seen.append(event["sequence"])
            kinds.append(event["kind"])
            await proxy.cut()
        elif number == 2:
            await proxy.listen()
    await admin("cancel", competition_id, "--reason", "done")
    while kinds[-1:] != ["competition.cancelled"] and len(kinds) < 20:
        event = (await watching.line())["event"]
        seen.append(event["sequence"])
        kinds.append(event["kind"])
        if event["state"] == "cancelled":
            break
    assert await watching.end() == 0
    assert kinds[:3] == ["competition.paused", "competition.resumed", "competition.paused"]
    assert seen == sorted(set(seen))
    assert watching.process.stderr is not None
    told = (await watching.process.stderr.read()).decode()
    assert "connection lost" in told
    assert "connected again" in told
    await proxy.cut()


async def test_a_watch_gives_up_when_told_to(api: Api, admin: AdminCli) -> None:
    proxy = Proxy(api.port)
    await proxy.listen()
    admin.environment["COORDINATOR_ADMIN_ADDRESS"] = f"127.0.0.1:{proxy.port}"
    watching = Watching(await admin.start("watch", "--json", "--give-up-after", "1s"))
    await watching.line()
    await proxy.cut()
    assert await watching.end() == 7


async def test_all_pages_of_a_long_list(api: Api, admin: AdminCli, stranger: AdminCli) -> None:
    count = await CompetitionRow.all().count()
    template = await CompetitionRow.all().order_by("-created_at").first()
    assert template is not None
    request = pb.CreateCompetitionRequest(terms=(await stored(api, template.id)).terms)
    for number in range(201 - count):
        request.terms.name = f"number {number}"
        created = await api.call("CompetitionService/CreateCompetition", request, ADMIN)
        # What is over is not driven any more, and costs the other tests nothing.
        order = pb.CancelCompetitionRequest(competition_id=created.competition.id, reason="enough")
        await api.call("CompetitionService/CancelCompetition", order, ADMIN)
    listed = (await stranger("list", "--json")).document
    ids = [c["id"] for c in listed["competitions"]]
    assert len(ids) == len(set(ids)) == await CompetitionRow.all().count() > 200
    assert listed["next_page_token"] == ""
