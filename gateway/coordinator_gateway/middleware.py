"""Around every request: an id, security headers, and a limit per address."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import request_id
from coordinator_gateway.problems import retry_later

HEALTH_PATH = "/api/v1/health_check"


class CommonHeaders:
    """Adds the request's id and the security headers to every answer."""

    def __init__(self, app: ASGIApp, config: GatewayConfig) -> None:
        self.app = app
        self._headers = [(name.encode(), value.encode()) for name, value in security_headers(config).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added = [*self._headers, (b"x-request-id", request_id(scope).encode())]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def security_headers(config: GatewayConfig) -> dict[str, str]:
    """Headers for every answer; the policy suits a bundled app: own scripts only, none inline."""
    connect = " ".join(["'self'", *config.connect_origins])
    headers = {
        "content-security-policy": (
            "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
            # Attributes only: a library that positions things, not a foreign style sheet.
            "style-src-attr 'unsafe-inline'; "
            f"img-src 'self' data: blob:; connect-src {connect}; worker-src 'self' blob:; "
            "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(self), geolocation=(), microphone=()",
    }
    if urlsplit(config.public_url).scheme == "https":
        headers["strict-transport-security"] = "max-age=31536000"
    return headers


class RateLimit:
    """A token bucket per client address for the API; a Problem (429) for who has none left.

    The health check is let through: whoever asks it must not be told that the service is down.
    """

    def __init__(
        self,
        app: ASGIApp,
        per_second: float,
        burst: int,
        *,
        max_addresses: int = 100_000,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.app = app
        self._per_second = per_second
        self._burst = burst
        self._max_addresses = max_addresses
        self._clock = clock
        # Address -> tokens, when they were counted; the one used longest ago first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/") and scope["path"] != HEALTH_PATH:
            wait = self.take((scope.get("client") or ("", 0))[0])
            if wait > 0:
                problem = retry_later(
                    429, "Too many requests from this address.", wait, reason="RATE_LIMITED"
                )
                await problem.response(scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def take(self, address: str) -> float:
        """Takes a token: 0.0 if there was one, else in how many seconds there is."""
        now = self._clock()
        tokens, counted_at = self._buckets.pop(address, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - counted_at) * self._per_second)
        granted = tokens >= 1
        self._buckets[address] = (tokens - 1 if granted else tokens, now)
        if len(self._buckets) > self._max_addresses:
            self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - tokens) / self._per_second
