"""Worlds whose chain is reorganised under a core, running or stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from coordinator.domain.states import CompetitionStatus, Funded
from coordinator.store.database import close_database, open_database
from coordinator.store.models import CoinLockRow, EventRow
from support.world import World, WorldPlayer, until


async def entered(
    world: World, *, players: list[WorldPlayer] | None = None, **terms: object
) -> tuple[str, list[WorldPlayer]]:
    """A full competition, and its players in the order of their index."""
    players = players or await world.new_players(3)
    competition_id = await world.create(**terms)
    return competition_id, await world.fill(competition_id, players)


async def reorganise(world: World, depth: int, *, drop: tuple[str, ...] = ()) -> None:
    """Replaces `depth` blocks; `drop`ped transactions and what needs them are in no mempool afterwards."""
    await world.chain.post("/devnet/chain/reorg", {"depth": depth, "drop_txids": list(drop)})


async def confirmations(world: World, txid: str) -> int:
    """How many blocks have it; 0 when unconfirmed or unknown."""
    status = await world.chain.get(f"/tx/{txid}/status")
    height = status.json().get("block_height") if status.status_code == 200 else None
    return 0 if height is None else world.chain.node.height() - height + 1


async def bury(world: World, txid: str, depth: int) -> None:
    """Brings a known transaction to exactly `depth` confirmations: by blocks, or first out of its block."""
    confirmed = await confirmations(world, txid)
    if confirmed > depth:
        await reorganise(world, confirmed)
        confirmed = 0
    await world.chain.mine(depth - confirmed)
    assert await confirmations(world, txid) == depth


@asynccontextmanager
async def stopped(world: World) -> AsyncIterator[None]:
    """The core away, its database open; it is started again afterwards."""
    await world.running.aclose()
    await open_database(world.settings.database_url)
    try:
        yield
    finally:
        await close_database()
    await world.restart()


async def is_known(world: World, txid: str) -> bool:
    """Whether a block or the mempool has it."""
    return (await world.chain.get(f"/tx/{txid}")).status_code == 200


async def locked_outpoints() -> set[str]:
    """The outpoints of all locked coins."""
    return {row.outpoint for row in await CoinLockRow.all()}


async def status_of(world: World, competition_id: str) -> CompetitionStatus:
    return (await world.core.competitions.load(competition_id)).status


async def funded_status(world: World, competition_id: str) -> Funded:
    status = await status_of(world, competition_id)
    assert hasattr(status, "broadcasts")
    return status  # type: ignore[return-value]


async def told(world: World, competition_id: str, kind: str, role: str) -> int:
    """How many events of a kind are about the transaction with a role."""
    rows = await EventRow.filter(competition_id=competition_id, kind=kind)
    return sum(row.data["role"] == role for row in rows)


async def rewind(world: World, competition_id: str, kind: type) -> None:
    """Takes a stored competition back into an earlier state, as a core finds it that was killed there."""
    record = await world.core.competitions.load(competition_id)
    known: dict[str, Any] = {f.name: getattr(record.status, f.name) for f in dataclasses.fields(kind)}
    await world.core.competitions.advance(record, kind(**known), world.core.clock.now())


async def confirmed_again(world: World, competition_id: str) -> None:
    """Until a state's transactions are all where the chain has them; mines when they wait for a block."""

    async def agreed() -> bool:
        status = await funded_status(world, competition_id)
        for _, broadcast in status.broadcasts:
            found = await world.core.chain.transaction_status(broadcast.txid)
            if found is None:
                return False
            if not found.confirmed:
                await world.chain.mine()
                return False
            if found.block_height != broadcast.block_height:
                return False
        return True

    await until(agreed)
