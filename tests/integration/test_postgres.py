"""Cores that share a PostgreSQL database: a life played to its end, leases, and news from core to core."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tortoise.connection import get_connection

from coordinator.domain.ids import new_uuid7
from coordinator.domain.states import Completed
from coordinator.operations.competitions import create_competition
from coordinator.store.database import close_database, open_database
from coordinator.store.events import NewEvent
from coordinator.store.leases import PostgresLeases
from coordinator.store.models import CompetitionRow, EventRow
from coordinator.store.notifications import Listener
from support.postgres import PROGRAMS, running_postgres
from support.world import running_world

pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL's programs are not installed")


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
async def database_url(server_url: str) -> str:
    """An empty database."""
    name = f"test_{new_uuid7().replace('-', '')}"
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server_url.rsplit("/", 1)[0] + f"/{name}"


async def test_a_competition_is_played_to_its_end(tmp_path: Path, database_url: str) -> None:
    async with running_world(tmp_path, database_url=database_url) as world:
        players = await world.new_players(3)
        before = await world.wealth_sats()
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.restart()
        await world.oracle.attest(competition_id, (1, 0))
        await world.outcome_confirmed(competition_id)
        for index in (0, 1):
            await world.take_payout(competition_id, players[index])
        record = await world.at_rest(competition_id)
        assert isinstance(record.status, Completed)
        after = await world.wealth_sats()
        assert sum(after.values()) == sum(before.values()) - await world.fees_sats(competition_id)
        sequences = await EventRow.all().order_by("sequence").values_list("sequence", flat=True)
        assert sequences == list(range(1, len(sequences) + 1))


async def test_cores_that_start_together_migrate_once(database_url: str) -> None:
    program = (
        "import asyncio, sys; from coordinator.store.database import *\n"
        "async def main():\n await open_database(sys.argv[1]); await close_database()\n"
        "asyncio.run(main())"
    )
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, database_url) for _ in range(3)
    ]
    assert [await process.wait() for process in started] == [0, 0, 0]


async def test_a_lease_is_one_cores_until_it_ends_or_is_given_back(tmp_path: Path, database_url: str) -> None:
    async with running_world(tmp_path, database_url=database_url) as world:
        await world.running.aclose()
        await open_database(database_url)
        try:
            ids = [(await create_competition(world.core, "", world.terms())).id for _ in range(3)]
            mine, other = PostgresLeases("mine"), PostgresLeases("other")
            assert await mine.claim(ids[:2]) == set(ids[:2])
            assert await other.claim(ids) == {ids[2]}
            assert await mine.claim(ids) == set(ids[:2])
            await CompetitionRow.filter(id=ids[0]).update(lease_until_at=1)
            assert await other.claim(ids) == {ids[0], ids[2]}
            assert await mine.claim(ids) == {ids[1]}
            await mine.release()
            assert await other.claim(ids) == set(ids)
        finally:
            await close_database()


async def test_a_core_leaves_alone_what_another_drives(tmp_path: Path, database_url: str) -> None:
    async with running_world(tmp_path, database_url=database_url) as world:
        competition_id = await world.create()
        await CompetitionRow.filter(id=competition_id).update(
            lease_owner="another core", lease_until_at=2**40
        )
        player = await world.player("player0")
        await world.buy_ticket(competition_id, player)
        await world.enter(competition_id, player)
        await world.restart()
        await asyncio.sleep(0.5)
        assert (await world.core.competitions.load(competition_id)).status.name == "collecting_entries"
        row = await CompetitionRow.get(id=competition_id)
        assert row.lease_owner == "another core"
        # It ended without a word: its lease runs out, and another core goes on.
        await CompetitionRow.filter(id=competition_id).update(lease_until_at=1)

        async with asyncio.timeout(20):
            while (await CompetitionRow.get(id=competition_id)).lease_owner == "another core":
                await asyncio.sleep(0.05)


async def test_events_of_one_core_wake_the_others(tmp_path: Path, database_url: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with running_world(tmp_path, database_url=database_url, poll_interval_seconds=60) as world:
        listening = asyncio.create_task(Listener(database_url, heard.put_nowait).run())
        try:
            assert await asyncio.wait_for(heard.get(), 10) == ""
            competition_id = await world.create()
            assert await asyncio.wait_for(heard.get(), 10) == competition_id

            async def fail_after_telling() -> None:
                async with world.core.competitions.transaction():
                    await world.core.competitions.tell(competition_id, 1, [NewEvent("test.lost")])
                    raise RuntimeError

            with pytest.raises(RuntimeError):
                await fail_after_telling()
            other_id = await world.create()
            while (told := await asyncio.wait_for(heard.get(), 10)) == competition_id:
                pass
            assert told == other_id
            # The connection is cut: it is made anew, and says that something may have been missed.
            await get_connection("default").execute_query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                " OR query = 'SELECT 1'"
            )
            while await asyncio.wait_for(heard.get(), 30):
                pass
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
