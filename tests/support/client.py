"""HTTP answers made up in the process, for clients under test."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

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
