"""Settings of the gateway, from the environment (`COORDINATOR_GATEWAY_*`) and the command line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

PREFIX = "COORDINATOR_GATEWAY_"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it."""


@dataclass(frozen=True)
class GatewayConfig:
    """Everything the gateway can be told. Each field `x` is read from `COORDINATOR_GATEWAY_X`."""

    # Where the core listens for gRPC, host:port.
    core: str = "127.0.0.1:50051"
    # PEM file with the CA of the core's certificate; none: no TLS, for a core on the same machine or network.
    core_tls_ca: Path | None = None
    # Shared with the core: it believes forwarded HTTP facts only with this token.
    token: str = field(default="", repr=False)
    # File that holds the token instead.
    token_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    # As clients reach it, e.g. https://play.example.org; empty: taken from each request's Host header.
    public_url: str = ""
    # Reverse proxies whose X-Forwarded-For and -Proto are believed, comma-separated, or *.
    trusted_proxies: str = "127.0.0.1"
    # Built web app to serve at /; none: API only.
    web_dir: Path | None = None
    # Further origins that the web app may talk to (keymeld, Esplora, Nostr relays): Content-Security-Policy.
    connect_origins: tuple[str, ...] = ()
    # Origins of other sites that may call the API from a browser (CORS); empty: none.
    cors_origins: tuple[str, ...] = ()
    # Largest request body.
    max_body_bytes: int = 1024 * 1024
    # Largest answer of the core.
    max_response_bytes: int = 64 * 1024 * 1024
    # How long the core may take over a unary call.
    request_timeout_seconds: float = 30.0
    # Requests per second and address that are let through for long, and how many at once. 0: no limit, of
    # keys neither.
    rate_limit_per_second: float = 50.0
    rate_limit_burst: int = 200
    # The same for a signing key, or a session, whatever addresses it comes from.
    key_rate_limit_per_second: float = 25.0
    key_rate_limit_burst: int = 100
    # Open connections; further ones are closed at once.
    max_connections: int = 25_000
    # How long a connection may take to send its first request, and a request to send its body.
    receive_timeout_seconds: float = 20.0
    # Event streams at a time, and of these from one address.
    max_streams: int = 20_000
    max_streams_per_address: int = 200
    # Events kept in memory to resume from.
    event_ring: int = 10_000
    # Events that may wait for a client whose connection takes no more before it is cut.
    client_queue: int = 1_000
    # How long a client's connection may take nothing before it is cut.
    client_stall_seconds: float = 30.0
    # Longest silence on an event stream.
    heartbeat_seconds: float = 15.0
    # What clients wait before they reconnect (the `retry:` field).
    retry_milliseconds: int = 2000
    # How old a snapshot given to a new client may be; the events since then follow it.
    snapshot_seconds: float = 1.0
    # Silence of the core after which its event stream is opened anew.
    upstream_idle_seconds: float = 90.0
    # How long requests in flight may take when the gateway stops.
    shutdown_seconds: int = 10

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{PREFIX}{name.upper()} must be more than 0")
        for name in ("rate_limit_per_second", "key_rate_limit_per_second"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{PREFIX}{name.upper()} must not be less than 0")
        if self.client_queue > self.event_ring:
            raise ConfigError(f"{PREFIX}CLIENT_QUEUE must not be more than {PREFIX}EVENT_RING")
        if self.public_url:
            url = urlsplit(self.public_url)
            if url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment:
                raise ConfigError(f"{PREFIX}PUBLIC_URL must be like https://play.example.org")
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        if self.token_file is not None and not self.token:
            object.__setattr__(self, "token", _read_token(self.token_file))
        for origin in (*self.connect_origins, *self.cors_origins):
            if not origin.isascii() or any(c in origin for c in " ;,'\"\r\n"):
                raise ConfigError(f"{origin!r} is not an origin")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from the environment; `overrides` that are not None go first. ConfigError if unusable."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            text = environ.get(PREFIX + setting.name.upper())
            if text is not None:
                values[setting.name] = _parse(setting.name, text)
        values |= {name: value for name, value in overrides.items() if value is not None}
        if overrides.get("token_file") is not None:
            values.pop("token", None)
        return cls(**values)

    def with_(self, **changes: Any) -> Self:
        """The same settings but for `changes`."""
        return replace(self, **changes)


_POSITIVE = (
    "max_body_bytes",
    "max_response_bytes",
    "request_timeout_seconds",
    "rate_limit_burst",
    "key_rate_limit_burst",
    "max_connections",
    "receive_timeout_seconds",
    "max_streams",
    "max_streams_per_address",
    "event_ring",
    "client_queue",
    "client_stall_seconds",
    "heartbeat_seconds",
    "snapshot_seconds",
    "upstream_idle_seconds",
    "shutdown_seconds",
)
_DEFAULTS = {setting.name: setting.default for setting in fields(GatewayConfig)}


def _parse(name: str, text: str) -> Any:
    default = _DEFAULTS[name]
    try:
        match default:
            case int():
                return int(text)
            case float():
                return float(text)
            case tuple():
                return tuple(part for part in text.replace(",", " ").split() if part)
            case None:
                return Path(text) if text else None
            case _:
                return text
    except ValueError as error:
        raise ConfigError(f"{PREFIX}{name.upper()} must be a number") from error


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{PREFIX}TOKEN_FILE {path}: {error.strerror}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"{PREFIX}TOKEN_FILE {path} must hold one line of ASCII")
    return token
