"""Waiting between attempts, longer each time."""

from __future__ import annotations

import asyncio
import random

FIRST_SECONDS = 0.2
MOST_SECONDS = 10.0


class Backoff:
    """Doubling pauses with jitter, so that many who lost the same service do not come back at once."""

    def __init__(self, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._next_seconds = first_seconds

    def reset(self) -> None:
        """Something worked: the next pause is the shortest again."""
        self._next_seconds = self._first_seconds

    @property
    def next_seconds(self) -> float:
        """How long the next pause is at most."""
        return self._next_seconds

    async def wait(self) -> None:
        """The next pause: half of its length to all of it."""
        seconds = self._next_seconds
        self._next_seconds = min(self._most_seconds, 2 * seconds)
        await asyncio.sleep(seconds * random.uniform(0.5, 1))
