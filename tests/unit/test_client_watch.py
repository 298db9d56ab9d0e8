"""The event stream over connections that break: nothing lost, nothing twice."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from coordinator_client import watch as watching
from coordinator_client.errors import ApiError, MalformedAnswer
from coordinator_client.watch import Event, Snapshot, watch
from support.client import KEY, client, problem, signer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "retry_delay", lambda attempt: 0)


def frame(sequence: int, **data: Any) -> bytes:
    event = {
        "sequence": sequence,
        "competition_id": "c",
        "kind": "ticket.paid",
        "occurred_at": "2026-11-24T20:00:00Z",
        "state": "created",
        "data": data,
    }
    text = json.dumps(event, ensure_ascii=False)
    return f"id: {sequence}\nevent: ticket.paid\ndata: {text}\n\n".encode()


def snapshot(sequence: int) -> bytes:
    state = {"sequence": sequence, "competitions": [{"id": "c", "state": "created"}]}
    return f"event: snapshot\ndata: {json.dumps(state)}\n\n".encode()


class Connections:
    """One script a connection: chunks, then the end, or an error to break off with."""

    def __init__(self, *scripts: Sequence[bytes | Exception] | httpx.Response) -> None:
        self.scripts = list(scripts)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        script = self.scripts.pop(0)
        if isinstance(script, httpx.Response):
            return script

        async def chunks() -> AsyncIterator[bytes]:
            for item in script:
                if isinstance(item, Exception):
                    raise item
                yield item

        return httpx.Response(200, content=chunks(), headers={"content-type": "text/event-stream"})

    def resumed_after(self) -> list[str | None]:
        return [request.headers.get("last-event-id") for request in self.requests]


async def take(connections: Connections, count: int, **options: Any) -> list[Event | Snapshot]:
    items: list[Event | Snapshot] = []
    async with client(connections) as api:
        stream = watch(api, "c", **options)
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
        await stream.aclose()  # type: ignore[attr-defined]
    return items


def sequences(items: list[Event | Snapshot]) -> list[int]:
    return [item.sequence for item in items]


async def test_it_goes_on_behind_the_last_event_after_every_kind_of_break() -> None:
    connections = Connections(
        [b"retry: 2000\n\n", snapshot(4), frame(5), b": heartbeat\n\n", frame(6)],  # ended in good order
        [frame(7), frame(8)[:20], httpx.ReadError("reset")],  # broken in the middle of a frame
        problem(503),
        [httpx.ReadTimeout("silence")],
        problem(429),
        [frame(8), frame(9)],
    )
    items = await take(connections, 6)
    assert isinstance(items[0], Snapshot)
    assert items[0].competitions[0].id == "c"
    assert sequences(items) == [4, 5, 6, 7, 8, 9]
    assert connections.resumed_after() == [None, "6", "7", "7", "7", "7"]


async def test_events_that_are_sent_again_are_dropped() -> None:
    connections = Connections([frame(3), frame(4)], [frame(3), frame(4), frame(5), frame(5), frame(6)])
    items = await take(connections, 3, after_sequence=3)
    assert sequences(items) == [4, 5, 6]
    assert connections.resumed_after() == ["3", "4"]


async def test_a_snapshot_replaces_what_was_known_even_backwards() -> None:
    """Another log (a restored backup) starts at a lower sequence: its events are not repeats."""
    connections = Connections([frame(100)], [snapshot(2), frame(3)])
    items = await take(connections, 3, after_sequence=99)
    assert sequences(items) == [100, 2, 3]


async def test_the_position_before_the_first_event_is_the_snapshots() -> None:
    connections = Connections([snapshot(7)], [frame(8)])
    assert sequences(await take(connections, 2)) == [7, 8]
    assert connections.resumed_after() == [None, "7"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_chunks_may_fall_anywhere(size: int) -> None:
    # U+2028 and U+0085 end lines for some readers, but not in an event stream.
    whole = frame(1, reason="line\u2028one\u0085two ü") + frame(2).replace(b"\n", b"\r\n") + frame(3)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    items = await take(Connections(pieces), 3, after_sequence=0)
    assert sequences(items) == [1, 2, 3]
    assert isinstance(items[0], Event)
    assert items[0].data == {"reason": "line\u2028one\u0085two ü"}
    assert items[0].state == "created"


async def test_each_connection_is_signed_anew() -> None:
    connections = Connections([frame(1)], [frame(2)])
    await take(connections, 2, after_sequence=0, kinds=["ticket.*", "entry.*"])
    logins = [signer(request) for request in connections.requests]
    assert {pubkey for pubkey, _ in logins} == {KEY.public_hex}
    assert len({event_id for _, event_id in logins}) == 2
    assert connections.requests[0].url.params.get_list("kinds") == ["ticket.*", "entry.*"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_ends_it(status: int) -> None:
    with pytest.raises(ApiError):
        await take(Connections(problem(status, reason="NO")), 1)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"sequence": 5}', b'{"sequence": "x"}'])
async def test_a_malformed_event_is_an_error_and_not_skipped(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        await take(Connections([b"id: 5\nevent: x\ndata: " + data + b"\n\n"]), 1)


async def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MAX_LINE_BYTES", 1000)
    with pytest.raises(MalformedAnswer, match="too long"):
        await take(Connections([b"data: " + b"x" * 600, b"x" * 600]), 1)
