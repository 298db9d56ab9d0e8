"""Direct gRPC calls with the generated stubs, each signed by the caller's Nostr key (NIP-98).

For admins and integrators: `async with GrpcClient("127.0.0.1:50051", key) as client: await
client.wallet.get_balance(GetBalanceRequest())`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeVar

import betterproto
from grpclib.client import Channel
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

S = TypeVar("S", bound=betterproto.ServiceStub)


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

    Calls raise `ApiError` where the core refuses and `Unavailable` where it does not answer.
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
            tls: None for an unencrypted channel (same machine).
            timeout_seconds: of a single call; streams have none.
        """
        host, _, port = address.rpartition(":")
        self.channel = Channel(host.strip("[]"), int(port), ssl=tls)
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

    def _stub(self, kind: type[S]) -> S:
        """The generated stub, but every call is signed and its errors are this package's."""
        client = self

        class Signed(kind):  # type: ignore[valid-type,misc]
            async def _unary_unary(
                self, route: str, request: betterproto.Message, response_type: Any, **options: Any
            ) -> Any:
                options["metadata"] = client.metadata(route, request)
                options["timeout"] = options.get("timeout") or client._timeout_seconds
                try:
                    return await super()._unary_unary(route, request, response_type, **options)
                except (GRPCError, StreamTerminatedError, OSError, TimeoutError) as error:
                    raise client_error(error) from error

            async def _unary_stream(
                self, route: str, request: betterproto.Message, response_type: Any, **options: Any
            ) -> AsyncIterator[Any]:
                options["metadata"] = client.metadata(route, request)
                try:
                    async for item in super()._unary_stream(route, request, response_type, **options):
                        yield item
                except (GRPCError, StreamTerminatedError, OSError, TimeoutError) as error:
                    raise client_error(error) from error

        return Signed(self.channel)


def client_error(error: Exception) -> ClientError:
    """What a failed call means; google.rpc details become reason and field errors."""
    if not isinstance(error, GRPCError):
        return Unavailable(f"the core does not answer: {type(error).__name__}")
    if error.status.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return Unavailable(error.message or error.status.name)
    reason, fields, seconds = error.status.name, [], None
    for detail in error.details if isinstance(error.details, list) else ():
        match type(detail).__name__:
            case "ErrorInfo":
                reason = detail.reason
            case "BadRequest":
                fields += [FieldError(v.field, v.description) for v in detail.field_violations]
            case "RetryInfo":
                seconds = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
    return ApiError(
        reason,
        error.message or error.status.name,
        code=error.status.name,
        field_errors=tuple(fields),
        retry_after_seconds=seconds,
    )
