"""Where an event stream's frames come from: the ring, the core, or the core until the ring takes over."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import grpc

from coordinator.v1 import event_pb2
from coordinator_gateway.hub import snapshot_frame
from coordinator_gateway.ring import EventFilter, EventRing, record_of
from coordinator_gateway.subscriber import Subscriber

# Frames that go out in one write.
_BATCH = 256
_FEED_BUFFER = 256
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
# After these a call with the same credentials can succeed.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)


class SourceEnded(Exception):
    """There will be no more; the client has to connect again."""


class Source(Protocol):
    """Frames of one stream."""

    def take(self) -> bytes:
        """What is there to be sent now, empty if nothing. ring.Evicted or SourceEnded if it cannot go on."""

    def close(self) -> None:
        """No more frames are needed."""


class RingSource:
    """Events after a sequence from the ring."""

    def __init__(self, ring: EventRing, subscriber: Subscriber, events: EventFilter, after: int) -> None:
        self._ring = ring
        self._subscriber = subscriber
        self._events = events
        self._after = after
        subscriber.position = ring.position_after(after)

    def take(self) -> bytes:
        ring, subscriber = self._ring, self._subscriber
        while subscriber.position < ring.end:
            # Until the ring has arrived where the client is, it may have to skip.
            if self._events.takes_all and ring.sequence_at(subscriber.position) > self._after:
                count, frames = ring.joined_since(subscriber.position, _BATCH)
            else:
                records = ring.since(subscriber.position, _BATCH)
                count = len(records)
                frames = b"".join(
                    [r.frame for r in records if r.sequence > self._after and self._events.takes(r)]
                )
            subscriber.position += count
            if frames:
                return frames
        return b""

    def close(self) -> None:
        self._subscriber.position = -1


class CoreFeed:
    """Items of an own Watch call, read ahead a little; after a passing failure the call is made again."""

    def __init__(
        self,
        open_call: Callable[[event_pb2.WatchRequest], Any],
        request: event_pb2.WatchRequest,
        subscriber: Subscriber,
        *,
        reopen: bool,
    ) -> None:
        self._open_call = open_call
        self._request = request
        self._subscriber = subscriber
        self._reopen = reopen
        self._items: deque[event_pb2.WatchResponse] = deque()
        self._room = asyncio.Event()
        self._begun = asyncio.Event()
        self._error: grpc.aio.AioRpcError | None = None
        self._task = asyncio.create_task(self._run())

    async def begun(self, seconds: float) -> None:
        """Waits for the first item, at most `seconds`. AioRpcError if the core refuses."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        if not self._items and self._error is not None:
            raise self._error

    def take(self) -> event_pb2.WatchResponse | None:
        """The next item, None if there is none yet. SourceEnded after the last one."""
        if self._items:
            self._room.set()
            return self._items.popleft()
        if self._task.done():
            raise SourceEnded
        return None

    def close(self) -> None:
        """Ends the call."""
        self._task.cancel()

    async def _run(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        try:
            while True:
                try:
                    await self._read()
                except grpc.aio.AioRpcError as error:
                    if not (self._reopen and self._begun.is_set() and error.code() in _PASSING):
                        self._error = error
                        return
                if not (self._reopen and self._begun.is_set()):
                    return
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
        finally:
            self._begun.set()
            # Woken after this task is done, so that `take` sees the end.
            asyncio.get_running_loop().call_soon(self._subscriber.wake)

    async def _read(self) -> None:
        call = self._open_call(self._request)
        try:
            async for item in call:
                while len(self._items) >= _FEED_BUFFER:
                    self._room.clear()
                    await self._room.wait()
                self._note(item)
                self._items.append(item)
                self._begun.set()
                self._subscriber.wake()
        finally:
            call.cancel()

    def _note(self, item: event_pb2.WatchResponse) -> None:
        """Keeps where to go on if the call has to be made again."""
        match item.WhichOneof("item"):
            case "event":
                self._request.after_sequence = item.event.sequence
            case "snapshot":
                self._request.after_sequence = item.snapshot.sequence
                self._request.include_snapshot = False


class CoreSource:
    """Events (and a snapshot, if asked for) of an own call: a stream with the caller's own rights."""

    def __init__(self, feed: CoreFeed, after: int) -> None:
        self._feed = feed
        self._after = after

    def take(self) -> bytes:
        frames: list[bytes] = []
        while len(frames) < _BATCH and (item := self._next(ended=not frames)) is not None:
            match item.WhichOneof("item"):
                case "event" if item.event.sequence > self._after:
                    frames.append(record_of(item.event).frame)
                    self._after = item.event.sequence
                case "snapshot":
                    frames.append(snapshot_frame(item.snapshot))
                    self._after = item.snapshot.sequence
        return b"".join(frames)

    def _next(self, *, ended: bool) -> event_pb2.WatchResponse | None:
        try:
            return self._feed.take()
        except SourceEnded:
            if ended:
                raise
            return None

    def close(self) -> None:
        self._feed.close()


class CatchUpSource:
    """Events older than the ring from the core, until the ring goes on from there."""

    def __init__(
        self, feed: CoreFeed, ring: EventRing, subscriber: Subscriber, events: EventFilter, after: int
    ) -> None:
        self._feed = feed
        self._ring = ring
        self._subscriber = subscriber
        self._events = events
        self._after = after
        self._next: RingSource | None = None

    def take(self) -> bytes:
        frames: list[bytes] = []
        while self._next is None and len(frames) < _BATCH:
            try:
                item = self._feed.take()
            except SourceEnded:
                if frames:
                    break
                raise
            if item is None:
                break
            match item.WhichOneof("item"):
                case "event" if item.event.sequence > self._after:
                    frames.append(record_of(item.event).frame)
                    self._after = item.event.sequence
                case "heartbeat" if item.heartbeat.sequence >= self._ring.floor:
                    # With a filter the last event that fits may be long past: all up to here was sent.
                    self._after = max(self._after, self._ring.floor)
            if self._ring.covers(self._after):
                self._feed.close()
                self._next = RingSource(self._ring, self._subscriber, self._events, self._after)
        if not frames and self._next is not None:
            return self._next.take()
        return b"".join(frames)

    def close(self) -> None:
        self._feed.close()
        if self._next is not None:
            self._next.close()
