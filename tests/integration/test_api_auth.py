"""Who calls: NIP-98 and sessions over a real socket, directly and through the gateway."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.api.access import ACCESS, TOKEN_HOLDER, Who
from coordinator.api.server import SERVICES
from coordinator.domain.ids import new_uuid7
from coordinator.store.models import AuthEventRow, SessionRow, UserRow
from coordinator.v1 import competition_pb2, event_pb2, ticket_pb2
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from support.api import ADMIN, AUTHORITY, Api, ApiError, full_name, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")

REGISTER = "UserService/Register"
URL = f"grpc://{AUTHORITY}{full_name(REGISTER)}"
HTTP_URL = "https://coordinator.test/api/v1/users/register"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def key() -> NostrKey:
    return NostrKey.generate()


async def refused(api: Api, method: str, header: str, *, body: bytes = b"") -> str:
    """The reason for which an authorization is refused."""
    with pytest.raises(ApiError) as error:
        await api.client.call(method, None, None, [("authorization", header)], body=body)
    assert error.value.code == "UNAUTHENTICATED"
    return error.value.reason


async def test_a_signed_call_is_its_signers(api: Api, key: NostrKey) -> None:
    response = await api.call(REGISTER, None, key)
    assert (response.user.pubkey, response.user.npub) == (key.public_hex, key.npub)
    assert not response.user.is_admin
    assert (await api.call(REGISTER, None, ADMIN)).user.is_admin


async def test_a_call_with_a_body_signs_its_bytes(api: Api) -> None:
    request = competition_pb2.RetryCompetitionRequest(competition_id=new_uuid7())
    with pytest.raises(ApiError) as error:
        await api.call("CompetitionService/RetryCompetition", request, ADMIN)
    assert error.value.reason == "COMPETITION_NOT_FOUND"  # and not a matter of authorization


async def test_nothing_and_nonsense_are_no_authorization(api: Api) -> None:
    with pytest.raises(ApiError) as error:
        await api.call(REGISTER)
    assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_REQUIRED")
    for header in ("", "Nostr", "Nostr !!!", "Nostr e30=", "Basic YTpi", "Nostr " + "A" * 17000):
        assert await refused(api, REGISTER, header) == "AUTH_MALFORMED"


async def test_a_signature_by_another_key_is_refused(api: Api, key: NostrKey) -> None:
    event = json.loads(base64.b64decode(authorization(key, URL, "POST", None).removeprefix("Nostr ")))
    other = json.loads(base64.b64decode(authorization(NostrKey.generate(), URL, "POST", None)[6:]))

    def encoded(changed: dict[str, object]) -> str:
        return "Nostr " + base64.b64encode(json.dumps(changed).encode()).decode()

    assert await refused(api, REGISTER, encoded(event | {"sig": other["sig"]})) == "AUTH_BAD_SIGNATURE"
    assert await refused(api, REGISTER, encoded(event | {"pubkey": other["pubkey"]})) == "AUTH_BAD_ID"
    assert await refused(api, REGISTER, encoded(event | {"kind": 1})) == "AUTH_WRONG_KIND"
    assert (await api.client.call(REGISTER, None, None, [("authorization", encoded(event))])).user


async def test_stale_and_future_events_are_refused(api: Api, key: NostrKey) -> None:
    now = int(time.time())
    stale = authorization(key, URL, "POST", None, created_at=now - 63)
    future = authorization(key, URL, "POST", None, created_at=now + 65)
    assert await refused(api, REGISTER, stale) == "AUTH_STALE"
    assert await refused(api, REGISTER, future) == "AUTH_FUTURE"
    for offset in (-55, 55):
        header = authorization(key, URL, "POST", None, created_at=now + offset)
        await api.client.call(REGISTER, None, None, [("authorization", header)])


async def test_an_event_is_accepted_once(api: Api, key: NostrKey) -> None:
    header = api.client.signed(REGISTER, b"", key)
    await api.client.call(REGISTER, None, None, [header])
    assert await refused(api, REGISTER, header[1]) == "AUTH_EVENT_REPLAYED"
    # Also where the event may be as old as it gets, it is remembered for longer than it could pass.
    row = await AuthEventRow.filter().order_by("-expires_at").first()
    assert row is not None
    assert row.expires_at >= int(time.time()) + 60


async def test_an_event_that_does_not_verify_uses_up_no_id(api: Api, key: NostrKey) -> None:
    request = ticket_pb2.RequestTicketRequest(competition_id=new_uuid7())
    body = request.SerializeToString()
    header = api.client.signed("TicketService/RequestTicket", body, key)
    assert await refused(api, "TicketService/RequestTicket", header[1], body=b"") == "AUTH_WRONG_PAYLOAD"
    with pytest.raises(ApiError) as error:
        await api.client.call("TicketService/RequestTicket", request, None, [header])
    assert error.value.code == "NOT_FOUND"


async def test_another_url_method_or_payload_is_refused(api: Api, key: NostrKey) -> None:
    body = ticket_pb2.RequestTicketRequest(competition_id=new_uuid7()).SerializeToString()
    name = "TicketService/RequestTicket"
    url = f"grpc://{AUTHORITY}{full_name(name)}"
    for wrong in (
        f"grpc://elsewhere:50051{full_name(name)}",
        f"grpc://{AUTHORITY}{full_name('UserService/Login')}",
        f"https://{AUTHORITY}{full_name(name)}",
        f"{url}/",
    ):
        assert (
            await refused(api, name, authorization(key, wrong, "POST", body), body=body) == "AUTH_WRONG_URL"
        )
    assert await refused(api, name, authorization(key, url, "GET", body), body=body) == "AUTH_WRONG_METHOD"
    assert (
        await refused(api, name, authorization(key, url, "POST", None), body=body) == "AUTH_MISSING_PAYLOAD"
    )
    other = authorization(key, url, "POST", body + b"\x12\x00")
    assert await refused(api, name, other, body=body) == "AUTH_WRONG_PAYLOAD"


async def test_what_is_signed_is_the_bytes_and_not_what_they_mean(api: Api, key: NostrKey) -> None:
    """Two encodings of one message: the signature of the one is no signature of the other."""
    competition_id = new_uuid7()
    once = ticket_pb2.RequestTicketRequest(competition_id=competition_id).SerializeToString()
    twice = once + once  # the last value counts: the same message
    header = authorization(key, f"grpc://{AUTHORITY}{full_name('TicketService/RequestTicket')}", "POST", once)
    assert await refused(api, "TicketService/RequestTicket", header, body=twice) == "AUTH_WRONG_PAYLOAD"


async def test_an_invalid_authorization_is_an_error_for_public_methods_too(api: Api, key: NostrKey) -> None:
    assert (await api.call("CompetitionService/ListCompetitions")).sequence >= 0
    name = "CompetitionService/ListCompetitions"
    assert await refused(api, name, "Nostr e30=") == "AUTH_MALFORMED"
    with pytest.raises(ApiError) as error:
        await api.call(name, None, None, [("x-session-token", "no such token")])
    assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "SESSION_EXPIRED")


@pytest.mark.parametrize("method", sorted(m for m, access in ACCESS.items() if access.who is Who.ADMIN))
async def test_who_is_no_admin_is_denied(api: Api, key: NostrKey, method: str) -> None:
    name = method.removeprefix("/coordinator.v1.")
    with pytest.raises(ApiError) as error:
        await api.call(name, None, key)
    assert (error.value.code, error.value.reason) == ("PERMISSION_DENIED", "NOT_ADMIN")
    with pytest.raises(ApiError) as error:
        await api.call(name)
    assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_REQUIRED")


@pytest.mark.parametrize("method", sorted(m for m, access in ACCESS.items() if access.who is Who.USER))
async def test_a_stranger_is_asked_to_sign_in(api: Api, method: str) -> None:
    with pytest.raises(ApiError) as error:
        await api.call(method.removeprefix("/coordinator.v1."))
    assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_REQUIRED")


async def test_a_session_reads_and_does_not_change(api: Api, key: NostrKey) -> None:
    login = await api.call("UserService/Login", None, ADMIN)
    session = [("x-session-token", login.session_token)]
    assert login.user.is_admin
    assert login.expires_at.seconds > time.time()
    await api.call("WalletService/GetBalance", None, None, session)
    for method, access in ACCESS.items():
        if access.session or access is TOKEN_HOLDER:
            continue
        with pytest.raises(ApiError) as error:
            await api.call(method.removeprefix("/coordinator.v1."), None, None, session)
        assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_SIGNATURE_REQUIRED")
    bearer = [("authorization", f"Bearer {login.session_token}")]
    await api.call("WalletService/GetBalance", None, None, bearer)
    # The session is an admin's; the signature that comes along is another's, and decides.
    with pytest.raises(ApiError) as error:
        await api.call("WalletService/GetBalance", None, key, session)
    assert error.value.reason == "NOT_ADMIN"


async def test_logging_out_ends_the_session(api: Api, key: NostrKey) -> None:
    login = await api.call("UserService/Login", None, key)
    session = [("x-session-token", login.session_token)]
    await api.call("EntryService/ListEntries", None, None, session)
    await api.call("UserService/Logout", None, None, session)
    with pytest.raises(ApiError) as error:
        await api.call("EntryService/ListEntries", None, None, session)
    assert error.value.reason == "SESSION_EXPIRED"
    await api.call("UserService/Logout", None, None, session)  # repeating it is harmless
    with pytest.raises(ApiError) as error:
        await api.call("UserService/Logout")
    assert error.value.reason == "AUTH_REQUIRED"


async def test_no_session_token_is_stored_as_it_is(api: Api, key: NostrKey) -> None:
    login = await api.call("UserService/Login", None, key)
    hashes = [row.token_hash for row in await SessionRow.all()]
    assert login.session_token not in hashes
    assert hashlib.sha256(login.session_token.encode()).hexdigest() in hashes


async def test_the_gateway_tells_what_its_client_signed(api: Api, key: NostrKey) -> None:
    metadata = api.over_http(HTTP_URL, "POST", key=key)
    assert (await api.call(REGISTER, None, None, metadata)).user.pubkey == key.public_hex
    body = b'{"competitionId":"x"}'
    metadata = api.over_http(HTTP_URL, "POST", body, key)
    await api.call(REGISTER, None, None, metadata)  # the JSON body was signed, not the message made of it


async def test_other_http_facts_than_those_signed_are_refused(api: Api, key: NostrKey) -> None:
    signed = authorization(key, HTTP_URL, "POST", b"body")
    for url, method, body, reason in (
        (HTTP_URL + "?x=1", "POST", b"body", "AUTH_WRONG_URL"),
        (HTTP_URL, "PATCH", b"body", "AUTH_WRONG_METHOD"),
        (HTTP_URL, "POST", b"other", "AUTH_WRONG_PAYLOAD"),
        (HTTP_URL, "POST", b"", "AUTH_WRONG_PAYLOAD"),
        ("", "POST", b"body", "AUTH_MISSING_HTTP_FACTS"),
    ):
        metadata = [*api.over_http(url, method, body), ("authorization", signed)]
        with pytest.raises(ApiError) as error:
            await api.call(REGISTER, None, None, metadata)
        assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", reason)


async def test_http_facts_count_only_from_the_gateway(api: Api, key: NostrKey) -> None:
    facts = api.over_http(HTTP_URL, "POST", key=key)
    with pytest.raises(ApiError) as error:
        await api.call(REGISTER, None, None, facts[1:])
    assert error.value.reason == "AUTH_WRONG_URL"
    for token in ("", "a-gateway-token-for-test", "a-gateway-token-for-tests2", secrets.token_hex(12)):
        with pytest.raises(ApiError) as error:
            await api.call(REGISTER, None, None, api.over_http(HTTP_URL, "POST", key=key, token=token))
        assert (error.value.code, error.value.reason) == ("UNAUTHENTICATED", "AUTH_WRONG_GATEWAY_TOKEN")
    # What was signed for gRPC is no proof of an HTTP request.
    metadata = [*api.over_http(HTTP_URL, "POST"), api.client.signed(REGISTER, b"", key)]
    with pytest.raises(ApiError) as error:
        await api.call(REGISTER, None, None, metadata)
    assert error.value.reason == "AUTH_WRONG_URL"


async def test_two_authorizations_are_one_too_many(api: Api, key: NostrKey) -> None:
    mine, other = (api.client.signed(REGISTER, b"", k) for k in (key, NostrKey.generate()))
    with pytest.raises(ApiError) as error:
        await api.call(REGISTER, None, None, [mine, other])
    assert (error.value.code, list(error.value.fields)) == ("INVALID_ARGUMENT", ["authorization"])


async def test_bytes_that_are_no_message_are_the_callers_fault(api: Api) -> None:
    with pytest.raises(ApiError) as error:
        await api.client.call("CompetitionService/GetCompetition", body=b"\xff\xff\xff")
    assert error.value.code == "INVALID_ARGUMENT"
    with pytest.raises(ApiError) as error:
        await api.client.call("CompetitionService/GetCompetition", body=b"\x0a\x02\xff\xfe")  # not UTF-8
    assert error.value.code == "INVALID_ARGUMENT"


async def test_nobody_is_registered_by_a_refused_call(api: Api, key: NostrKey) -> None:
    await refused(api, REGISTER, authorization(key, URL, "GET", None))
    assert not await UserRow.exists(pubkey=key.public_hex)


async def test_a_watch_is_signed_like_every_call(api: Api, key: NostrKey) -> None:
    request = event_pb2.WatchRequest(after_sequence=0)
    header = api.client.signed("EventService/Watch", request.SerializeToString(), key)
    call = api.client.watch(request, [header])
    await call.initial_metadata()
    assert call.cancel()
    replayed = api.client.watch(request, [header])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await replayed.read()
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_and_reflection_need_nobody(api: Api) -> None:
    health = health_pb2_grpc.HealthStub(api.client.channel)
    for name in ("", *(service.full_name for service in SERVICES)):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(api.client.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    listed = {service.name async for answer in call for service in answer.list_services_response.service}
    assert listed >= {service.full_name for service in SERVICES}


async def test_methods_that_do_not_exist_are_unimplemented(api: Api) -> None:
    call = api.client.channel.unary_unary("/coordinator.v1.WalletService/Steal")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
