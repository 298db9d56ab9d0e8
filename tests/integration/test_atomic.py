"""Transactions under cancellation: never half written, and the connection is always given back."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.store.atomic import atomic
from coordinator.store.database import close_database, open_database
from coordinator.store.models import SecretRow
from support.postgres import PROGRAMS, running_postgres


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgres",
            marks=pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL's programs are not installed"),
        ),
    ]
)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[None]:
    if request.param == "sqlite":
        await open_database(f"sqlite:///{tmp_path}/store.sqlite3")
        yield
        await close_database()
        return
    with running_postgres() as url:
        await open_database(f"{url}?maxsize=3&minsize=1")
        yield
        await close_database()


async def put(name: str) -> None:
    await SecretRow.create(name=name, ciphertext=b"")


async def pair(number: int) -> None:
    async with atomic():
        await put(f"a{number}")
        async with atomic():
            await put(f"b{number}")


async def put_and_fail(name: str) -> None:
    async with atomic():
        await put(name)
        raise ZeroDivisionError


async def names() -> set[str]:
    return set(await SecretRow.all().values_list("name", flat=True))


async def test_all_or_nothing(database: None) -> None:
    await pair(1)
    with pytest.raises(ZeroDivisionError):
        await put_and_fail("lost")
    async with atomic():
        await put("kept")
        with pytest.raises(ZeroDivisionError):
            await put_and_fail("lost too")
    assert await names() == {"a1", "b1", "kept"}


async def test_a_task_that_is_cancelled_anywhere_leaves_nothing_behind(database: None) -> None:
    dice = random.Random(7)
    running: list[asyncio.Task[None]] = []
    for number in range(300):
        task = asyncio.create_task(pair(number))
        running.append(task)
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        if dice.random() < 0.6:
            victim = dice.choice(running)
            victim.cancel()
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() / 500)
                victim.cancel()
    async with asyncio.timeout(30):
        results = await asyncio.gather(*running, return_exceptions=True)
    cancelled = {n for n, result in enumerate(results) if isinstance(result, asyncio.CancelledError)}
    assert cancelled
    assert [result for result in results if result is not None] == [
        result for result in results if isinstance(result, asyncio.CancelledError)
    ]
    async with asyncio.timeout(10):
        stored = await names()
        await pair(1000)
    whole = {n for n in range(300) if f"a{n}" in stored}
    assert whole == {n for n in range(300) if f"b{n}" in stored}
    # Who was not cancelled has written; who was cancelled while it committed may have.
    assert set(range(300)) - cancelled <= whole
    assert whole & cancelled != cancelled
