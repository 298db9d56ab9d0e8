"""Time, as something that can be swapped in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where unix seconds come from."""

    def now(self) -> int:
        """Unix seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())
