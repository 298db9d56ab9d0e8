"""The channel to the core, and what goes with each call on it.

The core verifies who calls (NIP-98, session tokens); the gateway only tells it the facts of the HTTP request,
on a channel that it authenticates itself on with a shared token (`x-coordinator-gateway`).
"""

import hashlib
import re
import secrets
from functools import cached_property
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import Request
from starlette.types import Scope

from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.problems import Problem, from_rpc_error

SESSION_COOKIE = "coordinator_session"
Metadata = tuple[tuple[str, str], ...]

# Below gRPC's default limit of 8 KiB for all metadata of a call together.
_MAX_HEADER_BYTES = 4096
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PASSED_ON = ((b"idempotency-key", "idempotency-key"), (b"authorization", "authorization"))
_READ = frozenset((b"idempotency-key", b"authorization", b"cookie"))
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


class Core:
    """Calls to the core, between `open` and `close`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._token: Metadata = (("x-coordinator-gateway", config.token),) if config.token else ()
        self._channel: grpc.aio.Channel | None = None

    def open(self) -> None:
        """Makes the channel; it belongs to the running event loop. It connects when it is used."""
        config = self._config
        options = [
            ("grpc.max_receive_message_length", config.max_response_bytes),
            ("grpc.max_send_message_length", config.max_body_bytes * 2),
            # A core that restarts is back within seconds; so is the gateway.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if config.core_tls_ca is None:
            self._channel = grpc.aio.insecure_channel(config.core, options)
        else:
            credentials = grpc.ssl_channel_credentials(config.core_tls_ca.read_bytes())
            self._channel = grpc.aio.secure_channel(config.core, credentials, options)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The open channel."""
        if self._channel is None:
            raise RuntimeError("the channel to the core is not open")
        return self._channel

    async def close(self) -> None:
        """Ends all calls."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    def own_metadata(self) -> Metadata:
        """For calls that the gateway makes for itself."""
        return self._token

    def metadata(self, request: Request, body: bytes, public_url: str) -> Metadata:
        """For a call on behalf of an HTTP request. Problem if a header cannot be passed on."""
        items = [
            *self._token,
            ("x-http-method", request.method),
            ("x-http-url", public_request_url(request, public_url)),
            ("x-request-id", request_id(request.scope)),
        ]
        if request.client is not None:
            items.append(("x-forwarded-for", request.client.host))
        if body:
            items.append(("x-http-body-sha256", hashlib.sha256(body).hexdigest()))
        given = {name: value for name, value in reversed(request.scope["headers"]) if name in _READ}
        for raw, name in _PASSED_ON:
            if raw in given:
                items.append((name, given[raw].decode("latin-1")))
        if (b"authorization" in given or b"cookie" in given) and (
            token := session_token(request)
        ) is not None:
            items.append(("x-session-token", token))
        for name, value in items:
            if len(value) > _MAX_HEADER_BYTES or not _PRINTABLE.fullmatch(value):
                raise Problem(
                    400, f"{name} is too long or has characters other than ASCII", reason="BAD_HEADER"
                )
        return tuple(items)

    def unary(self, method: MethodDescriptor) -> "UnaryCall":
        """What calls a unary method."""
        return UnaryCall(self, method, self._config.request_timeout_seconds)


class UnaryCall:
    """One unary method of the core."""

    def __init__(self, core: Core, method: MethodDescriptor, timeout_seconds: float) -> None:
        self._core = core
        self._method = method
        self._timeout_seconds = timeout_seconds

    async def __call__(self, message: Message, metadata: Metadata) -> Message:
        """The response. Problem if the core refuses or cannot be reached."""
        try:
            response: Message = await self._call(message, metadata=metadata, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return response

    @cached_property
    def _call(self) -> Any:
        # Made at the first call: the channel is open only then.
        method = self._method
        request: Any = GetMessageClass(method.input_type)
        response: Any = GetMessageClass(method.output_type)
        return self._core.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )


def request_id(scope: Scope) -> str:
    """The client's X-Request-Id if it is sane, else a new one; the same for the whole request."""
    state: dict[str, Any] = scope.setdefault("state", {})
    known = state.get("request_id")
    if known is None:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = given.decode("latin-1")
        if not _REQUEST_ID.fullmatch(known):
            known = secrets.token_hex(16)
        state["request_id"] = known
    return str(known)


def session_token(request: Request) -> str | None:
    """The session token: `Authorization: Bearer`, else the session cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip() or None
    return request.cookies.get(SESSION_COOKIE) or None


def public_request_url(request: Request, public_url: str) -> str:
    """The full URL as the client used it, query included: what a NIP-98 event signs as `u`."""
    scope = request.scope
    base = public_url or f"{scope['scheme']}://{request.headers.get('host', '')}"
    # The raw path, since decoding and encoding again need not give back what was signed.
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw.split(b"?", 1)[0].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return f"{base}{path}?{query}" if query else f"{base}{path}"
