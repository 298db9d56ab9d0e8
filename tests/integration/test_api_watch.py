"""The event log as a stream: nothing missing, nothing twice, nothing that is another's."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from coordinator.api.server import build_server
from coordinator.api.services import event as event_service
from coordinator.domain.ids import new_uuid7
from coordinator.operations import competitions
from coordinator.store.events import NewEvent, last_sequence, read_events
from coordinator.store.models import EventRow
from coordinator.v1 import competition_pb2, event_pb2
from coordinator_client.nostr import NostrKey
from support.api import ADMIN, Api, ApiClient, ApiError, running_api

WATCH = "EventService/Watch"


@pytest_asyncio.fixture
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api"), heartbeat_seconds=0.3) as running:
        yield running


async def competition(api: Api) -> str:
    now = int(time.time())
    times = {"start_observation_at": now + 3600, "end_observation_at": now + 3700, "signing_at": now + 3800}
    return (await competitions.create_competition(api.core, "", api.world.terms(**times))).id


async def tell(api: Api, competition_id: str, kind: str, audience: str = "", **data: object) -> None:
    async with api.core.competitions.transaction():
        event = NewEvent(kind, data, audience)
        await api.core.competitions.tell(competition_id, api.core.clock.now(), [event])


class Watcher:
    """Reads a stream until it is told to stop; remembers what it saw."""

    def __init__(self, api: Api, key: NostrKey | None = None, **request: Any) -> None:
        self.request = event_pb2.WatchRequest(**request)
        metadata = []
        if key is not None:
            metadata.append(api.client.signed(WATCH, self.request.SerializeToString(), key))
        self.call = api.client.watch(self.request, metadata)
        self.events: list[Any] = []
        self.heartbeats: list[int] = []

    async def next(self, seconds: float = 5) -> Any:
        """The next item that is no heartbeat."""
        async with asyncio.timeout(seconds):
            while True:
                item = await self.call.read()
                assert item is not grpc.aio.EOF
                if item.HasField("heartbeat"):
                    self.heartbeats.append(item.heartbeat.sequence)
                    continue
                if item.HasField("event"):
                    self.events.append(item.event)
                return item

    async def up_to(self, sequence: int) -> list[Any]:
        """All events until the stream is known to be past a sequence."""
        async with asyncio.timeout(10):
            while max([0, *self.heartbeats, *(e.sequence for e in self.events)]) < sequence:
                item = await self.call.read()
                if item.HasField("heartbeat"):
                    self.heartbeats.append(item.heartbeat.sequence)
                elif item.HasField("event"):
                    self.events.append(item.event)
        return self.events

    def stop(self) -> None:
        self.call.cancel()


async def read_on(call: Any) -> None:
    """Reads until the stream breaks."""
    async with asyncio.timeout(5):
        while await call.read() is not grpc.aio.EOF:
            pass


async def refusal(api: Api, key: NostrKey | None = None, **request: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await Watcher(api, key, **request).call.read()
    return ApiError(error.value)


async def test_only_new_events_without_a_start(api: Api) -> None:
    await competition(api)
    watcher = Watcher(api)
    await watcher.call.initial_metadata()
    made = await competition(api)
    item = await watcher.next()
    assert (item.event.competition_id, item.event.kind) == (made, "competition.created")
    assert item.event.state == competition_pb2.COMPETITION_STATE_CREATED
    assert dict(item.event.data) == {"name": "test"}
    assert abs(item.event.occurred_at.seconds - time.time()) < 10
    watcher.stop()


async def test_from_the_start(api: Api) -> None:
    ids = [await competition(api) for _ in range(3)]
    watcher = Watcher(api, after_sequence=0)
    assert [(await watcher.next()).event.competition_id for _ in ids] == ids
    assert [event.sequence for event in watcher.events] == [1, 2, 3]
    watcher.stop()


async def test_pages_of_the_log_are_no_borders(api: Api) -> None:
    made = await competition(api)
    async with api.core.competitions.transaction():
        for _ in range(3):
            await api.core.competitions.tell(made, 1, [NewEvent("entry.updated") for _ in range(401)])
    watcher = Watcher(api, after_sequence=0)
    last = await last_sequence()
    assert [e.sequence for e in await watcher.up_to(last)] == list(range(1, last + 1))
    watcher.stop()


async def test_filters(api: Api) -> None:
    mine, other = await competition(api), await competition(api)
    for made in (mine, other):
        for kind in ("ticket.reserved", "ticket.paid", "tickets.odd", "entry.submitted", "entry.updated"):
            await tell(api, made, kind)
    last = await last_sequence()
    watcher = Watcher(api, after_sequence=0, competition_id=mine, kinds=["ticket.*", "entry.submitted"])
    kinds = [event.kind for event in await watcher.up_to(last)]
    assert kinds == ["ticket.reserved", "ticket.paid", "entry.submitted"]
    assert {event.competition_id for event in watcher.events} == {mine}
    watcher.stop()


async def test_heartbeats_say_how_far_the_log_is_even_where_nothing_is_for_the_watcher(api: Api) -> None:
    mine, other = await competition(api), await competition(api)
    watcher = Watcher(api, after_sequence=0, competition_id=mine)
    await watcher.next()
    await tell(api, other, "ticket.paid")
    last = await last_sequence()
    await watcher.up_to(last)
    assert watcher.heartbeats[-1] == last
    # Going on from a heartbeat loses nothing.
    await tell(api, mine, "ticket.paid")
    resumed = Watcher(api, after_sequence=watcher.heartbeats[-1], competition_id=mine)
    assert (await resumed.next()).event.sequence == last + 1
    watcher.stop()
    resumed.stop()


async def test_private_events_are_for_their_audience_and_admins(api: Api) -> None:
    alice, bob = NostrKey.generate(), NostrKey.generate()
    made = await competition(api)
    await tell(api, made, "ticket.note", alice.public_hex, to="alice")
    await tell(api, made, "ticket.note", bob.public_hex, to="bob")
    await tell(api, made, "ticket.note", to="all")
    last = await last_sequence()

    async def seen(key: NostrKey | None) -> list[str]:
        watcher = Watcher(api, key, after_sequence=0, kinds=["ticket.*"])
        notes = [event.data["to"] for event in await watcher.up_to(last)]
        watcher.stop()
        return notes

    assert await seen(None) == ["all"]
    assert await seen(alice) == ["alice", "all"]
    assert await seen(bob) == ["bob", "all"]
    assert await seen(ADMIN) == ["alice", "bob", "all"]


async def test_a_snapshot_comes_first_and_events_go_on_from_it(api: Api) -> None:
    first, second = await competition(api), await competition(api)
    await competitions.cancel_competition(api.core, second, "")
    watcher = Watcher(api, include_snapshot=True, kinds=["ticket.*"])
    snapshot = (await watcher.next()).snapshot
    assert [c.id for c in snapshot.competitions] == [first]
    assert snapshot.sequence >= snapshot.competitions[0].sequence
    await tell(api, first, "ticket.paid")
    assert (await watcher.next()).event.kind == "ticket.paid"
    assert watcher.events[0].sequence > snapshot.sequence
    watcher.stop()
    # Of one competition it is shown in whatever state.
    ended = Watcher(api, include_snapshot=True, competition_id=second, after_sequence=0)
    (shown,) = (await ended.next()).snapshot.competitions
    assert shown.state == competition_pb2.COMPETITION_STATE_CANCELLED
    ended.stop()


async def test_what_cannot_be_watched_is_refused_at_once(api: Api) -> None:
    await competition(api)
    head = await last_sequence()
    future = await refusal(api, after_sequence=head + 1)
    assert (future.code, future.reason) == ("OUT_OF_RANGE", "SEQUENCE_IN_THE_FUTURE")
    assert list((await refusal(api, after_sequence=-1)).fields) == ["after_sequence"]
    assert list((await refusal(api, competition_id="x")).fields) == ["competition_id"]
    assert (await refusal(api, competition_id=new_uuid7())).code == "NOT_FOUND"
    assert list((await refusal(api, kinds=["*"])).fields) == ["kinds[0]"]
    at_the_end = Watcher(api, after_sequence=head)
    made = await competition(api)
    assert (await at_the_end.next()).event.competition_id == made
    at_the_end.stop()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_who_comes_and_goes_sees_everything_once_and_in_order(api: Api, seed: int) -> None:
    """Writers write at once, some transactions are rolled back; watchers break off anywhere and resume."""
    rng = random.Random(seed)
    alice = NostrKey.generate()
    ids = [await competition(api) for _ in range(2)]
    written = asyncio.Event()

    async def write(number: int) -> None:
        own = random.Random(seed * 100 + number)
        for _ in range(25):
            events = [
                NewEvent(
                    own.choice(["ticket.paid", "entry.submitted"]), {}, own.choice(["", alice.public_hex])
                )
                for _ in range(own.randint(1, 4))
            ]
            try:
                async with api.core.competitions.transaction():
                    await api.core.competitions.tell(own.choice(ids), 1, events)
                    await asyncio.sleep(own.random() / 200)
                    if own.random() < 0.2:
                        raise RuntimeError("rolled back")
            except RuntimeError:
                pass
            await asyncio.sleep(own.random() / 100)

    async def watch(key: NostrKey | None, competition_id: str) -> list[int]:
        own = random.Random(rng.random())
        position, seen = 0, []
        while True:
            watcher = Watcher(api, key, after_sequence=position, competition_id=competition_id)
            for _ in range(own.randint(1, 12)):
                async with asyncio.timeout(10):
                    item = await watcher.call.read()
                if item.HasField("event"):
                    seen.append(item.event.sequence)
                    position = item.event.sequence
                elif written.is_set() and item.heartbeat.sequence >= await last_sequence():
                    watcher.stop()
                    return seen
                else:
                    position = max(position, item.heartbeat.sequence)
            watcher.stop()

    watching = [
        asyncio.create_task(watch(key, competition_id))
        for key in (None, alice, ADMIN)
        for competition_id in ("", ids[0])
    ]
    await asyncio.gather(*(write(number) for number in range(4)))
    written.set()
    seen = await asyncio.gather(*watching)
    rows = await EventRow.all().order_by("sequence")
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))

    def expected(key: NostrKey | None, competition_id: str) -> list[int]:
        audiences = {"", alice.public_hex} if key else {""}
        return [
            row.sequence
            for row in rows
            if row.audience_pubkey in audiences and competition_id in ("", row.competition_id)
        ]

    assert seen == [
        expected(key, competition_id) for key in (None, alice, ADMIN) for competition_id in ("", ids[0])
    ]


async def test_what_is_committed_while_the_log_is_read_is_not_left_until_the_next_heartbeat(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await competition(api)
    server, port = build_server(api.core, api.world.contracts, heartbeat_seconds=60)
    await server.start()
    client = ApiClient(port)
    raced = False

    async def read_then_commit(*args: Any, **options: Any) -> Any:
        nonlocal raced
        found = await read_events(*args, **options)
        if not raced:
            raced = True
            await tell(api, made, "ticket.paid")
        return found

    monkeypatch.setattr(event_service, "read_events", read_then_commit)
    call = client.watch(event_pb2.WatchRequest(kinds=["ticket.*"]))
    async with asyncio.timeout(3):
        assert (await call.read()).event.kind == "ticket.paid"
    call.cancel()
    await client.close()
    await server.stop(None)


async def test_a_stream_ends_with_its_session(api: Api) -> None:
    key = NostrKey.generate()
    token = (await api.call("UserService/Login", None, key)).session_token
    metadata = [("x-session-token", token)]
    call = api.client.watch(event_pb2.WatchRequest(), metadata)
    await call.initial_metadata()
    await api.call("UserService/Logout", None, None, metadata)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await read_on(call)
    assert ApiError(error.value).reason == "SESSION_EXPIRED"


async def test_who_hangs_up_leaves_nothing_behind(api: Api) -> None:
    await asyncio.sleep(0.1)
    before = len(asyncio.all_tasks())
    watchers = [Watcher(api) for _ in range(20)]
    for watcher in watchers:
        await watcher.call.initial_metadata()
    assert len(asyncio.all_tasks()) >= before + 20
    for watcher in watchers:
        watcher.stop()
    async with asyncio.timeout(2):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.02)


async def test_a_server_that_stops_ends_its_streams_at_once_and_says_why(api: Api) -> None:
    watchers = [Watcher(api) for _ in range(5)]
    for watcher in watchers:
        await watcher.call.initial_metadata()
    started = time.monotonic()
    stopping = asyncio.create_task(api.server.stop(30))
    for watcher in watchers:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await read_on(watcher.call)
        ended = ApiError(error.value)
        assert (ended.code, ended.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert ended.retry_seconds
    await stopping
    assert time.monotonic() - started < 3
