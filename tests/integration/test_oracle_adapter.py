"""The coordinator's adapter against devnet's oracle and ones that misbehave, over real sockets."""

import asyncio
import base64
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coordinator.adapters.weather_oracle import WeatherOracle
from coordinator.contract import rankings
from coordinator.contract.attestation import attestation_secret, locking_points, outcome_message
from coordinator.contract.secp import mul_base
from coordinator.domain.announcement import attested_outcome, check_same_attestation, verify_announcement
from coordinator.domain.scoring import entry_points, winning_ranking
from coordinator.ports.oracle import (
    AnnouncementMismatch,
    Comparison,
    CreateEvent,
    EarliestEntry,
    Equivocation,
    EventNotFound,
    HighestScore,
    MetricConfig,
    ObservationChoice,
    Oracle,
    OracleRefused,
    OracleUnavailable,
    Reading,
    ScoringConfig,
)
from coordinator_client.nostr import NostrKey
from coordinator_devnet.oracle import create_app
from support.chain import serving
from support.oracle import (
    COORDINATOR,
    MovableClock,
    OracleService,
    entries_for,
    event_request,
    running_oracle,
    uuid7,
)

T0 = 1_790_000_000


async def test_an_event_lives_from_announcement_to_attestation(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        port: Oracle = oracle.adapter
        pubkey = await port.pubkey()
        assert pubkey == oracle.service.public_key[1:]

        wanted = event_request(T0, entries=4, places=2, stations=("KORD", "KSEA", "PANC"))
        event = await port.create_event(wanted)
        verify_announcement(event, pubkey, 4, 2)
        assert (event.status, event.attestation, event.entries) == ("live", None, ())
        assert event.expiry == wanted.signing_at + 86_400
        assert not event.publishes_secret_nonce
        assert port.warnings == ()

        entries = entries_for(wanted)
        await port.submit_entries(event.id, entries)
        event = await port.get_event(event.id)
        assert [(entry.id, set(entry.observations), entry.score) for entry in event.entries] == [
            (entry.id, set(entry.observations), None) for entry in entries
        ]

        clock.now = wanted.observation_window.start_at
        assert (await port.get_event(event.id)).status == "running"
        clock.now = wanted.observation_window.end_at
        event = await port.get_event(event.id)
        assert event.status == "completed"
        assert await oracle.service.attest_due() == 0
        points = {
            entry.id: entry_points(entry.observations, event.readings, wanted.metrics, wanted.scoring)
            for entry in entries
        }
        assert len(set(points.values())) > 1
        assert {entry.id: entry.score is not None for entry in event.entries} == dict.fromkeys(points, True)

        clock.now = wanted.signing_at
        assert await oracle.service.attest_due() == 1
        event = await port.get_event(event.id)
        assert event.status == "signed"
        assert event.attestation is not None
        outcome = attested_outcome(event.attestation, event.locking_points)
        assert rankings.ranking_at(4, 2, outcome) == winning_ranking(points, 2, EarliestEntry())


async def test_if_nobody_scores_the_oracle_attests_to_the_refund(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0, stations=("KORD",), metrics=("temp_high",))
        window = wanted.observation_window
        (reading,) = (
            reading
            for reading in oracle.service.source.readings(["KORD"], window, window.end_at)
            if reading.metric == "temp_high"
        )
        assert reading.observed is not None
        assert reading.reference is not None
        wrong = Comparison.UNDER if reading.observed >= reading.reference else Comparison.OVER
        entries = [
            dataclasses.replace(entry, observations=(ObservationChoice("KORD", "temp_high", wrong),))
            for entry in entries_for(wanted)
        ]
        event = await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(event.id, entries)
        clock.now = wanted.signing_at
        await oracle.service.attest_due()
        event = await oracle.adapter.get_event(event.id)
        assert event.attestation is not None
        assert attested_outcome(event.attestation, event.locking_points) == rankings.count(3, 1) - 1


async def test_creating_again_returns_the_same_event(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        wanted = event_request(T0)
        first = await oracle.adapter.create_event(wanted)
        assert await oracle.adapter.create_event(wanted) == first
        at_once = await asyncio.gather(
            *(oracle.adapter.create_event(event_request(T0, number=2)) for _ in range(5))
        )
        assert all(event == at_once[0] for event in at_once)
        assert len(await oracle.service.list_events()) == 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"signing_at": T0 + 10**6}, "signing_date"),
        ({"number_of_places_win": 2}, "number_of_places_win"),
        ({"total_allowed_entries": 4}, "total_allowed_entries"),
        ({"number_of_values_per_entry": 1}, "number_of_values_per_entry"),
        (
            {
                "data_sources": event_request(T0, stations=("KORD",)).data_sources,
                "number_of_values_per_entry": 2,
            },
            "locations",
        ),
        ({"metrics": event_request(T0, metrics=("temp_low", "humidity")).metrics}, "scoring_fields"),
    ],
)
async def test_an_id_that_another_event_has_is_refused(tmp_path: Path, change: dict[str, Any], name: str):
    async with running_oracle(tmp_path) as oracle:
        wanted = event_request(T0)
        first = await oracle.adapter.create_event(wanted)
        with pytest.raises(OracleRefused, match=name):
            await oracle.adapter.create_event(dataclasses.replace(wanted, **change))
        assert await oracle.adapter.get_event(wanted.id) == first


async def test_another_coordinators_event_is_not_ours(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        other = WeatherOracle(oracle.base_url, NostrKey(b"\x33" * 32))
        with pytest.raises(OracleRefused, match="coordinator_pubkey"):
            await other.create_event(wanted)
        with pytest.raises(OracleRefused, match="another coordinator"):
            await other.submit_entries(wanted.id, entries_for(wanted))
        await other.aclose()
        assert (await oracle.adapter.get_event(wanted.id)).entries == ()


async def test_submitting_entries_again_changes_nothing(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        entries = entries_for(wanted)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries)
        stored = await oracle.adapter.get_event(wanted.id)
        await oracle.adapter.submit_entries(wanted.id, entries[::-1])
        with pytest.raises(OracleRefused, match="other entries"):
            await oracle.adapter.submit_entries(wanted.id, entries_for(wanted)[:2])
        changed = [dataclasses.replace(entries[0], observations=entries[1].observations), *entries[1:]]
        with pytest.raises(OracleRefused, match="other entries"):
            await oracle.adapter.submit_entries(wanted.id, changed)
        clock.now = wanted.signing_at
        await oracle.adapter.submit_entries(wanted.id, entries)
        clock.now = T0
        assert await oracle.adapter.get_event(wanted.id) == stored


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"scoring": ScoringConfig(exact_match_points=3)}, "scores by"),
        ({"scoring": ScoringConfig(tiebreaker=HighestScore())}, "scores by"),
        ({"metrics": (MetricConfig("closing_price"),)}, "closing_price"),
        ({"metrics": (MetricConfig("temp_high", comparison_tolerance=1),)}, "temp_high"),
        ({"number_of_places_win": 3}, "places"),
        ({"total_allowed_entries": 101}, "total_allowed_entries"),
        ({"signing_at": T0}, "signing date"),
        ({"id": "not-a-uuid"}, "UUIDv7"),
    ],
)
async def test_an_event_the_oracle_cannot_score_is_refused(tmp_path: Path, change: dict[str, Any], why: str):
    async with running_oracle(tmp_path) as oracle:
        with pytest.raises(OracleRefused, match=why):
            await oracle.adapter.create_event(dataclasses.replace(event_request(T0), **change))
        assert await oracle.service.list_events() == []


async def test_entries_are_checked(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        entries = entries_for(wanted)
        await oracle.adapter.create_event(wanted)

        def with_first(*observations: ObservationChoice, entry_id: str = entries[0].id):
            return [dataclasses.replace(entries[0], id=entry_id, observations=observations), *entries[1:]]

        over = Comparison.OVER
        good = ObservationChoice("KORD", "temp_high", over)
        for bad, why in (
            (entries[:-1], "exactly 3"),
            ([*entries, dataclasses.replace(entries[0], id=uuid7(77))], "exactly 3"),
            ([entries[0], entries[0], entries[1]], "twice"),
            (with_first(), "1 to 4 predictions"),
            (with_first(good, good), "twice"),
            (with_first(ObservationChoice("KSEA", "temp_high", over)), "not part"),
            (with_first(ObservationChoice("KORD", "rain_amt", over)), "not part"),
            (with_first(ObservationChoice("KORD", "price", over)), "price"),
            (with_first(good, entry_id="x"), "UUIDv7"),
        ):
            with pytest.raises(OracleRefused, match=why):
                await oracle.adapter.submit_entries(wanted.id, bad)
        clock.now = wanted.observation_window.end_at
        with pytest.raises(OracleRefused, match="window"):
            await oracle.adapter.submit_entries(wanted.id, entries)
        assert (await oracle.adapter.get_event(wanted.id)).entries == ()
        with pytest.raises(EventNotFound):
            await oracle.adapter.submit_entries(uuid7(9), entries)


async def test_stations_forecasts_and_observations(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        stations = await oracle.adapter.stations()
        assert len(stations) == 8
        assert ("KORD", 41.98) in {(station.id, station.latitude) for station in stations}
        wanted = event_request(T0, start_in=0, length=3 * 86_400)
        window = wanted.observation_window
        await oracle.adapter.create_event(wanted)
        ids = ["KORD", "KDEN"]
        assert await oracle.adapter.observations(ids, window.start_at, window.end_at) == ()
        clock.now = window.start_at + 100_000
        event = await oracle.adapter.get_event(wanted.id)
        forecasts = await oracle.adapter.forecasts(ids, window.start_at, window.end_at)
        observed = await oracle.adapter.observations(ids, window.start_at, window.end_at)
        assert len(forecasts) == len(observed) == 14
        values = {(m.source_id, m.metric): m.value for m in observed}
        assert set(event.readings) == {
            Reading(m.source_id, m.metric, m.value, values[m.source_id, m.metric]) for m in forecasts
        }
        assert {(m.start_at, m.end_at) for m in forecasts} == {(window.start_at, window.end_at)}
        assert await oracle.adapter.forecasts([]) == ()
        assert await oracle.adapter.forecasts(["NOWHERE"]) == ()
        assert {m.metric for m in await oracle.adapter.forecasts(["KMIA"])} == {m.metric for m in forecasts}
        with pytest.raises(OracleRefused, match="after start"):
            await oracle.adapter.observations(ids, T0, T0)


async def test_an_unknown_event_is_not_found(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        with pytest.raises(EventNotFound):
            await oracle.adapter.get_event(uuid7(5))
        with pytest.raises(OracleRefused):
            await oracle.adapter.get_event("../pubkey")


async def test_a_write_whose_answer_was_lost_is_found_again(tmp_path: Path):
    service = OracleService(tmp_path, seed=b"\x11" * 32)
    inner, lose = create_app(service), [True]

    async def losing(scope, receive, send):
        """Lets every POST happen, and loses its answer while told to."""
        if scope["method"] != "POST" or not lose[0]:
            await inner(scope, receive, send)
            return

        async def swallow(message):
            pass

        await inner(scope, receive, swallow)
        await Response(status_code=502)(scope, receive, send)

    async with serving(losing) as base_url:
        adapter = WeatherOracle(base_url, COORDINATOR)
        wanted = event_request(service.now())
        entries = entries_for(wanted)
        with pytest.raises(OracleUnavailable, match="502"):
            await adapter.create_event(wanted)
        event = await adapter.create_event(wanted)
        verify_announcement(event, await adapter.pubkey(), 3, 1)
        with pytest.raises(OracleUnavailable):
            await adapter.submit_entries(wanted.id, entries)
        await adapter.submit_entries(wanted.id, entries)
        assert len((await adapter.get_event(wanted.id)).entries) == 3
        await adapter.aclose()


ORACLE_SECRET, NONCE_SECRET = (11).to_bytes(32, "big"), (13).to_bytes(32, "big")
ORACLE_KEY, NONCE_POINT = mul_base(11), mul_base(13)
MESSAGES = [outcome_message(ranking) for ranking in rankings.rankings(3, 1)]


def live_answer(wanted: CreateEvent) -> dict[str, Any]:
    """An event as the live oracle publishes it, secret nonce and all."""
    return {
        "id": wanted.id,
        "signing_date": "2026-09-21T14:24:20Z",
        "locations": ["KORD", "KDEN"],
        "status": "Live",
        "entry_ids": [],
        "entries": [],
        "weather": [
            {
                "station_id": "KORD",
                "observed": {
                    "date": "2026-09-21T00:00:00Z",
                    "temp_low": 50,
                    "temp_high": 72.5,
                    "wind_speed": None,
                },
                "forecasted": {
                    "date": "2026-09-21T00:00:00Z",
                    "temp_low": 49,
                    "temp_high": 70,
                    "wind_speed": 12,
                },
            }
        ],
        "nonce": NONCE_SECRET.hex(),
        "event_announcement": {
            "locking_points": [point.hex() for point in locking_points(ORACLE_KEY, NONCE_POINT, MESSAGES)],
            "expiry": T0,
        },
        "attestation": None,
        "coordinator_pubkey": COORDINATOR.npub,
    }


@asynccontextmanager
async def scripted(answer: Callable[[], Any]) -> AsyncIterator[WeatherOracle]:
    """An oracle that answers every question for an event with this."""

    async def pubkey(_: Request) -> Response:
        return JSONResponse({"key": base64.b64encode(ORACLE_KEY).decode()})

    async def event(_: Request) -> Response:
        found = answer()
        return found if isinstance(found, Response) else JSONResponse(found)

    routes = [Route("/prefix/oracle/pubkey", pubkey), Route("/prefix/oracle/events/{event_id}", event)]
    async with serving(Starlette(routes=routes)) as base_url:
        adapter = WeatherOracle(f"{base_url}/prefix/", COORDINATOR, timeout_seconds=2)
        yield adapter
        await adapter.aclose()


async def test_an_oracle_that_publishes_its_nonce_is_used_with_a_standing_warning(
    caplog: pytest.LogCaptureFixture,
):
    wanted = event_request(T0)
    caplog.set_level(logging.WARNING)
    async with scripted(lambda: live_answer(wanted)) as adapter:
        assert adapter.warnings == ()
        event = await adapter.get_event(wanted.id)
        await adapter.get_event(wanted.id)
        verify_announcement(event, await adapter.pubkey(), 3, 1)
        assert event.publishes_secret_nonce
        assert event.nonce_point == NONCE_POINT
        assert event.status == "live"
        assert event.readings == (
            Reading("KORD", "temp_high", 70, 73),
            Reading("KORD", "temp_low", 49, 50),
            Reading("KORD", "wind_speed", 12, None),
        )
        (warning,) = adapter.warnings
        assert "private key" in warning
        assert len([record for record in caplog.records if "secret nonce" in record.getMessage()]) == 1
        assert NONCE_SECRET.hex() not in caplog.text


async def test_both_forms_of_the_nonce_must_agree():
    wanted = event_request(T0)
    answer = live_answer(wanted) | {"nonce_point": NONCE_POINT.hex()}
    async with scripted(lambda: answer) as adapter:
        assert (await adapter.get_event(wanted.id)).publishes_secret_nonce
        answer["nonce_point"] = ORACLE_KEY.hex()
        with pytest.raises(OracleUnavailable):
            await adapter.get_event(wanted.id)


async def test_a_forged_locking_point_is_found():
    wanted = event_request(T0)
    answer = live_answer(wanted)
    answer["event_announcement"]["locking_points"][2] = ORACLE_KEY.hex()
    async with scripted(lambda: answer) as adapter:
        event = await adapter.get_event(wanted.id)
        with pytest.raises(AnnouncementMismatch, match="locking point 2"):
            verify_announcement(event, await adapter.pubkey(), 3, 1)


async def test_a_second_attestation_is_shown_as_it_is():
    """Whether it is one, its caller judges by what is stored: the adapter forgets with every restart."""
    wanted = event_request(T0)
    answer = live_answer(wanted)
    async with scripted(lambda: answer) as adapter:
        answer["attestation"] = attestation_secret(ORACLE_SECRET, NONCE_SECRET, MESSAGES[0]).hex()
        event = await adapter.get_event(wanted.id)
        assert event.attestation is not None
        assert attested_outcome(event.attestation, event.locking_points) == 0
        answer["attestation"] = attestation_secret(ORACLE_SECRET, NONCE_SECRET, MESSAGES[1]).hex()
        second = await adapter.get_event(wanted.id)
        with pytest.raises(Equivocation):
            check_same_attestation(event.attestation, second.attestation)


async def test_entry_ids_count_where_an_oracle_keeps_predictions_back():
    wanted = event_request(T0)
    entries = entries_for(wanted)
    answer = live_answer(wanted) | {"entry_ids": [entry.id for entry in entries]}
    async with scripted(lambda: answer) as adapter:
        await adapter.submit_entries(wanted.id, entries)
        with pytest.raises(OracleRefused, match="other entries"):
            await adapter.submit_entries(wanted.id, entries[:2])


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": None},
        {"nonce": "00" * 32},
        {"nonce": "zz"},
        {"nonce": 5},
        {"nonce": None, "nonce_point": "02" + "ff" * 32},
        {"nonce": None, "nonce_point": "04" + "11" * 32},
        {"event_announcement": None},
        {"event_announcement": {"locking_points": ["02"], "expiry": 1}},
        {"event_announcement": {"locking_points": "x", "expiry": 1}},
        {"event_announcement": {"locking_points": [5], "expiry": 1}},
        {"event_announcement": {"locking_points": [], "expiry": "soon"}},
        {"event_announcement": {"locking_points": [], "expiry": True}},
        {"attestation": "abc"},
        {"attestation": 7},
        {"id": uuid7(99)},
        {"entries": [{"id": "x", "expected_observations": [{"stations": "K", "temp_high": "Sideways"}]}]},
        {"entries": 5},
        {"weather": [None]},
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_answer(change: dict[str, Any]):
    wanted = event_request(T0)
    answer = {k: v for k, v in (live_answer(wanted) | change).items() if v is not None or k == "attestation"}
    async with scripted(lambda: answer) as adapter:
        with pytest.raises(OracleUnavailable) as error:
            await adapter.get_event(wanted.id)
        assert NONCE_SECRET.hex() not in str(error.value)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (Response("<html>", 200), OracleUnavailable),
        (Response("[" * 100_000, 200), OracleUnavailable),
        (JSONResponse([], 200), OracleUnavailable),
        (Response("busy", 503), OracleUnavailable),
        (Response("slow down", 429), OracleUnavailable),
        (JSONResponse({"error": "internal server error"}, 500), OracleUnavailable),
        (JSONResponse({"error": "no"}, 400), OracleRefused),
        (Response(status_code=302, headers={"location": "/elsewhere"}), OracleRefused),
        (JSONResponse({"error": "gone"}, 404), EventNotFound),
    ],
)
async def test_each_failure_is_told_apart(response: Response, error: type[Exception]):
    async with scripted(lambda: response) as adapter:
        with pytest.raises(error):
            await adapter.get_event(uuid7(1))


async def test_an_oracle_that_is_not_there_is_unavailable():
    adapter = WeatherOracle("http://127.0.0.1:1", COORDINATOR, timeout_seconds=2)
    with pytest.raises(OracleUnavailable):
        await adapter.pubkey()
    with pytest.raises(OracleUnavailable):
        await adapter.create_event(event_request(T0))
    await adapter.aclose()


async def test_an_oracle_that_never_answers_is_unavailable():
    async def silent(_: Request) -> Response:
        await asyncio.sleep(1)
        return Response()

    async with serving(Starlette(routes=[Route("/oracle/pubkey", silent)])) as base_url:
        adapter = WeatherOracle(base_url, COORDINATOR, timeout_seconds=0.2)
        with pytest.raises(OracleUnavailable, match="Timeout"):
            await adapter.pubkey()
        await adapter.aclose()


@pytest.mark.parametrize("key", [None, 5, "", "!!", "AAAA", json.dumps({})])
async def test_a_public_key_that_is_none_is_unavailable(key: Any):
    async def pubkey(_: Request) -> Response:
        return JSONResponse({"key": key})

    async with serving(Starlette(routes=[Route("/oracle/pubkey", pubkey)])) as base_url:
        adapter = WeatherOracle(base_url, COORDINATOR)
        with pytest.raises(OracleUnavailable):
            await adapter.pubkey()
        await adapter.aclose()
