"""The last events in memory, each as the bytes that every client gets."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from coordinator_gateway import jsoncodec


class EventMessage(Protocol):
    """What is used of coordinator.v1.Event."""

    sequence: int
    competition_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Record:
    """One event, encoded once."""

    sequence: int
    competition_id: str
    kind: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a client wants; empty parts want all. A kind that ends in `.*` is a whole group."""

    competition_id: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def takes_all(self) -> bool:
        """No event is left out."""
        return not self.competition_id and not self.kinds

    def takes(self, record: Record) -> bool:
        """Whether the event is wanted."""
        if self.competition_id and record.competition_id != self.competition_id:
            return False
        return not self.kinds or any(_kind_fits(kind, record.kind) for kind in self.kinds)


@lru_cache(4096)
def _kind_fits(wanted: str, kind: str) -> bool:
    return kind.startswith(wanted[:-1]) if wanted.endswith(".*") else kind == wanted


class Evicted(Exception):
    """The ring no longer has the events from the position that was asked for."""


class EventRing:
    """The public events with `floor < sequence <= head`, of which at least the last `capacity` are kept.

    Sequences increase but have gaps where the log holds events that are not public. A position counts events
    ever appended; it stays valid while older events are dropped.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.reset(0)

    def reset(self, floor: int) -> None:
        """Forgets all events; the next one is the first after `floor`."""
        self.floor = floor
        self.head = floor
        self._start = 0
        self._records: list[Record] = []
        self._sequences: list[int] = []
        self._joined: tuple[int, int, bytes] = (0, 0, b"")

    @property
    def end(self) -> int:
        """The position after the last event."""
        return self._start + len(self._records)

    def append(self, record: Record) -> bool:
        """Adds an event; False if it is here already."""
        if record.sequence <= self.head:
            return False
        self._records.append(record)
        self._sequences.append(record.sequence)
        self.head = record.sequence
        # Dropped in lots, so that the cost of moving the list is shared by many appends.
        surplus = len(self._records) - self._capacity
        if surplus > max(16, self._capacity // 8):
            self.floor = self._sequences[surplus - 1]
            del self._records[:surplus], self._sequences[:surplus]
            self._start += surplus
        return True

    def covers(self, sequence: int) -> bool:
        """Whether every event after `sequence` is here or still to come."""
        return sequence >= self.floor

    def position_after(self, sequence: int) -> int:
        """The position of the first event after `sequence`. Evicted if some of them are gone."""
        if not self.covers(sequence):
            raise Evicted
        return self._start + bisect_right(self._sequences, sequence)

    def sequence_at(self, position: int) -> int:
        """The sequence of the event at a position. Evicted if it is gone."""
        if position < self._start:
            raise Evicted
        return self._sequences[position - self._start]

    def since(self, position: int, limit: int) -> Sequence[Record]:
        """Up to `limit` events from a position on. Evicted if some of them are gone."""
        if position < self._start:
            raise Evicted
        first = position - self._start
        return self._records[first : first + limit]

    def joined_since(self, position: int, limit: int) -> tuple[int, bytes]:
        """How many, and the frames in one piece, of up to `limit` events from a position on.

        Evicted if some of them are gone. Clients without a filter who are equally far share one piece.
        """
        end = min(self.end, position + limit)
        if self._joined[:2] != (position, end):
            records = self.since(position, limit)
            self._joined = (position, end, b"".join([record.frame for record in records]))
        return end - position, self._joined[2]


def event_frame(sequence: int, kind: str, data: bytes) -> bytes:
    """A stored event as a frame of an event stream (WHATWG HTML, server-sent events)."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (sequence, _one_line(kind), data)


def bare_frame(kind: str, data: bytes) -> bytes:
    """A frame that is no stored event: without `id:`, or a client would resume after what it never got."""
    return b"event: %s\ndata: %s\n\n" % (_one_line(kind), data)


def _one_line(text: str) -> bytes:
    return text.replace("\r", " ").replace("\n", " ").encode()


def record_of(event: "EventMessage") -> Record:
    """An event of the core, encoded."""
    data = jsoncodec.dumps(jsoncodec.encode(event))  # type: ignore[arg-type]
    return Record(
        event.sequence, event.competition_id, event.kind, event_frame(event.sequence, event.kind, data)
    )
