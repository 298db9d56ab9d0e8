"""Around every request: an id and security headers."""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import request_id


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
