"""Chain, Lightning, keymeld and oracle fail in every way, at every step of a competition.

Whatever a step meets, it is tried again: the competition waits, tells the admin why, and ends with everybody
having what they should have.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest

from coordinator.adapters import esplora, keymeld
from coordinator.adapters.esplora import EsploraChain
from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.adapters.lnd import LndLightning
from coordinator.adapters.weather_oracle import WeatherOracle
from coordinator.domain.errors import ServiceUnavailable
from coordinator.domain.states import AwaitingEscrow, Completed, Failed, FundingReady, OutcomeBroadcasted
from coordinator.operations import payouts, tickets
from coordinator.operations.competitions import inspect_competition
from coordinator.operations.listing import live_entries
from coordinator.runner import runner
from coordinator.runner.backoff import Backoff
from coordinator.runner.runner import UNAVAILABLE
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import PayoutRow, TicketRow
from coordinator.store.tickets import PayoutState, TicketState
from coordinator.wiring import wired_core
from support.faults import Fault, faulty_lnd, proxied
from support.hand_driven import MovableClock
from support.world import FAUCET_SATS, World, WorldPlayer, running_outside, until

# The services' limits for one call, scaled down; `Fault.SLOW` lasts longer than any of them.
TIMEOUT_SECONDS = 0.5
# A fault is tried at a state until a step has met it, but not for ever: not every step asks every service.
TRIES = 12
# By service: the states in which a step cannot do without it.
NEEDED = {
    "chain": {
        "awaiting_escrow",
        "entries_submitted",
        "funding_ready",
        "funding_broadcasted",
        "funding_confirmed",
        "outcome_broadcasted",
        "completed",
    },
    "lightning": {
        "collecting_entries",
        "awaiting_escrow",
        "funding_ready",
        "funding_confirmed",
        "outcome_broadcasted",
    },
    "keymeld": {"awaiting_keygen", "awaiting_signing"},
    "oracle": {"escrow_confirmed", "event_created", "awaiting_attestation"},
}


class Breakable(Protocol):
    """A service that a test breaks."""

    async def break_(self, fault: Fault) -> None: ...

    async def heal(self) -> None: ...


@dataclass
class Ordeal:
    """One competition of two players, stepped by hand, with one service that breaks before every step."""

    world: World
    clock: MovableClock
    service_name: str
    service: Breakable
    faults: tuple[Fault, ...]
    competition_id: str
    players: list[WorldPlayer]
    tried: Counter[tuple[str, Fault]] = field(default_factory=Counter)
    met: defaultdict[str, set[Fault]] = field(default_factory=lambda: defaultdict(set))

    async def load(self) -> CompetitionRecord:
        return await self.world.core.competitions.load(self.competition_id)

    async def drive(self) -> None:
        """One step."""
        assert self.world.wired is not None
        await self.world.wired.runner.drive(self.competition_id)

    async def endure(self) -> None:
        """A step with each fault, also in each state that such steps lead to."""
        now: set[tuple[str, Fault]] = set()
        while (fault := self._next_fault(before := await self.load(), now)) is not None:
            name = before.status.name
            now.add((name, fault))
            self.tried[name, fault] += 1
            await self.service.break_(fault)
            await self.drive()
            if self.service_name == "lightning" and await self._paying():
                await self._payment_meets_it()
                await self.drive()
            after = await self.load()
            assert after.status.name not in ("failed", "cancelled"), (name, fault, after.status)
            if after.last_error:
                self.met[name].add(fault)
                shown = await inspect_competition(self.world.core, self.competition_id)
                assert shown.record.last_error == after.last_error
                assert shown.record.failed_attempts > 0
                assert shown.record.next_attempt_at > 0
        await self.service.heal()

    def _next_fault(self, record: CompetitionRecord, tried: set[tuple[str, Fault]]) -> Fault | None:
        name = record.status.name
        for fault in self.faults:
            # Reading that much takes a while: once is enough.
            enough = fault is Fault.HUGE and any(fault in met for met in self.met.values())
            done = fault in self.met[name] or (name, fault) in tried or self.tried[name, fault] == TRIES
            if not done and not enough:
                return fault
        return None

    async def _paying(self) -> bool:
        return await PayoutRow.exists(state__in=(PayoutState.REQUESTED, PayoutState.IN_FLIGHT))

    async def _payment_meets_it(self) -> None:
        """A payment goes on beside the steps: waits for what the fault does to it."""
        assert self.world.wired is not None
        payments = self.world.wired.runner._payments
        before = payments.problem(self.competition_id)

        async def met() -> bool:
            now = payments.problem(self.competition_id)
            return now is not None and (before is None or now.attempts > before.attempts)

        await until(met)

    async def play(self, until_state: str = "") -> None:
        """To a state, or to the end."""
        for _ in range(300):
            record = await self.load()
            if record.at_rest or record.status.name == until_state:
                return
            # On a slow machine a healthy service may be late, too: the players try again.
            with contextlib.suppress(ServiceUnavailable, *UNAVAILABLE):
                await self.act(record)
            await self.endure()
            await self.drive()
            if await self._paying():
                await until(self._paid)
            await self.world.chain.mine()
        raise AssertionError(f"it does not end: {record.status.name}, {record.last_error}")

    async def _paid(self) -> bool:
        return not await self._paying()

    async def act(self, record: CompetitionRecord) -> None:
        """What players and oracle do next."""
        world, status = self.world, record.status
        match status:
            case AwaitingEscrow() if status.escrow is not None and status.broadcast is None:
                for player in await self._unsigned("release_signature"):
                    await world.sign_release(self.competition_id, player)
            case FundingReady():
                for player in await self._unsigned("funding_signature"):
                    await world.sign_funding(self.competition_id, player)
            case OutcomeBroadcasted() if status.outcome_broadcast.block_height is not None:
                await self._collect(self.players[1])
            case _ if status.name in ("created", "collecting_entries"):
                await self._enter()
            case _ if status.name == "awaiting_attestation" and self.tried[status.name, self.faults[0]]:
                await world.oracle.attest(self.competition_id, (1,))
            case _:
                pass

    async def _enter(self) -> None:
        """One step of the first player who has one to take: ticket, payment, entry."""
        for player in self.players:
            if player.entry_id:
                continue
            if not player.ticket_id:
                ticket = await tickets.request_ticket(self.world.core, self.competition_id, player.pubkey)
                player.ticket_id = ticket.id
                return
            row = await tickets.get_ticket(
                self.world.core, self.competition_id, player.ticket_id, player.pubkey
            )
            if row.state == TicketState.RESERVED and player.payment is None:
                await self.world.pay(player, row.payment_request)
            elif row.state == TicketState.PAID:
                await self.world.enter(self.competition_id, player)
                self.players.sort(key=lambda each: each.ticket_id)
            return

    async def _unsigned(self, field_name: str) -> list[WorldPlayer]:
        signed = {row.id: getattr(row, field_name) for row in await live_entries(self.competition_id)}
        return [player for player in self.players if not signed[player.entry_id]]

    async def _collect(self, winner: WorldPlayer) -> None:
        world = self.world
        arguments = world.core, world.contracts, self.competition_id, winner.entry_id
        payout = await payouts.get_payout(*arguments, winner.pubkey)
        assert payout.state != PayoutState.FAILED, payout.failure_reason
        if payout.state == PayoutState.AVAILABLE:
            invoice = world.lightning[winner.name].add_invoice(
                value_msats=payout.amount_sats * 1000, preimage=winner.payout_preimage
            )
            await payouts.request_payout(*arguments, invoice.payment_request, "", "", winner.pubkey)
        elif payout.state == PayoutState.PAID and payout.ephemeral_key_encrypted is None:
            secret = winner.ephemeral_secret.hex()
            await payouts.hand_over_key(
                world.core, self.competition_id, winner.entry_id, secret, winner.pubkey
            )


@asynccontextmanager
async def ordeal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, service: str, faults: tuple[Fault, ...]
) -> AsyncIterator[Ordeal]:
    """A world with a core that reaches each service through something that can break it."""
    monkeypatch.setattr(runner, "MAX_STEPS_AT_ONCE", 1)
    for kind, limit in (
        (EsploraChain, "timeout_seconds"),
        (WeatherOracle, "timeout_seconds"),
        (LndLightning, "timeout_seconds"),
        (KeymeldAdapter, "request_timeout_seconds"),
    ):
        monkeypatch.setitem(kind.__init__.__kwdefaults__, limit, TIMEOUT_SECONDS)
    monkeypatch.setattr(keymeld, "_UNAVAILABLE_SECONDS", 2 * TIMEOUT_SECONDS)
    monkeypatch.setattr(esplora, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.02, 0.1))
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(running_outside(folder))
        settings = world.settings
        chain = await stack.enter_async_context(proxied(settings.esplora_url))
        keys = await stack.enter_async_context(proxied(settings.keymeld_url))
        oracle = await stack.enter_async_context(proxied(settings.oracle_url))
        macaroon = settings.lnd_macaroon_file.read_bytes().hex()
        lightning = stack.enter_context(faulty_lnd(monkeypatch, macaroon))
        world.settings = replace(settings, esplora_url=chain.url, keymeld_url=keys.url, oracle_url=oracle.url)
        clock = MovableClock()
        world.wired = await world.running.enter_async_context(wired_core(world.settings, clock))
        await world.chain.faucet(await world.core.wallet.receive_address(), FAUCET_SATS)
        await world.chain.mine()
        competition_id = await world.create(
            total_allowed_entries=2,
            number_of_places_win=1,
            start_observation_at=world.core.clock.now() + 1200,
            end_observation_at=world.core.clock.now() + 1260,
            signing_at=world.core.clock.now() + 1320,
        )
        players = [await world.player(f"player{index}") for index in range(2)]
        breakable = {"chain": chain, "keymeld": keys, "oracle": oracle, "lightning": lightning}[service]
        yield Ordeal(world, clock, service, breakable, faults, competition_id, players)


def test_no_service_may_hold_a_step_for_longer_than_half_a_minute() -> None:
    limits = [
        inspect.signature(kind).parameters[name].default
        for kind, name in (
            (EsploraChain, "timeout_seconds"),
            (WeatherOracle, "timeout_seconds"),
            (LndLightning, "timeout_seconds"),
            (KeymeldAdapter, "request_timeout_seconds"),
        )
    ]
    assert max(limits) <= 30


@pytest.mark.parametrize("service", NEEDED)
async def test_a_competition_outlives_a_service_that_breaks_before_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    async with ordeal(tmp_path, monkeypatch, service, tuple(Fault)) as it:
        world = it.world
        before = await world.wealth_sats()
        await it.play()
        status = (await it.load()).status
        assert isinstance(status, Completed)
        # Each of these no step can do without; what else it may take for an answer depends on the question.
        surely = {Fault.REFUSED, Fault.CUT, Fault.ERROR, Fault.SLOW, Fault.HTML, Fault.TRUNCATED}
        missed = {name: surely - it.met[name] for name in NEEDED[service] if surely - it.met[name]}
        assert not missed, it.met
        assert any(Fault.HUGE in met for met in it.met.values())
        payout = await PayoutRow.get(competition_id=it.competition_id)
        assert payout.state == PayoutState.PAID
        after = await world.wealth_sats()
        fees = await world.fees_sats(it.competition_id)
        assert sum(after.values()) == sum(before.values()) - fees
        loser, winner = (f"lightning:{player.name}" for player in it.players)
        assert after[loser] == before[loser] - 50_000
        assert after[winner] == before[winner] - 50_000 + payout.amount_sats
        assert 0 < 90_000 - payout.amount_sats < 1_500


@pytest.mark.parametrize(
    ("service", "state"),
    [("oracle", "escrow_confirmed"), ("oracle", "event_created"), ("keymeld", "awaiting_keygen")],
)
async def test_a_service_that_never_comes_back_before_funding_gives_everybody_the_money_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, state: str
) -> None:
    async with ordeal(tmp_path, monkeypatch, service, ()) as it:
        world = it.world
        before = await world.wealth_sats()
        await it.play(until_state=state)
        await it.service.break_(Fault.REFUSED)
        await it.drive()
        waiting = await it.load()
        assert waiting.status.name == state
        assert waiting.last_error
        it.clock.ahead_seconds += 2 * 3600
        await it.drive()
        failed = (await it.load()).status
        assert isinstance(failed, Failed)
        assert "could not be reached in time" in failed.reason
        # Their payments go back at once, the escrows when their releases become valid.
        await it.drive()
        assert {row.state for row in await TicketRow.all()} == {TicketState.CANCELLED}
        assert failed.escrow is not None
        await world.chain.mine(failed.escrow.release_blocks)
        await it.play()
        after = await world.wealth_sats()
        fees = await world.fees_sats(it.competition_id)
        assert after == before | {"wallet": before["wallet"] - fees}
