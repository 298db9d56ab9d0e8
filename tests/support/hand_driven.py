"""A world whose core takes no step by itself: a test moves the clock, calls operations, and lets the runner
go on until nothing is left to do. Between two calls nothing happens: what a test sees is what it caused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from coordinator.ports.lightning import InvoiceState
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import EventRow, PayoutRow
from coordinator.store.tickets import PayoutState
from coordinator.wiring import wired_core
from support.world import FAUCET_SATS, World, running_outside, until

T = TypeVar("T")


class MovableClock:
    """The machine's time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_seconds = 0

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time()) + self.ahead_seconds


class HandDrivenWorld:
    """The world, for tests that are not coroutines themselves (hypothesis' state machines are not)."""

    def __init__(self, loop: asyncio.Runner, world: World, clock: MovableClock) -> None:
        self._loop = loop
        self.world = world
        self.clock = clock

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Awaits it; everything else of the world runs meanwhile."""
        return self._loop.run(work)

    async def restart(self) -> None:
        """The core ends and starts anew on the same database."""
        await self.world.running.aclose()
        self.world.running = AsyncExitStack()
        self.world.wired = await self.world.running.enter_async_context(
            wired_core(self.world.settings, self.clock)
        )

    async def settle(self, competition_id: str) -> CompetitionRecord:
        """Steps the competition until its next step waits for something outside.

        Nothing outside is broken in such a world, so a step that fails is a fault.
        """
        assert self.world.wired is not None
        last = -1, -1
        for _ in range(100):
            await self.world.wired.runner.drive(competition_id)
            await self._payments_ended(competition_id)
            record = await self.world.core.competitions.load(competition_id)
            assert not record.last_error, f"{record.status.name}: {record.last_error}"
            if (record.version, record.sequence) == last:
                return record
            last = record.version, record.sequence
        raise AssertionError(f"the competition never comes to rest: {record.status}")

    async def _payments_ended(self, competition_id: str) -> None:
        async def ended() -> bool:
            return not await PayoutRow.exists(
                competition_id=competition_id, state__in=(PayoutState.REQUESTED, PayoutState.IN_FLIGHT)
            )

        assert self.world.wired is not None
        if not await ended():
            await self.world.wired.runner.drive(competition_id)
            await until(ended)

    def invoice_states(self, ticket_hashes: list[str]) -> list[InvoiceState | None]:
        """What the coordinator's node says of these invoices, from its own books."""
        ledger = self.world.lightning.ledger
        found = [ledger.find_invoice("coordinator", bytes.fromhex(each)) for each in ticket_hashes]
        return [InvoiceState[each.state.name] if each is not None else None for each in found]

    def chain_time(self) -> int:
        """Median time of the chain's tip, unix seconds."""
        return self.world.chain.node.median_time_at()


async def transitions(competition_id: str) -> list[tuple[str, str]]:
    """Every change of state that the log tells of, oldest first."""
    rows = await EventRow.filter(competition_id=competition_id, kind="competition.state_changed").order_by(
        "sequence"
    )
    return [(str(row.data["from"]), str(row.data["to"])) for row in rows]


@contextmanager
def hand_driven(folder: Path, **settings: object) -> Iterator[HandDrivenWorld]:
    """The world with a core that is stepped by hand, its wallet funded."""
    with asyncio.Runner() as loop:
        outside = running_outside(folder, **settings)
        world = loop.run(outside.__aenter__())
        try:
            driven = HandDrivenWorld(loop, world, MovableClock())
            loop.run(driven.restart())
            loop.run(_fund(world))
            yield driven
        finally:
            loop.run(outside.__aexit__(None, None, None))


async def _fund(world: World) -> None:
    await world.chain.faucet(await world.core.wallet.receive_address(), FAUCET_SATS)
    await world.chain.mine()
