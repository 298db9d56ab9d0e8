"""Competitions over the API: what is refused changes nothing, what is repeated happens once."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.domain.ids import is_uuid7, new_uuid7
from coordinator.store.models import CompetitionRow, EventRow, IdempotencyRow
from coordinator.v1 import competition_pb2 as pb
from coordinator.v1 import event_pb2
from coordinator_client.nostr import NostrKey
from support.api import ADMIN, Api, ApiError, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATE = "CompetitionService/CreateCompetition"
GET = "CompetitionService/GetCompetition"
LIST = "CompetitionService/ListCompetitions"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


def terms(**changes: Any) -> pb.CompetitionTerms:
    now = int(time.time())
    values: dict[str, Any] = {
        "name": "Thursday",
        "entry_fee_sats": 5000,
        "coordinator_fee_percent": 10,
        "total_allowed_entries": 5,
        "min_entries": 3,
        "number_of_places_win": 2,
        "number_of_values_per_entry": 3,
        "locations": ["KORD", "KDEN"],
        "scoring_fields": ["temp_high", "wind_speed"],
        "start_observation_at": now + 3600,
        "end_observation_at": now + 7200,
        "signing_at": now + 9000,
    }
    message = pb.CompetitionTerms()
    for name, value in (values | changes).items():
        if value is None:
            continue
        if name.endswith("_at"):
            getattr(message, name).seconds = value
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


async def create(api: Api, competition_id: str = "", metadata: Any = (), **changes: Any) -> pb.Competition:
    request = pb.CreateCompetitionRequest(id=competition_id, terms=terms(**changes))
    return (await api.call(CREATE, request, ADMIN, metadata)).competition


async def everything(api: Api) -> tuple[int, int, int]:
    return (
        await CompetitionRow.all().count(),
        await EventRow.all().count(),
        await IdempotencyRow.all().count(),
    )


async def test_a_competition_is_created_with_the_defaults_that_the_api_promises(api: Api) -> None:
    asked = terms(min_entries=None)
    created = (await api.call(CREATE, pb.CreateCompetitionRequest(terms=asked), ADMIN)).competition
    assert is_uuid7(created.id)
    assert created.state == pb.COMPETITION_STATE_CREATED
    assert created.terms.min_entries == 5
    assert created.terms.relative_locktime_blocks == 144
    assert created.terms.fee_rate_sats_per_vb == 2
    assert created.terms.start_observation_at == asked.start_observation_at
    assert created.created_at.seconds == created.state_changed_at.seconds
    assert len(created.market_maker_pubkey) == 66
    assert all(is_uuid7(session) for session in created.keygen_session_ids)
    got = await api.call(GET, pb.GetCompetitionRequest(competition_id=created.id))
    assert got.competition == created


DAY = 86_400


def soon(seconds: int) -> Callable[[], int]:
    return lambda: int(time.time()) + seconds


BAD: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", " \t "),
    ("name", "x" * 101),
    ("name", "a\nb"),
    ("name", "a\x00b"),
    ("entry_fee_sats", None),
    ("entry_fee_sats", -1),
    ("entry_fee_sats", 999),
    ("entry_fee_sats", 100_000_001),
    ("entry_fee_sats", 2**63 - 1),
    ("entry_fee_sats", -(2**63)),
    ("coordinator_fee_percent", -1),
    ("coordinator_fee_percent", 51),
    ("coordinator_fee_percent", 2**31 - 1),
    ("total_competition_pool_sats", -1),
    ("total_competition_pool_sats", 22_499),
    ("total_competition_pool_sats", 2**63 - 1),
    ("total_allowed_entries", None),
    ("total_allowed_entries", 1),
    ("total_allowed_entries", -5),
    ("total_allowed_entries", 101),
    ("total_allowed_entries", 2**31 - 1),
    ("min_entries", -1),
    ("min_entries", 1),
    ("min_entries", 6),
    ("number_of_places_win", None),
    ("number_of_places_win", 0),
    ("number_of_places_win", -1),
    ("number_of_places_win", 3),
    ("number_of_places_win", 6),
    ("number_of_values_per_entry", None),
    ("number_of_values_per_entry", -1),
    ("number_of_values_per_entry", 5),
    ("locations", []),
    ("locations", ["KORD", "KORD"]),
    ("locations", ["", "KDEN"]),
    ("locations", ["K" * 65, "KDEN"]),
    ("locations", ["K\nD", "KDEN"]),
    ("scoring_fields", []),
    ("scoring_fields", ["temp_high", "luck"]),
    ("scoring_fields", ["temp_high", "temp_high"]),
    ("start_observation_at", None),
    ("start_observation_at", 0),
    ("start_observation_at", soon(-5)),
    ("start_observation_at", -(2**40)),
    ("start_observation_at", 2**62),
    ("end_observation_at", None),
    ("end_observation_at", soon(3600)),
    ("end_observation_at", soon(10)),
    ("signing_at", None),
    ("signing_at", soon(7000)),
    ("signing_at", 2**62),
    ("signing_at", 2**33),
    ("relative_locktime_blocks", -1),
    ("relative_locktime_blocks", 32_768),
    ("fee_rate_sats_per_vb", -1),
    ("fee_rate_sats_per_vb", 1001),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda v: v if isinstance(v, str) else "")
async def test_a_wrong_field_is_named_and_nothing_is_stored(api: Api, field: str, value: Any) -> None:
    before = await everything(api)
    value = value() if callable(value) else value
    with pytest.raises(ApiError) as error:
        await create(api, metadata=[("idempotency-key", new_uuid7())], **{field: value})
    assert error.value.code == "INVALID_ARGUMENT"
    assert any(name.startswith(f"terms.{field}") for name in error.value.fields), error.value.fields
    assert all(error.value.fields.values())
    assert await everything(api) == before


async def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    with pytest.raises(ApiError) as error:
        await create(api, name="", entry_fee_sats=1, signing_at=int(time.time()), locations=[])
    named = {"terms.name", "terms.entry_fee_sats", "terms.signing_at", "terms.locations"}
    assert error.value.fields.keys() >= named


async def test_no_terms_at_all(api: Api) -> None:
    before = await everything(api)
    with pytest.raises(ApiError) as error:
        await api.call(CREATE, None, ADMIN)
    assert error.value.code == "INVALID_ARGUMENT"
    assert "terms.start_observation_at" in error.value.fields
    assert await everything(api) == before


@pytest.mark.parametrize(
    "competition_id",
    [
        "1",
        "not a uuid",
        "0b5c7d2e-6b8f-4c65-9d3a-111111111111",
        "00000000-0000-0000-0000-000000000000",
        new_uuid7().upper(),
        "{" + new_uuid7() + "}",
        new_uuid7().replace("-", ""),
        new_uuid7() + "0",
    ],
)
async def test_ids_are_uuid7(api: Api, competition_id: str) -> None:
    before = await everything(api)
    with pytest.raises(ApiError) as error:
        await create(api, competition_id)
    assert (error.value.code, list(error.value.fields)) == ("INVALID_ARGUMENT", ["id"])
    for method, request in (
        (GET, pb.GetCompetitionRequest(competition_id=competition_id)),
        ("CompetitionService/GetContract", pb.GetContractRequest(competition_id=competition_id)),
        ("CompetitionService/GetLeaderboard", pb.GetLeaderboardRequest(competition_id=competition_id)),
        ("CompetitionService/PauseCompetition", pb.PauseCompetitionRequest(competition_id=competition_id)),
        ("CompetitionService/CancelCompetition", pb.CancelCompetitionRequest(competition_id=competition_id)),
    ):
        with pytest.raises(ApiError) as error:
            await api.call(method, request, ADMIN)
        assert (error.value.code, list(error.value.fields)) == ("INVALID_ARGUMENT", ["competition_id"])
    assert await everything(api) == before


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    for method, kind in (
        (GET, pb.GetCompetitionRequest),
        ("CompetitionService/GetContract", pb.GetContractRequest),
        ("CompetitionService/GetLeaderboard", pb.GetLeaderboardRequest),
        ("CompetitionService/InspectCompetition", pb.InspectCompetitionRequest),
        ("CompetitionService/RetryCompetition", pb.RetryCompetitionRequest),
    ):
        with pytest.raises(ApiError) as error:
            await api.call(method, kind(competition_id=new_uuid7()), ADMIN)
        assert (error.value.code, error.value.reason) == ("NOT_FOUND", "COMPETITION_NOT_FOUND")


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(raw=st.binary(max_size=200))
async def test_no_request_bytes_bring_the_server_down(api: Api, raw: bytes) -> None:
    """Whatever comes, the answer is an error of the caller's and nothing is stored."""
    before = await everything(api)
    with pytest.raises(ApiError) as error:
        await api.client.call(CREATE, None, ADMIN, body=raw)
    assert error.value.code in ("INVALID_ARGUMENT", "UNAUTHENTICATED")
    assert await everything(api) == before


async def test_the_same_id_with_the_same_terms_is_the_same_competition(api: Api) -> None:
    competition_id, asked = new_uuid7(), terms()
    request = pb.CreateCompetitionRequest(id=competition_id, terms=asked)
    first = await api.call(CREATE, request, ADMIN)
    before = await everything(api)
    assert await api.call(CREATE, request, ADMIN) == first
    request.terms.entry_fee_sats += 1
    with pytest.raises(ApiError) as error:
        await api.call(CREATE, request, ADMIN)
    assert (error.value.code, error.value.reason) == ("ALREADY_EXISTS", "COMPETITION_ID_TAKEN")
    assert await everything(api) == before


async def test_an_idempotency_key_makes_one_competition(api: Api) -> None:
    key = [("idempotency-key", "Thursday, once")]
    request = pb.CreateCompetitionRequest(terms=terms())
    before = await CompetitionRow.all().count()
    answers = await asyncio.gather(*(api.call(CREATE, request, ADMIN, key) for _ in range(5)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert await CompetitionRow.all().count() == before + 1
    request.terms.name = "Friday"
    with pytest.raises(ApiError) as error:
        await api.call(CREATE, request, ADMIN, key)
    assert (error.value.code, error.value.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    assert await CompetitionRow.all().count() == before + 1
    # Without the key it is another competition.
    await api.call(CREATE, request, ADMIN)
    assert await CompetitionRow.all().count() == before + 2


async def test_a_refused_request_does_not_use_up_its_key(api: Api) -> None:
    key = [("idempotency-key", new_uuid7())]
    with pytest.raises(ApiError):
        await create(api, metadata=key, entry_fee_sats=1)
    assert (await create(api, metadata=key)).id


@pytest.mark.parametrize("key", ["", "x" * 129])
async def test_a_malformed_idempotency_key_is_named(api: Api, key: str) -> None:
    before = await everything(api)
    with pytest.raises(ApiError) as error:
        await create(api, metadata=[("idempotency-key", key)])
    assert list(error.value.fields) == ["idempotency-key"]
    assert await everything(api) == before


async def test_what_was_interrupted_is_carried_out_under_the_same_id(api: Api) -> None:
    """As after a crash: the key is recorded, the competition too, the answer is not."""
    key, request = [("idempotency-key", "interrupted")], pb.CreateCompetitionRequest(terms=terms())
    first = (await api.call(CREATE, request, ADMIN, key)).competition
    (row,) = [row for row in await IdempotencyRow.all() if first.id.encode() in bytes(row.response)]
    row.response = b""
    await row.save(update_fields=["response"])
    before = await CompetitionRow.all().count()
    assert (await api.call(CREATE, request, ADMIN, key)).competition.id == first.id
    assert await CompetitionRow.all().count() == before


async def test_pages_show_every_competition_once_newest_first(api: Api) -> None:
    for _ in range(5):
        await create(api)
    everything_listed = [c.id for c in (await api.call(LIST, pb.ListCompetitionsRequest())).competitions]
    total = await CompetitionRow.all().count()
    assert len(everything_listed) == total
    rows = await CompetitionRow.all()
    assert everything_listed == [row.id for row in sorted(rows, key=lambda r: (-r.created_at, _down(r.id)))]
    paged: list[str] = []
    token = ""
    while True:
        page = await api.call(LIST, pb.ListCompetitionsRequest(page_size=3, page_token=token))
        paged += [c.id for c in page.competitions]
        if not page.next_page_token:
            break
        assert len(page.competitions) == 3
        token = page.next_page_token
        await create(api)  # what is new meanwhile comes before the first page and shifts nothing
    assert paged == everything_listed


def _down(text: str) -> list[int]:
    return [-ord(character) for character in text]


async def test_the_last_full_page_has_no_next(api: Api) -> None:
    total = await CompetitionRow.all().count()
    page = await api.call(LIST, pb.ListCompetitionsRequest(page_size=min(total, 200)))
    assert page.next_page_token == ""


async def test_lists_by_state(api: Api) -> None:
    made = await create(api)
    await api.call(
        "CompetitionService/CancelCompetition", pb.CancelCompetitionRequest(competition_id=made.id), ADMIN
    )
    cancelled = await api.call(LIST, pb.ListCompetitionsRequest(states=[pb.COMPETITION_STATE_CANCELLED]))
    assert made.id in [c.id for c in cancelled.competitions]
    assert {c.state for c in cancelled.competitions} == {pb.COMPETITION_STATE_CANCELLED}
    with pytest.raises(ApiError) as error:
        await api.call(LIST, pb.ListCompetitionsRequest(states=[pb.COMPETITION_STATE_CREATED, 0, 99]))
    assert list(error.value.fields) == ["states[1]", "states[2]"]
    first = await api.call(LIST, pb.ListCompetitionsRequest(page_size=1))
    other = pb.ListCompetitionsRequest(
        page_token=first.next_page_token, states=[pb.COMPETITION_STATE_CANCELLED]
    )
    with pytest.raises(ApiError) as error:
        await api.call(LIST, other)
    assert list(error.value.fields) == ["page_token"]


async def test_a_list_says_from_where_to_watch(api: Api) -> None:
    listed = await api.call(LIST, pb.ListCompetitionsRequest())
    made = await create(api)
    stream = api.client.watch(event_pb2.WatchRequest(after_sequence=listed.sequence))
    seen = await stream.read()
    stream.cancel()
    assert (seen.event.kind, seen.event.competition_id) == ("competition.created", made.id)
    assert seen.event.sequence == made.sequence == listed.sequence + 1


async def test_cancelling_is_repeatable_and_says_why(api: Api) -> None:
    made = await create(api)
    request = pb.CancelCompetitionRequest(competition_id=made.id, reason="no weather")
    first = (await api.call("CompetitionService/CancelCompetition", request, ADMIN)).competition
    assert first.state == pb.COMPETITION_STATE_CANCELLED
    assert first.failure_reason.startswith("no weather")
    request.reason = "another"
    again = (await api.call("CompetitionService/CancelCompetition", request, ADMIN)).competition
    assert again.failure_reason.startswith("no weather")
    long = pb.CancelCompetitionRequest(competition_id=(await create(api)).id, reason="x" * 501)
    with pytest.raises(ApiError) as error:
        await api.call("CompetitionService/CancelCompetition", long, ADMIN)
    assert list(error.value.fields) == ["reason"]


async def test_pausing_and_going_on(api: Api) -> None:
    made = await create(api)
    for paused in (True, True, False):
        request = pb.PauseCompetitionRequest(competition_id=made.id, paused=paused)
        answer = (await api.call("CompetitionService/PauseCompetition", request, ADMIN)).competition
        assert answer.paused == paused
    kinds = [row.kind for row in await EventRow.filter(competition_id=made.id).order_by("sequence")]
    assert kinds == ["competition.created", "competition.paused", "competition.resumed"]


async def test_what_takes_no_entries_is_neither_paused_nor_resumed(api: Api) -> None:
    made = await create(api)
    order = pb.CancelCompetitionRequest(competition_id=made.id, reason="no weather")
    await api.call("CompetitionService/CancelCompetition", order, ADMIN)
    for paused in (True, False):
        request = pb.PauseCompetitionRequest(competition_id=made.id, paused=paused)
        with pytest.raises(ApiError) as error:
            await api.call("CompetitionService/PauseCompetition", request, ADMIN)
        assert (error.value.code, error.value.reason) == ("FAILED_PRECONDITION", "COMPETITION_CLOSED")
    kinds = [row.kind for row in await EventRow.filter(competition_id=made.id)]
    assert not {"competition.paused", "competition.resumed"} & set(kinds)


async def test_inspecting_shows_state_and_history_and_no_secret(api: Api) -> None:
    made = await create(api)
    request = pb.InspectCompetitionRequest(competition_id=made.id)
    seen = await api.call("CompetitionService/InspectCompetition", request, ADMIN)
    assert seen.competition.id == made.id
    assert json.loads(seen.state_json)["facts"]["competition_id"] == made.id
    assert [change.state for change in seen.history] == [pb.COMPETITION_STATE_CREATED]
    keys = api.core.keys(made.id)
    for secret in (keys.market_maker_secret, keys.keymeld_seed, api.core.master):
        assert secret.hex() not in str(seen)
    await api.call(
        "CompetitionService/RetryCompetition", pb.RetryCompetitionRequest(competition_id=made.id), ADMIN
    )


async def test_there_is_no_contract_before_there_are_players(api: Api) -> None:
    made = await create(api)
    with pytest.raises(ApiError) as error:
        await api.call("CompetitionService/GetContract", pb.GetContractRequest(competition_id=made.id))
    assert (error.value.code, error.value.reason) == ("FAILED_PRECONDITION", "NO_CONTRACT")
    board = await api.call(
        "CompetitionService/GetLeaderboard", pb.GetLeaderboardRequest(competition_id=made.id)
    )
    assert (len(board.rows), board.final) == (0, False)


async def test_the_coordinator_introduces_itself(api: Api) -> None:
    facts = await api.call("CompetitionService/GetCoordinator")
    assert NostrKey(api.core.nostr_key.secret_bytes).npub == facts.nostr_npub
    assert facts.network == "regtest"
    assert facts.lightning_pubkey == (await api.core.lightning.info()).pubkey
    assert abs(facts.server_time.seconds - time.time()) < 5
    assert facts.version
    assert (facts.keymeld_url, facts.oracle_url) == (
        api.core.settings.keymeld_public_url,
        api.core.settings.oracle_public_url,
    )
