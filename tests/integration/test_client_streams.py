"""The Python client's two endless iterators, over SSE and over gRPC, on connections that break."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from coordinator.operations.competitions import pause_competition
from coordinator.store.models import EventRow
from coordinator_client import follow as following
from coordinator_client import watch as watching
from coordinator_client.errors import ApiError, Unavailable
from coordinator_client.follow import Watched, follow
from coordinator_client.grpc import GrpcClient
from coordinator_client.proto.coordinator import v1
from coordinator_client.rest import RestClient
from coordinator_client.watch import Event, Snapshot, watch
from support.examples import Documented, documented
from support.proxy import Proxy

Sequences = AsyncGenerator[tuple[int, bool], None]
"""(sequence, whether it is a snapshot's) of each item."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (watching, following):
        monkeypatch.setattr(module, "retry_delay", lambda attempt: 0.02)


@pytest_asyncio.fixture
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Documented]:
    async with documented(tmp_path_factory.mktemp("streams")) as running:
        yield running


async def by_sse(port: int, competition_id: str, **options: Any) -> Sequences:
    async with RestClient(f"http://127.0.0.1:{port}") as client:
        stream = watch(client, competition_id, **options)
        async for item in stream:
            yield item.sequence, isinstance(item, Snapshot)


async def by_grpc(port: int, competition_id: str, **options: Any) -> Sequences:
    def connect() -> GrpcClient:
        return GrpcClient(f"127.0.0.1:{port}")

    silence = {"silence_seconds": options.pop("silence_seconds")} if "silence_seconds" in options else {}
    watched = Watched(competition_id, **options)
    async with aclosing(follow(connect, watched, on_lost=lambda problem: None, **silence)) as items:
        async for item in items:
            if not isinstance(item, v1.Heartbeat):
                yield item.sequence, isinstance(item, v1.Snapshot)


def way(site: Documented, kind: str) -> tuple[Proxy, Callable[..., Sequences]]:
    """A proxy to what serves the kind of stream, and the iterator over it."""
    address = site.gateway_url if kind == "sse" else site.core_address
    return Proxy(int(address.rpartition(":")[2])), by_sse if kind == "sse" else by_grpc


@pytest.mark.parametrize("kind", ["sse", "grpc"])
async def test_nothing_is_lost_and_nothing_comes_twice(site: Documented, kind: str) -> None:
    chance = random.Random(kind)
    proxy, stream = way(site, kind)
    await proxy.listen()
    competition_id = await site.world.create()
    seen: list[int] = []
    started = asyncio.Event()
    reconnections = 0

    async def read() -> None:
        async for sequence, is_snapshot in stream(proxy.port, competition_id):
            assert is_snapshot == (not seen), "a snapshot comes first and never again"
            seen.append(sequence)
            started.set()

    reading = asyncio.create_task(read())
    async with asyncio.timeout(90):
        await started.wait()
        for number in range(40):
            await pause_competition(site.world.core, competition_id, number % 2 == 0)
            if chance.random() < 0.3:
                await proxy.cut()
                # Some events come while nobody can be reached.
                if chance.random() < 0.5:
                    await pause_competition(site.world.core, competition_id, number % 2 == 1)
                    await pause_competition(site.world.core, competition_id, number % 2 == 0)
                before = proxy.connections
                await proxy.listen()
                if chance.random() < 0.7:
                    while proxy.connections == before:
                        await asyncio.sleep(0.02)
                    reconnections += 1
        rows = await EventRow.filter(competition_id=competition_id, sequence__gt=seen[0])
        expected = sorted(row.sequence for row in rows)
        while seen[1:] != expected:
            assert not reading.done(), reading.exception()
            assert seen[1:] == expected[: len(seen) - 1]
            await asyncio.sleep(0.02)
    assert reconnections >= 3
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await proxy.cut()


@pytest.mark.parametrize("kind", ["sse", "grpc"])
async def test_a_connection_that_has_gone_silent_is_given_up(site: Documented, kind: str) -> None:
    """Nothing breaks, but nothing comes any more, not even heartbeats."""
    proxy, stream = way(site, kind)
    await proxy.listen()
    competition_id = await site.world.create()
    async with aclosing(stream(proxy.port, competition_id, silence_seconds=3)) as items:
        await anext(items)
        proxy.stall()
        await pause_competition(site.world.core, competition_id, True)
        before = proxy.connections
        waiting = asyncio.create_task(anext(items))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while proxy.connections == before:
                await asyncio.sleep(0.02)
            proxy.resume()
            sequence, is_snapshot = await waiting
    assert not is_snapshot
    assert (
        sequence
        == (await EventRow.filter(competition_id=competition_id).order_by("-sequence").first()).sequence
    )  # type: ignore[union-attr]
    await proxy.cut()


@pytest.mark.parametrize("kind", ["sse", "grpc"])
async def test_it_goes_on_where_it_is_told_to(site: Documented, kind: str) -> None:
    proxy, stream = way(site, kind)
    await proxy.listen()
    competition_id = await site.world.create()
    await pause_competition(site.world.core, competition_id, True)
    rows = await EventRow.filter(competition_id=competition_id).order_by("sequence")
    async with aclosing(stream(proxy.port, competition_id, after_sequence=rows[0].sequence)) as items:
        assert await anext(items) == (rows[1].sequence, False)
    await proxy.cut()


@pytest.mark.parametrize("kind", ["sse", "grpc"])
async def test_what_is_not_there_ends_it(site: Documented, kind: str) -> None:
    proxy, stream = way(site, kind)
    await proxy.listen()
    with pytest.raises(ApiError) as refused:
        await anext(stream(proxy.port, "01a2b3c4-0000-7000-8000-000000000000"))
    assert refused.value.reason == "COMPETITION_NOT_FOUND"
    await proxy.cut()


async def test_following_ends_when_it_was_lost_for_too_long(site: Documented) -> None:
    proxy, _ = way(site, "grpc")
    await proxy.listen()
    lost: list[str] = []

    def connect() -> GrpcClient:
        return GrpcClient(f"127.0.0.1:{proxy.port}")

    async with aclosing(follow(connect, Watched(), on_lost=lost.append, give_up_seconds=0.3)) as items:
        await anext(items)
        await proxy.cut()
        with pytest.raises(Unavailable):
            async for _ in items:
                pass
    assert len(lost) == 1


async def test_events_say_what_happened_in_both(site: Documented) -> None:
    competition_id = await site.world.create()
    await pause_competition(site.world.core, competition_id, True)
    async with RestClient(site.gateway_url) as client:
        stream = watch(client, competition_id, after_sequence=0)
        by_rest = [await anext(stream) for _ in range(2)]  # type: ignore[arg-type]
    followed = []
    async with aclosing(
        follow(
            lambda: GrpcClient(site.core_address),
            Watched(competition_id, after_sequence=0),
            on_lost=lambda problem: None,
        )
    ) as items:
        async for item in items:
            if isinstance(item, v1.Event):
                followed.append(item)
            if len(followed) == 2:
                break
    for one, other in zip(by_rest, followed, strict=True):
        assert isinstance(one, Event)
        assert (one.sequence, one.kind, one.competition_id) == (other.sequence, other.kind, competition_id)
        assert one.occurred_at == other.occurred_at
        assert one.state == other.state.name.lower() == "created"  # type: ignore[union-attr]
    assert by_rest[0].data == {"name": "test"}  # type: ignore[union-attr]
