"""Times and durations as people type and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_DURATION: Final = re.compile("".join(rf"(?:(\d{{1,6}}){unit})?" for unit, _ in _UNITS), re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of a duration such as `90s`, `2h` or `1d12h`.

    Raises:
        ValueError: it is not one.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration; write e.g. 90s, 30m, 2h, 1d12h (units: w d h m s)")
    return sum(
        int(number or 0) * seconds for number, (_, seconds) in zip(found.groups(), _UNITS, strict=True)
    )


def parse_moment(text: str) -> datetime:
    """A moment of RFC 3339, e.g. `2026-11-25T18:00:00Z`; without a zone it is this machine's local time.

    Raises:
        ValueError: it is not one.
    """
    try:
        # Local time makes astimezone() of a naive time; years at the ends of the calendar have none.
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; write e.g. 2026-11-25T18:00:00Z, or 2026-11-25T18:00 for local time"
        ) from None


def show_duration(seconds: float) -> str:
    """The two largest units: `2h 5m`, `45s`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS[1:]:
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def is_set(moment: datetime | None) -> bool:
    """Whether the API gave a time: an absent one reads as the epoch."""
    return moment is not None and moment.timestamp() != 0


def show_moment(moment: datetime | None) -> str:
    """Local time with its zone, `-` for none."""
    if moment is None or not is_set(moment):
        return "-"
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def show_clock(moment: datetime) -> str:
    """Local time of day."""
    return moment.astimezone().strftime("%H:%M:%S")


def show_distance(moment: datetime, now: datetime) -> str:
    """How far a moment lies off: `in 2h 5m`, `3m 10s ago`."""
    seconds = (moment - now).total_seconds()
    return f"in {show_duration(seconds)}" if seconds >= 0 else f"{show_duration(-seconds)} ago"
