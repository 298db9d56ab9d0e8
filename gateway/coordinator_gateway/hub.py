"""The public event log in this process: one stream from the core, fanned out to every client.

The hub keeps one `EventService.Watch` open (public events, everything), appends what arrives to the ring and
wakes the streams that wait. Streams read the ring at their own position, so an event is encoded once however
many clients there are, and a slow client costs nothing but its lag; too much of it, and it is cut.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from coordinator.v1 import competition_pb2, competition_pb2_grpc, event_pb2, event_pb2_grpc
from coordinator_gateway import jsoncodec
from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import Core, Metadata
from coordinator_gateway.problems import from_rpc_error, retry_later
from coordinator_gateway.ring import EventRing, bare_frame, record_of
from coordinator_gateway.subscriber import Subscriber

logger = logging.getLogger(__name__)

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
_READY_SECONDS = 5.0
# A write to a client takes some 40 microseconds: how many to make before others have their turn.
_ROUSE_SLICE = 128
_GATHER_SECONDS_PER_CLIENT = 2e-6
_LONGEST_GATHER_SECONDS = 0.02


class Hub:
    """Runs between `start` and `stop`; `drain` ends every stream before that."""

    def __init__(self, config: GatewayConfig, core: Core) -> None:
        self.config = config
        self.ring = EventRing(config.event_ring)
        # The ring holds the end of the log; never before the core was reached once.
        self.ready = asyncio.Event()
        # The stream from the core is open.
        self.connected = False
        self.draining = False
        # Streams cut because they were too slow, since the start.
        self.cut_count = 0
        self.subscribers: set[Subscriber] = set()
        self._addresses: Counter[str] = Counter()
        self._waiting: set[Subscriber] = set()
        # Those of the waiting who are about to be woken, and where the ring ended when they were chosen.
        self._rousing: set[Subscriber] = set()
        self._roused_to = 0
        self._rouse_handle: asyncio.Handle | None = None
        self._blocked: set[Subscriber] = set()
        self._core = core
        self._snapshots: dict[str, tuple[float, asyncio.Task[tuple[int, bytes]]]] = {}
        # Ids of competitions of which something was heard.
        self._known: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    def start(self) -> None:
        """Starts to follow the core, whose channel is open."""
        self._events: Any = event_pb2_grpc.EventServiceStub(self._core.channel)
        self._competitions: Any = competition_pb2_grpc.CompetitionServiceStub(self._core.channel)
        self._tasks = [
            asyncio.create_task(self._follow(), name="event hub"),
            asyncio.create_task(self._tick(), name="event stream ticker"),
        ]

    def drain(self) -> None:
        """Ends every stream in good order and takes no new ones; clients resume elsewhere or later."""
        self.draining = True
        for subscriber in tuple(self.subscribers):
            subscriber.close()

    async def stop(self) -> None:
        """Stops following the core."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    # --- the core ---

    def watch(self, request: event_pb2.WatchRequest, metadata: Metadata | None = None) -> Any:
        """A call of `EventService.Watch`."""
        return self._events.Watch(
            request, metadata=self._core.own_metadata() if metadata is None else metadata
        )

    async def log_head(self) -> int:
        """The last sequence of the core's log. grpc.aio.AioRpcError if it cannot be had."""
        page = await self._competitions.ListCompetitions(
            competition_pb2.ListCompetitionsRequest(page_size=1),
            metadata=self._core.own_metadata(),
            timeout=self.config.request_timeout_seconds,
        )
        return int(page.sequence)

    def knows(self, competition_id: str) -> bool:
        """Whether the competition was seen to exist."""
        return competition_id in self._known

    async def snapshot(self, competition_id: str) -> tuple[int, bytes]:
        """Sequence and frame of a snapshot. Problem if there is none.

        Clients that come within a moment share it. A snapshot that is a little old is as good as a fresh
        one: the events after it follow it.
        """
        now = asyncio.get_running_loop().time()
        for key, (until, task) in tuple(self._snapshots.items()):
            if until < now and task.done():
                del self._snapshots[key]
        known = self._snapshots.get(competition_id)
        if known is None:
            task = asyncio.create_task(self._fetch_snapshot(competition_id))
            known = self._snapshots[competition_id] = (now + self.config.snapshot_seconds, task)
        try:
            # Shielded, since other clients wait for the same task.
            return await asyncio.shield(known[1])
        except grpc.aio.AioRpcError as error:
            self._snapshots.pop(competition_id, None)
            raise from_rpc_error(error) from error

    async def _fetch_snapshot(self, competition_id: str) -> tuple[int, bytes]:
        call = self._events.Watch(
            event_pb2.WatchRequest(competition_id=competition_id, include_snapshot=True),
            metadata=self._core.own_metadata(),
            timeout=self.config.request_timeout_seconds,
        )
        try:
            async for item in call:
                if item.WhichOneof("item") == "snapshot":
                    self._known.add(competition_id)
                    return item.snapshot.sequence, snapshot_frame(item.snapshot)
        finally:
            call.cancel()
        raise retry_later(503, "The coordinator gave no snapshot.", 1, reason="UNAVAILABLE")

    async def _follow(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                head = await self.log_head()
                if self.ready.is_set() and head < self.ring.head:
                    self._start_over()
                if not self.ready.is_set():
                    # Filled from the past, so that clients of a gateway that restarted find their place.
                    self.ring.reset(max(0, head - self.config.event_ring))
                    self.ready.set()
                self.connected = True
                async for item in self._items():
                    backoff = _FIRST_BACKOFF_SECONDS
                    if item.WhichOneof("item") == "event" and self.ring.append(record_of(item.event)):
                        self._known.add(item.event.competition_id)
                        self._cut_laggards()
                        self._rouse_soon()
                logger.info("the core closed the event stream")
            except grpc.aio.AioRpcError as error:
                logger.warning("event stream of the core failed: %s", error.code().name)
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    self._start_over()
            except TimeoutError:
                logger.warning("event stream of the core was silent for too long")
            finally:
                self.connected = False
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)

    async def _items(self) -> AsyncIterator[event_pb2.WatchResponse]:
        call = self.watch(event_pb2.WatchRequest(after_sequence=self.ring.head))
        try:
            while True:
                async with asyncio.timeout(self.config.upstream_idle_seconds):
                    item = await call.read()
                if item is _EOF:
                    return
                yield item
        finally:
            call.cancel()

    def _start_over(self) -> None:
        """The core's log ends before what we have seen: another log. Every client needs a new snapshot."""
        logger.warning("the log of the core is another one; all event streams start over")
        self.ready.clear()
        self._snapshots.clear()
        self._known.clear()
        for subscriber in tuple(self.subscribers):
            subscriber.close()

    # --- the streams ---

    def add(self, subscriber: Subscriber) -> None:
        """Counts a stream as open. Problem if there are too many."""
        if self.draining:
            raise retry_later(503, "The gateway is stopping.", 1, reason="STOPPING")
        if len(self.subscribers) >= self.config.max_streams:
            raise retry_later(503, "Too many event streams are open.", 5, reason="TOO_MANY_STREAMS")
        if self._addresses[subscriber.address] >= self.config.max_streams_per_address:
            raise retry_later(
                429, "Too many event streams are open from this address.", 5, reason="TOO_MANY_STREAMS"
            )
        self.subscribers.add(subscriber)
        self._addresses[subscriber.address] += 1

    def remove(self, subscriber: Subscriber) -> None:
        """Counts a stream that was added as ended."""
        self.subscribers.discard(subscriber)
        self._addresses[subscriber.address] -= 1
        if not self._addresses[subscriber.address]:
            del self._addresses[subscriber.address]
        self._forget_waiting(subscriber)
        self._blocked.discard(subscriber)

    async def wait(self, subscriber: Subscriber) -> None:
        """Waits until the ring may have more, a heartbeat is due or the stream is to end."""
        self._waiting.add(subscriber)
        await subscriber.wait()
        self._forget_waiting(subscriber)

    def sending(self, subscriber: Subscriber) -> None:
        """The stream's connection is being written to."""
        subscriber.blocked_since = asyncio.get_running_loop().time()
        self._blocked.add(subscriber)

    def sent(self, subscriber: Subscriber) -> None:
        """The stream's connection took what was written."""
        subscriber.blocked_since = 0.0
        self._blocked.discard(subscriber)
        subscriber.sent()

    def _forget_waiting(self, subscriber: Subscriber) -> None:
        self._waiting.discard(subscriber)
        self._rousing.discard(subscriber)

    def _rouse_soon(self) -> None:
        """Wakes those who wait; if they are many a little later, so that a burst goes out together."""
        if self._rouse_handle is None:
            loop = asyncio.get_running_loop()
            delay = min(_LONGEST_GATHER_SECONDS, len(self._waiting) * _GATHER_SECONDS_PER_CLIENT)
            self._rouse_handle = loop.call_later(delay, self._rouse)

    def _rouse(self) -> None:
        """Wakes a slice of them; between slices the loop serves other requests and reads further events."""
        if not self._rousing and self._roused_to != self.ring.end:
            self._rousing, self._waiting = self._waiting, set()
            self._roused_to = self.ring.end
        for _ in range(min(_ROUSE_SLICE, len(self._rousing))):
            self._rousing.pop().wake()
        more = bool(self._rousing) or self._roused_to != self.ring.end
        self._rouse_handle = asyncio.get_running_loop().call_soon(self._rouse) if more else None

    def _cut_laggards(self) -> None:
        # Whoever is in `_blocked` now is stuck: a write that goes through never yields.
        limit = self.ring.end - self.config.client_queue
        for subscriber in tuple(self._blocked):
            if 0 <= subscriber.position < limit:
                self._cut(subscriber)

    def _cut(self, subscriber: Subscriber) -> None:
        self.cut_count += 1
        self._blocked.discard(subscriber)
        subscriber.cut()

    async def wait_ready(self) -> None:
        """Waits until the core was reached. Problem if that takes too long."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.ready.wait()
        except TimeoutError as error:
            raise retry_later(503, "The coordinator cannot be reached.", 2, reason="UNAVAILABLE") from error

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        interval = min(1.0, self.config.heartbeat_seconds / 10, self.config.client_stall_seconds / 4)
        while True:
            await asyncio.sleep(interval)
            now = loop.time()
            for subscriber in tuple(self._blocked):
                if now - subscriber.blocked_since > self.config.client_stall_seconds:
                    self._cut(subscriber)
            for subscriber in self.subscribers:
                if subscriber.heartbeat_due(now):
                    subscriber.wake()


def snapshot_frame(snapshot: event_pb2.Snapshot) -> bytes:
    """A snapshot as a frame."""
    return bare_frame("snapshot", jsoncodec.dumps(jsoncodec.encode(snapshot)))
