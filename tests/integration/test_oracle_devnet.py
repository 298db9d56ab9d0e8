"""Devnet's oracle over a real socket: who may write, what it attests to, and that it does so once."""

import argparse
import asyncio
import base64
import dataclasses
import json
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from coordinator.contract import rankings
from coordinator.contract.secp import mul_base
from coordinator.domain.announcement import attested_outcome, verify_announcement
from coordinator.ports.oracle import OracleEvent
from coordinator_client.nostr import NostrKey, hex_to_npub, npub_to_hex
from coordinator_client.nostr.nip98 import authorization
from coordinator_devnet.oracle import OracleService, cli
from coordinator_devnet.oracle.errors import Conflict, WrongSeed
from coordinator_devnet.oracle.keys import OracleKeys
from support.oracle import (
    COORDINATOR,
    SEED,
    MovableClock,
    RunningOracle,
    entries_for,
    event_request,
    running_oracle,
    uuid7,
)

T0 = 1_790_000_000


async def post(
    oracle: RunningOracle, path: str, body: Any, *, headers: dict[str, str] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(oracle.base_url + path, content=json.dumps(body).encode(), headers=headers)


async def get(oracle: RunningOracle, path: str, **query: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(oracle.base_url + path, params=query)


async def attest(oracle: RunningOracle, event_id: str, body: Any) -> httpx.Response:
    return await post(oracle, f"/devnet/oracle/events/{event_id}/attest", body)


def opened(event: OracleEvent) -> tuple[int, ...]:
    """The ranking that the attestation is to, of 3 entries and 1 place."""
    assert event.attestation is not None
    return rankings.ranking_at(3, 1, attested_outcome(event.attestation, event.locking_points))


# Who may write


def request_body() -> dict[str, Any]:
    return {
        "id": uuid7(1),
        "signing_date": "2026-11-30T12:00:00Z",
        "start_observation_date": "2026-11-29T00:00:00+01:00",
        "end_observation_date": "2026-11-30T00:00:00.5Z",
        "locations": ["KORD"],
        "number_of_values_per_entry": 1,
        "number_of_places_win": 1,
        "total_allowed_entries": 2,
        "scoring_fields": ["temp_high"],
    }


async def test_a_write_needs_a_login_for_this_very_request(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        url, body = oracle.base_url + "/oracle/events", request_body()
        raw = json.dumps(body).encode()
        other_body = json.dumps(body | {"number_of_places_win": 2}).encode()
        other_key = authorization(NostrKey(b"\x33" * 32), url, "POST", raw)
        event = json.loads(base64.b64decode(other_key.removeprefix("Nostr ")))
        forged = base64.b64encode(json.dumps(event | {"sig": "00" * 64}).encode()).decode()
        for header, status in (
            (None, 401),
            ("Bearer x", 400),
            ("Nostr e30=", 400),
            (authorization(COORDINATOR, url, "GET", raw), 401),
            (authorization(COORDINATOR, url + "/", "POST", raw), 401),
            (authorization(COORDINATOR, url, "POST", None), 401),
            (authorization(COORDINATOR, url, "POST", other_body), 401),
            (authorization(COORDINATOR, url, "POST", raw, created_at=int(time.time()) - 120), 401),
            (f"Nostr {forged}", 403),
        ):
            headers = {} if header is None else {"Authorization": header}
            answer = await post(oracle, "/oracle/events", body, headers=headers)
            assert (answer.status_code, "error" in answer.json()) == (status, True), header
        assert (await get(oracle, "/oracle/events")).json() == []
        good = authorization(COORDINATOR, url, "POST", raw)
        answer = await post(oracle, "/oracle/events", body, headers={"Authorization": good})
        assert answer.status_code == 200
        assert answer.json()["coordinator_pubkey"] == COORDINATOR.npub
        # A replayed header does what it did already: nothing new.
        again = await post(oracle, "/oracle/events", body, headers={"Authorization": good})
        assert again.json() == answer.json()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"},
        {"id": None},
        {"signing_date": "2026-11-30"},
        {"signing_date": "2026-11-30T12:00:00"},
        {"signing_date": 5},
        {"signing_date": "9999-12-31T00:00:00Z"},
        {"end_observation_date": "2026-11-28T00:00:00Z"},
        {"locations": []},
        {"locations": ["KORD", "KORD"]},
        {"locations": ["NOWHERE"]},
        {"locations": "KORD"},
        {"scoring_fields": ["price"]},
        {"scoring_fields": [5]},
        {"number_of_values_per_entry": 2},
        {"number_of_values_per_entry": 0},
        {"number_of_places_win": 2},
        {"number_of_places_win": True},
        {"total_allowed_entries": 1},
        {"total_allowed_entries": 100, "number_of_places_win": 5},
    ],
)
async def test_a_wrong_event_is_refused(tmp_path: Path, change: dict[str, Any]):
    async with running_oracle(tmp_path) as oracle:
        body = request_body() | change
        header = authorization(
            COORDINATOR, oracle.base_url + "/oracle/events", "POST", json.dumps(body).encode()
        )
        answer = await post(oracle, "/oracle/events", body, headers={"Authorization": header})
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert (await get(oracle, "/oracle/events")).json() == []


# What it shows


async def test_the_key_is_shown_in_both_forms(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        key = base64.b64decode((await get(oracle, "/oracle/pubkey")).json()["key"])
        assert key == oracle.service.public_key
        assert len(key) == 33
        assert npub_to_hex((await get(oracle, "/oracle/npub")).json()["key"]) == key[1:].hex()


async def test_an_event_is_shown_as_the_live_oracle_shows_it(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        entries = entries_for(wanted)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries)
        clock.now = wanted.observation_window.end_at
        shown = (await get(oracle, f"/oracle/events/{wanted.id}")).json()
        assert {
            name: shown[name] for name in ("id", "signing_date", "locations", "scoring_fields", "status")
        } == {
            "id": wanted.id,
            "signing_date": "2026-09-21T14:25:20Z",
            "locations": ["KORD", "KDEN"],
            "scoring_fields": ["temp_high", "wind_speed"],
            "status": "completed",
        }
        assert shown["entry_ids"] == sorted(entry.id for entry in entries)
        assert shown["attestation"] is None
        assert shown["event_announcement"]["expiry"] == wanted.signing_at + 86_400
        assert len(shown["event_announcement"]["locking_points"]) == 4
        assert [row["station_id"] for row in shown["weather"]] == ["KORD", "KDEN"]
        assert {"temp_high", "date"} <= shown["weather"][0]["observed"].keys()
        first = shown["entries"][0]
        assert first["expected_observations"][0].keys() == {"stations", "temp_high", "wind_speed"}
        assert first["expected_observations"][0]["temp_high"] in {"Over", "Par", "Under"}
        assert (await get(oracle, f"/oracle/events/{wanted.id}/entries/{first['id']}")).json() == first
        assert (await get(oracle, f"/oracle/events/{wanted.id}/entries/{uuid7(5)}")).status_code == 404
        (summary,) = (await get(oracle, "/oracle/events")).json()
        assert (summary["id"], summary["total_entries"]) == (wanted.id, 3)


async def test_no_secret_is_shown_before_or_after_attesting(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        wanted = event_request(T0)
        event = await oracle.adapter.create_event(wanted)
        before = (await get(oracle, f"/oracle/events/{wanted.id}")).json()
        assert "nonce" not in before
        assert before["nonce_point"] == event.nonce_point.hex()
        after = (await attest(oracle, wanted.id, {"winners": [1]})).json()
        texts = json.dumps([before, after, (await get(oracle, "/oracle/events")).json()])
        scalars = {
            text
            for text in json.dumps([before, after]).replace(",", " ").replace('"', " ").split()
            if len(text) == 64
        }
        # Everything that could be a scalar: none is the discrete logarithm of the key or the nonce.
        assert after["attestation"] in scalars
        for scalar in scalars:
            assert mul_base(int(scalar, 16))[1:] not in (oracle.service.public_key[1:], event.nonce_point[1:])
        assert SEED.hex() not in texts
        assert SEED.hex() not in repr(OracleKeys(SEED))


async def test_browsers_may_read_and_not_write(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle, httpx.AsyncClient() as http:
        origin = {"Origin": "https://app.example"}
        answer = await http.get(oracle.base_url + "/stations", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "*"
        preflight = await http.options(
            oracle.base_url + "/oracle/events", headers=origin | {"Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 400


# What it attests to


@pytest.mark.parametrize(
    ("body", "ranking"),
    [({"winners": [2]}, (2,)), ({"refund": True}, (0, 1, 2)), ({"winners": [0, 1, 2]}, (0, 1, 2))],
)
async def test_a_test_can_choose_the_outcome_at_any_time(tmp_path: Path, body: Any, ranking: tuple[int, ...]):
    async with running_oracle(tmp_path, clock=MovableClock(T0)) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        answer = await attest(oracle, wanted.id, body)
        assert (answer.status_code, answer.json()["status"]) == (200, "signed")
        assert opened(await oracle.adapter.get_event(wanted.id)) == ranking
        assert (await attest(oracle, wanted.id, body)).json() == answer.json()


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"winners": []},
        {"winners": [3]},
        {"winners": [-1]},
        {"winners": [0, 1]},
        {"winners": [True]},
        {"winners": ["0"]},
        {"winners": 0},
        {"winners": [0], "refund": True},
        {"refund": False},
        {"refund": 1},
    ],
)
async def test_what_is_no_outcome_is_refused(tmp_path: Path, body: Any):
    async with running_oracle(tmp_path) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        assert (await attest(oracle, wanted.id, body)).status_code == 400
        assert (await oracle.adapter.get_event(wanted.id)).attestation is None
        assert (await attest(oracle, uuid7(9), {"winners": [0]})).status_code == 404


async def test_it_never_attests_to_two_outcomes(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
        assert (await attest(oracle, wanted.id, {"winners": [1]})).status_code == 200
        first = (await oracle.adapter.get_event(wanted.id)).attestation
        for other in ({"winners": [0]}, {"winners": [2]}, {"refund": True}):
            answer = await attest(oracle, wanted.id, other)
            assert answer.status_code == 409
            assert "attestation" not in answer.json()
        clock.now = wanted.signing_at
        assert await oracle.service.attest_due() == 0
        assert (await oracle.adapter.get_event(wanted.id)).attestation == first
    async with running_oracle(tmp_path, clock=clock) as restarted:
        assert (await restarted.adapter.get_event(wanted.id)).attestation == first
        assert (await attest(restarted, wanted.id, {"winners": [0]})).status_code == 409
        assert (await attest(restarted, wanted.id, {"winners": [1]})).status_code == 200
        assert await restarted.service.attest_due() == 0


async def test_an_outcome_the_oracle_chose_itself_cannot_be_changed(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
        clock.now = wanted.signing_at
        assert await oracle.service.attest_due() == 1
        (winner,) = opened(await oracle.adapter.get_event(wanted.id))
        assert (await attest(oracle, wanted.id, {"winners": [(winner + 1) % 3]})).status_code == 409
        assert (await attest(oracle, wanted.id, {"winners": [winner]})).status_code == 200


async def test_of_many_at_once_one_outcome_wins(tmp_path: Path):
    """Over HTTP, by the loop, and from a second process's view of the same files."""
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        second = OracleService(tmp_path, seed=SEED, clock=clock)
        for number in range(5):
            wanted = event_request(T0, number=number)
            await oracle.adapter.create_event(wanted)
            await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
            clock.now = wanted.signing_at
            answers, *others = await asyncio.gather(
                asyncio.gather(*(attest(oracle, wanted.id, {"winners": [i % 3]}) for i in range(12))),
                oracle.service.attest_due(),
                *(second.attest(wanted.id, [i % 3]) for i in range(6)),
                second.attest(wanted.id, None),
                return_exceptions=True,
            )
            clock.now = T0
            assert isinstance(answers, list)
            seen = {answer.json()["attestation"] for answer in answers if answer.status_code == 200}
            seen |= {event.attestation.hex() for event in others if hasattr(event, "attestation")}
            final = (await oracle.adapter.get_event(wanted.id)).attestation
            assert final is not None
            assert seen <= {final.hex()}
            assert Counter(answer.status_code for answer in answers).keys() <= {200, 409}
            assert all(isinstance(error, Conflict) for error in others if isinstance(error, Exception))


async def test_a_withheld_event_is_never_attested_by_itself(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
        path = f"/devnet/oracle/events/{wanted.id}/withhold"
        assert (await post(oracle, path, {})).status_code == 200
        assert (await post(oracle, path, {})).status_code == 200
        clock.now = wanted.signing_at
        assert await oracle.service.attest_due() == 0
    async with running_oracle(tmp_path, clock=clock) as oracle:
        assert await oracle.service.attest_due() == 0
        assert (await oracle.adapter.get_event(wanted.id)).status == "completed"
        assert (await attest(oracle, wanted.id, {"winners": [0]})).status_code == 200
        assert (await post(oracle, path, {})).status_code == 409
        assert (await post(oracle, f"/devnet/oracle/events/{uuid7(9)}/withhold", {})).status_code == 404


async def test_after_the_expiry_it_leaves_an_event_alone(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock, expiry_after_seconds=30) as oracle:
        wanted = event_request(T0)
        event = await oracle.adapter.create_event(wanted)
        assert event.expiry == wanted.signing_at + 30
        await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
        clock.now = wanted.signing_at + 30
        assert await oracle.service.attest_due() == 0
        clock.now -= 1
        assert await oracle.service.attest_due() == 1


async def test_an_event_keeps_its_expiry_when_the_setting_changes(tmp_path: Path):
    wanted = event_request(T0)
    async with running_oracle(tmp_path, expiry_after_seconds=30) as oracle:
        first = await oracle.adapter.create_event(wanted)
    async with running_oracle(tmp_path, expiry_after_seconds=60) as oracle:
        assert await oracle.adapter.create_event(wanted) == first


async def test_without_entries_there_is_nothing_to_attest(tmp_path: Path):
    clock = MovableClock(T0)
    async with running_oracle(tmp_path, clock=clock) as oracle:
        wanted = event_request(T0)
        await oracle.adapter.create_event(wanted)
        clock.now = wanted.signing_at
        assert await oracle.service.attest_due() == 0


async def test_the_loop_attests_when_the_time_comes(tmp_path: Path):
    async with running_oracle(tmp_path, poll_seconds=0.05) as oracle:
        await oracle.service.start()
        wanted = event_request(time.time(), start_in=0, length=1)
        wanted = dataclasses.replace(wanted, signing_at=wanted.observation_window.end_at)
        await oracle.adapter.create_event(wanted)
        await oracle.adapter.submit_entries(wanted.id, entries_for(wanted))
        async with asyncio.timeout(10):
            while (await oracle.adapter.get_event(wanted.id)).attestation is None:
                await asyncio.sleep(0.05)
        assert time.time() >= wanted.signing_at
        await oracle.service.stop()


async def test_the_loop_survives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with running_oracle(tmp_path, poll_seconds=0.01) as oracle:
        calls: list[int] = []

        async def failing() -> int:
            calls.append(1)
            raise OSError("disk full")

        monkeypatch.setattr(oracle.service, "attest_due", failing)
        await oracle.service.start()
        async with asyncio.timeout(5):
            while len(calls) < 3:
                await asyncio.sleep(0.01)


# Seeds


async def test_the_same_seed_gives_the_same_oracle(tmp_path: Path):
    async with running_oracle(tmp_path / "a") as a, running_oracle(tmp_path / "b") as b:
        wanted = event_request(T0)
        first, second = await a.adapter.create_event(wanted), await b.adapter.create_event(wanted)
        assert first == second
        third = await b.adapter.create_event(event_request(T0, number=2))
        assert third.nonce_point != first.nonce_point


async def test_the_same_id_with_another_content_gets_another_nonce(tmp_path: Path):
    """Else the second of two runs with one seed would attest twice under one nonce."""
    async with running_oracle(tmp_path / "a") as a, running_oracle(tmp_path / "b") as b:
        first = await a.adapter.create_event(event_request(T0))
        second = await b.adapter.create_event(event_request(T0, length=601))
        assert first.id == second.id
        assert first.nonce_point != second.nonce_point


def test_another_seed_for_the_same_data_is_refused(tmp_path: Path):
    OracleService(tmp_path, seed=SEED)
    with pytest.raises(WrongSeed):
        OracleService(tmp_path, seed=b"\x12" * 32)
    with pytest.raises(WrongSeed):
        OracleService(tmp_path)
    OracleService(tmp_path, seed=SEED)


def test_without_a_seed_one_is_made_and_kept(tmp_path: Path):
    first, other = OracleService(tmp_path / "a"), OracleService(tmp_path / "b")
    assert OracleService(tmp_path / "a").public_key == first.public_key != other.public_key
    assert first.npub == hex_to_npub(first.public_key[1:].hex())
    assert stat.S_IMODE((tmp_path / "a" / "seed").stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "a").iterdir() if path.name.startswith("seed")) == [
        "seed"
    ]


@pytest.mark.parametrize("seed", [b"", b"\x01" * 31, b"\x01" * 33])
def test_a_seed_of_the_wrong_length_is_refused(tmp_path: Path, seed: bytes):
    with pytest.raises(ValueError, match="32 bytes"):
        OracleService(tmp_path, seed=seed)


# Size, and the command line


async def test_a_competition_of_25_entries_and_3_places_is_announced(tmp_path: Path):
    async with running_oracle(tmp_path) as oracle:
        event = await oracle.adapter.create_event(event_request(T0, entries=25, places=3))
        assert len(event.locking_points) == 13_801
        verify_announcement(event, await oracle.adapter.pubkey(), 25, 3)


async def test_the_command_serves_until_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(
        ["--port", "0", "--data-dir", str(tmp_path), "--seed", SEED.hex(), "--expiry-after", "5"]
    )
    servers: list[uvicorn.Server] = []
    original = uvicorn.Server.__init__

    def remember(self: uvicorn.Server, config: uvicorn.Config) -> None:
        original(self, config)
        servers.append(self)

    monkeypatch.setattr(uvicorn.Server, "__init__", remember)
    task = asyncio.create_task(cli.serve(args))
    async with asyncio.timeout(10):
        while not servers or not servers[0].started:
            await asyncio.sleep(0.01)
        port = servers[0].servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/oracle/pubkey")
        servers[0].should_exit = True
        await task
    assert base64.b64decode(answer.json()["key"]) == OracleKeys(SEED).public_key


@pytest.mark.parametrize("text", ["", "11", "zz" * 32])
def test_the_command_refuses_a_bad_seed(text: str):
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args(["--seed", text])
