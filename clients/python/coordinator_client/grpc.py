"""Direct gRPC calls with the generated stubs, each signed by the caller's Nostr key (NIP-98).

For admins and integrators: `async with GrpcClient("127.0.0.1:50051", key) as client: await
client.wallet.get_balance(GetBalanceRequest())`.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import betterproto
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, StreamTerminatedError

from coordinator_client.errors import ApiError, ClientError, FieldError, Unavailable
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from coordinator_client.proto.coordinator.v1 import (
    CompetitionServiceStub,
    EntryServiceStub,
    EventServiceStub,
    KeymeldServiceStub,
    PayoutServiceStub,
    TicketServiceStub,
    UserServiceStub,
    WalletServiceStub,
)
from coordinator_client.retry import NEED_IDEMPOTENCY_KEY, RetryPolicy, retry_policies
from coordinator_client.status_details import BadRequest, ErrorInfo, RetryInfo, StatusDetailsCodec

S = TypeVar("S", bound=betterproto.ServiceStub)

# A dead connection is found out within 40 s while something is awaited; the core allows a ping every 10 s.
_CONFIGURATION: Final = Configuration(
    _keepalive_time=30.0,
    _keepalive_timeout=10.0,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=10.0,
)
_FAILURES: Final = (GRPCError, StreamTerminatedError, OSError, TimeoutError)


def tls_context(
    ca_file: Path | None = None, certificate_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """TLS for `GrpcClient`.

    Args:
        ca_file: whose certificates are trusted, PEM; None: the system's authorities.
        certificate_file, key_file: the client's own, for a core that asks for one, PEM.

    Raises:
        OSError, ValueError: a file cannot be read, or is not what it should be.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if certificate_file is not None:
        context.load_cert_chain(certificate_file, key_file)
    return context


def grpc_authorization(key: NostrKey, authority: str, route: str, request: bytes) -> str:
    """The `authorization` metadata of one call.

    Args:
        key: who calls.
        authority: host:port by which the core knows itself (COORDINATOR_GRPC_AUTHORITIES).
        route: `/package.Service/Method`.
        request: the serialised request as it is sent.
    """
    # The SHA256 of an empty message is what "no payload" stands for on both sides.
    return authorization(key, f"grpc://{authority}{route}", "POST", request)


class GrpcClient:
    """All services of one core over one channel. Use as an async context manager, or call `close`.

    Calls raise `ApiError` where the core refuses and `Unavailable` where it does not answer. What
    `service_config.json` names is tried a few times while the core is unavailable, each time signed anew;
    those of it that make something get an `idempotency-key`, unless the caller's `metadata` has one.
    """

    def __init__(
        self,
        address: str,
        key: NostrKey | None = None,
        *,
        authority: str = "",
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        """
        Args:
            address: host:port of the core.
            key: signs each call; None for what is public.
            authority: what is signed as the core's name; the address if empty.
            tls: None for an unencrypted channel (same machine); else see `tls_context`.
            timeout_seconds: of a single call with all its attempts; streams have none.
        """
        host, _, port = address.rpartition(":")
        self.channel = Channel(
            host.strip("[]"),
            int(port),
            ssl=tls,
            status_details_codec=StatusDetailsCodec(),
            config=_CONFIGURATION,
        )
        self._key = key
        self._authority = authority or address
        self._timeout_seconds = timeout_seconds
        self.competitions = self._stub(CompetitionServiceStub)
        self.entries = self._stub(EntryServiceStub)
        self.events = self._stub(EventServiceStub)
        self.keymeld = self._stub(KeymeldServiceStub)
        self.payouts = self._stub(PayoutServiceStub)
        self.tickets = self._stub(TicketServiceStub)
        self.users = self._stub(UserServiceStub)
        self.wallet = self._stub(WalletServiceStub)

    async def __aenter__(self) -> GrpcClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

    def metadata(self, route: str, request: betterproto.Message) -> dict[str, str]:
        """The metadata of one call; never use it for a second one."""
        if self._key is None:
            return {}
        return {"authorization": grpc_authorization(self._key, self._authority, route, bytes(request))}

    async def _repeated(
        self,
        call: Callable[..., Awaitable[Any]],
        route: str,
        request: betterproto.Message,
        response_type: Any,
        options: dict[str, Any],
    ) -> Any:
        """The response to a unary call, made as often as its policy says."""
        policy = retry_policies().get(route)
        metadata = dict(options.get("metadata") or ())
        if route in NEED_IDEMPOTENCY_KEY and not getattr(request, "idempotency_key", ""):
            metadata.setdefault("idempotency-key", secrets.token_hex(16))
        ends_at = time.monotonic() + (options.get("timeout") or self._timeout_seconds)
        attempt = 0
        while True:
            options["timeout"] = max(ends_at - time.monotonic(), 0.001)
            options["metadata"] = metadata | self.metadata(route, request)
            try:
                return await call(route, request, response_type, **options)
            except _FAILURES as error:
                failure = client_error(error)
                delay = _delay(policy, attempt, error, failure)
                if delay is None or time.monotonic() + delay >= ends_at:
                    raise failure from error
            await asyncio.sleep(delay)
            attempt += 1

    def _stub(self, kind: type[S]) -> S:
        """The generated stub, but every call is signed and its errors are this package's."""
        client = self

        class Signed(kind):  # type: ignore[valid-type,misc]
            async def _unary_unary(
                self, route: str, request: betterproto.Message, response_type: Any, **options: Any
            ) -> Any:
                return await client._repeated(super()._unary_unary, route, request, response_type, options)

            async def _unary_stream(
                self, route: str, request: betterproto.Message, response_type: Any, **options: Any
            ) -> AsyncIterator[Any]:
                options["metadata"] = dict(options.get("metadata") or ()) | client.metadata(route, request)
                try:
                    async for item in super()._unary_stream(route, request, response_type, **options):
                        yield item
                except _FAILURES as error:
                    raise client_error(error) from error

        return Signed(self.channel)


def client_error(error: Exception) -> ClientError:
    """What a failed call means; google.rpc details become reason, field errors and the time to wait."""
    if not isinstance(error, GRPCError):
        return Unavailable(f"the core does not answer: {type(error).__name__}")
    status: str = error.status.name
    message: str = error.message or status
    reason, fields, seconds = "", list[FieldError](), None
    for detail in error.details or ():
        match detail:
            case ErrorInfo():
                reason = detail.reason
            case BadRequest():
                fields += [FieldError(v.field, v.description) for v in detail.field_violations]
            case RetryInfo():
                seconds = detail.retry_delay.total_seconds()
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return Unavailable(message, reason=reason, retry_after_seconds=seconds)
    return ApiError(
        reason or status, message, code=status, field_errors=tuple(fields), retry_after_seconds=seconds
    )


def _status_name(error: Exception) -> str:
    """The gRPC status of a failed call, also where no answer came (gRPC core's `statuscodes.md`)."""
    if isinstance(error, GRPCError):
        return str(error.status.name)
    return "DEADLINE_EXCEEDED" if isinstance(error, TimeoutError) else "UNAVAILABLE"


def _delay(policy: RetryPolicy | None, attempt: int, error: Exception, failure: ClientError) -> float | None:
    """Seconds until the next attempt; None: there is none."""
    if policy is None or attempt + 1 >= policy.max_attempts or _status_name(error) not in policy.codes:
        return None
    asked = getattr(failure, "retry_after_seconds", None)
    if asked is None:
        return policy.delay(attempt)
    # Whoever is told to wait for longer than this decides for himself.
    return float(asked) if asked <= policy.longest_seconds else None
