"""gRPC as direct clients meet it: deadlines, sizes, keepalive, flow control."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
import pytest_asyncio

from coordinator.api import server as server_module
from coordinator.api.server import build_server
from coordinator.operations import competitions
from coordinator.store.events import NewEvent
from coordinator.store.models import TicketRow
from coordinator.v1 import competition_pb2, competition_pb2_grpc, event_pb2, ticket_pb2
from coordinator_client import grpc as client_module
from coordinator_client.grpc import GrpcClient
from coordinator_client.proto.coordinator import v1
from support.api import ADMIN, AUTHORITY, Api, ApiError, running_api

MIB = 1024 * 1024


@pytest_asyncio.fixture
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


async def open_competition(api: Api) -> str:
    now = int(time.time())
    times = {"start_observation_at": now + 600, "end_observation_at": now + 700, "signing_at": now + 800}
    return (await competitions.create_competition(api.core, "", api.world.terms(**times))).id


# --- deadlines


async def test_a_deadline_is_kept_and_what_was_begun_is_carried_out_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lightning node is too slow for the caller, who repeats the call with the same idempotency key."""
    made = await open_competition(api)
    asked, go_on = 0, asyncio.Event()
    add_hold_invoice = api.core.lightning.add_hold_invoice

    async def slow(*args: object, **options: object) -> object:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return await add_hold_invoice(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(api.core.lightning, "add_hold_invoice", slow)
    request = ticket_pb2.RequestTicketRequest(competition_id=made)
    key = [("idempotency-key", "one")]
    with pytest.raises(ApiError) as late:
        await api.call("TicketService/RequestTicket", request, ADMIN, key, timeout=0.5)
    assert late.value.code == "DEADLINE_EXCEEDED"
    async with asyncio.timeout(20):
        while not asked:
            await asyncio.sleep(0.02)
    go_on.set()
    ticket = (await api.call("TicketService/RequestTicket", request, ADMIN, key)).ticket
    assert ticket.payment_request
    assert asked == 1
    assert await TicketRow.filter(competition_id=made).count() == 1


async def test_a_stream_ends_at_its_deadline(api: Api) -> None:
    channel = api.client.channel
    watch = channel.unary_stream("/coordinator.v1.EventService/Watch")
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async for _ in watch(event_pb2.WatchRequest(after_sequence=0).SerializeToString(), timeout=0.5):
            pass
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# --- sizes


async def test_requests_have_a_largest_size(api: Api) -> None:
    request = competition_pb2.CreateCompetitionRequest()
    request.terms.name = "x" * (4 * MIB)
    with pytest.raises(ApiError) as refused:
        await api.call("CompetitionService/CreateCompetition", request, ADMIN)
    assert refused.value.code == "RESOURCE_EXHAUSTED"
    # One that just fits is read, and refused for what it says.
    request.terms.name = "x" * (4 * MIB - 1000)
    with pytest.raises(ApiError) as read:
        await api.call("CompetitionService/CreateCompetition", request, ADMIN)
    assert read.value.code == "INVALID_ARGUMENT"
    assert "terms.start_observation_at" in read.value.fields


@asynccontextmanager
async def wordy(api: Api, answer_bytes: int) -> AsyncIterator[str]:
    """The address of a core whose answer to GetCoordinator is of this size and a little more."""
    settings = replace(api.core.settings, esplora_public_url="x" * answer_bytes)
    server, port = build_server(replace(api.core, settings=settings), api.world.contracts)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(1)


async def ask(address: str, *options: tuple[str, int]) -> int:
    async with grpc.aio.insecure_channel(address, options) as channel:
        stub = competition_pb2_grpc.CompetitionServiceStub(channel)
        answer = await stub.GetCoordinator(competition_pb2.GetCoordinatorRequest(), timeout=60)
        return len(answer.esplora_url)


async def test_large_answers_for_clients_that_want_them(api: Api) -> None:
    async with wordy(api, 20 * MIB) as address:
        assert await ask(address, ("grpc.max_receive_message_length", 64 * MIB)) == 20 * MIB
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(address)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with GrpcClient(address) as client:
            answer = await client.competitions.get_coordinator(v1.GetCoordinatorRequest())
        assert len(answer.esplora_url) == 20 * MIB
    async with wordy(api, 64 * MIB) as address:
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await ask(address, ("grpc.max_receive_message_length", -1))
        assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_has_a_largest_size(api: Api) -> None:
    await api.call("CompetitionService/GetCoordinator", None, None, [("x-padding", "x" * 8000)])
    with pytest.raises(ApiError) as refused:
        await api.call("CompetitionService/GetCoordinator", None, None, [("x-padding", "x" * 80_000)])
    assert refused.value.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL")


# --- keepalive


WATCH = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/coordinator.v1.EventService/Watch"),
    (":authority", AUTHORITY),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def options() -> dict[str, int]:
    return dict(server_module._OPTIONS)


def test_the_core_allows_the_pings_of_its_own_client() -> None:
    client = client_module._CONFIGURATION
    assert client._keepalive_time is not None
    assert client._keepalive_time * 1000 > options()["grpc.http2.min_ping_interval_without_data_ms"]
    assert options()["grpc.keepalive_permit_without_calls"] == 1


async def test_a_client_that_is_gone_without_a_word_is_found_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened a stream and never answers a ping: as after a power cut."""
    in_use = options()
    assert in_use["grpc.http2.ping_timeout_ms"] == in_use["grpc.keepalive_timeout_ms"] == 10_000
    quick = in_use | {
        "grpc.keepalive_time_ms": 1000,
        "grpc.keepalive_timeout_ms": 500,
        "grpc.http2.ping_timeout_ms": 500,
    }
    monkeypatch.setattr(server_module, "_OPTIONS", tuple(quick.items()))
    server, port = build_server(api.core, api.world.contracts, heartbeat_seconds=0.1)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, WATCH)
    connection.send_data(1, bytes(5), end_stream=True)  # an empty message, not compressed
    started = False
    try:
        async with asyncio.timeout(50):
            writer.write(connection.data_to_send())
            while data := await reader.read(65536):
                if started:
                    continue
                events = connection.receive_data(data)
                started = any(isinstance(event, h2.events.DataReceived) for event in events)
                writer.write(connection.data_to_send())  # answers the settings, and pings of before
    except ConnectionResetError:
        pass
    finally:
        writer.close()
        await server.stop(1)
    assert started


# --- flow control


async def test_a_watcher_that_does_not_read_holds_up_nobody_and_loses_nothing(api: Api) -> None:
    made = await open_competition(api)
    head = await last_of(api, made)
    request = event_pb2.WatchRequest(after_sequence=head, competition_id=made, kinds=["competition.paused"])
    lazy = api.client.watch(request)
    await lazy.wait_for_connection()
    told = 300
    for number in range(told):
        event = NewEvent("competition.paused", {"words": "x" * 10_000, "number": number})
        await api.core.competitions.tell(made, number, [event])

    async def numbers(stream: object) -> list[int]:
        found: list[int] = []
        async for answer in stream:  # type: ignore[attr-defined]
            if answer.HasField("event"):
                found.append(int(answer.event.data["number"]))
            if len(found) == told:
                break
        return found

    async with asyncio.timeout(60):
        assert await numbers(api.client.watch(request)) == list(range(told))
        assert await numbers(lazy) == list(range(told))


async def last_of(api: Api, competition_id: str) -> int:
    answer = await api.call(
        "CompetitionService/GetCompetition",
        competition_pb2.GetCompetitionRequest(competition_id=competition_id),
    )
    return int(answer.competition.sequence)
