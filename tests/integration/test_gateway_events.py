"""Event streams through a real gateway: nothing lost, nothing repeated."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from coordinator.v1 import competition_pb2
from coordinator_gateway import ring
from coordinator_gateway.ring import event_frame
from support.gateway import EventStreamClient, MemoryCore, World, running


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def publish(core: MemoryCore, amount: int) -> None:
    await core.publish_many([("ticket.paid", f"c{n % 3}", "", {"n": n}) for n in range(amount)])


async def ids(stream: EventStreamClient, amount: int) -> list[int]:
    return [int((await stream.event()).id) for _ in range(amount)]


async def open_resumed(world: World, after: int, path: str = "/api/v1/events") -> EventStreamClient:
    return await EventStreamClient.open(world, path, last_event_id=str(after))


async def silence(stream: EventStreamClient, seconds: float = 0.3) -> bool:
    try:
        await stream.frame(seconds)
    except TimeoutError:
        return True
    return False


class TestStart:
    async def test_a_snapshot_without_id_then_events(self, world: World) -> None:
        await publish(world.core, 5)
        stream = await EventStreamClient.open(world)
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert (await stream.frame()).retry == "2000"
        snapshot = await stream.frame()
        assert (snapshot.event, snapshot.id) == ("snapshot", "")
        assert snapshot.json["sequence"] == 5
        assert [c["id"] for c in snapshot.json["competitions"]] == ["c0", "c1", "c2"]
        await world.core.publish("entry.submitted", "c1", data={"entry_id": "e", "points": 3})
        frame = await stream.frame()
        assert (frame.id, frame.event) == ("6", "entry.submitted")
        assert frame.json["sequence"] == 6
        assert frame.json["data"] == {"entry_id": "e", "points": 3}
        assert frame.json["occurred_at"].endswith("Z")

    async def test_many_who_come_at_once_share_a_snapshot(self, world: World) -> None:
        await publish(world.core, 3)
        streams = await asyncio.gather(*[EventStreamClient.open(world) for _ in range(20)])
        for stream in streams:
            await stream.frame()
            assert (await stream.frame()).json["sequence"] == 3
        assert sum(call.request.include_snapshot for call in world.core.watch_calls()) == 1

    async def test_events_between_an_older_snapshot_and_now_follow_it(self) -> None:
        async with running(snapshot_seconds=60) as world:
            await publish(world.core, 3)
            await EventStreamClient.open(world)
            await publish(world.core, 4)
            await world.until(lambda: world.gateway.hub.ring.head == 7)
            stream = await EventStreamClient.open(world)
            await stream.frame()
            assert (await stream.frame()).json["sequence"] == 3
            assert await ids(stream, 4) == [4, 5, 6, 7]

    async def test_of_one_competition(self, world: World) -> None:
        await publish(world.core, 6)
        stream = await EventStreamClient.open(world, "/api/v1/competitions/c1/events")
        await stream.frame()
        assert [c["id"] for c in (await stream.frame()).json["competitions"]] == ["c1"]
        await publish(world.core, 6)
        frames = [await stream.frame() for _ in range(2)]
        assert [(frame.id, frame.json["competition_id"]) for frame in frames] == [("8", "c1"), ("11", "c1")]

    async def test_of_a_competition_that_is_not_there(self, world: World) -> None:
        answer = await world.client.get("/api/v1/competitions/nothing/events")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_of_a_competition_that_is_not_there_anew_or_resumed(self, world: World) -> None:
        await publish(world.core, 2)
        await world.until(lambda: world.gateway.hub.ring.head == 2)
        for query in ("?after_sequence=1", "?competition_id=c1"):
            answer = await world.client.get(f"/api/v1/competitions/nothing/events{query}")
            assert answer.status_code in (400, 404), query
        # One that the ring tells of needs no look-up.
        calls = len(world.core.watch_calls())
        stream = await open_resumed(world, 0, "/api/v1/competitions/c1/events")
        assert await ids(stream, 1) == [2]
        assert len(world.core.watch_calls()) == calls

    async def test_of_a_competition_while_the_core_is_gone(self, world: World) -> None:
        await world.core_server.stop()
        stream = await open_resumed(world, 0, "/api/v1/competitions/c7/events")
        assert stream.status == 200
        await publish(world.core, 1)
        await world.core.publish("ticket.paid", "c7")
        await world.core_server.start()
        assert await ids(stream, 1) == [2]

    @pytest.mark.parametrize("kinds", ["kinds=Ticket", "kinds=a..b", "kinds=*", "kinds=", "kinds=a&" * 51])
    async def test_kinds_that_there_cannot_be(self, world: World, kinds: str) -> None:
        for headers in ({}, {"last-event-id": "0"}):
            answer = await world.client.get(f"/api/v1/events?{kinds}".rstrip("&"), headers=headers)
            assert answer.status_code == 400
            assert answer.json()["errors"][0]["field"].startswith("kinds")

    async def test_of_some_kinds(self, world: World) -> None:
        stream = await EventStreamClient.open(world, "/api/v1/events?kinds=ticket.*&kinds=entry.submitted")
        await stream.frame()
        await stream.frame()
        for kind in ("entry.updated", "ticket.paid", "ticketx.paid", "entry.submitted", "ticket.expired"):
            await world.core.publish(kind)
        assert await ids(stream, 3) == [2, 4, 5]

    @pytest.mark.parametrize("query", ["after_sequence=x", "after_sequence=-1", "kind=a", "kinds=a&after=1"])
    async def test_a_query_that_does_not_fit(self, world: World, query: str) -> None:
        answer = await world.client.get(f"/api/v1/events?{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"]

    async def test_only_by_get(self, world: World) -> None:
        for method in ("POST", "HEAD"):
            assert (await world.client.request(method, "/api/v1/events")).status_code == 405

    async def test_each_event_is_encoded_once(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded: list[int] = []

        def counted(sequence: int, kind: str, data: bytes) -> bytes:
            encoded.append(sequence)
            return event_frame(sequence, kind, data)

        await world.core.publish("competition.created", "c1")
        await world.until(lambda: world.gateway.hub.ring.head == 1)
        monkeypatch.setattr(ring, "event_frame", counted)
        paths = ["/api/v1/events"] * 5 + [
            "/api/v1/competitions/c1/events",
            "/api/v1/events?kinds=ticket.*",
        ] * 3
        streams = [await EventStreamClient.open(world, path) for path in paths]
        await world.core.publish_many([("ticket.paid", "c1", "", {})] * 7)
        for stream in streams:
            assert await ids(stream, 7) == list(range(2, 9))
        assert encoded == list(range(2, 9))

    async def test_one_upstream_stream_for_all(self, world: World) -> None:
        await publish(world.core, 2)
        await world.until(lambda: world.gateway.hub.ring.head == 2)
        streams = [await open_resumed(world, 0) for _ in range(10)]
        await publish(world.core, 2)
        for stream in streams:
            assert await ids(stream, 4) == [1, 2, 3, 4]
        assert len(world.core.watch_calls()) == 1


class TestResume:
    async def test_from_the_ring_by_header_and_by_query(self, world: World) -> None:
        await publish(world.core, 10)
        await world.until(lambda: world.gateway.hub.ring.head == 10)
        by_header = await open_resumed(world, 7)
        by_query = await EventStreamClient.open(world, "/api/v1/events?after_sequence=8")
        assert await ids(by_header, 3) == [8, 9, 10]
        assert await ids(by_query, 2) == [9, 10]
        assert await silence(by_header)

    async def test_the_header_goes_before_the_query(self, world: World) -> None:
        await publish(world.core, 10)
        await world.until(lambda: world.gateway.hub.ring.head == 10)
        for query in ("after_sequence=2", "include_snapshot=true"):
            stream = await open_resumed(world, 8, f"/api/v1/events?{query}")
            assert (await stream.frame()).retry
            assert (await stream.frame()).id == "9"

    async def test_a_snapshot_can_be_asked_for(self, world: World) -> None:
        await publish(world.core, 4)
        stream = await EventStreamClient.open(world, "/api/v1/events?after_sequence=2&include_snapshot=true")
        await stream.frame()
        assert (await stream.frame()).json["sequence"] == 4

    async def test_at_the_head_of_the_log_nothing_comes_until_something_happens(self, world: World) -> None:
        await publish(world.core, 3)
        stream = await open_resumed(world, 3)
        assert (await stream.frame()).retry
        assert await silence(stream)
        await publish(world.core, 1)
        assert (await stream.frame()).id == "4"

    async def test_older_than_the_ring_from_the_core(self) -> None:
        core = MemoryCore()
        await publish(core, 500)
        async with running(core, event_ring=50, client_queue=50) as world:
            stream = await open_resumed(world, 3)
            await world.core.publish()
            assert await ids(stream, 498) == list(range(4, 502))
            await world.core.publish()
            assert await ids(stream, 1) == [502]
            # The ring has taken over; the stream from the core is not kept.
            assert len(core.watch_calls()) == 2

    @pytest.mark.parametrize("query", ["competition_id=c1", "kinds=ticket.*"])
    async def test_older_than_the_ring_with_a_filter(self, query: str) -> None:
        core = MemoryCore()
        core.heartbeat_seconds = 0.2
        await publish(core, 4)
        await core.publish_many([("other", "c9", "", {})] * 300)
        async with running(core, event_ring=20, client_queue=20) as world:
            stream = await open_resumed(world, 1, f"/api/v1/events?{query}")
            expected = [2] if "c1" in query else [2, 3, 4]
            assert await ids(stream, len(expected)) == expected
            # Nothing of the filter for long; the heartbeat of the core tells that all was sent.
            await world.until(lambda: any(s.position >= 0 for s in world.gateway.hub.subscribers))
            await core.publish("ticket.paid", "c1")
            assert await ids(stream, 1) == [305]
            assert await silence(stream)

    @pytest.mark.parametrize("last_id", ["99", "nonsense", "1.5", "9" * 40])
    async def test_an_id_that_the_log_does_not_have(self, world: World, last_id: str) -> None:
        await publish(world.core, 3)
        stream = await EventStreamClient.open(world, last_event_id=last_id)
        await stream.frame()
        snapshot = await stream.frame()
        assert (snapshot.event, snapshot.id, snapshot.json["sequence"]) == ("snapshot", "", 3)
        await publish(world.core, 1)
        assert await ids(stream, 1) == [4]

    async def test_an_id_older_than_the_log(self) -> None:
        core = MemoryCore()
        await publish(core, 100)
        core.log_start = 50
        async with running(core, event_ring=10, client_queue=10) as world:
            stream = await open_resumed(world, 7)
            await stream.frame()
            assert (await stream.frame()).json["sequence"] == 100

    @pytest.mark.parametrize("query", ["", "?kinds=ticket.*"])
    async def test_an_id_ahead_of_this_gateway_but_not_of_the_core(self, world: World, query: str) -> None:
        hub = world.gateway.hub
        await publish(world.core, 5)
        await world.until(lambda: hub.ring.head == 5)
        # The core goes on; this gateway does not hear of it for a while.
        hub._tasks[0].cancel()
        await publish(world.core, 3)
        stream = await open_resumed(world, 7, f"/api/v1/events{query}")
        assert (await stream.frame()).retry
        assert await silence(stream)
        hub._tasks[0] = asyncio.create_task(hub._follow())
        await world.until(lambda: hub.ring.head == 8)
        assert await ids(stream, 1) == [8]
        assert await silence(stream)

    async def test_while_the_core_is_gone(self, world: World) -> None:
        await publish(world.core, 5)
        await world.until(lambda: world.gateway.hub.ring.head == 5)
        await world.core_server.stop()
        stream = await open_resumed(world, 2)
        assert await ids(stream, 3) == [3, 4, 5]
        answer = await world.client.get("/api/v1/events")
        assert answer.status_code == 503


class TestPrivate:
    async def test_own_events_only_with_the_token(self, world: World) -> None:
        world.core.tokens |= {"mine", "hers"}
        public = await EventStreamClient.open(world)
        mine = await EventStreamClient.open(world, authorization="Bearer mine")
        hers = await EventStreamClient.open(world, cookie="coordinator_session=hers")
        for stream in (public, mine, hers):
            await stream.frame()
            assert (await stream.frame()).event == "snapshot"
        for token in ("", "mine", "hers", ""):
            await world.core.publish(token=token)
        assert await ids(public, 2) == [1, 4]
        assert await ids(mine, 3) == [1, 2, 4]
        assert await ids(hers, 3) == [1, 3, 4]
        assert world.core.watch_calls()[-1].metadata["x-coordinator-gateway"] == "shared"

    async def test_resume_and_filters(self, world: World) -> None:
        world.core.tokens.add("t")
        await publish(world.core, 9)
        path = "/api/v1/competitions/c1/events"
        stream = await EventStreamClient.open(world, path, authorization="Bearer t", last_event_id="3")
        assert await ids(stream, 2) == [5, 8]

    async def test_an_id_that_the_log_does_not_have(self, world: World) -> None:
        world.core.tokens.add("t")
        await publish(world.core, 2)
        stream = await EventStreamClient.open(world, authorization="Bearer t", last_event_id="99")
        await stream.frame()
        assert (await stream.frame()).json["sequence"] == 2

    async def test_a_token_that_is_not_valid(self, world: World) -> None:
        for headers in ({}, {"last-event-id": "0"}):
            answer = await world.client.get(
                "/api/v1/events", headers={"authorization": "Bearer no", **headers}
            )
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Nostr"

    async def test_the_core_restarts(self, world: World) -> None:
        world.core.tokens.add("t")
        stream = await EventStreamClient.open(world, authorization="Bearer t")
        await world.core.publish(token="t")
        assert await ids(stream, 1) == [1]
        await world.core_server.stop()
        await world.core.publish(token="t")
        await world.core_server.start()
        await world.core.publish(token="t")
        assert await ids(stream, 2) == [2, 3]

    async def test_the_session_ends(self, world: World) -> None:
        world.core.tokens.add("t")
        stream = await EventStreamClient.open(world, authorization="Bearer t")
        await stream.frame()
        await stream.frame()
        world.core.tokens.clear()
        await world.core_server.stop()
        await world.core_server.start()
        with pytest.raises(EOFError):
            await stream.frame()

    async def test_a_heartbeat(self) -> None:
        async with running(heartbeat_seconds=0.3) as world:
            world.core.tokens.add("t")
            stream = await EventStreamClient.open(world, authorization="Bearer t")
            await stream.frame()
            await stream.frame()
            assert (await stream.frame(1)).comment == "heartbeat"


class TestUpstream:
    async def test_the_core_restarts_and_nothing_is_lost_or_repeated(self, world: World) -> None:
        stream = await EventStreamClient.open(world)
        await publish(world.core, 3)
        assert await ids(stream, 3) == [1, 2, 3]
        for round_ in range(1, 4):
            await world.core_server.stop()
            await publish(world.core, 2)
            await world.core_server.start()
            await publish(world.core, 1)
            assert await ids(stream, 3) == [3 * round_ + n for n in (1, 2, 3)]
        health = await world.client.get("/api/v1/health_check")
        assert health.json()["events"] == "connected"

    async def test_a_silent_core_is_asked_again(self) -> None:
        async with running(upstream_idle_seconds=0.2) as world:
            await world.until(lambda: len(world.core.watch_calls()) >= 3)
            stream = await EventStreamClient.open(world)
            await publish(world.core, 1)
            assert await ids(stream, 1) == [1]

    async def test_another_log_starts_all_streams_over(self, world: World) -> None:
        await publish(world.core, 10)
        await world.until(lambda: world.gateway.hub.ring.head == 10)
        stream = await open_resumed(world, 10)
        await world.core_server.stop()
        world.core.log.clear()
        world.core.competitions = {"new": competition_pb2.Competition(id="new")}
        await world.core_server.start()
        assert (await stream.frame()).retry
        with pytest.raises(EOFError):
            await stream.frame()
        again = await open_resumed(world, 10)
        await again.frame()
        snapshot = await again.frame()
        assert snapshot.json["sequence"] == 0
        assert snapshot.json["competitions"][0]["id"] == "new"
        await publish(world.core, 1)
        assert await ids(again, 1) == [1]

    async def test_a_gateway_that_starts_before_the_core(self) -> None:
        async with running() as world:
            await world.core_server.stop()
            world.gateway.hub.ready.clear()
            pending = asyncio.create_task(EventStreamClient.open(world))
            await asyncio.sleep(0.3)
            assert not pending.done()
            await world.core_server.start()
            assert (await pending).status == 200

    async def test_a_gateway_that_restarts_finds_the_past_in_its_ring(self) -> None:
        core = MemoryCore()
        await publish(core, 300)
        async with running(core, event_ring=200, client_queue=100) as world:
            await world.until(lambda: world.gateway.hub.ring.head == 300)
            stream = await open_resumed(world, 150)
            assert await ids(stream, 150) == list(range(151, 301))
            assert len(core.watch_calls()) == 1


class TestClients:
    async def test_heartbeats(self) -> None:
        async with running(heartbeat_seconds=0.4) as world:
            stream = await EventStreamClient.open(world)
            await stream.frame()
            await stream.frame()
            started = time.monotonic()
            for _ in range(3):
                frame = await stream.frame()
                assert (frame.comment, frame.id) == ("heartbeat", "")
            assert 0.7 < time.monotonic() - started < 2
            await publish(world.core, 1)
            assert await ids(stream, 1) == [1]

    async def test_one_who_leaves_is_forgotten(self, world: World) -> None:
        streams = [await EventStreamClient.open(world) for _ in range(5)]
        hub = world.gateway.hub
        assert len(hub.subscribers) == 5
        for stream in streams:
            stream.close()
        await world.until(lambda: not hub.subscribers)
        assert not hub._waiting
        assert not hub._blocked

    async def test_a_slow_one_is_cut_and_resumes_without_loss(self) -> None:
        async with running(event_ring=4000, client_queue=100) as world:
            slow = await EventStreamClient.open(world, receive_buffer=4096)
            fast = await EventStreamClient.open(world)
            hub = world.gateway.hub
            filler = {"text": "x" * 20_000}
            sent = 0
            fast_ids: list[int] = []
            async with asyncio.timeout(60):
                while hub.cut_count == 0:
                    await world.core.publish_many([("ticket.paid", "c", "", filler)] * 20)
                    sent += 20
                    fast_ids += await ids(fast, 20)
            assert len(hub.subscribers) == 1
            assert fast_ids == list(range(1, sent + 1))
            # What was on its way is still there to be read; then the connection ends.
            got: list[int] = []
            with suppress(EOFError, ConnectionError):
                while True:
                    got.append(int((await slow.event()).id))
            assert got == list(range(1, len(got) + 1))
            assert len(got) < sent
            resumed = await open_resumed(world, got[-1])
            got += await ids(resumed, sent - len(got))
            assert got == fast_ids

    async def test_one_whose_connection_takes_nothing_for_long_is_cut(self) -> None:
        async with running(event_ring=4000, client_queue=4000, client_stall_seconds=0.4) as world:
            slow = await EventStreamClient.open(world, receive_buffer=4096)
            hub = world.gateway.hub
            filler = {"text": "x" * 100_000}
            async with asyncio.timeout(30):
                while hub.cut_count == 0:
                    await world.core.publish_many([("ticket.paid", "c", "", filler)] * 10)
                    await asyncio.sleep(0.05)
            await world.until(lambda: not hub.subscribers)
            slow.close()

    async def test_a_burst_cuts_nobody_who_keeps_up(self) -> None:
        async with running(event_ring=3000, client_queue=10) as world:
            streams = [await EventStreamClient.open(world) for _ in range(3)]
            await publish(world.core, 2000)
            for stream in streams:
                assert await ids(stream, 2000) == list(range(1, 2001))
            assert world.gateway.hub.cut_count == 0

    async def test_no_more_than_there_is_room_for(self) -> None:
        async with running(max_streams=2) as world:
            first, _ = [await EventStreamClient.open(world) for _ in range(2)]
            answer = await world.client.get("/api/v1/events")
            assert (answer.status_code, answer.json()["reason"]) == (503, "TOO_MANY_STREAMS")
            assert answer.headers["retry-after"]
            first.close()
            await world.until(lambda: len(world.gateway.hub.subscribers) == 1)
            assert (await EventStreamClient.open(world)).status == 200

    async def test_no_more_of_one_address_than_its_share(self) -> None:
        async with running(max_streams_per_address=2) as world:
            first, _ = [await EventStreamClient.open(world) for _ in range(2)]
            answer = await world.client.get("/api/v1/events")
            assert (answer.status_code, answer.json()["reason"]) == (429, "TOO_MANY_STREAMS")
            assert answer.headers["retry-after"]
            elsewhere = await EventStreamClient.open(world, x_forwarded_for="203.0.113.9")
            assert elsewhere.status == 200
            first.close()
            await world.until(lambda: len(world.gateway.hub.subscribers) == 2)
            assert (await EventStreamClient.open(world)).status == 200

    async def test_the_gateway_stops_at_once_and_in_good_order(self) -> None:
        async with running() as world:
            world.core.tokens.add("t")
            streams = [await EventStreamClient.open(world) for _ in range(10)]
            streams.append(await EventStreamClient.open(world, authorization="Bearer t"))
            await publish(world.core, 3)
            started = time.monotonic()
            await world.gateway.stop()
            assert time.monotonic() - started < 2
            for stream in streams:
                assert await ids(stream, 3) == [1, 2, 3]
                with pytest.raises(EOFError):
                    await stream.frame()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_cut_nothing_is_lost_or_repeated(seed: int) -> None:
    """Clients drop connections, the core restarts, filters differ: each gets exactly its events, in order."""
    rng = random.Random(seed)
    core = MemoryCore()
    core.heartbeat_seconds = 0.2
    total = 400
    async with running(core, event_ring=40, client_queue=40, heartbeat_seconds=0.3) as world:
        filters = {
            "/api/v1/events": lambda event: True,
            "/api/v1/competitions/c1/events": lambda event: event.competition_id == "c1",
            "/api/v1/events?kinds=entry.*": lambda event: event.kind.startswith("entry."),
            "/api/v1/events?kinds=rare": lambda event: event.kind == "rare",
        }

        async def write() -> None:
            for _ in range(total):
                kind = rng.choice(["ticket.paid", "entry.submitted", "entry.updated"])
                if rng.random() < 0.02:
                    kind = "rare"
                await core.publish(kind, rng.choice(["c0", "c1", "c2"]))
                if rng.random() < 0.15:
                    await asyncio.sleep(rng.random() * 0.05)
                if rng.random() < 0.01:
                    await world.core_server.stop()
                    await asyncio.sleep(rng.random() * 0.1)
                    await world.core_server.start()
            await core.publish("rare", "c1")
            await core.publish("entry.submitted", "c1")
            await core.publish("rare", "c1")

        async def read(path: str, last: int) -> list[int]:
            got: list[int] = []
            position = 0
            while position < last:
                try:
                    stream = await open_resumed(world, position, path)
                except (ConnectionError, asyncio.IncompleteReadError):
                    continue
                if stream.status != 200:
                    stream.close()
                    await asyncio.sleep(0.05)
                    continue
                try:
                    for _ in range(rng.randint(0, 60)):
                        frame = await stream.frame()
                        assert frame.event != "snapshot"
                        if frame.id:
                            position = int(frame.id)
                            got.append(position)
                        if position >= last:
                            break
                except (EOFError, ConnectionError, asyncio.IncompleteReadError):
                    pass
                stream.close()
                if rng.random() < 0.3:
                    # Away long enough that the ring moves on.
                    await asyncio.sleep(rng.random() * 0.3)
            return got

        writer = asyncio.create_task(write())
        last = dict.fromkeys(filters, total + 3) | {"/api/v1/events?kinds=entry.*": total + 2}
        async with asyncio.timeout(60):
            results = await asyncio.gather(*[read(path, last[path]) for path in filters for _ in range(3)])
            await writer
        expected = {
            path: [s.event.sequence for s in core.log if wanted(s.event) and s.event.sequence <= last[path]]
            for path, wanted in filters.items()
        }
        for index, path in enumerate(path for path in filters for _ in range(3)):
            assert results[index] == expected[path], path
        assert world.gateway.hub.cut_count == 0
