"""Puts the gateway together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from coordinator_gateway import api, docs, httprule
from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import SESSION_COOKIE, Core, request_id
from coordinator_gateway.health import HealthCheck
from coordinator_gateway.hooks import drop_session
from coordinator_gateway.httprule import PathTemplate
from coordinator_gateway.hub import Hub
from coordinator_gateway.jsoncodec import InvalidFieldsError, InvalidJsonError
from coordinator_gateway.limits import HEALTH_PATH, AddressLimit, Buckets, KeyLimit
from coordinator_gateway.middleware import CommonHeaders
from coordinator_gateway.problems import Problem
from coordinator_gateway.routes import ApiRoute, ApiRoutes, api_routes, gone_routes
from coordinator_gateway.sse import EventStreams
from coordinator_gateway.web import WebApp


def create_app(config: GatewayConfig) -> Starlette:
    """The ASGI application. Its lifespan opens the channel to the core; `app.state.hub` is its Hub."""
    core = Core(config)
    hub = Hub(config, core)
    bindings = [binding for service in api.services() for binding in httprule.bindings(service)]
    routes: list[BaseRoute] = [
        ApiRoutes(
            [
                ApiRoute(PathTemplate(HEALTH_PATH), {"GET": HealthCheck(core, hub)}),
                *api_routes(bindings, config, core, EventStreams(config, core, hub)),
                *gone_routes(),
                *docs.routes(bindings),
            ]
        )
    ]
    if config.web_dir is not None:
        routes.append(Mount("/", WebApp(config.web_dir)))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        core.open()
        hub.start()
        try:
            yield
        finally:
            await hub.stop()
            await core.close()

    app = Starlette(
        routes=routes,
        middleware=_middleware(config),
        exception_handlers={
            Problem: _problem,
            InvalidFieldsError: _invalid_fields,
            InvalidJsonError: _invalid_json,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )
    # Around everything, so that the answer to an error of the gateway itself has the headers too.
    app.middleware_stack = CommonHeaders(app.build_middleware_stack(), config)
    app.state.hub = hub
    app.state.config = config
    return app


def _middleware(config: GatewayConfig) -> list[Middleware]:
    middleware: list[Middleware] = []
    if config.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "Last-Event-ID",
                    "X-Request-Id",
                ],
                expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
            )
        )
    if config.rate_limit_per_second:
        buckets = Buckets(config.rate_limit_per_second, config.rate_limit_burst)
        middleware.append(Middleware(AddressLimit, buckets))
    if config.rate_limit_per_second and config.key_rate_limit_per_second:
        buckets = Buckets(config.key_rate_limit_per_second, config.key_rate_limit_burst)
        middleware.append(Middleware(KeyLimit, buckets))
    return middleware


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    response = error.response(request.url.path)
    if error.status == 401 and SESSION_COOKIE in request.cookies and "authorization" not in request.headers:
        # Left in the browser, a session that has ended would spoil even what is open to everybody.
        drop_session(request, response, request.app.state.config.public_url)
    return response


async def _invalid_fields(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidFieldsError)
    problem = Problem(400, str(error), reason="INVALID_ARGUMENT", errors=error.violations)
    return problem.response(request.url.path)


async def _invalid_json(request: Request, error: Exception) -> Response:
    return Problem(400, f"The body is not JSON: {error}.", reason="INVALID_JSON").response(request.url.path)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "There is nothing here." if error.status_code == 404 else error.detail
    return Problem(error.status_code, detail, headers=error.headers).response(request.url.path)


async def _internal_error(request: Request, error: Exception) -> Response:
    problem = Problem(500, f"The gateway failed; ask with request id {request_id(request.scope)}.")
    return problem.response(request.url.path)
