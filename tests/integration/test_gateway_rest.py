"""REST through a real gateway to a real gRPC server."""

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from coordinator.v1 import user_pb2, wallet_pb2
from coordinator_client.nostr import NostrKey
from coordinator_gateway import api, httprule, jsoncodec
from coordinator_gateway.httprule import Binding
from support.gateway import EventStreamClient, Fault, World, running
from support.messages import filled

UNARY = [
    binding
    for service in api.services()
    for binding in httprule.bindings(service)
    if not binding.method.server_streaming
]
GET_COMPETITION = "/coordinator.v1.CompetitionService/GetCompetition"
CREATE_COMPETITION = "/coordinator.v1.CompetitionService/CreateCompetition"
LIST_COMPETITIONS = "/coordinator.v1.CompetitionService/ListCompetitions"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


def http_request(binding: Binding, message: Message) -> tuple[str, Any]:
    """The path with query, and the JSON body, that stand for a request message."""
    value = jsoncodec.encode(message)
    path = binding.path.expand({name: quote(value.pop(name), safe="") for name in binding.path.fields})
    if binding.body == "*":
        return path, value
    body = value.pop(binding.body) if binding.body else None
    query = [
        (name, str(text).lower() if isinstance(text, bool) else text)
        for name, item in value.items()
        for text in (item if isinstance(item, list) else [item])
        if text is not None
    ]
    return f"{path}?{urlencode(query)}" if query else path, body


@pytest.mark.parametrize("binding", UNARY, ids=lambda b: f"{b.verb} {b.path.text}")
async def test_every_binding_carries_request_and_response(world: World, binding: Binding) -> None:
    request, response = filled(binding.method.input_type), filled(binding.method.output_type, 3)
    world.core.answers[binding.full_method] = response
    target, body = http_request(binding, request)
    answer = (
        await world.client.request(binding.verb, target, json=body)
        if body is not None
        else (await world.client.request(binding.verb, target))
    )
    assert answer.status_code == 200, answer.text
    call = world.core.calls[-1]
    assert call.method == binding.full_method
    assert call.request == request
    assert call.metadata["x-http-method"] == binding.verb
    assert call.metadata["x-http-url"] == world.gateway.url + target
    value = answer.json()
    if binding.response_body:
        value = {binding.response_body: value}
    assert jsoncodec.decode(value, binding.method.output_type) == response
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


class TestForwarding:
    async def test_facts_of_the_request(self, world: World) -> None:
        body = b'{"terms": {"name": "rain"}}'
        await world.client.post(
            "/api/v1/competitions",
            content=body,
            headers={
                "authorization": "Nostr abc=",
                "content-type": "application/json",
                "idempotency-key": "k-1",
                "x-request-id": "mine-1",
                "cookie": "coordinator_session=tok",
                "x-coordinator-gateway": "forged",
                "x-http-url": "https://forged",
            },
        )
        metadata = world.core.calls[-1].metadata
        assert metadata["authorization"] == "Nostr abc="
        assert metadata["x-coordinator-gateway"] == "shared"
        assert metadata["x-http-url"] == f"{world.gateway.url}/api/v1/competitions"
        assert metadata["x-http-method"] == "POST"
        assert metadata["x-http-body-sha256"] == hashlib.sha256(body).hexdigest()
        assert metadata["x-request-id"] == "mine-1"
        assert metadata["x-forwarded-for"] == "127.0.0.1"
        assert metadata["idempotency-key"] == "k-1"
        assert metadata["x-session-token"] == "tok"

    async def test_what_was_not_given_is_absent(self, world: World) -> None:
        answer = await world.client.get("/api/v1/coordinator")
        metadata = world.core.calls[-1].metadata
        for name in ("authorization", "x-http-body-sha256", "idempotency-key", "x-session-token"):
            assert name not in metadata
        assert len(metadata["x-request-id"]) == 32
        assert answer.headers["x-request-id"] == metadata["x-request-id"]

    async def test_the_url_is_the_one_that_was_signed(self, world: World) -> None:
        await world.client.get("/api/v1/competitions/%41%20b?", headers={"host": "play.example:81"})
        assert world.core.calls[-1].request.competition_id == "A b"
        assert (
            world.core.calls[-1]
            .metadata["x-http-url"]
            .startswith("http://play.example:81/api/v1/competitions/%41%20b")
        )

    async def test_public_url_and_proxy(self) -> None:
        async with running(public_url="https://play.example") as world:
            await world.client.get(
                "/api/v1/competitions?page_size=2",
                headers={"x-forwarded-for": "203.0.113.9", "host": "inner"},
            )
            metadata = world.core.calls[-1].metadata
            assert metadata["x-http-url"] == "https://play.example/api/v1/competitions?page_size=2"
            assert metadata["x-forwarded-for"] == "203.0.113.9"

    async def test_a_proxy_that_is_not_trusted(self) -> None:
        async with running(trusted_proxies="203.0.113.1") as world:
            await world.client.get("/api/v1/coordinator", headers={"x-forwarded-for": "203.0.113.9"})
            assert world.core.calls[-1].metadata["x-forwarded-for"] == "127.0.0.1"

    async def test_bearer_goes_before_the_cookie(self, world: World) -> None:
        headers = {"authorization": "Bearer header", "cookie": "coordinator_session=cookie"}
        await world.client.get("/api/v1/entries", headers=headers)
        assert world.core.calls[-1].metadata["x-session-token"] == "header"

    @pytest.mark.parametrize("given", ["has space", "x" * 200, ""])
    async def test_a_strange_request_id_is_replaced(self, world: World, given: str) -> None:
        answer = await world.client.get("/api/v1/coordinator", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] != given
        assert world.core.calls[-1].metadata["x-request-id"] == answer.headers["x-request-id"]

    @pytest.mark.parametrize("value", ["x" * 5000, "Nostr é"])
    async def test_a_header_that_cannot_go_on(self, world: World, value: str) -> None:
        answer = await world.client.get(
            "/api/v1/coordinator", headers={"authorization": value.encode("latin-1")}
        )
        assert answer.status_code == 400
        assert answer.json()["reason"] == "BAD_HEADER"
        assert all(
            call.method == LIST_COMPETITIONS for call in world.core.calls if "Watch" not in call.method
        )

    async def test_login_sets_the_cookie_and_logout_drops_it(self, world: World) -> None:
        login = user_pb2.LoginResponse(session_token="t0k")
        login.expires_at.seconds = int(time.time()) + 3600
        world.core.answers["/coordinator.v1.UserService/Login"] = login
        cookie = (await world.client.post("/api/v1/users/login")).headers["set-cookie"]
        assert cookie.startswith("coordinator_session=t0k;")
        for part in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert part in cookie
        assert "Secure" not in cookie
        assert 3590 <= int(cookie.split("Max-Age=")[1].split(";")[0]) <= 3600
        await world.client.get("/api/v1/entries")
        assert world.core.calls[-1].metadata["x-session-token"] == "t0k"
        cookie = (await world.client.post("/api/v1/users/logout")).headers["set-cookie"]
        assert world.core.calls[-1].metadata["x-session-token"] == "t0k"
        assert "Max-Age=0" in cookie

    @pytest.mark.parametrize("path", ["/api/v1/competitions/x", "/api/v1/events"])
    async def test_a_cookie_that_is_no_longer_valid_is_dropped(self, world: World, path: str) -> None:
        world.core.faults[GET_COMPETITION] = Fault(grpc.StatusCode.UNAUTHENTICATED, "the session has ended")
        cookie = {"cookie": "coordinator_session=old"}
        answer = await world.client.get(path, headers=cookie)
        assert answer.status_code == 401
        assert "Max-Age=0" in answer.headers["set-cookie"]
        # Not for a signature or token that is wrong: the cookie may be right.
        answer = await world.client.get(path, headers={**cookie, "authorization": "Bearer wrong"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers

    async def test_the_cookie_is_secure_on_https(self) -> None:
        async with running(public_url="https://play.example") as world:
            answer = await world.client.post("/api/v1/users/login")
            assert "Secure" in answer.headers["set-cookie"]


class TestProblems:
    async def test_of_the_core(self, world: World) -> None:
        world.core.faults[CREATE_COMPETITION] = Fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            "terms are wrong",
            [
                error_details_pb2.ErrorInfo(reason="TERMS", domain="coordinator", metadata={"k": "v"}),
                error_details_pb2.BadRequest(
                    field_violations=[{"field": "terms.name", "description": "is empty"}]
                ),
            ],
        )
        answer = await world.client.post("/api/v1/competitions", json={})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": "urn:coordinator:problem:terms",
            "title": "Invalid request",
            "status": 400,
            "detail": "terms are wrong",
            "instance": "/api/v1/competitions",
            "reason": "TERMS",
            "domain": "coordinator",
            "metadata": {"k": "v"},
            "errors": [{"field": "terms.name", "description": "is empty"}],
        }

    @pytest.mark.parametrize(
        ("code", "status"),
        [("UNAUTHENTICATED", 401), ("FAILED_PRECONDITION", 409), ("NOT_FOUND", 404), ("UNIMPLEMENTED", 501)],
    )
    async def test_codes(self, world: World, code: str, status: int) -> None:
        world.core.faults[GET_COMPETITION] = Fault(grpc.StatusCode[code], "why")
        answer = await world.client.get("/api/v1/competitions/x")
        assert (answer.status_code, answer.json()["detail"]) == (status, "why")
        assert answer.headers.get("www-authenticate") == ("Nostr" if status == 401 else None)

    async def test_retry(self, world: World) -> None:
        detail = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=7))
        world.core.faults[GET_COMPETITION] = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", [detail])
        answer = await world.client.get("/api/v1/competitions/x")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["retry_after_seconds"] == 7

    async def test_a_core_that_is_gone_and_comes_back(self, world: World) -> None:
        await world.core_server.stop()
        answer = await world.client.get("/api/v1/competitions/x")
        assert answer.status_code == 503
        assert str(world.core_server.port) not in answer.text
        await world.core_server.start()
        async with asyncio.timeout(5):
            while (await world.client.get("/api/v1/competitions/x")).status_code != 200:
                await asyncio.sleep(0.05)

    async def test_a_core_that_is_too_slow(self) -> None:
        async with running(request_timeout_seconds=0.2) as world:
            world.core.delay_seconds = 5
            answer = await world.client.get("/api/v1/competitions/x")
            assert answer.status_code == 504

    async def test_fields_that_do_not_fit(self, world: World) -> None:
        before = len(world.core.calls)
        answer = await world.client.post("/api/v1/wallet/send", json={"amount_sats": "x", "surprise": 1})
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["amount_sats", "surprise"]
        answer = await world.client.get("/api/v1/competitions?page_sise=1")
        assert answer.json()["errors"] == [{"field": "page_sise", "description": "unknown field"}]
        assert len(world.core.calls) == before

    @pytest.mark.parametrize("body", ["{", '{"a":1,"a":1}', "NaN"])
    async def test_what_is_no_json(self, world: World, body: str) -> None:
        answer = await world.client.post(
            "/api/v1/wallet/send", content=body, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_JSON")

    async def test_what_is_no_json_by_its_type(self, world: World) -> None:
        answer = await world.client.post("/api/v1/wallet/send", data={"amount_sats": "1"})
        assert answer.status_code == 415

    async def test_paths_and_methods_that_are_not_there(self, world: World) -> None:
        answer = await world.client.get("/api/v1/nothing")
        assert (answer.status_code, answer.json()["title"]) == (404, "Not found")
        answer = await world.client.delete("/api/v1/competitions")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_replaced_paths(self, world: World) -> None:
        for prefix in ("/api", "/api/v1"):
            for name in ("nonces", "signatures"):
                answer = await world.client.post(f"{prefix}/competitions/c1/{name}", json={"x": 1})
                assert answer.status_code == 410
                assert answer.json()["successor"] == "/api/v1/competitions/c1/keymeld/join"

    async def test_every_answer_has_the_security_headers(self, world: World) -> None:
        for path in (
            "/api/v1/coordinator",
            "/api/v1/nothing",
            "/nothing",
            "/api/docs",
            "/api/v1/wallet/send",
        ):
            answer = await world.client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["x-request-id"]

    async def test_a_fault_of_the_gateway_itself(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(Binding, "response_json", broken)
        answer = await world.client.get("/api/v1/coordinator")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] in answer.json()["detail"]
        assert "secret" not in answer.text


class TestLimits:
    async def test_a_body_that_says_it_is_too_large(self) -> None:
        async with running(max_body_bytes=1000) as world:
            answer = await world.client.post("/api/v1/wallet/send", json={"address": "x" * 1000})
            assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
            answer = await world.client.post("/api/v1/wallet/send", json={"address": "x" * 900})
            assert answer.status_code == 200

    async def test_a_body_that_turns_out_too_large(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b" " * 300

        async with running(max_body_bytes=1000) as world:
            before = len(world.core.calls)
            answer = await world.client.post("/api/v1/wallet/send", content=chunks())
            assert answer.status_code == 413
            assert len(world.core.calls) == before

    async def test_requests_of_one_address(self) -> None:
        async with running(rate_limit_per_second=0.5, rate_limit_burst=3) as world:
            answers = [await world.client.get("/api/v1/coordinator") for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert answers[3].headers["retry-after"] == "2"
            assert answers[3].json()["reason"] == "RATE_LIMITED"
            assert (await world.client.get("/api/v1/health_check")).status_code == 200

    async def test_requests_of_one_key(self) -> None:
        settings = {
            "rate_limit_per_second": 1000,
            "key_rate_limit_per_second": 0.5,
            "key_rate_limit_burst": 3,
        }
        async with running(**settings) as world:
            mine, hers = {"authorization": "Bearer mine"}, {"cookie": "coordinator_session=hers"}
            answers = [await world.client.get("/api/v1/coordinator", headers=mine) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert answers[3].headers["retry-after"] == "2"
            assert answers[3].headers["content-type"] == "application/problem+json"
            assert answers[3].json()["reason"] == "RATE_LIMITED"
            for headers in (hers, {}):
                assert (await world.client.get("/api/v1/coordinator", headers=headers)).status_code == 200

    async def test_nobody_can_use_up_what_another_key_may_do(self) -> None:
        settings = {
            "rate_limit_per_second": 1000,
            "key_rate_limit_per_second": 0.5,
            "key_rate_limit_burst": 2,
        }
        pubkey = NostrKey.generate().public_hex
        event = base64.b64encode(json.dumps({"pubkey": pubkey}).encode()).decode()
        headers = {"authorization": f"Nostr {event}"}
        async with running(**settings) as world:
            world.core.faults[GET_COMPETITION] = Fault(
                grpc.StatusCode.UNAUTHENTICATED, "not signed by this key"
            )
            for _ in range(10):
                answer = await world.client.get("/api/v1/competitions/x", headers=headers)
                assert answer.status_code == 401
            world.core.faults.clear()
            answers = [await world.client.get("/api/v1/competitions/x", headers=headers) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]

    async def test_connections(self) -> None:
        # One of them is the client's own.
        async with running(max_connections=3) as world:
            assert (await world.client.get("/api/v1/coordinator")).status_code == 200
            streams = [await EventStreamClient.open(world) for _ in range(2)]
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await EventStreamClient.open(world)
            assert (await world.client.get("/api/v1/coordinator")).status_code == 200
            streams[0].close()
            await world.until(lambda: len(world.gateway.server.server_state.connections) == 2)
            assert (await EventStreamClient.open(world)).status == 200

    async def test_a_connection_without_a_request(self) -> None:
        async with running(receive_timeout_seconds=0.3) as world:
            port = world.gateway.config.port
            for begun in (b"", b"GET /api/v1/coordinator HTTP/1.1\r\nhost: te"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(begun)
                assert await asyncio.wait_for(reader.read(), 10) == b""
                writer.close()
            # One that has asked is not cut for what it does later.
            stream = await EventStreamClient.open(world)
            await asyncio.sleep(0.6)
            await world.core.publish()
            assert (await stream.event()).id == "1"

    async def test_a_body_that_does_not_come(self) -> None:
        async with running(receive_timeout_seconds=0.3) as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.config.port)
            writer.write(b"POST /api/v1/wallet/send HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{")
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"BODY_TOO_SLOW" in answer
            assert all(
                call.method == LIST_COMPETITIONS or "Watch" in call.method for call in world.core.calls
            )
            writer.close()


class TestHealth:
    async def test_serving(self, world: World) -> None:
        await world.until(lambda: world.gateway.hub.connected)
        answer = await world.client.get("/api/v1/health_check")
        assert answer.json() == {"status": "serving", "core": "serving", "events": "connected"}

    async def test_a_core_that_does_not_serve(self, world: World) -> None:
        await world.core_server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        answer = await world.client.get("/api/v1/health_check")
        assert (answer.status_code, answer.json()["core"]) == (503, "not_serving")

    async def test_a_core_that_is_gone(self, world: World) -> None:
        await world.core_server.stop()
        answer = await world.client.get("/api/v1/health_check")
        assert (answer.status_code, answer.json()["core"]) == (503, "unavailable")
        assert answer.json()["status"] == "not_serving"


class TestWeb:
    @pytest.fixture
    def web_dir(self, tmp_path: Path) -> Path:
        web = tmp_path / "web"
        (web / "assets").mkdir(parents=True)
        (web / "index.html").write_text("<h1>app</h1>")
        (web / "assets" / "app-1a2b.js").write_text("1")
        (tmp_path / "secret").write_text("no")
        return web

    async def test_app(self, web_dir: Path) -> None:
        async with running(web_dir=web_dir) as world:
            for path in ("/", "/competitions/0190", "/index.html"):
                answer = await world.client.get(path)
                assert (answer.status_code, answer.text) == (200, "<h1>app</h1>"), path
                assert answer.headers["cache-control"] == "no-cache"
            answer = await world.client.get("/assets/app-1a2b.js")
            assert "immutable" in answer.headers["cache-control"]
            for path in ("/assets/gone.js", "/favicon.ico", "/api/nothing", "/api"):
                answer = await world.client.get(path)
                assert answer.status_code == 404, path
                assert answer.headers["content-type"] == "application/problem+json"
            # Not found outside the directory: a path of the app, like any other.
            assert (await world.client.get("/..%2fsecret")).text == "<h1>app</h1>"
            assert (await world.client.post("/")).status_code == 405
            assert (await world.client.get("/api/v1/coordinator")).status_code == 200

    async def test_docs(self, world: World) -> None:
        page = await world.client.get("/api/docs")
        assert page.headers["content-type"].startswith("text/html")
        for asset in ("/api/docs/docs.js", "/api/docs/docs.css"):
            assert asset in page.text
            assert (await world.client.get(asset)).status_code == 200
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert (await world.client.get("/api/openapi.json")).json()["openapi"] == "3.1.0"


class TestOrigins:
    async def test_none_by_default(self, world: World) -> None:
        answer = await world.client.get("/api/v1/coordinator", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert (await world.client.options("/api/v1/coordinator")).status_code == 405

    async def test_configured(self) -> None:
        async with running(cors_origins=("https://other.example",)) as world:
            preflight = await world.client.options(
                "/api/v1/competitions",
                headers={
                    "origin": "https://other.example",
                    "access-control-request-method": "POST",
                    "access-control-request-headers": "authorization,idempotency-key",
                },
            )
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://other.example"
            answer = await world.client.get("/api/v1/coordinator", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in answer.headers


async def test_head(world: World) -> None:
    world.core.answers["/coordinator.v1.WalletService/GetAddress"] = wallet_pb2.GetAddressResponse(
        address="a"
    )
    answer = await world.client.head("/api/v1/wallet/address")
    assert (answer.status_code, answer.content) == (200, b"")
    assert world.core.calls[-1].metadata["x-http-method"] == "HEAD"


async def test_a_request_in_flight_is_answered_before_the_gateway_stops() -> None:
    async with running() as world:
        world.core.delay_seconds = 0.5
        request = asyncio.create_task(world.client.get("/api/v1/coordinator"))
        await world.until(lambda: any(call.method.endswith("GetCoordinator") for call in world.core.calls))
        stop = asyncio.create_task(world.gateway.stop())
        assert (await request).status_code == 200
        await stop
        with pytest.raises(httpx.ConnectError):
            await world.client.get("/api/v1/coordinator")


async def test_dead_peers_are_dropped_by_the_system(world: World) -> None:
    listener = world.gateway.server.servers[0].sockets[0]
    timeout = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == world.gateway.config.client_stall_seconds * 2000
