"""The oracle's HTTP interface: the live weather oracle's, and devnet's levers under `/devnet/oracle`.

Writes to `/oracle` need a NIP-98 `Authorization` header; the event belongs to its key. Every write may be
repeated, so a replayed header does no harm. The levers take none: they are for whoever runs devnet.
"""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coordinator.adapters.weather_wire import rfc3339
from coordinator_client.nostr import Nip98Error, Nip98Reason, hex_to_npub
from coordinator_client.nostr.nip98 import verify

from .errors import Conflict, InvalidRequest, NotFound, NotYours, OracleServiceError
from .service import Event, OracleService


class _Unauthenticated(OracleServiceError):
    """No login."""


_STATUS: Mapping[type[Exception], int] = {
    InvalidRequest: 400,
    _Unauthenticated: 401,
    NotYours: 403,
    NotFound: 404,
    Conflict: 409,
}


def create_app(service: OracleService) -> Starlette:
    """The application; starting and stopping the service is the caller's."""

    async def pubkey(_: Request) -> Response:
        return JSONResponse({"key": base64.b64encode(service.public_key).decode()})

    async def npub(_: Request) -> Response:
        return JSONResponse({"key": service.npub})

    async def create_event(request: Request) -> Response:
        coordinator = await _login(request)
        event = await service.create_event(coordinator, await _body(request))
        return JSONResponse(_event_json(service, event))

    async def list_events(_: Request) -> Response:
        return JSONResponse([_summary_json(service, event) for event in await service.list_events()])

    async def get_event(request: Request) -> Response:
        return JSONResponse(_event_json(service, await service.get_event(request.path_params["event_id"])))

    async def add_entries(request: Request) -> Response:
        coordinator = await _login(request)
        event_id = request.path_params["event_id"]
        event = await service.add_entries(coordinator, event_id, await _body(request))
        return JSONResponse(_entries_json(service, event))

    async def get_entry(request: Request) -> Response:
        event = await service.get_event(request.path_params["event_id"])
        for entry in _entries_json(service, event):
            if entry["id"] == request.path_params["entry_id"]:
                return JSONResponse(entry)
        raise NotFound(f"event {event.id} has no such entry")

    async def attest(request: Request) -> Response:
        """`{"winners": [index, ...]}` (best first) or `{"refund": true}` → the event."""
        ranking = _ranking(await _body(request))
        event = await service.attest(request.path_params["event_id"], ranking)
        return JSONResponse(_event_json(service, event))

    async def withhold(request: Request) -> Response:
        """The event is never attested by itself → the event."""
        event = await service.withhold(request.path_params["event_id"])
        return JSONResponse(_event_json(service, event))

    def refused(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, _STATUS[type(error)])

    def login_refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Nip98Error)
        status = {Nip98Reason.MALFORMED: 400, Nip98Reason.BAD_SIGNATURE: 403}.get(error.reason, 401)
        return JSONResponse({"error": str(error)}, status)

    return Starlette(
        routes=[
            Route("/oracle/pubkey", pubkey),
            Route("/oracle/npub", npub),
            Route("/oracle/events", list_events, methods=["GET"]),
            Route("/oracle/events", create_event, methods=["POST"]),
            Route("/oracle/events/{event_id}", get_event),
            Route("/oracle/events/{event_id}/entries", add_entries, methods=["POST"]),
            Route("/oracle/events/{event_id}/entries/{entry_id}", get_entry),
            Route("/devnet/oracle/events/{event_id}/attest", attest, methods=["POST"]),
            Route("/devnet/oracle/events/{event_id}/withhold", withhold, methods=["POST"]),
            *service.source.routes(),
        ],
        # Entry forms in browsers read stations and forecasts from here; only reads are opened to them.
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET"])],
        exception_handlers={OracleServiceError: refused, Nip98Error: login_refused},
    )


async def _login(request: Request) -> str:
    """The caller's public key, hex. Callers live by the wall clock, whatever clock the service has."""
    header = request.headers.get("authorization")
    if header is None:
        raise _Unauthenticated("this needs an Authorization header (NIP-98)")
    body = await request.body()
    return verify(
        header,
        url=str(request.url),
        method=request.method,
        body_sha256=hashlib.sha256(body).digest() if body else None,
        now=int(time.time()),
    ).pubkey


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InvalidRequest("the body must be JSON") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    return body


def _ranking(body: Mapping[str, Any]) -> list[int] | None:
    if body.keys() == {"refund"} and body["refund"] is True:
        return None
    winners = body.get("winners")
    if body.keys() != {"winners"} or not isinstance(winners, list):
        raise InvalidRequest('the body must be {"winners": [index, ...]} or {"refund": true}')
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in winners):
        raise InvalidRequest("winners are indices of entries")
    return winners


def _summary_json(service: OracleService, event: Event) -> dict[str, Any]:
    readings = service.readings(event)
    return {
        "id": event.id,
        "signing_date": rfc3339(event.signing_at),
        "start_observation_date": rfc3339(event.window.start_at),
        "end_observation_date": rfc3339(event.window.end_at),
        "number_of_values_per_entry": event.number_of_values_per_entry,
        "number_of_places_win": event.number_of_places_win,
        "total_allowed_entries": event.total_allowed_entries,
        "total_entries": len(event.entries),
        "status": event.status,
        "nonce_point": event.nonce_point.hex(),
        "attestation": None if event.attestation is None else event.attestation.hex(),
        "coordinator_pubkey": hex_to_npub(event.coordinator),
    } | service.source.subject_json(event.subject, readings, event.window.start_at)


def _event_json(service: OracleService, event: Event) -> dict[str, Any]:
    return _summary_json(service, event) | {
        "entry_ids": [entry.id for entry in event.entries],
        "entries": _entries_json(service, event),
        "event_announcement": {
            "locking_points": [point.hex() for point in event.locking_points],
            "expiry": event.expiry,
        },
    }


def _entries_json(service: OracleService, event: Event) -> list[dict[str, Any]]:
    scores = service.scores(event, service.readings(event))
    return [
        {
            "id": entry.id,
            "event_id": event.id,
            "score": scores[entry.id].score if scores else None,
            "base_score": scores[entry.id].points if scores else None,
        }
        | service.source.entry_json(entry)
        for entry in event.entries
    ]
