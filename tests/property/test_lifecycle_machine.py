"""The whole machine in random orders: players pay, enter, sign or stay away, an admin cancels, blocks come
and go, the oracle attests or stays silent, the core restarts. Chain, Lightning, keymeld, oracle are real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coordinator.domain.errors import DomainError
from coordinator.domain.payouts import PAYABLE
from coordinator.domain.states import (
    CANCELLABLE,
    STATES,
    AwaitingAttestation,
    AwaitingEscrow,
    CollectingEntries,
    Created,
    FundingReady,
)
from coordinator.operations import payouts, tickets
from coordinator.operations.competitions import cancel_competition, pause_competition
from coordinator.ports.lightning import InvoiceState
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import EntryRow, EventRow, PayoutRow, TicketRow
from coordinator.store.tickets import PayoutState, TicketState
from support.hand_driven import HandDrivenWorld, hand_driven, transitions
from support.world import World, WorldPlayer

PLAYERS = ("player0", "player1", "player2", "player3")
DELTA_BLOCKS = 100
# Longer than a reservation and than players have to sign: enough for whatever waits for a time.
ALL_DEADLINES_SECONDS = 900
DEEPEST_REORG = 3

ORDER = [name for name in STATES if name not in ("failed", "cancelled", "expiry_broadcasted")]
REFUNDABLE = frozenset(state.name for state in CANCELLABLE)
DIAGRAM = (
    set(pairwise(ORDER))
    | {(state, end) for state in REFUNDABLE for end in ("cancelled", "failed")}
    | {
        ("awaiting_attestation", "expiry_broadcasted"),
        ("expiry_broadcasted", "delta_broadcasted"),
        ("expiry_broadcasted", "completed"),
        ("outcome_broadcasted", "completed"),
        # A reorganisation takes the confirmation back before anything was settled.
        ("funding_confirmed", "funding_broadcasted"),
        # A closing transaction became void before it was buried.
        ("completed", "delta_broadcasted"),
    }
)
FUNDED = frozenset((*ORDER[ORDER.index("funding_settled") :], "expiry_broadcasted"))


class Lifecycle(RuleBasedStateMachine):
    """One competition of at most three entries and four people who want in."""

    driven: ClassVar[HandDrivenWorld]

    def __init__(self) -> None:
        super().__init__()
        self.world: World = self.driven.world
        self.competition_id = ""
        self.status_name = "created"
        self.players = [WorldPlayer(name) for name in PLAYERS]
        self.wealth_before: dict[str, int] = {}
        self.attested = False
        self.payout_invoices: dict[str, str] = {}

    # --- what happens

    @initialize(
        places=st.integers(1, 2), minimum=st.integers(0, 3), entered=st.sampled_from([0, 1, 2, 3, 3, 3])
    )
    def announce(self, places: int, minimum: int, entered: int) -> None:
        async def work() -> str:
            await self.world.chain.mine()
            self.wealth_before = await self.world.wealth_sats()
            real = self.driven.clock
            # Blocks of earlier examples may be dated ahead; a window must not be over when it begins.
            real.ahead_seconds = 0
            real.ahead_seconds = max(0, self.driven.chain_time() - real.now())
            start = real.now() + 300
            return await self.world.create(
                number_of_places_win=places,
                min_entries=max(minimum, places + 1),
                relative_locktime_blocks=DELTA_BLOCKS,
                start_observation_at=start,
                end_observation_at=start + 2,
                signing_at=start + 4,
            )

        self.competition_id = self.driven.run(work())
        for who in range(entered):
            self._get_in(who)

    @rule(who=st.integers(0, 3))
    def request_ticket(self, who: int) -> None:
        async def work() -> None:
            player = self.players[who]
            ticket = await tickets.request_ticket(self.world.core, self.competition_id, player.pubkey)
            if player.ticket_id not in ("", ticket.id):
                # The former one ran out, or was used: a player of this test has one entry.
                player.payment = None
            player.ticket_id = ticket.id

        if not self.players[who].entry_id:
            self._try(work)

    @rule(who=st.integers(0, 3))
    def pay(self, who: int) -> None:
        async def work() -> None:
            player = self.players[who]
            ticket = await TicketRow.get(id=player.ticket_id)
            await self.world.pay(player, ticket.payment_request)
            payment = player.payment
            assert payment is not None
            while not payment.done() and self._invoice(ticket) is not InvoiceState.ACCEPTED:
                await _breathe()

        if self.players[who].ticket_id and self.players[who].payment is None:
            self._try(work)

    @rule(who=st.integers(0, 3))
    def enter(self, who: int) -> None:
        """Also without having paid, and a second time with the same ticket: both must be refused."""

        async def work() -> None:
            player = self.players[who]
            ticket = await TicketRow.get(id=player.ticket_id)
            held = self._invoice(ticket) is InvoiceState.ACCEPTED
            entered = bool(player.entry_id)
            entry_id = player.entry_id
            await self.world.enter(self.competition_id, player)
            assert held, "an entry was taken without a payment"
            assert not entered or player.entry_id == entry_id, "a second entry for one ticket"

        if self.players[who].ticket_id:
            self._try(work)

    def _get_in(self, who: int) -> None:
        self.request_ticket(who)
        self.pay(who)
        self.enter(who)

    @rule(times=st.integers(1, 3))
    def go_on(self, times: int) -> None:
        """Everybody does what is needed for the next state."""
        for _ in range(times):
            match self.status_name:
                case "created" | "collecting_entries":
                    for who in range(len(PLAYERS)):
                        self._get_in(who)
                case "outcome_broadcasted" | "expiry_broadcasted":
                    for who in range(len(PLAYERS)):
                        self.take_payout(who, hand_over=True)
                case _:
                    self._do(self._cooperate())

    @precondition(lambda self: self.status_name == "awaiting_escrow")
    @rule(who=st.integers(0, 3))
    def sign_release(self, who: int) -> None:
        async def work() -> None:
            await self._sign_release(self.players[who])

        self._try(work)

    @precondition(lambda self: self.status_name == "funding_ready")
    @rule(who=st.integers(0, 3))
    def sign_funding(self, who: int) -> None:
        async def work() -> None:
            await self._sign_funding(self.players[who])

        self._try(work)

    @rule(blocks=st.integers(1, 3))
    def mine(self, blocks: int) -> None:
        self._do(self.world.chain.mine(blocks))

    @rule(depth=st.integers(1, DEEPEST_REORG), forgotten=st.booleans())
    def reorganise(self, depth: int, forgotten: bool) -> None:
        """What the replaced blocks held goes back to the mempool, or is forgotten by all nodes."""

        async def work() -> None:
            dropped = await self._broadcast_txids() if forgotten else set()
            self.world.chain.node.reorg(depth, drop_txids=dropped)

        self._do(work())

    @precondition(lambda self: self.status_name != "created")
    @rule(seconds=st.sampled_from([10] * 6 + [301, ALL_DEADLINES_SECONDS]))
    def time_passes(self, seconds: int) -> None:
        self.driven.clock.ahead_seconds += seconds
        self._do(_breathe())

    @precondition(lambda self: self.status_name in REFUNDABLE - {"created"})
    @rule(really=st.sampled_from([False] * 7 + [True]))
    def cancel(self, really: bool) -> None:
        async def work() -> None:
            await cancel_competition(self.world.core, self.competition_id, "rained off")

        if really:
            self._try(work)

    @precondition(lambda self: self.status_name in ("created", "collecting_entries"))
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        async def work() -> None:
            await pause_competition(self.world.core, self.competition_id, paused)

        self._try(work)

    @precondition(
        lambda self: self.status_name in ORDER[ORDER.index("funding_ready") :] and not self.attested
    )
    @rule(ranking=st.sampled_from([(0, 1), (1, 0), None]))
    def attest(self, ranking: tuple[int, ...] | None) -> None:
        self._do(self._attest(ranking))

    @precondition(lambda self: self.status_name == "awaiting_attestation" and not self.attested)
    @rule()
    def oracle_stays_silent(self) -> None:
        async def work() -> None:
            await self.world.oracle.withhold(self.competition_id)
            record = await self.world.core.competitions.load(self.competition_id)
            assert isinstance(record.status, AwaitingAttestation)
            wait = record.status.announcement.expiry - self.driven.chain_time()
            await self.world.chain.mine(7, advance_seconds=max(0, wait) + 60)

        self._do(work())

    @precondition(
        lambda self: self.status_name in ("outcome_broadcasted", "expiry_broadcasted", "delta_broadcasted")
    )
    @rule(who=st.integers(0, 3), hand_over=st.booleans())
    def take_payout(self, who: int, hand_over: bool) -> None:
        async def work() -> None:
            player, core = self.players[who], self.world.core
            await self._mined_outcome()
            payout = await payouts.get_payout(
                core, self.world.contracts, self.competition_id, player.entry_id, player.pubkey
            )
            if player.name not in self.payout_invoices:
                invoice = self.world.lightning[player.name].add_invoice(
                    value_msats=payout.amount_sats * 1000, preimage=player.payout_preimage
                )
                self.payout_invoices[player.name] = invoice.payment_request
            await payouts.request_payout(
                core,
                self.world.contracts,
                self.competition_id,
                player.entry_id,
                self.payout_invoices[player.name],
                "",
                "",
                player.pubkey,
            )
            await self.driven.settle(self.competition_id)
            if hand_over:
                await payouts.hand_over_key(
                    core, self.competition_id, player.entry_id, player.ephemeral_secret.hex(), player.pubkey
                )

        self._try(work)

    @rule()
    def restart_core(self) -> None:
        self._do(self.driven.restart())

    # --- what always holds

    @invariant()
    def no_transition_outside_the_diagram(self) -> None:
        if not self.competition_id:
            return
        found = self.driven.run(transitions(self.competition_id))
        assert set(found) <= DIAGRAM, set(found) - DIAGRAM
        states = ["created", *(after for _, after in found)]
        assert [before for before, _ in found] == states[:-1]

    @invariant()
    def sequences_have_no_gap(self) -> None:
        async def work() -> list[int]:
            return await EventRow.all().order_by("sequence").values_list("sequence", flat=True)  # type: ignore[return-value]

        sequences = self.driven.run(work())
        assert sequences == list(range(1, len(sequences) + 1))

    @invariant()
    def a_payment_is_settled_only_when_funding_is_confirmed(self) -> None:
        async def work() -> tuple[list[TicketRow], bool]:
            rows = await TicketRow.filter(competition_id=self.competition_id)
            confirmed = await EventRow.filter(
                competition_id=self.competition_id, kind="transaction.confirmed"
            )
            return rows, any(row.data["role"] == "funding" for row in confirmed)

        if not self.competition_id:
            return
        rows, funding_confirmed = self.driven.run(work())
        states = self.driven.invoice_states([row.ticket_hash for row in rows if row.payment_request])
        assert InvoiceState.SETTLED not in states or funding_confirmed
        if self.status_name in FUNDED:
            roster = [row for row in rows if row.state == TicketState.SETTLED]
            assert len(roster) >= 2
            assert set(self.driven.invoice_states([row.ticket_hash for row in roster])) == {
                InvoiceState.SETTLED
            }
            assert states.count(InvoiceState.SETTLED) == len(roster)
            assert InvoiceState.ACCEPTED not in states

    @invariant()
    def lightning_creates_no_money(self) -> None:
        supply = self.world.lightning.supply()
        assert supply.total_msats == supply.funded_msats

    @invariant()
    def one_entry_per_ticket(self) -> None:
        async def work() -> list[str]:
            rows = await EntryRow.filter(competition_id=self.competition_id)
            return [row.ticket_id for row in rows]

        used = self.driven.run(work())
        assert len(used) == len(set(used))

    # --- how it ends

    def teardown(self) -> None:
        """Everybody does what is left to do; then all sats are counted."""
        if self.competition_id:
            self.driven.run(self._finish())

    async def _finish(self) -> None:
        record = await self._to_an_end()
        for payment in self.world.payments:
            payment.cancel()
        after = await self.world.wealth_sats()
        before = self.wealth_before
        fees = await self._fees_sats()
        assert sum(after.values()) == sum(before.values()) - fees
        funded = record.status.name == "completed"
        paid = await PayoutRow.filter(competition_id=self.competition_id, state=PayoutState.PAID)
        prizes = {row.entry_id: row.amount_sats for row in paid}
        for player in self.players:
            name = f"lightning:{player.name}"
            prize = prizes.get(player.entry_id, 0)
            if funded and player.entry_id and await self._took_part(player):
                assert after[name] == before[name] - record.status.facts.terms.entry_fee_sats + prize
            else:
                assert after[name] == before[name], (player.name, record.status.name)

    async def _to_an_end(self) -> CompetitionRecord:
        for _ in range(60):
            record = await self.driven.settle(self.competition_id)
            if record.at_rest:
                return record
            match record.status.name:
                case "created" | "collecting_entries" | "awaiting_keygen" | "awaiting_signing":
                    self.driven.clock.ahead_seconds += ALL_DEADLINES_SECONDS
                case "cancelled" | "failed":
                    escrow = record.status.escrow  # type: ignore[union-attr]
                    await self.world.chain.mine(escrow.release_blocks if escrow else 1)
                case "outcome_broadcasted" | "expiry_broadcasted" | "delta_broadcasted":
                    await self.world.chain.mine(DELTA_BLOCKS)
                case _:
                    await self._cooperate()
        raise AssertionError(f"the competition does not end: {record.status}")

    async def _cooperate(self) -> None:
        """Signatures that are due, an attestation if none was given, a block."""
        status = (await self.world.core.competitions.load(self.competition_id)).status
        for player in self.players:
            await self._attempt(self._sign_release, player)
            await self._attempt(self._sign_funding, player)
        if isinstance(status, AwaitingAttestation):
            assert not self.attested, "an attestation was not taken"
            await self._attest((1, 0))
        await self.driven.settle(self.competition_id)
        await self.world.chain.mine()

    async def _attest(self, ranking: tuple[int, ...] | None) -> None:
        record = await self.world.core.competitions.load(self.competition_id)
        places = record.status.facts.terms.number_of_places_win
        await self.world.oracle.attest(self.competition_id, None if ranking is None else ranking[:places])
        self.attested = True

    # --- tools

    def _do(self, work: Awaitable[object]) -> None:
        async def then_settle() -> None:
            await work
            if self.competition_id:
                record = await self.driven.settle(self.competition_id)
                self.status_name = record.status.name

        self.driven.run(then_settle())

    def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """It may be refused with a typed error, in any state; never with another."""

        async def attempt() -> None:
            try:
                await work()
            except DomainError:
                return

        self._do(attempt())

    async def _attempt(self, work: Callable[[WorldPlayer], Awaitable[None]], player: WorldPlayer) -> None:
        try:
            await work(player)
        except DomainError:
            return

    async def _sign_release(self, player: WorldPlayer) -> None:
        status = (await self.world.core.competitions.load(self.competition_id)).status
        if isinstance(status, AwaitingEscrow) and status.escrow is not None and await self._took_part(player):
            await self.world.sign_release(self.competition_id, player)

    async def _sign_funding(self, player: WorldPlayer) -> None:
        status = (await self.world.core.competitions.load(self.competition_id)).status
        if isinstance(status, FundingReady) and await self._took_part(player):
            await self.world.sign_funding(self.competition_id, player)

    async def _took_part(self, player: WorldPlayer) -> bool:
        status = (await self.world.core.competitions.load(self.competition_id)).status
        if isinstance(status, Created | CollectingEntries):
            return False
        return player.entry_id in [each.entry_id for each in status.roster]

    async def _mined_outcome(self) -> None:
        status = (await self.world.core.competitions.load(self.competition_id)).status
        while isinstance(status, PAYABLE) and status.outcome_broadcast.block_height is None:
            await self.world.chain.mine()
            status = (await self.driven.settle(self.competition_id)).status

    def _invoice(self, ticket: TicketRow) -> InvoiceState | None:
        return self.driven.invoice_states([ticket.ticket_hash])[0]

    async def _fees_sats(self) -> int:
        """What this competition's transactions that are in blocks paid to miners."""
        total = 0
        for txid in await self._broadcast_txids():
            response = await self.world.chain.get(f"/tx/{txid}")
            if response.status_code == 200 and response.json()["status"]["confirmed"]:
                total += response.json()["fee"]
        return total

    async def _broadcast_txids(self) -> set[str]:
        rows = await EventRow.filter(competition_id=self.competition_id, kind="transaction.broadcast")
        return {str(row.data["txid"]) for row in rows}


async def _breathe() -> None:
    await asyncio.sleep(0.01)


@pytest.mark.timeout(900)
def test_random_lives(tmp_path: Path) -> None:
    """MACHINE_EXAMPLES=200 takes minutes and finds more."""
    chosen = settings(
        max_examples=int(os.environ.get("MACHINE_EXAMPLES", "12")),
        stateful_step_count=40,
        deadline=None,
        derandomize="MACHINE_EXAMPLES" not in os.environ,
        database=None,
        # Real time, ports and keys: a failure is reported as it came, a smaller one is not searched for.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    with hand_driven(
        tmp_path, ticket_reservation_seconds=120, player_signing_seconds=600, htlc_safety_blocks=24
    ) as driven:
        for name in PLAYERS:
            driven.run(driven.world.lightning.add_node(name))
        Lifecycle.driven = driven
        run_state_machine_as_test(Lifecycle, settings=chosen)
