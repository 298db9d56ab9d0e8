"""REST routes from the descriptors: no handler per RPC.

Every `google.api.http` binding becomes a route. A unary method answers with JSON, `EventService.Watch` with
an event stream.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import Core
from coordinator_gateway.hooks import RESPONSE_HOOKS
from coordinator_gateway.httprule import Binding, HttpRuleError, PathTemplate
from coordinator_gateway.jsonanswer import RawHeaders, send_answer
from coordinator_gateway.problems import Problem
from coordinator_gateway.sse import EventStreams

WATCH = "coordinator.v1.EventService.Watch"
Handler = Callable[[Scope, Receive, Send, dict[str, str]], Awaitable[None]]


class ApiRoute:
    """One path and what its verbs do."""

    def __init__(self, path: PathTemplate, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self.handlers = dict(handlers)
        self.allow = ", ".join(sorted(self.handlers))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request whose path fits, be its verb there or not."""
        handler = self.handlers.get(scope["method"])
        if handler is None:
            raise Problem(
                405,
                f"{scope['method']} is not possible here, only {self.allow}.",
                headers={"allow": self.allow},
            )
        await handler(scope, receive, send, scope["path_params"])


class ApiRoutes(BaseRoute):
    """All paths of the API: one look-up, however many there are."""

    def __init__(self, routes: Iterable[ApiRoute]) -> None:
        self._literal: dict[str, ApiRoute] = {}
        # Those with variables, by the number of slashes; a variable of any length fits any number.
        self._variable: dict[int, list[ApiRoute]] = {}
        self._any_length: list[ApiRoute] = []
        for route in routes:
            if not route.path.fields:
                self._literal.setdefault(route.path.text, route)
            elif "**" in route.path.text:
                self._any_length.append(route)
            else:
                self._variable.setdefault(route.path.text.count("/"), []).append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Fits if one of the paths does."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path: str = scope["path"]
        if (literal := self._literal.get(path)) is not None:
            return Match.FULL, {"path_params": {}, "api_route": literal}
        for route in (*self._variable.get(path.count("/"), ()), *self._any_length):
            values = route.path.match(path)
            if values is not None:
                return Match.FULL, {"path_params": values, "api_route": route}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> NoReturn:
        """Routes of the API have no names."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request whose path fits."""
        await scope["api_route"].handle(scope, receive, send)


def api_routes(
    bindings: Iterable[Binding], config: GatewayConfig, core: Core, streams: EventStreams
) -> list[ApiRoute]:
    """Routes of all bindings. HttpRuleError if two bindings collide or a method cannot be served."""
    paths: dict[str, dict[str, Handler]] = {}
    for binding in bindings:
        handlers = paths.setdefault(binding.path.text, {})
        if binding.verb in handlers:
            raise HttpRuleError(f"{binding.verb} {binding.path.text} is bound twice")
        if binding.method.server_streaming or binding.method.client_streaming:
            if binding.method.full_name != WATCH:
                raise HttpRuleError(f"{binding.method.full_name} streams and has no event stream here")
            handlers[binding.verb] = stream_handler(binding, streams)
        else:
            handlers[binding.verb] = unary_handler(binding, config, core)
    for handlers in paths.values():
        if "GET" in handlers and not getattr(handlers["GET"], "streams", False):
            handlers.setdefault("HEAD", handlers["GET"])
    # Literal segments before variables, whatever order the files have.
    return [ApiRoute(PathTemplate(path), paths[path]) for path in sorted(paths, key=_variables)]


def _variables(path: str) -> list[bool]:
    return ["{" in segment or "*" in segment for segment in path.split("/")]


def unary_handler(binding: Binding, config: GatewayConfig, core: Core) -> Handler:
    """Calls a unary method and answers with JSON."""
    call = core.unary(binding.method)
    hook = RESPONSE_HOOKS.get(binding.method.full_name)

    async def handle(scope: Scope, receive: Receive, send: Send, path_values: dict[str, str]) -> None:
        request = Request(scope, receive)
        body = await read_body(request, config)
        message = binding.request(path_values, scope["query_string"].decode("latin-1"), body)
        answer = await call(message, core.metadata(request, body, config.public_url))
        headers: RawHeaders = () if hook is None else hook(request, answer, config.public_url)
        await send_answer(scope, send, binding, answer, headers)

    return handle


def stream_handler(binding: Binding, streams: EventStreams) -> Handler:
    """Answers with the event stream."""

    async def handle(scope: Scope, receive: Receive, send: Send, path_values: dict[str, str]) -> None:
        request = Request(scope, receive)
        message: Any = binding.request(path_values, scope["query_string"].decode("latin-1"), b"")
        await streams.serve(request, message, receive, send)

    handle.streams = True  # type: ignore[attr-defined]
    return handle


async def read_body(request: Request, config: GatewayConfig) -> bytes:
    """The request's body. Problem if it is too large, too slow, or no JSON by its media type."""
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" not in request.headers:
        return b""
    limit = config.max_body_bytes
    too_large = Problem(413, f"The body may have {limit} bytes.", reason="BODY_TOO_LARGE")
    if length is not None and int(length) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(config.receive_timeout_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError as error:
        raise Problem(
            408, "The body takes too long.", reason="BODY_TOO_SLOW", headers={"connection": "close"}
        ) from error
    if body:
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise Problem(415, "The body must be application/json.", reason="UNSUPPORTED_MEDIA_TYPE")
    return bytes(body)


def gone_routes() -> list[ApiRoute]:
    """Paths of an earlier design, in which players sent nonces and signatures themselves."""

    async def gone(scope: Scope, receive: Receive, send: Send, path_values: dict[str, str]) -> None:
        join = f"/api/v1/competitions/{path_values['competition_id']}/keymeld/join"
        raise Problem(
            410,
            f"Keys and signatures are aggregated by keymeld: POST {join}.",
            reason="REPLACED_BY_KEYMELD",
            headers={"link": f'<{join}>; rel="successor-version"'},
            successor=join,
        )

    return [
        ApiRoute(PathTemplate(f"{prefix}/competitions/{{competition_id}}/{name}"), {"POST": gone})
        for prefix in ("/api", "/api/v1")
        for name in ("nonces", "signatures")
    ]
