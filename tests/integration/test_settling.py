"""A held payment is taken only once the pot is locked, and never so late that its HTLC could be lost."""

import asyncio
from pathlib import Path

from coordinator.domain.htlcs import SETTLE_MARGIN_BLOCKS
from coordinator.ports.lightning import InvoiceStateError
from coordinator.store.models import EventRow, IntentRow, TicketRow
from support.world import World, WorldPlayer, running_world, until


async def broadcast(world: World, **terms: object) -> tuple[str, list[WorldPlayer]]:
    """A competition whose funding transaction was sent, and is in no block yet."""
    players = await world.new_players(3)
    competition_id = await world.create(**terms)
    players = await world.fill(competition_id, players)
    await world.releases_signed(competition_id, players)
    await world.wait_for(competition_id, "funding_ready", mining=True)
    for player in players:
        await world.sign_funding(competition_id, player)
    await world.wait_for(competition_id, "funding_broadcasted")
    return competition_id, players


def states(world: World, tickets: list[TicketRow]) -> set[str]:
    ledger = world.lightning.ledger
    return {str(ledger.invoice("coordinator", bytes.fromhex(t.ticket_hash)).state) for t in tickets}


async def left_blocks(world: World, tickets: list[TicketRow]) -> int:
    heights = [ticket.htlc_expiry_height for ticket in tickets if ticket.htlc_expiry_height is not None]
    return min(heights) - (await world.core.chain.tip()).height


async def test_nothing_is_settled_before_funding_is_confirmed(tmp_path: Path) -> None:
    async with running_world(tmp_path, funding_confirmations=3) as world:
        competition_id, _ = await broadcast(world)
        tickets = await TicketRow.filter(competition_id=competition_id)
        await world.chain.mine(2)

        async def seen() -> bool:
            return await world.core.chain.tip() is not None and states(world, tickets) == {"ACCEPTED"}

        await until(seen)
        assert (await world.core.competitions.load(competition_id)).status.name == "funding_broadcasted"
        await world.chain.mine()
        await world.wait_for(competition_id, "awaiting_attestation")
        assert states(world, tickets) == {"SETTLED"}


async def test_an_htlc_too_near_its_end_is_given_back_and_never_settled(tmp_path: Path) -> None:
    """The node still holds it, and would take the preimage: the coordinator carries the loss, nobody else."""
    async with running_world(tmp_path, hold_invoice_cltv_blocks=200) as world:
        competition_id, players = await broadcast(world)
        tickets = await TicketRow.filter(competition_id=competition_id)
        settled: list[bytes] = []
        real = world.core.lightning.settle_invoice

        async def settle(preimage: bytes) -> None:
            settled.append(preimage)
            await real(preimage)

        world.core.lightning.settle_invoice = settle  # type: ignore[method-assign]
        await world.chain.mine(await left_blocks(world, tickets) - SETTLE_MARGIN_BLOCKS)
        await world.wait_for(competition_id, "awaiting_attestation")
        assert settled == []
        assert states(world, tickets) == {"CANCELED"}
        payments = [await asyncio.wait_for(player.payment, 20) for player in players if player.payment]
        assert {payment.state for payment in payments} == {"failed"}  # type: ignore[attr-defined]
        assert await EventRow.filter(kind="ticket.payment_lost").count() == 3
        intents = await IntentRow.filter(key__startswith="settle:")
        assert {intent.status for intent in intents} == {"abandoned"}


async def test_an_htlc_with_one_block_more_is_settled(tmp_path: Path) -> None:
    async with running_world(tmp_path, hold_invoice_cltv_blocks=200) as world:
        competition_id, _ = await broadcast(world)
        tickets = await TicketRow.filter(competition_id=competition_id)
        await world.chain.mine(await left_blocks(world, tickets) - SETTLE_MARGIN_BLOCKS - 1)
        await world.wait_for(competition_id, "awaiting_attestation")
        assert states(world, tickets) == {"SETTLED"}


async def test_settling_what_is_settled_and_cancelling_what_is_cancelled_count_as_done(
    tmp_path: Path,
) -> None:
    """A core that died after the node settled finds it settled, and goes on."""
    async with running_world(tmp_path) as world:
        competition_id, _ = await broadcast(world)
        tickets = await TicketRow.filter(competition_id=competition_id).order_by("id")
        secrets = [
            world.core.box.open(f"ticket-preimage:{ticket.id}", ticket.preimage_encrypted)
            for ticket in tickets
        ]
        lightning = world.core.lightning
        await lightning.settle_invoice(secrets[0])
        await lightning.settle_invoice(secrets[0])
        await lightning.cancel_invoice(bytes.fromhex(tickets[1].ticket_hash))
        await lightning.cancel_invoice(bytes.fromhex(tickets[1].ticket_hash))
        for impossible in (
            lightning.cancel_invoice(bytes.fromhex(tickets[0].ticket_hash)),
            lightning.settle_invoice(secrets[1]),
        ):
            try:
                await impossible
            except InvoiceStateError:
                continue
            raise AssertionError("a final invoice was changed")
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)
        kinds = {row.data["ticket_id"]: row.kind for row in await EventRow.filter(kind__startswith="ticket.")}
        assert [kinds[ticket.id] for ticket in tickets] == [
            "ticket.settled",
            "ticket.payment_lost",
            "ticket.settled",
        ]
