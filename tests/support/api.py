"""The API over a real socket: a world with a gRPC server on it, and a client that signs its calls."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from coordinator.api.server import SERVICES, ApiServer, build_server
from coordinator.core import Core
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from support.world import World, running_world

ADMIN = NostrKey(b"\x77" * 32)
AUTHORITY = "core.test:50051"
GATEWAY_TOKEN = "a-gateway-token-for-tests"
METHODS = {
    f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
}

Metadata = Sequence[tuple[str, str]]


def full_name(method: str) -> str:
    """`Service/Method` as gRPC names it."""
    return f"/coordinator.v1.{method}"


class ApiError(Exception):
    """A call was refused: what its status says."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code = error.code().name
        self.message = error.details() or ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.retry_seconds: int | None = None
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                assert info.domain == "coordinator.v1"
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                self.fields = {v.field: v.description for v in bad.field_violations}
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                self.retry_seconds = retry.retry_delay.seconds


class ApiClient:
    """Calls methods as a stranger, or as a key by NIP-98."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
        )

    async def close(self) -> None:
        await self.channel.close()

    @staticmethod
    def signed(method: str, body: bytes, key: NostrKey, **options: Any) -> tuple[str, str]:
        """The authorization of a direct call."""
        url = f"grpc://{AUTHORITY}{full_name(method)}"
        return "authorization", authorization(key, url, "POST", body, **options)

    async def call(
        self,
        method: str,
        request: Message | None = None,
        key: NostrKey | None = None,
        metadata: Metadata = (),
        *,
        body: bytes | None = None,
        timeout: float = 20,
    ) -> Any:
        """The response. ApiError if it is refused."""
        descriptor = METHODS[full_name(method)]
        request_class: Any = GetMessageClass(descriptor.input_type)
        response_class: Any = GetMessageClass(descriptor.output_type)
        if body is None:
            body = (request if request is not None else request_class()).SerializeToString()
        if key is not None:
            metadata = (*metadata, self.signed(method, body, key))
        call = self.channel.unary_unary(full_name(method), response_deserializer=response_class.FromString)
        try:
            return await call(body, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise ApiError(error) from None

    def watch(self, request: Message, metadata: Metadata = ()) -> Any:
        """An open stream of `EventService/Watch`."""
        descriptor = METHODS[full_name("EventService/Watch")]
        response_class: Any = GetMessageClass(descriptor.output_type)
        call = self.channel.unary_stream(
            full_name("EventService/Watch"), response_deserializer=response_class.FromString
        )
        return call(request.SerializeToString(), metadata=metadata)


@dataclass
class Api:
    """A world, its server and a client of it."""

    world: World
    server: ApiServer
    port: int
    client: ApiClient

    @property
    def core(self) -> Core:
        return self.world.core

    async def call(self, method: str, request: Message | None = None, *args: Any, **options: Any) -> Any:
        return await self.client.call(method, request, *args, **options)

    def over_http(
        self,
        url: str,
        http_method: str,
        body: bytes = b"",
        key: NostrKey | None = None,
        *,
        token: str = GATEWAY_TOKEN,
    ) -> Metadata:
        """What the gateway sends along for an HTTP request."""
        items = [("x-coordinator-gateway", token), ("x-http-url", url), ("x-http-method", http_method)]
        if body:
            items.append(("x-http-body-sha256", hashlib.sha256(body).hexdigest()))
        if key is not None:
            items.append(("authorization", authorization(key, url, http_method, body)))
        return items


@asynccontextmanager
async def running_api(
    folder: Path, *, heartbeat_seconds: float = 10, **settings: object
) -> AsyncIterator[Api]:
    """A world that serves the API."""
    async with running_world(folder, grpc_authorities=AUTHORITY, **settings) as world:
        server, port = build_server(world.core, world.contracts, heartbeat_seconds=heartbeat_seconds)
        await server.start()
        client = ApiClient(port)
        try:
            yield Api(world, server, port, client)
        finally:
            await client.close()
            await server.stop(1)
