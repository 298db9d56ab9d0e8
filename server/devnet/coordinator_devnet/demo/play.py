"""Playing: look at the competition, do for each player what is due, wait for the next event.

Every act may be repeated, so an interrupted demonstration goes on from wherever the competition is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from coordinator_client.errors import ApiError
from coordinator_client.grpc import GrpcClient
from coordinator_client.player import Player, PlayerSecrets
from coordinator_client.proto.coordinator.v1 import (
    Competition,
    CompetitionState,
    CompetitionTerms,
    CreateCompetitionRequest,
    Entry,
    ExpectedObservation,
    GetBalanceRequest,
    PayoutState,
    Prediction,
    TicketState,
)
from coordinator_client.rest import RestClient
from coordinator_client.watch import Event, watch
from coordinator_devnet.stack import Stack

from .outside import Outside
from .plan import DemoError, Outcome, Plan

ENTRY_FEE_SATS = 50_000
COORDINATOR_FEE_PERCENT = 5
STATIONS = ("KORD", "KDEN")
METRICS = ("temp_high", "wind_speed")
# Long enough for everybody to enter; a full field closes at once.
STARTS_IN_SECONDS = 300
LOOK_SECONDS = 0.3
WAITING_FOR_BLOCKS = frozenset(
    {
        CompetitionState.AWAITING_ESCROW,
        CompetitionState.FUNDING_BROADCASTED,
        CompetitionState.OUTCOME_BROADCASTED,
        CompetitionState.EXPIRY_BROADCASTED,
        CompetitionState.DELTA_BROADCASTED,
        CompetitionState.COMPLETED,
    }
)
# The competition is not yet where a player may act, or has gone on since it was looked at: look again.
NOT_NOW = frozenset({"NO_CONTRACT", "SIGNATURE_NOT_EXPECTED"})
ENDED = frozenset({CompetitionState.FAILED, CompetitionState.CANCELLED})


async def create(stack: Stack, outside: Outside, players: int, places: int, outcome: Outcome) -> Plan:
    """Creates a competition as admin over gRPC, and players with wallets."""
    now = int(time.time())

    def at(seconds: int) -> datetime:
        return datetime.fromtimestamp(now + seconds, UTC)

    terms = CompetitionTerms(
        name=f"Demonstration of {players} players",
        entry_fee_sats=ENTRY_FEE_SATS,
        coordinator_fee_percent=COORDINATOR_FEE_PERCENT,
        total_allowed_entries=players,
        number_of_places_win=places,
        number_of_values_per_entry=len(STATIONS) * len(METRICS),
        locations=list(STATIONS),
        scoring_fields=list(METRICS),
        start_observation_at=at(STARTS_IN_SECONDS),
        end_observation_at=at(STARTS_IN_SECONDS + 60),
        signing_at=at(STARTS_IN_SECONDS + 120),
        relative_locktime_blocks=144,
        fee_rate_sats_per_vb=2,
    )
    async with GrpcClient(stack.core_address, stack.admin) as admin:
        answer = await admin.competitions.create_competition(CreateCompetitionRequest(terms=terms))
    competition_id = answer.competition.id
    plan = Plan(
        competition_id=competition_id,
        players=[PlayerSecrets.generate() for _ in range(players)],
        nodes=[f"demo{index}-{competition_id[-6:]}" for index in range(players)],
        places=places,
        outcome=outcome,
        before_sats={},
        before_circulating_sats=await outside.circulating_sats(),
    )
    for node in plan.nodes:
        await outside.wallet(node)
    plan.before_sats = await balances(stack, outside, plan)
    return plan


async def balances(stack: Stack, outside: Outside, plan: Plan) -> dict[str, int]:
    """Everybody's sats: players' Lightning nodes, the coordinator's node and its wallet."""
    async with GrpcClient(stack.core_address, stack.admin) as admin:
        mine = await admin.wallet.get_balance(GetBalanceRequest())
    return {
        "coordinator on chain": mine.confirmed_sats + mine.unconfirmed_sats + mine.locked_sats,
        "coordinator Lightning": mine.lightning_sats,
        **{f"player {index}": await outside.balance_sats(node) for index, node in enumerate(plan.nodes)},
    }


class Play:
    """One competition being played."""

    def __init__(
        self,
        stack: Stack,
        outside: Outside,
        plan: Plan,
        tell: Callable[[Event], None],
        keep: Callable[[], None],
    ) -> None:
        self._stack = stack
        self._outside = outside
        self._plan = plan
        self._tell = tell
        self._keep = keep
        self._players: list[Player] = []
        self._resting = False
        self.fees_sats: dict[str, int] = {}
        self.txids: dict[str, list[str]] = {}

    async def run(self) -> Competition:
        """Plays until nothing is left to do.

        Raises:
            DemoError: the competition failed or was cancelled.
        """
        async with AsyncExitStack() as opened:
            for player_secrets in self._plan.players:
                player = Player(self._stack.gateway_url, self._plan.competition_id, player_secrets)
                self._players.append(await opened.enter_async_context(player))
            public = RestClient(self._stack.gateway_url)
            opened.push_async_callback(public.aclose)
            watching = asyncio.create_task(self._watch(public))
            try:
                while True:
                    competition = await public.competition(self._plan.competition_id)
                    if competition.state in ENDED:
                        raise DemoError(competition.failure_reason)
                    if self._resting:
                        return competition
                    try:
                        await self._act(competition)
                    except ApiError as error:
                        if error.reason not in NOT_NOW:
                            raise
                    if watching.done():
                        watching.result()
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching

    async def _watch(self, public: RestClient) -> None:
        """Shows every event from the competition's first one on, and notes its transactions."""
        async for item in watch(public, self._plan.competition_id, after_sequence=0):
            if not isinstance(item, Event):
                continue
            self._tell(item)
            if item.kind == "transaction.broadcast":
                self.txids.setdefault(str(item.data["role"]), []).append(str(item.data["txid"]))
            if item.kind == "competition.at_rest":
                self._resting = True

    async def _act(self, competition: Competition) -> None:
        open_still = competition.state in (CompetitionState.CREATED, CompetitionState.COLLECTING_ENTRIES)
        for index, player in enumerate(self._players):
            # The last entry closes the field, and its answer may have been lost: then it is looked up.
            if open_still or player.secrets.agreement is not None:
                await self._join(index, player)
        match competition.state:
            case CompetitionState.AWAITING_ESCROW:
                await self._sign_releases()
            case CompetitionState.FUNDING_READY:
                await self._sign_fundings()
            case CompetitionState.AWAITING_ATTESTATION:
                await self._decide()
            case CompetitionState.OUTCOME_BROADCASTED | CompetitionState.EXPIRY_BROADCASTED:
                for index, player in enumerate(self._players):
                    await self._collect(index, player)
            case _:
                pass
        if competition.state in WAITING_FOR_BLOCKS:
            await self._outside.mine()

    async def _join(self, index: int, player: Player) -> None:
        """Ticket, payment, entry: one step at a time."""
        if player.secrets.entry_id:
            return
        if player.secrets.agreement is None:
            ticket = await player.request_ticket()
            self._keep()
        else:
            ticket = await player.ticket()
        if ticket.state == TicketState.RESERVED:
            await self._outside.pay(self._plan.nodes[index], ticket.payment_request)
            ticket = await player.ticket()
        if ticket.state in (TicketState.PAID, TicketState.ENTERED):
            await player.enter(_predictions(index))
            self._keep()
        elif ticket.state in (TicketState.EXPIRED, TicketState.CANCELLED):
            player.secrets.agreement = None

    async def _sign_releases(self) -> None:
        contract = await self._players[0].rest.contract(self._plan.competition_id)
        if not contract.escrow_transaction_hex:
            return
        for player in self._players:
            if not (await self._entry(player)).escrow_release_signed:
                await player.sign_release()

    async def _sign_fundings(self) -> None:
        for player in self._players:
            if not (await self._entry(player)).funding_signed:
                await player.sign_funding()

    async def _entry(self, player: Player) -> Entry:
        return await player.rest.entry(player.secrets.entry_id)

    async def _decide(self) -> None:
        outcome = self._plan.outcome
        if outcome.kind == "ranking":
            await self._outside.attest(self._plan.competition_id, list(outcome.winners))
        elif outcome.kind == "refund":
            await self._outside.attest(self._plan.competition_id, None)
        else:
            await self._outside.withhold(self._plan.competition_id)
            event = await self._outside.event(self._plan.competition_id)
            expiry = int(event["event_announcement"]["expiry"])
            if await self._outside.median_time_at() < expiry:
                # The median of eleven blocks passes the expiry after six that are dated later.
                await self._outside.mine(7, advance_seconds=max(0, expiry + 60 - int(time.time())))

    async def _collect(self, index: int, player: Player) -> None:
        """A winner asks for its prize over Lightning; once paid it hands over its key."""
        try:
            payout = await player.payout()
        except ApiError as error:
            if error.reason in ("NOT_A_WINNER", "NO_OUTCOME"):
                return
            raise
        if payout.state in (PayoutState.AVAILABLE, PayoutState.FAILED):
            node = self._plan.nodes[index]
            invoice = await self._outside.invoice(node, payout.amount_sats, player.secrets.payout_preimage)
            await player.request_payout(invoice)
        elif payout.state == PayoutState.PAID and not payout.ephemeral_key_received:
            await player.hand_over_key()

    async def pay_attention_to_fees(self) -> int:
        """What the competition's transactions paid to miners, by txid in `fees_sats`; returns the sum."""
        for txids in self.txids.values():
            for txid in txids:
                self.fees_sats[txid] = await self._outside.fee_sats(txid)
        return sum(self.fees_sats.values())


def _predictions(index: int) -> list[ExpectedObservation]:
    options = (Prediction.OVER, Prediction.PAR, Prediction.UNDER)
    pairs = [(station, metric) for station in STATIONS for metric in METRICS]
    return [
        ExpectedObservation(
            station=station, metric=metric, prediction=Prediction(options[(index + place) % 3])
        )
        for place, (station, metric) in enumerate(pairs)
    ]
