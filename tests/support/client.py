"""HTTP and gRPC answers made up in the process, for clients under test."""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import verify
from coordinator_client.rest import RestClient

BASE = "https://coordinator.test"
KEY = NostrKey(b"\x21" * 32)

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def client(handler: Handler, key: NostrKey | None = KEY) -> RestClient:
    """A client whose requests go to the handler."""
    return RestClient(BASE, key, transport=httpx.MockTransport(handler))  # type: ignore[arg-type]


def signer(request: httpx.Request) -> tuple[str, str]:
    """(pubkey, event id) of a request's NIP-98 login, judged as the coordinator judges it."""
    body = request.content
    event = verify(
        request.headers["authorization"],
        url=str(request.url),
        method=request.method,
        body_sha256=hashlib.sha256(body).digest() if body else None,
        now=int(time.time()),
    )
    return event.pubkey, event.id


def problem(status: int, **members: Any) -> httpx.Response:
    """A problem document as the gateway writes it."""
    document = {"status": status, "title": "No", "detail": "not now", **members}
    return httpx.Response(status, json=document, headers={"content-type": "application/problem+json"})


Outcome = bytes | status_pb2.Status
"""What a call gets: a serialised response, or an error's status with its details."""


@dataclass
class Received:
    """One call as it arrived."""

    method: str
    body: bytes
    metadata: dict[str, str]
    seconds_left: float

    def signer(self, authority: str) -> tuple[str, str]:
        """(pubkey, event id) of the call's NIP-98 login, judged as the core judges it."""
        event = verify(
            self.metadata["authorization"],
            url=f"grpc://{authority}{self.method}",
            method="POST",
            body_sha256=hashlib.sha256(self.body).digest(),
            now=int(time.time()),
        )
        return event.pubkey, event.id


class ScriptedCore(grpc.GenericRpcHandler):
    """A gRPC server without a core: each call of any method gets the next outcome, the last for ever."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.received: list[Received] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Answers every method."""

        async def answer(body: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            call = Received(handler_call_details.method, body, metadata, context.time_remaining())
            self.received.append(call)
            outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            if isinstance(outcome, bytes):
                return outcome
            status = rpc_status.to_status(outcome)
            await context.abort(status.code, status.details, status.trailing_metadata)
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def scripted(core: ScriptedCore) -> AsyncIterator[int]:
    """The port it serves on."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((core,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def status(code: str, message: str = "no", *details: Message) -> status_pb2.Status:
    """An error as a server tells it."""
    told = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        told.details.add().Pack(detail)
    return told
