"""How many requests an address, and a key, may make: token buckets, answered by 429 with Retry-After.

A key is limited by what the core has accepted from it. The gateway verifies no signature, and requests that
name another's key must not use up what that other may do.
"""

import base64
import binascii
import hashlib
import ipaddress
import json
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator_gateway.core import session_token
from coordinator_gateway.problems import retry_later

HEALTH_PATH = "/api/v1/health_check"
_MAX_KEYS = 100_000
# One customer of a provider has at least this much of IPv6 (RFC 6177).
_IPV6_PREFIX = 64
_UNAUTHORIZED = 401


class Buckets:
    """A token bucket for each key; those used longest ago are forgotten."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        max_keys: int = _MAX_KEYS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_keys = max_keys
        self._clock = clock
        # Key -> tokens, when they were counted; the one used longest ago first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """In how many seconds there is a token, 0.0 if there is one."""
        return max(0.0, (1 - self._tokens(key)) / self._per_second)

    def take(self, key: str) -> float:
        """Takes a token: 0.0 if there was one, else in how many seconds there is."""
        tokens = self._tokens(key)
        granted = tokens >= 1
        self._keep(key, tokens - 1 if granted else tokens)
        return 0.0 if granted else (1 - tokens) / self._per_second

    def charge(self, key: str) -> None:
        """Takes a token that has been used already; the bucket may owe some then."""
        self._keep(key, self._tokens(key) - 1)

    def __len__(self) -> int:
        return len(self._buckets)

    def _tokens(self, key: str) -> float:
        now = self._clock()
        tokens, counted_at = self._buckets.get(key, (float(self._burst), now))
        return min(self._burst, tokens + (now - counted_at) * self._per_second)

    def _keep(self, key: str, tokens: float) -> None:
        self._buckets[key] = (tokens, self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)


class AddressLimit:
    """Lets through what an address's bucket allows."""

    def __init__(self, app: ASGIApp, buckets: Buckets) -> None:
        self.app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_limited(scope) and (wait := self._buckets.take(address_of(scope))) > 0:
            await _refuse("Too many requests from this address.", wait, scope, receive, send)
            return
        await self.app(scope, receive, send)


class KeyLimit:
    """Lets through what a key's or session's bucket allows. What the core does not accept costs nothing."""

    def __init__(self, app: ASGIApp, buckets: Buckets) -> None:
        self.app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = key_of(scope) if _is_limited(scope) else None
        if key is None:
            await self.app(scope, receive, send)
            return
        if (wait := self._buckets.wait(key)) > 0:
            await _refuse("Too many requests with this key.", wait, scope, receive, send)
            return

        async def send_and_charge(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != _UNAUTHORIZED:
                self._buckets.charge(key)
            await send(message)

        await self.app(scope, receive, send_and_charge)


def _is_limited(scope: Scope) -> bool:
    """The API is; whoever asks for its health must not be told that it is down."""
    path: str = scope.get("path", "")
    return scope["type"] == "http" and path.startswith("/api/") and path != HEALTH_PATH


async def _refuse(detail: str, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
    problem = retry_later(429, detail, wait, reason="RATE_LIMITED")
    await problem.response(scope["path"])(scope, receive, send)


def address_of(scope: Scope) -> str:
    """The client's address; of IPv6 the network, whose addresses are one client's."""
    host: str = (scope.get("client") or ("", 0))[0]
    if ":" in host:
        try:
            return str(ipaddress.IPv6Network((host.partition("%")[0], _IPV6_PREFIX), strict=False))
        except ValueError:
            return host
    return host


def key_of(scope: Scope) -> str | None:
    """The public key that signed the request, as it says, or a name for its session; None without either."""
    names = {name for name, _ in scope["headers"]}
    if not names & {b"authorization", b"cookie"}:
        return None
    request = Request(scope)
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "nostr":
        return _pubkey(credentials)
    token = session_token(request)
    return None if token is None else f"session:{hashlib.sha256(token.encode()).hexdigest()}"


def _pubkey(credentials: str) -> str | None:
    """Of a NIP-98 event that need not be valid."""
    try:
        event = json.loads(base64.b64decode(credentials.strip()))
    except (ValueError, binascii.Error, RecursionError):
        return None
    pubkey = event.get("pubkey") if isinstance(event, dict) else None
    return pubkey if isinstance(pubkey, str) and len(pubkey) == 64 else None
