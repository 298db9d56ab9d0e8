"""The Python client against a serving core: gRPC calls signed one by one, errors with their details."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from coordinator_client.errors import ApiError, Unavailable
from coordinator_client.grpc import GrpcClient
from coordinator_client.nostr import NostrKey
from coordinator_client.proto.coordinator.v1 import (
    CancelCompetitionRequest,
    CompetitionState,
    CompetitionTerms,
    CreateCompetitionRequest,
    GetAddressRequest,
    GetBalanceRequest,
    GetCompetitionRequest,
    GetCoordinatorRequest,
    ListCompetitionsRequest,
    RequestTicketRequest,
    WatchRequest,
)
from support.api import ADMIN, AUTHORITY, Api, running_api
from support.stack import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("client")) as running:
        yield running


def client(api: Api, key: NostrKey | None = ADMIN, **options: Any) -> GrpcClient:
    return GrpcClient(f"127.0.0.1:{api.port}", key, **{"authority": AUTHORITY, **options})


def terms(**changes: Any) -> CompetitionTerms:
    now = int(time.time())

    def at(seconds: int) -> datetime:
        return datetime.fromtimestamp(now + seconds, UTC)

    values: dict[str, Any] = {
        "name": "Hail",
        "entry_fee_sats": 50_000,
        "total_allowed_entries": 3,
        "number_of_places_win": 2,
        "number_of_values_per_entry": 1,
        "locations": ["KORD"],
        "scoring_fields": ["temp_high"],
        "start_observation_at": at(3600),
        "end_observation_at": at(7200),
        "signing_at": at(7300),
    }
    return CompetitionTerms(**values | changes)


async def test_the_same_call_may_be_made_many_times_within_a_second(api: Api) -> None:
    async with client(api) as admin:
        for _ in range(5):
            balance = await admin.wallet.get_balance(GetBalanceRequest())
    assert balance.confirmed_sats > 0


async def test_a_competition_is_created_read_and_cancelled(api: Api) -> None:
    async with client(api) as admin, client(api, None) as anybody:
        created = (
            await admin.competitions.create_competition(CreateCompetitionRequest(terms=terms()))
        ).competition
        assert created.state == CompetitionState.CREATED
        read = await anybody.competitions.get_competition(GetCompetitionRequest(competition_id=created.id))
        assert read.competition.terms.entry_fee_sats == 50_000
        cancelled = await admin.competitions.cancel_competition(
            CancelCompetitionRequest(competition_id=created.id, reason="sunshine")
        )
        assert cancelled.competition.state == CompetitionState.CANCELLED


async def test_a_refusal_names_every_field(api: Api) -> None:
    async with client(api) as admin:
        with pytest.raises(ApiError) as refused:
            await admin.competitions.create_competition(
                CreateCompetitionRequest(terms=terms(entry_fee_sats=1, number_of_places_win=3))
            )
    error = refused.value
    assert (error.status, error.code) == (0, "INVALID_ARGUMENT")
    assert {field.field for field in error.field_errors} == {
        "terms.entry_fee_sats",
        "terms.number_of_places_win",
    }


async def test_who_may_not_is_told_so(api: Api) -> None:
    async with client(api, NostrKey.generate()) as player:
        with pytest.raises(ApiError) as refused:
            await player.wallet.get_address(GetAddressRequest())
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "NOT_ADMIN")
        request = RequestTicketRequest(competition_id="0198a000-0000-7000-8000-000000000001")
        with pytest.raises(ApiError) as unknown:
            await player.tickets.request_ticket(request)
        assert unknown.value.reason == "COMPETITION_NOT_FOUND"
    async with client(api, None) as stranger:
        with pytest.raises(ApiError) as anonymous:
            await stranger.wallet.get_balance(GetBalanceRequest())
        assert anonymous.value.code == "UNAUTHENTICATED"


async def test_a_signature_counts_for_one_authority_only(api: Api) -> None:
    async with client(api, authority="other.test:50051") as admin:
        with pytest.raises(ApiError) as refused:
            await admin.wallet.get_balance(GetBalanceRequest())
    assert refused.value.reason == "AUTH_WRONG_URL"


async def test_the_log_streams_in_order(api: Api) -> None:
    async with client(api) as admin:
        await admin.competitions.create_competition(CreateCompetitionRequest(terms=terms()))
        head = (await admin.competitions.list_competitions(ListCompetitionsRequest())).sequence
        sequences = []
        async for item in admin.events.watch(WatchRequest(after_sequence=0)):
            sequences.append(item.event.sequence)
            if item.event.sequence == head:
                break
    assert sequences == list(range(1, head + 1))


async def test_no_core_is_no_refusal() -> None:
    [port] = free_ports(1)
    async with GrpcClient(f"127.0.0.1:{port}", timeout_seconds=5) as nobody:
        with pytest.raises(Unavailable):
            await nobody.competitions.get_coordinator(GetCoordinatorRequest())
