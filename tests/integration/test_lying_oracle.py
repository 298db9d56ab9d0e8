"""An oracle that lies: what it takes back, attests wrongly, early or twice is refused, recorded and shown."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.contract.secp import scalar_bytes
from coordinator.domain.states import AwaitingAttestation, Completed, Failed
from coordinator.store.models import EventRow, OracleAlertRow
from coordinator.v1 import competition_pb2 as pb
from coordinator_devnet.oracle.service import _digest
from support.api import ADMIN, Api, running_api
from support.world import World, WorldPlayer, until

Lie = Callable[[dict[str, Any]], None]


class Liar(httpx.AsyncBaseTransport):
    """Between a core and its oracle: changes the events that come back."""

    def __init__(self) -> None:
        self._real = httpx.AsyncHTTPTransport()
        self.lie: Lie | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        await response.aread()
        if self.lie is None or not request.url.path.startswith("/oracle/events") or response.is_error:
            return response
        event = response.json()
        if not isinstance(event, dict):
            return response
        self.lie(event)
        return httpx.Response(200, json=event)


def set_between(world: World) -> Liar:
    """A liar in the core's way, from now on."""
    liar = Liar()
    adapter: Any = world.core.oracle
    adapter._client = httpx.AsyncClient(transport=liar)
    return liar


@asynccontextmanager
async def played(folder: Path, **settings: object) -> AsyncIterator[tuple[Api, str, list[WorldPlayer]]]:
    """A full field, before anything is signed."""
    async with running_api(folder, **settings) as api:
        world = api.world
        players = await world.new_players(3)
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        yield api, competition_id, players


async def alerts(*kinds: str) -> list[OracleAlertRow]:
    async def there() -> bool:
        return {row.kind for row in await OracleAlertRow.all()} >= set(kinds)

    await until(there)
    return list(await OracleAlertRow.all().order_by("noticed_at"))


async def shown(api: Api, competition_id: str) -> tuple[list[str], dict[str, Any]]:
    """The warnings for everybody, and what an admin sees of the competition."""
    coordinator = await api.call("CompetitionService/GetCoordinator")
    request = pb.InspectCompetitionRequest(competition_id=competition_id)
    inspected = await api.call("CompetitionService/InspectCompetition", request, ADMIN)
    return list(coordinator.warnings), json.loads(inspected.state_json)


async def told(kind: str) -> list[EventRow]:
    return list(await EventRow.filter(kind=kind))


def attesting(attestation: str) -> Lie:
    def lie(event: dict[str, Any]) -> None:
        event["attestation"] = attestation

    return lie


async def test_two_attestations_are_recorded_with_the_evidence(tmp_path: Path) -> None:
    """The contract goes on with the first one; the record outlives a restart, and is made once."""
    async with played(tmp_path) as (api, competition_id, players):
        world = api.world
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (1, 0))
        await world.outcome_confirmed(competition_id)
        record = await world.core.competitions.load(competition_id)
        first = record.status.attestation.secret.hex()  # type: ignore[union-attr]
        second = "22" * 32
        await world.restart()
        set_between(world).lie = attesting(second)
        (alert,) = await alerts("oracle.equivocated")
        assert alert.evidence == {"first": first, "second": second}
        assert alert.competition_id == competition_id
        assert alert.noticed_at > 0
        for index in (0, 1):
            await world.take_payout(competition_id, players[index])
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        assert record.status.attestation is not None
        assert record.status.attestation.winners == (1, 0)
        assert len(await OracleAlertRow.all()) == len(await told("oracle.equivocated")) == 1


async def test_an_attestation_that_opens_nothing_is_refused_and_the_expiry_refunds(tmp_path: Path) -> None:
    async with played(tmp_path) as (api, competition_id, players):
        world = api.world
        await world.funded(competition_id, players)
        await world.oracle.withhold(competition_id)
        set_between(world).lie = attesting("11" * 32)
        (alert,) = await alerts("oracle.attestation_rejected")
        assert alert.evidence == {"attestation": "11" * 32}
        warnings, state = await shown(api, competition_id)
        assert any("opens no locking point" in text for text in warnings)
        assert state["oracle_alerts"][0]["evidence"] == {"attestation": "11" * 32}

        async def noted() -> bool:
            return "opens no locking point" in (await world.core.competitions.load(competition_id)).last_error

        await until(noted)
        await world.chain.mine(7, advance_seconds=600)

        async def expired() -> bool:
            return (await world.core.competitions.load(competition_id)).status.name == "expiry_broadcasted"

        await until(expired)
        assert len(await told("oracle.attestation_rejected")) == 1


async def test_a_right_attestation_after_a_wrong_one_is_taken_and_the_pair_recorded(tmp_path: Path) -> None:
    async with played(tmp_path) as (api, competition_id, players):
        world = api.world
        await world.funded(competition_id, players)
        liar = set_between(world)
        liar.lie = attesting("11" * 32)
        await alerts("oracle.attestation_rejected")
        await world.oracle.attest(competition_id, (2, 1))
        liar.lie = None
        rows = await alerts("oracle.attestation_rejected", "oracle.equivocated")
        equivocation = next(row for row in rows if row.kind == "oracle.equivocated")
        assert equivocation.evidence["first"] == "11" * 32
        await world.outcome_confirmed(competition_id)


def another_nonce(event: dict[str, Any]) -> None:
    event["nonce_point"] = event["event_announcement"]["locking_points"][0]


def another_expiry(event: dict[str, Any]) -> None:
    event["event_announcement"]["expiry"] += 60


def another_point(event: dict[str, Any]) -> None:
    points = event["event_announcement"]["locking_points"]
    points[0], points[1] = points[1], points[0]


@pytest.mark.parametrize(
    ("lie", "kind", "words"),
    [
        (another_nonce, "oracle.announcement_changed", "the nonce point was"),
        (another_expiry, "oracle.announcement_changed", "the expiry was"),
        (another_point, "oracle.announcement_changed", "locking point 0"),
        (attesting("11" * 32), "oracle.attested_early", "knows the outcome"),
    ],
    ids=["nonce", "expiry", "points", "early"],
)
async def test_what_the_oracle_changes_is_found_before_money_is_locked(
    tmp_path: Path, lie: Lie, kind: str, words: str
) -> None:
    async with played(tmp_path) as (api, competition_id, players):
        world = api.world
        await world.releases_signed(competition_id, players)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        set_between(world).lie = lie
        for player in players:
            await world.sign_funding(competition_id, player)

        async def failed() -> bool:
            return isinstance((await world.core.competitions.load(competition_id)).status, Failed)

        await until(failed)
        status = (await world.core.competitions.load(competition_id)).status
        assert isinstance(status, Failed)
        assert words in status.reason
        (alert,) = await alerts(kind)
        assert alert.evidence
        request = pb.GetCompetitionRequest(competition_id=competition_id)
        competition = (await api.call("CompetitionService/GetCompetition", request)).competition
        assert words in competition.failure_reason
        assert "Every payment is being returned" in competition.failure_reason
        assert status.escrow is not None
        assert f" {status.escrow.release_blocks:,} blocks" in competition.failure_reason
        payments = [await asyncio.wait_for(player.payment, 20) for player in players if player.payment]
        assert {payment.state for payment in payments} == {"failed"}  # type: ignore[attr-defined]
        warnings, _ = await shown(api, competition_id)
        assert any(competition_id in text and words in text for text in warnings)


async def test_a_published_nonce_is_a_standing_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, for everybody, and at the competition; after a restart too."""
    async with played(tmp_path) as (api, competition_id, players):
        world = api.world
        secrets: set[str] = set()

        def lie(event: dict[str, Any]) -> None:
            row = world.oracle._store.get(competition_id)
            assert row is not None
            event["nonce"] = scalar_bytes(world.oracle._keys._secret("nonce", _digest(row))).hex()
            secrets.add(event["nonce"])

        set_between(world).lie = lie
        await world.funded(competition_id, players)
        (alert,) = await alerts("oracle.nonce_published")
        (nonce,) = secrets
        assert nonce not in json.dumps(alert.evidence) + alert.message + caplog.text
        warnings, state = await shown(api, competition_id)
        assert sum("secret nonces" in text for text in warnings) == 1
        assert state["oracle_alerts"][0]["kind"] == "oracle.nonce_published"
        assert any("secret nonces" in record.message for record in caplog.records)
        assert isinstance((await world.core.competitions.load(competition_id)).status, AwaitingAttestation)
