"""The service over HTTP: the protocol's calls, and devnet's own to order faults."""

import asyncio
import json
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator_client.keymeld.client import SESSION_SIGNATURE_HEADER, USER_SIGNATURE_HEADER
from coordinator_client.keymeld.protocol import (
    InitializeRequest,
    ProtocolError,
    RegisterRequest,
    ReserveRequest,
    SigningRequest,
)

from .errors import ServiceError, bad_request
from .faults import Fault, FaultKind
from .service import KeymeldService

_LARGEST_BODY_BYTES: Final = 4 * 1024 * 1024


def create_app(service: KeymeldService) -> Starlette:
    """The ASGI application of a started service."""

    async def health(_: Request) -> Response:
        return JSONResponse(await service.health())

    async def version(_: Request) -> Response:
        features = {"service_participation": True, "user_authentication": True, "enclave_isolation": False}
        return JSONResponse(
            {"service": "keymeld-devnet", "version": "devnet", "api_version": "v1", "features": features}
        )

    async def enclaves(_: Request) -> Response:
        return JSONResponse(await service.enclaves())

    async def enclave_public_key(request: Request) -> Response:
        return JSONResponse(service.enclave_public_key(request.path_params["enclave_id"]))

    async def reserve(request: Request) -> Response:
        return JSONResponse(await service.reserve(ReserveRequest.from_json(await _body(request))))

    async def initialize(request: Request) -> Response:
        body = InitializeRequest.from_json(await _body(request))
        return JSONResponse(await service.initialize(request.path_params["session_id"], body))

    async def slots(request: Request) -> Response:
        return JSONResponse(await service.keygen_slots(request.path_params["session_id"]))

    async def register(request: Request) -> Response:
        body = RegisterRequest.from_json(await _body(request))
        header = request.headers.get(SESSION_SIGNATURE_HEADER)
        return JSONResponse(await service.register(request.path_params["session_id"], body, header))

    async def keygen_status(request: Request) -> Response:
        header = request.headers.get(SESSION_SIGNATURE_HEADER)
        return JSONResponse(await service.keygen_status(request.path_params["session_id"], header))

    async def create_signing(request: Request) -> Response:
        body = SigningRequest.from_json(await _body(request))
        return JSONResponse(await service.create_signing(body, request.headers.get(SESSION_SIGNATURE_HEADER)))

    async def approve(request: Request) -> Response:
        path = request.path_params
        header = request.headers.get(USER_SIGNATURE_HEADER)
        return JSONResponse(await service.approve(path["signing_id"], path["user_id"], header))

    async def signing_status(request: Request) -> Response:
        path = request.path_params
        header = request.headers.get(USER_SIGNATURE_HEADER)
        return JSONResponse(await service.signing_status(path["signing_id"], path["user_id"], header))

    async def order_fault(request: Request) -> Response:
        fault = Fault.from_json(await _body(request))
        if fault.kind == FaultKind.RESTART:
            service.restart_enclaves()
        else:
            service.faults.order(fault)
        return JSONResponse({"kind": fault.kind}, status_code=201)

    async def clear_faults(_: Request) -> Response:
        service.faults.clear()
        return Response(status_code=204)

    async def rotate(request: Request) -> Response:
        enclave_id = request.path_params["enclave_id"]
        await service.rotate(enclave_id)
        return JSONResponse(service.enclave_public_key(str(enclave_id)))

    api = [
        Route("/health", health),
        Route("/version", version),
        Route("/enclaves", enclaves),
        Route("/enclaves/{enclave_id}/public-key", enclave_public_key),
        Route("/keygen/reserve", reserve, methods=["POST"]),
        Route("/keygen/{session_id}/initialize", initialize, methods=["POST"]),
        Route("/keygen/{session_id}/slots", slots),
        Route("/keygen/{session_id}/participants", register, methods=["POST"]),
        Route("/keygen/{session_id}/status", keygen_status),
        Route("/signing", create_signing, methods=["POST"]),
        Route("/signing/{signing_id}/approve/{user_id}", approve, methods=["POST"]),
        Route("/signing/{signing_id}/status/{user_id}", signing_status),
    ]
    devnet = [
        Route("/faults", order_fault, methods=["POST"]),
        Route("/faults", clear_faults, methods=["DELETE"]),
        Route("/enclaves/{enclave_id:int}/rotate", rotate, methods=["POST"]),
    ]
    app = Starlette(
        routes=[
            Mount("/api/v1", routes=api),
            Route("/health", health),
            Mount("/devnet/keymeld", routes=devnet),
        ],
        exception_handlers={
            ServiceError: _service_error,
            ProtocolError: _protocol_error,
            HTTPException: _no_such_call,
            Exception: _internal_error,
        },
    )
    app.add_middleware(_FaultMiddleware, service=service)
    # Browsers talk to keymeld themselves: a player's private key goes from his browser to the enclave.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["content-type", SESSION_SIGNATURE_HEADER, USER_SIGNATURE_HEADER],
    )
    return app


async def _body(request: Request) -> Any:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > _LARGEST_BODY_BYTES:
            raise ServiceError(
                413, "bad_request", f"The request exceeds maximum of {_LARGEST_BODY_BYTES} bytes"
            )
    try:
        return json.loads(chunks)
    except ValueError:
        raise bad_request("The request is not JSON") from None


def _error(status: int, kind: str, text: str) -> Response:
    return JSONResponse({"error": {"type": kind, "message": text, "code": status}}, status_code=status)


async def _service_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return _error(error.status, error.kind, str(error))


async def _protocol_error(_: Request, error: Exception) -> Response:
    return _error(400, "bad_request", str(error))


async def _no_such_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, "not_found", f"No such call: {request.method} {request.url.path}")


async def _internal_error(_: Request, __: Exception) -> Response:
    return _error(500, "internal_error", "Internal error")


class _FaultMiddleware:
    """Makes the faults that concern requests happen."""

    def __init__(self, app: ASGIApp, service: KeymeldService) -> None:
        self._app = app
        self._faults = service.faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.startswith("/devnet/"):
            await self._app(scope, receive, send)
            return
        if (fault := self._faults.strike(path, FaultKind.DELAY)) is not None:
            await asyncio.sleep(fault.seconds)
        fault = self._faults.strike(path, FaultKind.DROP, FaultKind.ERROR)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.kind == FaultKind.ERROR:
            await _error(fault.status, "ordered_fault", "A fault was ordered")(scope, receive, send)
        else:
            if fault.after:
                await self._app(scope, receive, _swallow)
            # A body shorter than announced makes the server close the connection.
            headers = [(b"content-length", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _swallow(_: Any) -> None:
    """Send nothing."""
