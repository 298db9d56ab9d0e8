"""Nothing that wakes the runner is lost, whenever it comes; polling is as good as off."""

import asyncio
from collections.abc import Collection
from pathlib import Path

from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.runner import Runner
from support.world import running_world, until


class Gate:
    """Leases that are all this core's, once the gate is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def claim(self, competition_ids: Collection[str]) -> set[str]:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return set(competition_ids)

    async def release(self) -> None:
        pass


class Counted(Runner):
    """Counts how often it drives, and goes on when it is told to."""

    def __init__(self, core: Core, contracts: ContractCache, leases: Gate) -> None:
        super().__init__(core, contracts, leases)
        self.driven = 0
        self.go_on = asyncio.Event()

    async def drive(self, competition_id: str) -> None:
        self.driven += 1
        await self.go_on.wait()


async def test_a_competition_whose_drive_ends_while_it_is_looked_at_is_driven_again(tmp_path: Path) -> None:
    async with running_world(tmp_path, poll_interval_seconds=100_000) as world:
        competition_id = await world.create()
        gate = Gate()
        runner = Counted(world.core, world.contracts, gate)
        running = asyncio.create_task(runner.run())

        async def driven_once() -> bool:
            return runner.driven == 1 and not gate.waiting

        async def driven_twice() -> bool:
            return runner.driven == 2

        async def looking() -> bool:
            return gate.waiting == 1

        try:
            await until(driven_once)
            gate.open.clear()
            runner.wake(competition_id)
            await until(looking)
            runner.go_on.set()
            await asyncio.sleep(0.05)
            gate.open.set()
            await until(driven_twice, 5)
        finally:
            await runner.stop()
            await running
