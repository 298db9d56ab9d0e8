"""News of invoices come by subscription: with polling as good as off, and over a connection that breaks."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.domain.errors import InvalidInput
from coordinator.domain.htlcs import hold_blocks, least_blocks
from coordinator.operations import tickets
from coordinator.store.models import EventRow, TicketRow
from support.wire import Wire, wire_to
from support.world import World, running_outside, until

NEVER = 100_000


@asynccontextmanager
async def wired(folder: Path, **settings: object) -> AsyncIterator[tuple[World, Wire]]:
    """A core that never polls, and reaches its Lightning node over a wire."""
    settings = {"poll_interval_seconds": NEVER, **settings}
    async with running_outside(folder, **settings) as world, wire_to(world.settings.lnd_address) as wire:
        world.settings = replace(world.settings, lnd_address=wire.address)
        await world.restart()
        yield world, wire


async def is_in(ticket: TicketRow, state: str) -> None:
    async def reached() -> bool:
        await ticket.refresh_from_db()
        return ticket.state == state

    await until(reached)


def held_by_the_node(world: World, ticket: TicketRow, state: str) -> bool:
    invoice = world.lightning.ledger.invoice("coordinator", bytes.fromhex(ticket.ticket_hash))
    return invoice.state == state


async def test_a_payment_is_noticed_without_polling(tmp_path: Path) -> None:
    async with wired(tmp_path) as (world, _):
        competition_id = await world.create()
        player = await world.player("player0")
        ticket = await tickets.request_ticket(world.core, competition_id, player.pubkey)
        await world.pay(player, ticket.payment_request)
        await is_in(ticket, "paid")
        assert ticket.htlc_expiry_height is not None


async def test_a_payment_accepted_while_the_connection_was_cut_is_noticed_on_reconnect(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as (world, wire):
        competition_id = await world.create()
        players = [await world.player(f"player{i}") for i in range(2)]
        bought = [await tickets.request_ticket(world.core, competition_id, p.pubkey) for p in players]
        # The first one's payment proves that the subscriptions stand.
        await world.pay(players[0], bought[0].payment_request)
        await is_in(bought[0], "paid")
        await wire.cut()
        await world.pay(players[1], bought[1].payment_request)

        async def accepted() -> bool:
            return held_by_the_node(world, bought[1], "ACCEPTED")

        await until(accepted)
        await bought[1].refresh_from_db()
        assert bought[1].state == "reserved"
        await wire.start()
        await is_in(bought[1], "paid")
        kinds = [row.kind for row in await EventRow.filter(kind="ticket.paid")]
        assert len(kinds) == 2


async def test_a_held_payment_that_the_node_gives_back_frees_its_place(tmp_path: Path) -> None:
    """While entries are collected; also when it happens during an interruption."""
    async with wired(tmp_path) as (world, wire):
        competition_id = await world.create(total_allowed_entries=3)
        players = [await world.player(f"player{i}") for i in range(2)]
        bought = []
        for player in players:
            bought.append(await tickets.request_ticket(world.core, competition_id, player.pubkey))
            await world.pay(player, bought[-1].payment_request)
            await is_in(bought[-1], "paid")
            player.ticket_id = bought[-1].id
        await world.enter(competition_id, players[1])
        ledger = world.lightning.ledger
        ledger.cancel_invoice("coordinator", bytes.fromhex(bought[0].ticket_hash))
        await is_in(bought[0], "cancelled")
        await wire.cut()
        ledger.cancel_invoice("coordinator", bytes.fromhex(bought[1].ticket_hash))
        await wire.start()
        await is_in(bought[1], "cancelled")


async def test_an_htlc_that_ends_too_soon_is_given_back_and_never_settled(tmp_path: Path) -> None:
    """It was accepted while nobody looked, and the chain has gone on since."""
    async with wired(tmp_path, hold_invoice_cltv_blocks=60) as (world, wire):
        competition_id = await world.create()
        player = await world.player("player0")
        ticket = await tickets.request_ticket(world.core, competition_id, player.pubkey)
        await world.pay(player, ticket.payment_request)
        await is_in(ticket, "paid")
        late = await world.player("player1")
        second = await tickets.request_ticket(world.core, competition_id, late.pubkey)
        await wire.cut()
        await world.pay(late, second.payment_request)

        async def accepted() -> bool:
            return held_by_the_node(world, second, "ACCEPTED")

        await until(accepted)
        blocks = ticket.htlc_expiry_height - (await world.core.chain.tip()).height  # type: ignore[operator]
        facts = (await world.core.competitions.load(competition_id)).status.facts
        limits, start_at = tickets.step_limits(world.settings), facts.terms.start_observation_at
        least = least_blocks(start_at, limits, int(time.time()))
        assert least > 2 * world.settings.htlc_safety_blocks
        await world.chain.mine(blocks - least + 2)
        assert held_by_the_node(world, second, "ACCEPTED")
        await wire.start()
        await is_in(second, "expired")
        assert held_by_the_node(world, second, "CANCELED")
        await is_in(ticket, "cancelled")
        assert held_by_the_node(world, ticket, "CANCELED")


async def test_a_payment_is_held_for_as_long_as_the_competition_needs(tmp_path: Path) -> None:
    async with wired(tmp_path, hold_invoice_cltv_blocks=0) as (world, _):
        now, day = int(time.time()), 86_400
        asked = []
        for days in (1, 7):
            start_at = now + days * day
            competition_id = await world.create(
                start_observation_at=start_at, end_observation_at=start_at + 60, signing_at=start_at + 60
            )
            ticket = await tickets.request_ticket(world.core, competition_id, "aa" * 32)
            decoded = await world.core.lightning.decode(ticket.payment_request)
            limits = tickets.step_limits(world.settings)
            assert abs(decoded.min_final_cltv_blocks - hold_blocks(start_at, limits, now)) <= 1
            asked.append(decoded.min_final_cltv_blocks)
        assert asked[0] < 300 < 1100 < asked[1]
        with pytest.raises(InvalidInput) as refused:
            await world.create(
                start_observation_at=now + 30 * day,
                end_observation_at=now + 31 * day,
                signing_at=now + 31 * day,
            )
        (violation,) = refused.value.violations
        assert violation.field == "terms.start_observation_at"
        assert "payers can lock a payment for 1,776" in violation.description
        assert re.search(r"within 1[0-9]\.?[0-9]* days", violation.description)


async def test_subscriptions_are_made_again_after_a_restart(tmp_path: Path) -> None:
    async with wired(tmp_path) as (world, _):
        competition_id = await world.create()
        player = await world.player("player0")
        ticket = await tickets.request_ticket(world.core, competition_id, player.pubkey)
        await world.running.aclose()
        await world.restart()
        await world.pay(player, ticket.payment_request)
        await is_in(ticket, "paid")
