"""The event log as an endless iterator that survives the connection: nothing is lost, nothing comes twice.

Server-sent events (WHATWG HTML section 9.2). Each event has its sequence as `id:`; reconnecting names the
last one in `Last-Event-ID` and goes on behind it. A frame without `id:` is a snapshot: the state that
the events after it build on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from coordinator_client.errors import ApiError, MalformedAnswer, Unavailable
from coordinator_client.jsonform import from_json
from coordinator_client.proto.coordinator import v1
from coordinator_client.rest import Query, RestClient, refusal
from coordinator_client.retry import retry_delay

# Twice the gateway's heartbeat: longer silence means a dead connection.
_SILENCE_SECONDS: Final = 45.0
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `kind` and `data` as in docs/events.md, `state` the competition's after it."""

    sequence: int
    competition_id: str
    kind: str
    occurred_at: datetime
    state: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The competitions as of a sequence. Whatever was known before is to be replaced by it."""

    sequence: int
    competitions: tuple[v1.Competition, ...]


async def watch(
    client: RestClient,
    competition_id: str = "",
    *,
    kinds: Sequence[str] = (),
    after_sequence: int | None = None,
    silence_seconds: float = _SILENCE_SECONDS,
) -> AsyncIterator[Event | Snapshot]:
    """Events of a competition, or of all, in order of their sequence; without end.

    Starts with a snapshot unless `after_sequence` says where to go on. A snapshot may also come later, where
    the log does not go back to where the connection broke.

    Args:
        client: whose key, if it has one, opens the key's private events.
        competition_id: only this one's; empty: all.
        kinds: only these, e.g. `ticket.*`; empty: all.
        after_sequence: the last event that is known already.
        silence_seconds: how long a connection may say nothing, heartbeats included, before it counts as dead.

    Raises:
        ApiError: the coordinator refuses the request.
        MalformedAnswer: a frame is not what the API promises.
    """
    path = f"/api/v1/competitions/{competition_id}/events" if competition_id else "/api/v1/events"
    query: Query = {"kinds": kinds}
    position = after_sequence
    failures = 0
    while True:
        try:
            async for name, data in _frames(client, path, query, position, silence_seconds):
                failures = 0
                if name == "snapshot":
                    snapshot = _snapshot(data)
                    position = snapshot.sequence
                    yield snapshot
                    continue
                if name == "heartbeat":
                    continue
                event = _event(data)
                if position is not None and event.sequence <= position:
                    continue
                position = event.sequence
                yield event
        except (Unavailable, httpx.HTTPError, TimeoutError):
            pass
        except ApiError as error:
            # Too many at once is not a refusal for good.
            if error.status != 429:
                raise
        # A stream that ended in good order is resumed like a broken one, and no faster.
        await asyncio.sleep(retry_delay(failures))
        failures = min(failures + 1, 6)


async def _frames(
    client: RestClient, path: str, query: Query, position: int | None, silence_seconds: float
) -> AsyncIterator[tuple[str, str]]:
    """(event name, data) of one connection's frames."""
    url = client.url(path, query)
    headers = client.headers(url, "GET", None) | {"accept": "text/event-stream"}
    if position is not None:
        headers["last-event-id"] = str(position)
    timeout = httpx.Timeout(10.0, read=silence_seconds)
    async with client.http.stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code != 200:
            await response.aread()
            raise refusal(response)
        name, data = "message", list[str]()
        async for line in _lines(response):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif not line:
                if data:
                    yield name, "\n".join(data)
                name, data = "message", []


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines as they are complete. httpx's own would also split where JSON may not be (U+2028, U+0085)."""
    buffer = b""
    async for chunk in response.aiter_bytes():
        *complete, buffer = (buffer + chunk).split(b"\n")
        for line in complete:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(buffer) > _MAX_LINE_BYTES:
            raise MalformedAnswer("an event is too long")


def _event(text: str) -> Event:
    value = _object(text)
    try:
        return Event(
            sequence=int(value["sequence"]),
            competition_id=str(value["competition_id"]),
            kind=str(value["kind"]),
            occurred_at=datetime.fromisoformat(value["occurred_at"]),
            state=str(value["state"]),
            data=dict(value.get("data") or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedAnswer(f"an event is malformed: {error}") from None


def _snapshot(text: str) -> Snapshot:
    message = from_json(v1.Snapshot, _object(text))
    return Snapshot(message.sequence, tuple(message.competitions))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise MalformedAnswer("a frame's data is not a JSON object")
    return value
