"""The store on a real SQLite file: gapless sequences under concurrency, fencing, the outbox of events."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.adapters.secret_box import SecretBox, SecretBoxError
from coordinator.domain.competition import Facts
from coordinator.domain.errors import NotFound
from coordinator.domain.ids import new_uuid7
from coordinator.domain.states import Created
from coordinator.store.competitions import Competitions, StaleState
from coordinator.store.database import close_database, open_database
from coordinator.store.events import EventSignal, NewEvent, last_sequence, read_events
from support.terms import TERMS


def created() -> Created:
    return Created(
        facts=Facts(
            competition_id=new_uuid7(),
            terms=TERMS,
            created_at=1,
            keygen_session_ids=(new_uuid7(),),
            keymeld_coordinator_user_id=new_uuid7(),
            market_maker_pubkey=b"\x02" * 33,
        )
    )


@pytest.fixture
async def competitions(tmp_path: Path) -> AsyncIterator[Competitions]:
    await open_database(f"sqlite:///{tmp_path}/store.sqlite3")
    try:
        yield Competitions(EventSignal())
    finally:
        await close_database()


async def test_concurrent_writers_get_gapless_sequences(competitions: Competitions) -> None:
    records = [await competitions.insert(created(), 1, [NewEvent("competition.created")]) for _ in range(4)]

    async def tell(competition_id: str, count: int) -> None:
        for number in range(count):
            await competitions.tell(
                competition_id, 2, [NewEvent("test.a", {"n": number}), NewEvent("test.b")]
            )

    await asyncio.gather(*(tell(record.id, 10) for record in records))
    events = await read_events(0, limit=1000)
    assert [event.sequence for event in events] == list(range(1, 4 + 80 + 1))
    assert await last_sequence() == 84
    mine = await read_events(0, competition_id=records[1].id, limit=1000)
    assert [event.data["n"] for event in mine if event.kind == "test.a"] == list(range(10))
    assert (await competitions.load(records[1].id)).sequence == mine[-1].sequence


async def test_a_stale_writer_is_refused_and_leaves_nothing(competitions: Competitions) -> None:
    record = await competitions.insert(created(), 1, [NewEvent("competition.created")])
    assert isinstance(record.status, Created)
    await competitions.advance(record, record.status.first_entry(), 2)
    with pytest.raises(StaleState):
        await competitions.advance(record, record.status.cancel("too late"), 3, [NewEvent("test.never")])
    kinds = [event.kind for event in await read_events(0)]
    assert kinds == ["competition.created", "competition.state_changed"]
    assert (await competitions.load(record.id)).status.name == "collecting_entries"


async def test_an_error_in_a_transaction_takes_its_events_with_it(competitions: Competitions) -> None:
    record = await competitions.insert(created(), 1, [NewEvent("competition.created")])

    async def fail_after_telling() -> None:
        async with competitions.transaction():
            await competitions.tell(record.id, 2, [NewEvent("test.lost")])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_telling()
    await competitions.tell(record.id, 2, [NewEvent("test.kept")])
    assert [(event.sequence, event.kind) for event in await read_events(0)] == [
        (1, "competition.created"),
        (2, "test.kept"),
    ]


async def test_private_events_reach_their_audience_only(competitions: Competitions) -> None:
    record = await competitions.insert(created(), 1, [NewEvent("competition.created")])
    await competitions.tell(record.id, 2, [NewEvent("test.private", audience_pubkey="aa")])
    assert [e.kind for e in await read_events(0)] == ["competition.created"]
    assert [e.kind for e in await read_events(0, viewer_pubkey="bb")] == ["competition.created"]
    assert [e.kind for e in await read_events(1, viewer_pubkey="aa")] == ["test.private"]
    assert [e.kind for e in await read_events(1, sees_all=True)] == ["test.private"]


async def test_waiters_taken_before_a_commit_are_woken_by_it(tmp_path: Path) -> None:
    await open_database(f"sqlite:///{tmp_path}/store.sqlite3")
    try:
        signal = EventSignal()
        competitions = Competitions(signal)
        waiter = signal.waiter()
        await competitions.insert(created(), 1, [NewEvent("competition.created")])
        await asyncio.wait_for(waiter.wait(), 1)
        assert not signal.waiter().is_set()
        with pytest.raises(NotFound):
            await competitions.load(new_uuid7())
    finally:
        await close_database()


def test_a_sealed_secret_opens_only_in_its_own_place() -> None:
    box = SecretBox(b"\x01" * 32)
    sealed = box.seal("ticket-preimage:a", b"secret")
    assert box.open("ticket-preimage:a", sealed) == b"secret"
    assert b"secret" not in sealed
    for wrong, context, data in (
        (box, "ticket-preimage:b", sealed),
        (SecretBox(b"\x02" * 32), "ticket-preimage:a", sealed),
        (box, "ticket-preimage:a", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(SecretBoxError):
            wrong.open(context, data)
