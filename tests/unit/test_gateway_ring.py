"""The events in memory."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.v1 import event_pb2
from coordinator_gateway.ring import EventFilter, EventRing, Evicted, Record, event_frame, record_of


def record(sequence: int, kind: str = "ticket.paid", competition_id: str = "c") -> Record:
    return Record(sequence, competition_id, kind, b"<%d>" % sequence)


def test_a_record_is_the_frame_that_clients_get() -> None:
    event = event_pb2.Event(sequence=7, competition_id="c", kind="entry.submitted")
    assert record_of(event).frame == (
        b"id: 7\nevent: entry.submitted\n"
        b'data: {"sequence":7,"competition_id":"c","kind":"entry.submitted",'
        b'"occurred_at":null,"state":"unspecified","data":null}\n\n'
    )


def test_a_kind_cannot_break_the_frame() -> None:
    assert event_frame(1, "a\nid: 9", b"{}").count(b"\n") == 4


def test_repeated_events_are_kept_once() -> None:
    ring = EventRing(10)
    assert ring.append(record(3))
    assert not ring.append(record(3))
    assert not ring.append(record(2))
    assert [r.sequence for r in ring.since(0, 10)] == [3]


@given(
    capacity=st.integers(1, 40),
    floor=st.integers(0, 5),
    steps=st.lists(st.integers(1, 3), max_size=150),
    wanted=st.integers(0, 400),
    limit=st.integers(1, 7),
)
def test_everything_after_a_covered_sequence_is_there(
    capacity: int, floor: int, steps: list[int], wanted: int, limit: int
) -> None:
    ring = EventRing(capacity)
    ring.reset(floor)
    log: list[int] = []
    for step in steps:
        log.append((log[-1] if log else floor) + step)
        ring.append(record(log[-1]))
    assert ring.head == (log[-1] if log else floor)
    assert ring.floor == floor or ring.floor in log
    assert sum(sequence > ring.floor for sequence in log) >= min(capacity, len(log))
    if not ring.covers(wanted):
        with pytest.raises(Evicted):
            ring.position_after(wanted)
        return
    position = ring.position_after(wanted)
    single: list[int] = []
    joined = b""
    while position < ring.end:
        amount, frames = ring.joined_since(position, limit)
        records = ring.since(position, limit)
        assert amount == len(records) > 0
        assert ring.sequence_at(position) == records[0].sequence
        single += [r.sequence for r in records]
        joined += frames
        position += amount
    assert single == [sequence for sequence in log if sequence > wanted]
    assert joined == b"".join(record(sequence).frame for sequence in single)


def test_a_position_that_was_dropped() -> None:
    ring = EventRing(5)
    for sequence in count(1):
        ring.append(record(sequence))
        if ring.floor:
            break
    with pytest.raises(Evicted):
        ring.since(0, 1)
    with pytest.raises(Evicted):
        ring.sequence_at(0)
    with pytest.raises(Evicted):
        ring.joined_since(0, 1)


@pytest.mark.parametrize(
    ("events", "kind", "competition_id", "takes"),
    [
        (EventFilter(), "a.b", "c", True),
        (EventFilter(competition_id="c"), "a.b", "c", True),
        (EventFilter(competition_id="c"), "a.b", "d", False),
        (EventFilter(kinds=("a.b",)), "a.b", "c", True),
        (EventFilter(kinds=("a.b",)), "a.bc", "c", False),
        (EventFilter(kinds=("x", "a.*")), "a.b", "c", True),
        (EventFilter(kinds=("a.*",)), "ab.c", "c", False),
        (EventFilter(competition_id="c", kinds=("a.*",)), "a.b", "d", False),
    ],
)
def test_filters(events: EventFilter, kind: str, competition_id: str, takes: bool) -> None:
    assert events.takes(record(1, kind, competition_id)) is takes
    assert events.takes_all is (events == EventFilter())
