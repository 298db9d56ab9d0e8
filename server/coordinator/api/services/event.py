"""EventService: the log as a stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from coordinator.api.call import Caller, current_caller
from coordinator.api.convert import competition_message, event_message
from coordinator.core import Core
from coordinator.domain.errors import FieldViolation, InvalidInput, OutOfRange, ServiceUnavailable
from coordinator.domain.ids import check_uuid7
from coordinator.operations import listing
from coordinator.operations.users import session_owner
from coordinator.store.events import PAGE, last_sequence, read_events
from coordinator.v1 import event_pb2 as pb
from coordinator.v1.event_pb2_grpc import EventServiceServicer

HEARTBEAT_SECONDS: Final = 10.0
_MAX_KINDS: Final = 50
_KIND: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?", re.ASCII)


class EventService(EventServiceServicer):
    """Streams of events. `close` ends them all, for clients to come back after a restart."""

    def __init__(self, core: Core, heartbeat_seconds: float) -> None:
        self._core = core
        self._heartbeat_seconds = heartbeat_seconds
        self._closing = False

    def close(self) -> None:
        """Ends all streams soon, and refuses new ones."""
        self._closing = True
        self._core.signal.notify()

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        """See proto."""
        caller = current_caller()
        wanted = KindFilter(request.kinds)
        position = await self._start(request)
        # Tells the client that the stream is accepted, long before anything may happen.
        await context.send_initial_metadata(())
        if request.include_snapshot:
            position, snapshot = await self._snapshot(request.competition_id)
            yield pb.WatchResponse(snapshot=snapshot)
        clock = asyncio.get_running_loop().time
        silent_since = checked_at = clock()
        while True:
            # Taken before the log is read: what is committed after the reading wakes it.
            waiter = self._core.signal.waiter()
            if self._closing:
                raise ServiceUnavailable("the server is shutting down", reason="SHUTTING_DOWN")
            if clock() - checked_at >= self._heartbeat_seconds:
                await self._check_session(caller)
                checked_at = clock()
            head = await last_sequence()
            events = await read_events(
                position,
                competition_id=request.competition_id,
                viewer_pubkey=caller.pubkey,
                sees_all=caller.is_admin,
            )
            for event in events:
                position = event.sequence
                if wanted(event.kind):
                    yield pb.WatchResponse(event=event_message(event))
                    silent_since = clock()
            if len(events) == PAGE:
                continue
            # Up to here nothing else is for this stream, so a client may go on from here after a break.
            position = max(position, head)
            left = silent_since + self._heartbeat_seconds - clock()
            if left <= 0:
                yield pb.WatchResponse(heartbeat=pb.Heartbeat(sequence=position))
                silent_since = clock()
                continue
            try:
                async with asyncio.timeout(left):
                    await waiter.wait()
            except TimeoutError:
                continue

    async def _start(self, request: pb.WatchRequest) -> int:
        """The sequence after which the stream begins."""
        if request.competition_id:
            check_uuid7("competition_id", request.competition_id)
            await self._core.competitions.load(request.competition_id)
        head = await last_sequence()
        if not request.HasField("after_sequence"):
            return head
        if request.after_sequence < 0:
            raise InvalidInput.of("after_sequence", "must not be negative")
        if request.after_sequence > head:
            raise OutOfRange(f"the log ends at {head}", reason="SEQUENCE_IN_THE_FUTURE")
        return request.after_sequence

    async def _snapshot(self, competition_id: str) -> tuple[int, pb.Snapshot]:
        """Competitions, and the sequence up to which they are known to include everything."""
        sequence = await last_sequence()
        if competition_id:
            records = [await self._core.competitions.load(competition_id)]
        else:
            records = await listing.live_competitions()
        counts = await listing.counts_of([record.id for record in records])
        return sequence, pb.Snapshot(
            sequence=sequence,
            competitions=[competition_message(record, counts[record.id]) for record in records],
        )

    async def _check_session(self, caller: Caller) -> None:
        """A stream ends with the session that opened it.

        Raises:
            Unauthenticated: it has ended.
        """
        if caller.session_token:
            await session_owner(self._core, caller.session_token)


class KindFilter:
    """Which kinds of events a client wants: exact ones, and whole groups by `<group>.*`."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """Raises:
        InvalidInput: too many, or not a kind.
        """
        if len(kinds) > _MAX_KINDS:
            raise InvalidInput.of("kinds", f"takes at most {_MAX_KINDS}")
        wrong = [
            FieldViolation(f"kinds[{index}]", "is no kind, nor a group of kinds like `ticket.*`")
            for index, kind in enumerate(kinds)
            if not _KIND.fullmatch(kind)
        ]
        if wrong:
            raise InvalidInput(wrong)
        self._exact = frozenset(kind for kind in kinds if not kind.endswith(".*"))
        self._groups = tuple(kind.removesuffix("*") for kind in kinds if kind.endswith(".*"))
        self._all = not kinds

    def __call__(self, kind: str) -> bool:
        """Whether this kind is wanted."""
        return self._all or kind in self._exact or kind.startswith(self._groups)
