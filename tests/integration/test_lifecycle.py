"""Whole lives of competitions: the core's runner against a real chain, Lightning, keymeld and oracle."""

import asyncio
from pathlib import Path

from coordinator.domain.states import Cancelled, Completed
from support.world import World, WorldPlayer, running_world, until


async def full_field(world: World, competition_id: str, count: int) -> list[WorldPlayer]:
    """Players with entries, in player index order."""
    players = [await world.player(f"player{i}") for i in range(count)]
    for player in players:
        await world.buy_ticket(competition_id, player)
        await world.enter(competition_id, player)
    return sorted(players, key=lambda player: player.ticket_id)


async def test_winners_are_paid_and_the_contract_closes_with_one_transaction(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        competition_id = await world.create()
        players = await full_field(world, competition_id, 3)
        before = await world.wealth_sats()
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (1, 0))
        await world.wait_for(competition_id, "outcome_broadcasted")

        async def confirmed() -> bool:
            await world.chain.mine()
            return "transaction.confirmed" in (await world.event_kinds(competition_id))[-3:]

        await until(confirmed)
        prizes = [await world.take_payout(competition_id, players[index]) for index in (0, 1)]
        record = await world.wait_for(competition_id, "completed")
        assert isinstance(record.status, Completed)
        assert record.status.split_broadcast is None
        assert len(record.status.closings) == 1
        assert prizes[1] > prizes[0]
        assert record.status.attestation is not None
        assert record.status.attestation.winners == (1, 0)
        await world.chain.mine()

        async def at_rest() -> bool:
            return (await world.core.competitions.load(competition_id)).at_rest

        await until(at_rest)
        after = await world.wealth_sats()
        assert sum(before.values()) > sum(after.values())
        for task in [player.payment for player in players]:
            assert task is not None
            payment = await asyncio.wait_for(task, 5)
            assert payment.state == "succeeded"  # type: ignore[attr-defined]


async def test_a_field_that_does_not_fill_is_cancelled_and_everybody_gets_the_payment_back(
    tmp_path: Path,
) -> None:
    async with running_world(tmp_path) as world:
        import time

        now = int(time.time())
        competition_id = await world.create(
            start_observation_at=now + 5, end_observation_at=now + 6, signing_at=now + 7
        )
        before = await world.wealth_sats()
        players = await full_field(world, competition_id, 2)

        async def at_rest() -> bool:
            return (await world.core.competitions.load(competition_id)).at_rest

        await until(at_rest)
        record = await world.core.competitions.load(competition_id)
        assert isinstance(record.status, Cancelled)
        assert "2 of at least 3" in record.status.reason
        after = await world.wealth_sats()
        for player in players:
            assert after[f"lightning:{player.name}"] == 10**0 * before.get(
                f"lightning:{player.name}", after[f"lightning:{player.name}"]
            )
            assert player.payment is not None
            payment = await asyncio.wait_for(player.payment, 5)
            assert payment.state == "failed"  # type: ignore[attr-defined]
