"""The gRPC client: what it makes of errors, what it repeats and how, and that gRPC's own library agrees."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from coordinator.api.access import IDEMPOTENT
from coordinator.api.server import SERVICES
from coordinator_client import grpc as client_module
from coordinator_client.errors import ApiError, ClientError, FieldError, Unavailable
from coordinator_client.grpc import GrpcClient, client_error, tls_context
from coordinator_client.proto.coordinator import v1
from coordinator_client.retry import NEED_IDEMPOTENCY_KEY, RetryPolicy, retry_policies, service_config
from support.client import KEY, Outcome, ScriptedCore, scripted, status

UNAVAILABLE = status("UNAVAILABLE", "not now")
DONE = b""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, attempt: 0)


def error_info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="coordinator.v1")


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(int(seconds * 1000))
    return error_details_pb2.RetryInfo(retry_delay=delay)


@asynccontextmanager
async def serving(*outcomes: Outcome, **options: Any) -> AsyncIterator[tuple[GrpcClient, ScriptedCore, str]]:
    core = ScriptedCore(*outcomes)
    async with scripted(core) as port:
        address = f"127.0.0.1:{port}"
        async with GrpcClient(address, KEY, **options) as client:
            yield client, core, address


async def failure(*outcomes: Outcome) -> ClientError:
    """What a write that is never repeated raises."""
    async with serving(*outcomes) as (client, _, _):
        with pytest.raises(ClientError) as raised:
            await client.competitions.cancel_competition(v1.CancelCompetitionRequest(reason="x"))
    return raised.value


# --- errors


async def test_a_refusal_carries_reason_fields_and_time_to_wait() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="terms.name", description="must not be empty")
    bad.field_violations.add(field="id", description="is no UUIDv7")
    told = status("INVALID_ARGUMENT", "2 fields are wrong", error_info("INVALID_INPUT"), bad, retry_info(1.5))
    error = await failure(told)
    assert isinstance(error, ApiError)
    assert (error.code, error.status, error.reason) == ("INVALID_ARGUMENT", 0, "INVALID_INPUT")
    assert error.detail == "2 fields are wrong"
    assert error.field_errors == (
        FieldError("terms.name", "must not be empty"),
        FieldError("id", "is no UUIDv7"),
    )
    assert error.retry_after_seconds == 1.5


async def test_unavailable_carries_reason_and_time_to_wait() -> None:
    told = status("UNAVAILABLE", "no node", error_info("LIGHTNING_UNAVAILABLE"), retry_info(5))
    error = await failure(told)
    assert isinstance(error, Unavailable)
    assert str(error) == "no node"
    assert (error.reason, error.retry_after_seconds) == ("LIGHTNING_UNAVAILABLE", 5)


async def test_without_details_the_status_is_the_reason() -> None:
    error = await failure(status("NOT_FOUND", "no such thing"))
    assert isinstance(error, ApiError)
    assert (error.reason, error.field_errors, error.retry_after_seconds) == ("NOT_FOUND", (), None)


async def test_details_of_other_types_are_left_out() -> None:
    error = await failure(
        status("ABORTED", "again", error_details_pb2.Help(), error_info("CONCURRENT_CHANGE"))
    )
    assert isinstance(error, ApiError)
    assert error.reason == "CONCURRENT_CHANGE"


async def test_malformed_details_do_not_hide_the_error() -> None:
    told = status("PERMISSION_DENIED", "no", error_info("NOT_ADMIN"))
    told.details[0].value = b"\xff\xff\xff"
    error = await failure(told)
    assert isinstance(error, ApiError)
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


def test_no_answer_is_no_refusal() -> None:
    for error in (ConnectionRefusedError(), TimeoutError(), ssl.SSLError()):
        assert isinstance(client_error(error), Unavailable)


# --- what is repeated


async def test_a_read_is_repeated_each_time_signed_anew() -> None:
    answer = bytes(v1.GetBalanceResponse(confirmed_sats=7))
    async with serving(UNAVAILABLE, UNAVAILABLE, answer) as (client, core, address):
        found = await client.wallet.get_balance(v1.GetBalanceRequest())
    assert found.confirmed_sats == 7
    logins = [call.signer(address) for call in core.received]
    assert [pubkey for pubkey, _ in logins] == [KEY.public_hex] * 3
    assert len({event_id for _, event_id in logins}) == 3


async def test_a_write_is_not_repeated() -> None:
    order: Any
    async with serving(UNAVAILABLE, DONE) as (client, core, _):
        for number, order in enumerate(
            (
                client.competitions.cancel_competition(v1.CancelCompetitionRequest(reason="x")),
                client.entries.update_entry(v1.UpdateEntryRequest(entry_id="x")),
            )
        ):
            core.outcomes = [UNAVAILABLE, DONE]
            with pytest.raises(Unavailable):
                await order
            assert len(core.received) == number + 1


async def test_what_makes_something_is_repeated_with_the_same_idempotency_key() -> None:
    async with serving(UNAVAILABLE, DONE) as (client, core, address):
        await client.tickets.request_ticket(v1.RequestTicketRequest(competition_id="a"))
        core.outcomes = [UNAVAILABLE, DONE]
        await client.tickets.request_ticket(v1.RequestTicketRequest(competition_id="a"))
    keys = [call.metadata["idempotency-key"] for call in core.received]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert len({call.signer(address)[1] for call in core.received}) == 4


async def test_the_callers_own_key_is_taken() -> None:
    async with serving(UNAVAILABLE, DONE) as (client, core, _):
        request = v1.CreateCompetitionRequest()
        await client.competitions.create_competition(request, metadata={"idempotency-key": "mine"})
        assert [call.metadata["idempotency-key"] for call in core.received] == ["mine", "mine"]
        core.received.clear()
        core.outcomes = [UNAVAILABLE, DONE]
        await client.wallet.send(v1.SendRequest(address="x", idempotency_key="in the request"))
        assert len(core.received) == 2
        assert all("idempotency-key" not in call.metadata for call in core.received)


async def test_metadata_of_the_caller_goes_along_but_never_signs() -> None:
    async with serving(DONE) as (client, core, address):
        metadata = {"x-request-id": "abc", "authorization": "Nostr forged"}
        await client.wallet.get_balance(v1.GetBalanceRequest(), metadata=metadata)
    [call] = core.received
    assert call.metadata["x-request-id"] == "abc"
    assert call.signer(address)[0] == KEY.public_hex


async def test_attempts_have_an_end() -> None:
    async with serving(UNAVAILABLE) as (client, core, _):
        with pytest.raises(Unavailable, match="not now"):
            await client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    assert len(core.received) == 4


@pytest.mark.parametrize("code", ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "NOT_FOUND"])
async def test_only_unavailable_is_repeated(code: str) -> None:
    async with serving(status(code)) as (client, core, _):
        with pytest.raises(ClientError):
            await client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    assert len(core.received) == 1


async def test_a_short_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(client_module.asyncio, "sleep", note)
    async with serving(status("UNAVAILABLE", "no", retry_info(0.125)), DONE) as (client, core, _):
        await client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    assert len(core.received) == 2
    assert 0.125 in waited


async def test_a_long_wait_is_left_to_the_caller() -> None:
    async with serving(status("UNAVAILABLE", "no", retry_info(5)), DONE) as (client, core, _):
        with pytest.raises(Unavailable) as told:
            await client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    assert told.value.retry_after_seconds == 5
    assert len(core.received) == 1


async def test_all_attempts_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, attempt: 0.01 if attempt < 2 else 1000)
    given = []

    async def call(*arguments: Any, timeout: float, **options: Any) -> None:
        given.append(timeout)
        raise GRPCError(Status.UNAVAILABLE)

    request = v1.GetCoordinatorRequest()
    route = "/coordinator.v1.CompetitionService/GetCoordinator"
    async with GrpcClient("127.0.0.1:1", timeout_seconds=100) as client:
        for options, first in (({}, 100), ({"timeout": 7}, 7)):
            given.clear()
            with pytest.raises(Unavailable):
                await client._repeated(call, route, request, v1.GetCoordinatorResponse, dict(options))
            # The wait before the fourth would have ended after the deadline.
            assert len(given) == 3
            assert first >= given[0] > given[1] > given[2] > 0


async def test_the_core_is_told_the_deadline() -> None:
    async with serving(DONE) as (client, core, _):
        await client.competitions.get_coordinator(v1.GetCoordinatorRequest(), timeout=7)
    assert core.received[0].seconds_left <= 7.001


async def test_a_connection_that_breaks_is_made_again() -> None:
    answer = bytes(v1.GetBalanceResponse(confirmed_sats=7))
    core = ScriptedCore(answer)
    async with scripted(core) as port:
        broken = 2

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal broken
            await reader.readexactly(24)  # HTTP/2's preface: the client has sent its call
            if broken:
                broken -= 1
                writer.transport.abort()
                return
            there, here = await asyncio.open_connection("127.0.0.1", port)
            here.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            await asyncio.gather(pump(reader, here), pump(there, writer))

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            front = server.sockets[0].getsockname()[1]
            async with GrpcClient(f"127.0.0.1:{front}", KEY) as client:
                found = await client.wallet.get_balance(v1.GetBalanceRequest())
    assert found.confirmed_sats == 7
    assert len(core.received) == 1


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_keepalive_finds_out_a_dead_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that takes everything and says nothing, like a firewall that has forgotten the connection."""
    real = client_module._CONFIGURATION
    assert (real._keepalive_time, real._keepalive_timeout) == (30, 10)
    quick = client_module.Configuration(**{**vars(real), "_keepalive_time": 0.05, "_keepalive_timeout": 0.1})
    monkeypatch.setattr(client_module, "_CONFIGURATION", quick)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with GrpcClient(f"127.0.0.1:{port}") as client, asyncio.timeout(60):
            with pytest.raises(Unavailable):
                await anext(client.events.watch(v1.WatchRequest()))


def test_tls_speaks_http2_and_nothing_old() -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        tls_context(certificate_file=Path(__file__))


# --- the service config


METHODS = {
    f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
}


def test_reads_and_what_has_an_idempotency_key_are_repeated_and_nothing_else() -> None:
    reads = {
        route
        for route, method in METHODS.items()
        if method.GetOptions().Extensions[annotations_pb2.http].get and not method.server_streaming
    }
    assert len(reads) >= 15
    assert retry_policies().keys() == reads | NEED_IDEMPOTENCY_KEY
    assert NEED_IDEMPOTENCY_KEY == IDEMPOTENT
    assert {policy.codes for policy in retry_policies().values()} == {frozenset({"UNAVAILABLE"})}


def test_waits_grow_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for policy in retry_policies().values():
        for attempt in range(policy.max_attempts):
            longest = min(policy.first_seconds * policy.multiplier**attempt, policy.longest_seconds)
            assert longest / 2 <= policy.delay(attempt) <= longest


async def test_grpcs_own_library_takes_the_file() -> None:
    core = ScriptedCore(UNAVAILABLE, DONE)
    options = [("grpc.service_config", service_config())]
    async with scripted(core) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        read = channel.unary_unary("/coordinator.v1.CompetitionService/GetCoordinator")
        assert await read(b"") == b""
        assert len(core.received) == 2
        core.outcomes = [UNAVAILABLE, DONE]
        write = channel.unary_unary("/coordinator.v1.CompetitionService/CancelCompetition")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await write(b"")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(core.received) == 3
