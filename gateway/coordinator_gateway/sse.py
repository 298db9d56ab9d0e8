"""Event streams (server-sent events, WHATWG HTML section 9.2) for `EventService.Watch`.

A client without credentials reads the hub's ring; one with a session token or authorization has its own call
to the core, and so its private events. A stream starts with a `snapshot` frame unless the client resumes: by
the Last-Event-ID header, which an EventSource sends by itself, or by `after_sequence`. An id that the log
does not have (too old, or of another log) also gets a snapshot. Every stored event's frame has the sequence
as its `id:`; nothing else has one.
"""

import asyncio
import logging
import re

import grpc
from starlette.requests import Request
from starlette.types import Receive, Send

from coordinator.v1 import event_pb2
from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.core import Core, session_token
from coordinator_gateway.hub import Hub
from coordinator_gateway.jsoncodec import FieldViolation, InvalidFieldsError
from coordinator_gateway.limits import address_of
from coordinator_gateway.problems import Problem, from_rpc_error, retry_later
from coordinator_gateway.ring import EventFilter, Evicted
from coordinator_gateway.sources import CatchUpSource, CoreFeed, CoreSource, RingSource, Source, SourceEnded
from coordinator_gateway.subscriber import Subscriber

logger = logging.getLogger(__name__)

_HEARTBEAT = b": heartbeat\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold frames back.
    (b"x-accel-buffering", b"no"),
]
_SEQUENCE = re.compile(r"[0-9]{1,18}", re.ASCII)
_KIND = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?", re.ASCII)
_MAX_KINDS = 50
_UNAVAILABLE, _TIMED_OUT = 503, 504
# How long to wait for the core to refuse a call whose first item may be long in coming.
_REFUSAL_SECONDS = 1.0


class EventStreams:
    """Serves the streams of one gateway."""

    def __init__(self, config: GatewayConfig, core: Core, hub: Hub) -> None:
        self._config = config
        self._core = core
        self._hub = hub

    async def serve(
        self, request: Request, message: event_pb2.WatchRequest, receive: Receive, send: Send
    ) -> None:
        """Answers with the stream. Problem before its start if it cannot be had."""
        after = _resume_after(request, message)
        _check_kinds(message)
        subscriber = Subscriber(self._config.heartbeat_seconds, address_of(request.scope))
        self._hub.add(subscriber)
        source: Source | None = None
        try:
            if session_token(request) or "authorization" in request.headers:
                first, source = b"", await self._own(request, message, subscriber, after)
            else:
                first, source = await self._shared(message, subscriber, after)
            await self._stream(subscriber, first, source, receive, send)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except Evicted as error:
            # The ring went past the snapshot before the stream began: far more events than it can hold.
            raise retry_later(503, "Too many events at once.", 1, reason="UNAVAILABLE") from error
        finally:
            self._hub.remove(subscriber)
            if source is not None:
                source.close()

    async def _shared(
        self, message: event_pb2.WatchRequest, subscriber: Subscriber, after: int | None
    ) -> tuple[bytes, Source]:
        hub = self._hub
        await hub.wait_ready()
        if after is not None and message.competition_id:
            await self._check_competition(message.competition_id)
        events = EventFilter(message.competition_id, tuple(message.kinds))
        # Another gateway may be a moment ahead of this one; beyond the core's own log is another log.
        if after is not None and after > hub.ring.head and after > await hub.log_head():
            after = None
        if after is not None and not hub.ring.covers(after):
            request = event_pb2.WatchRequest(
                after_sequence=after, competition_id=message.competition_id, kinds=message.kinds
            )
            feed = await self._feed(CoreFeed(hub.watch, request, subscriber, reopen=True))
            if feed is not None:
                return b"", CatchUpSource(feed, hub.ring, subscriber, events, after)
            after = None
        first = b""
        if after is None:
            after, first = await hub.snapshot(message.competition_id)
        return first, RingSource(hub.ring, subscriber, events, after)

    async def _check_competition(self, competition_id: str) -> None:
        """Problem if there is none: whoever resumes gets no snapshot, which would say so."""
        if self._hub.knows(competition_id):
            return
        try:
            await self._hub.snapshot(competition_id)
        except Problem as problem:
            # While the core is gone what the ring has is better than nothing.
            if problem.status not in (_UNAVAILABLE, _TIMED_OUT):
                raise

    async def _own(
        self, request: Request, message: event_pb2.WatchRequest, subscriber: Subscriber, after: int | None
    ) -> Source:
        metadata = self._core.metadata(request, b"", self._config.public_url)
        # A NIP-98 event is accepted once, a session token until it ends.
        reopen = session_token(request) is not None and not _is_nostr(request)

        def feed(after: int | None) -> CoreFeed:
            own = event_pb2.WatchRequest(
                after_sequence=after,
                competition_id=message.competition_id,
                kinds=message.kinds,
                include_snapshot=after is None,
            )
            return CoreFeed(lambda own: self._hub.watch(own, metadata), own, subscriber, reopen=reopen)

        if after is not None and (resumed := await self._feed(feed(after))) is not None:
            return CoreSource(resumed, after)
        fresh = feed(None)
        try:
            await fresh.begun(self._config.request_timeout_seconds)
        except BaseException:
            fresh.close()
            raise
        return CoreSource(fresh, -1)

    async def _feed(self, feed: CoreFeed) -> CoreFeed | None:
        """The feed once the core accepts it, None if its log does not go back (or on) that far."""
        try:
            await feed.begun(_REFUSAL_SECONDS)
        except grpc.aio.AioRpcError as error:
            feed.close()
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                return None
            raise
        except BaseException:
            feed.close()
            raise
        return feed

    async def _stream(
        self, subscriber: Subscriber, first: bytes, source: Source, receive: Receive, send: Send
    ) -> None:
        hub = self._hub
        clock = asyncio.get_running_loop().time
        listener = asyncio.create_task(_close_on_disconnect(receive, subscriber))
        chunk = b"retry: %d\n\n%s" % (self._config.retry_milliseconds, first)
        try:
            async with subscriber.guard():
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                while not subscriber.closing:
                    if chunk:
                        hub.sending(subscriber)
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        hub.sent(subscriber)
                    elif subscriber.heartbeat_due(clock()):
                        chunk = _HEARTBEAT
                        continue
                    else:
                        await hub.wait(subscriber)
                    chunk = source.take()
        except (Evicted, SourceEnded):
            logger.debug("an event stream ends early; its client resumes")
        except TimeoutError:
            if not subscriber.was_cut:
                raise
            # Left without an end, so that the server drops the connection instead of waiting for it.
            logger.info("a client's event stream was cut: it does not keep up")
            return
        finally:
            listener.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _close_on_disconnect(receive: Receive, subscriber: Subscriber) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.close()


def _resume_after(request: Request, message: event_pb2.WatchRequest) -> int | None:
    """The sequence that the client has got up to, None if it starts anew.

    The header goes before the query string: an EventSource that reconnects repeats the URL it started with.
    InvalidFieldsError if `after_sequence` is negative.
    """
    if message.HasField("after_sequence") and message.after_sequence < 0:
        raise InvalidFieldsError([FieldViolation("after_sequence", "must not be negative")])
    last_id = request.headers.get("last-event-id", "")
    if last_id:
        return int(last_id) if _SEQUENCE.fullmatch(last_id) else None
    if message.HasField("after_sequence") and not message.include_snapshot:
        return message.after_sequence
    return None


def _check_kinds(message: event_pb2.WatchRequest) -> None:
    """Refuses what no event's kind can be, as the core does where it is asked."""
    wrong = [
        FieldViolation(f"kinds[{index}]", "is no kind, nor a group of kinds like `ticket.*`")
        for index, kind in enumerate(message.kinds)
        if not _KIND.fullmatch(kind)
    ]
    if len(message.kinds) > _MAX_KINDS:
        wrong = [FieldViolation("kinds", f"takes at most {_MAX_KINDS}")]
    if wrong:
        raise InvalidFieldsError(wrong)


def _is_nostr(request: Request) -> bool:
    return request.headers.get("authorization", "").lower().startswith("nostr ")
