"""The event log over gRPC as a stream that survives its connections: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import betterproto

from coordinator_client.errors import ApiError, Unavailable
from coordinator_client.grpc import GrpcClient
from coordinator_client.proto.coordinator import v1
from coordinator_client.retry import retry_delay

# Four times the core's heartbeat: longer silence means a dead connection.
SILENCE_SECONDS: Final = 40.0
_LONGEST_BACKOFF: Final = 6
_NOT_FOR_GOOD: Final = frozenset({"RESOURCE_EXHAUSTED", "ABORTED"})

Item = v1.Event | v1.Snapshot | v1.Heartbeat


@dataclass(frozen=True, slots=True)
class Watched:
    """What is followed: see WatchRequest."""

    competition_id: str = ""
    kinds: Sequence[str] = ()
    after_sequence: int | None = None


async def follow(
    connect: Callable[[], GrpcClient],
    watched: Watched,
    *,
    on_lost: Callable[[str], None],
    give_up_seconds: float | None = None,
    silence_seconds: float = SILENCE_SECONDS,
) -> AsyncGenerator[Item, None]:
    """Items of the log, without end. Starts with a snapshot unless `watched` says after which event.

    Each connection has a channel and a signature of its own. A snapshot also comes later if the core's log
    ends before where the stream got to, that is, if it is another log.

    Args:
        connect: makes a client.
        watched: what is followed.
        on_lost: told why each time the connection is lost.
        give_up_seconds: how long it may stay lost; None for ever.
        silence_seconds: how long a connection may say nothing, heartbeats included, before it counts as dead.

    Raises:
        ApiError: the core refuses the request.
        Unavailable: it stayed lost for too long.
    """
    position = watched.after_sequence
    failures = 0
    lost_at: float | None = None
    while True:
        resumed = position is not None
        try:
            async with (
                connect() as client,
                aclosing(_items(client, watched, position, silence_seconds)) as items,
            ):
                async for item in items:
                    failures, lost_at = 0, None
                    if isinstance(item, v1.Event) and position is not None and item.sequence <= position:
                        continue
                    position = item.sequence
                    yield item
            problem = "the stream ended"
        except Unavailable as error:
            problem = str(error)
        except ApiError as error:
            if error.code == "OUT_OF_RANGE" and resumed and position != watched.after_sequence:
                problem, position = "the core has another log now", None
            elif error.code in _NOT_FOR_GOOD:
                problem = error.detail
            else:
                raise
        now = time.monotonic()
        if lost_at is None:
            lost_at = now
            on_lost(problem)
        if give_up_seconds is not None and now - lost_at >= give_up_seconds:
            raise Unavailable(problem)
        # A stream that ended in good order is resumed like a broken one, and no faster.
        await asyncio.sleep(retry_delay(failures))
        failures = min(failures + 1, _LONGEST_BACKOFF)


async def _items(
    client: GrpcClient, watched: Watched, position: int | None, silence_seconds: float
) -> AsyncGenerator[Item, None]:
    """Of one connection."""
    request = v1.WatchRequest(
        after_sequence=position,
        competition_id=watched.competition_id,
        kinds=list(watched.kinds),
        include_snapshot=position is None,
    )
    stream = client.events.watch(request)
    try:
        while True:
            try:
                async with asyncio.timeout(silence_seconds):
                    answer = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Unavailable(f"the core has said nothing for {silence_seconds:.0f} s") from None
            _, item = betterproto.which_one_of(answer, "item")
            if item is not None:
                yield item
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
