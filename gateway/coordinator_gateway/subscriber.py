"""One open event stream as the hub sees it: when it wakes, whether it is stuck, how it is ended."""

import asyncio
import random


class Subscriber:
    """The side of a stream that others act on. Used on the event loop only."""

    __slots__ = (
        "_beat_at",
        "_heartbeat",
        "_loop",
        "_timeout",
        "_waiter",
        "address",
        "blocked_since",
        "closing",
        "position",
    )

    def __init__(self, heartbeat_seconds: float, address: str) -> None:
        # Whose stream it is, for the limit of each.
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._heartbeat = heartbeat_seconds
        self._waiter: asyncio.Future[None] | None = None
        self._timeout: asyncio.Timeout | None = None
        # Since when the connection takes nothing more; 0: it does.
        self.blocked_since = 0.0
        # Where in the ring it is; negative while it does not follow the ring.
        self.position = -1
        self.closing = False
        self.sent()

    def sent(self) -> None:
        """Something went out: the next heartbeat is a while away."""
        # Not all at the same moment, when all were sent the same event.
        self._beat_at = self._loop.time() + self._heartbeat * random.uniform(0.75, 1.0)

    def heartbeat_due(self, now: float) -> bool:
        """Whether the stream was silent long enough."""
        return now >= self._beat_at

    async def wait(self) -> None:
        """Returns when there may be something to do."""
        if self.closing:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Ends a wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Asks the stream to end in good order."""
        self.closing = True
        self.wake()

    def guard(self) -> asyncio.Timeout:
        """A context to run the stream in: TimeoutError leaves it once `cut` is called."""
        self._timeout = asyncio.timeout(None)
        return self._timeout

    def cut(self) -> None:
        """Ends the stream at once, even if its connection takes nothing more."""
        self.closing = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._loop.time())

    @property
    def was_cut(self) -> bool:
        """It left its guard because of `cut`."""
        return self._timeout is not None and self._timeout.expired()
