"""A competition played through a real core that is killed again and again; the world around it lives on.

Chain, Lightning, keymeld, oracle and gateway run in the test's process on real sockets. Players and admin use
the client library through gateway and gRPC as anybody would: a call without an answer is simply made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from coordinator.domain.ids import new_uuid7
from coordinator_client.errors import ApiError, Unavailable
from coordinator_client.grpc import GrpcClient
from coordinator_client.nostr import NostrKey
from coordinator_client.player import Player, PlayerSecrets
from coordinator_client.proto.coordinator.v1 import (
    CancelCompetitionRequest,
    Competition,
    CompetitionState,
    CompetitionTerms,
    CreateCompetitionRequest,
    ExpectedObservation,
    GetAddressRequest,
    GetBalanceRequest,
    PayoutState,
    Prediction,
    SendRequest,
    TicketState,
)
from coordinator_client.rest import RestClient
from coordinator_gateway.config import GatewayConfig
from support.gateway import RunningGateway, free_port
from support.world import FAUCET_SATS, METRICS, STATIONS, World, running_outside
from torture.invariants import (
    Books,
    Settlements,
    check_entries,
    check_log,
    check_payments,
    check_supply,
    fees_sats,
)

ADMIN = NostrKey(b"\x77" * 32)
MORTAL_CORE = Path(__file__).with_name("mortal_core.py")
TESTS = MORTAL_CORE.parent.parent
LOOK_SECONDS = 0.03
ENTRY_FEE_SATS = 50_000
STARTS_IN_SECONDS = 1_200
# Where blocks are what is waited for.
WAITING_FOR_BLOCKS = frozenset(
    {
        CompetitionState.AWAITING_ESCROW,
        CompetitionState.FUNDING_BROADCASTED,
        CompetitionState.OUTCOME_BROADCASTED,
        CompetitionState.EXPIRY_BROADCASTED,
        CompetitionState.DELTA_BROADCASTED,
        CompetitionState.COMPLETED,
        CompetitionState.CANCELLED,
    }
)


@dataclass(frozen=True)
class Scenario:
    """How a competition of three players goes.

    `winners` are player indices, best first; None: everybody is refunded. `paid` ask for their prize over
    Lightning, `hands_over` also give their keys. `withheld`: the oracle stays silent until the expiry.
    `cancelled_in`: where an admin cancels it.
    """

    name: str
    winners: tuple[int, ...] | None = (1, 0)
    paid: tuple[int, ...] = (0, 1)
    hands_over: tuple[int, ...] = (0, 1)
    withheld: bool = False
    cancelled_in: CompetitionState | None = None
    relative_locktime_blocks: int = 144
    sends_sats: int = 0


CLOSED = Scenario("closed", sends_sats=123_456)
SPLIT = Scenario("split", winners=(2, 0), paid=(2,), hands_over=(), relative_locktime_blocks=80)
EXPIRED = Scenario("expired", withheld=True, paid=(0, 1, 2), hands_over=(0, 1, 2))
REFUNDED = Scenario("refunded", winners=None, paid=(0, 1, 2), hands_over=(0, 1, 2))
CANCELLED = Scenario("cancelled", cancelled_in=CompetitionState.FUNDING_READY)
SCENARIOS = (CLOSED, SPLIT, EXPIRED, REFUNDED, CANCELLED)


@dataclass
class Result:
    """How it ended. `balances` in sats: every Lightning node, and the coordinator's wallet."""

    state: str
    balances: dict[str, int]
    fees_sats: int
    died_at: Counter[str]
    seconds: float
    lives: int = field(init=False)

    def __post_init__(self) -> None:
        self.lives = self.died_at.total() + 1


class MortalCore:
    """The supervisor process of a core that dies `most` times at every crash point whose name fits `only`."""

    def __init__(self, world: World, folder: Path, most: int, only: str) -> None:
        self._settings = folder / "settings.pickle"
        self._settings.write_bytes(pickle.dumps(world.settings))
        self._journal = folder / "journal"
        self._log = folder / "core.log"
        self._most = most
        self._only = only
        self._process: asyncio.subprocess.Process | None = None

    @property
    def died_at(self) -> Counter[str]:
        """How often at which point."""
        return Counter(self._journal.read_text().splitlines()) if self._journal.exists() else Counter()

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *map(str, (MORTAL_CORE, self._settings, self._journal, self._most, self._only)),
                env=os.environ | {"PYTHONPATH": str(TESTS)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Fails if it ended by itself: with an error, that is."""
        assert self._process is not None
        assert self._process.returncode is None, self.log[-4000:]

    async def stop(self) -> None:
        """In order."""
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, self.log[-4000:]

    def destroy(self) -> None:
        """Whatever is left of it."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Play:
    """One competition, played by whoever is not the core."""

    def __init__(
        self, world: World, core: MortalCore, gateway_url: str, core_address: str, scenario: Scenario
    ):
        self._world = world
        self._core = core
        self._gateway_url = gateway_url
        self._core_address = core_address
        self._scenario = scenario
        self._id = new_uuid7()
        self._players: list[Player] = []
        self._paying: set[str] = set()
        self._attested = False
        self._last_doing = ""

    async def run(self, seconds: float) -> str:
        """Plays until nothing is left to do; the state it ended in."""
        async with AsyncExitStack() as stack:
            admin = await stack.enter_async_context(GrpcClient(self._core_address, ADMIN))
            public = await stack.enter_async_context(RestClient(self._gateway_url))
            await self._again(self._fund_wallet, admin)
            await self._again(self._create, admin)
            for index in range(3):
                await self._world.lightning.add_node(f"player{index}")
                player = Player(self._gateway_url, self._id, PlayerSecrets.generate())
                self._players.append(await stack.enter_async_context(player))
            try:
                async with asyncio.timeout(seconds):
                    return await self._again(self._play, admin, public)
            except TimeoutError:
                deaths = self._core.died_at.total()
                raise AssertionError(
                    f"stuck: {self._last_doing}; {deaths} deaths\n{self._core.log[-6000:]}"
                ) from None

    async def _again(self, act, *args):  # type: ignore[no-untyped-def]
        """Repeats until there is an answer."""
        while True:
            try:
                return await act(*args)
            except Unavailable as error:
                self._core.check()
                self._last_doing = f"{act.__name__}: {error}"
                await asyncio.sleep(LOOK_SECONDS)

    async def _fund_wallet(self, admin: GrpcClient) -> None:
        address = (await admin.wallet.get_address(GetAddressRequest())).address
        await self._world.chain.faucet(address, FAUCET_SATS)
        await self._world.chain.mine()

    async def _create(self, admin: GrpcClient) -> None:
        now = int(time.time())
        if not hasattr(self, "_terms"):
            self._terms = CompetitionTerms(
                name="torture",
                entry_fee_sats=ENTRY_FEE_SATS,
                coordinator_fee_percent=10,
                total_allowed_entries=3,
                number_of_places_win=2,
                number_of_values_per_entry=4,
                locations=list(STATIONS),
                scoring_fields=list(METRICS),
                start_observation_at=_at(now + STARTS_IN_SECONDS),
                end_observation_at=_at(now + STARTS_IN_SECONDS + 60),
                signing_at=_at(now + STARTS_IN_SECONDS + 60),
                relative_locktime_blocks=self._scenario.relative_locktime_blocks,
                fee_rate_sats_per_vb=2,
            )
        await admin.competitions.create_competition(CreateCompetitionRequest(id=self._id, terms=self._terms))

    async def _play(self, admin: GrpcClient, public: RestClient) -> str:
        while True:
            self._core.check()
            competition = await public.competition(self._id)
            self._last_doing = f"playing in {competition.state.name}"
            assert competition.state != CompetitionState.FAILED, competition.failure_reason
            if self._at_rest():
                return competition.state.name or ""
            try:
                await self._act(admin, competition)
            except ApiError as error:
                # The competition has moved on since it was looked at.
                if error.reason not in ("SIGNATURE_NOT_EXPECTED", "NO_CONTRACT", "NO_OUTCOME"):
                    raise
            if competition.state in WAITING_FOR_BLOCKS:
                await self._world.chain.mine()
            await asyncio.sleep(LOOK_SECONDS)

    def _at_rest(self) -> bool:
        books = Books(_database(self._world))
        return books.rows("SELECT at_rest FROM competitions WHERE id = ?", self._id) == [(1,)]

    async def _act(self, admin: GrpcClient, competition: Competition) -> None:
        if competition.state == self._scenario.cancelled_in:
            await admin.competitions.cancel_competition(
                CancelCompetitionRequest(competition_id=self._id, reason="for a test")
            )
            return
        for index, player in enumerate(self._players):
            # Also later: the last entry closes the field, and its answer may have been lost.
            await self._join(index, player)
        match competition.state:
            case CompetitionState.AWAITING_ESCROW:
                for player in self._players:
                    contract = await player.rest.contract(self._id)
                    entry = await player.rest.entry(player.secrets.entry_id)
                    if contract.escrow_transaction_hex and not entry.escrow_release_signed:
                        await player.sign_release()
            case CompetitionState.FUNDING_READY:
                for player in self._players:
                    if not (await player.rest.entry(player.secrets.entry_id)).funding_signed:
                        await player.sign_funding()
            case CompetitionState.AWAITING_ATTESTATION:
                await self._decide()
            case CompetitionState.OUTCOME_BROADCASTED | CompetitionState.EXPIRY_BROADCASTED:
                for index in self._scenario.paid:
                    await self._collect(index)
                if self._scenario.sends_sats:
                    await self._send(admin)

    async def _join(self, index: int, player: Player) -> None:
        if player.secrets.entry_id:
            return
        if player.secrets.agreement is None:
            ticket = await player.request_ticket()
        else:
            ticket = await player.ticket()
        if ticket.state == TicketState.RESERVED and ticket.payment_request not in self._paying:
            self._paying.add(ticket.payment_request)
            await self._world.pay(_Payer(f"player{index}"), ticket.payment_request)  # type: ignore[arg-type]
        if ticket.state in (TicketState.PAID, TicketState.ENTERED):
            await player.enter(_predictions(index))

    async def _decide(self) -> None:
        if self._attested:
            return
        if self._scenario.withheld:
            # The median of eleven blocks passes the expiry after six that are dated later.
            await self._world.oracle.withhold(self._id)
            await self._world.chain.mine(7, advance_seconds=STARTS_IN_SECONDS + 600)
        else:
            await self._world.oracle.attest(self._id, self._scenario.winners)
        self._attested = True

    async def _collect(self, index: int) -> None:
        player = self._players[index]
        payout = await player.payout()
        if payout.state == PayoutState.AVAILABLE:
            node = self._world.lightning[f"player{index}"]
            held = node.ledger.find_invoice(node.name, player.payout_hash)
            invoice = held or node.add_invoice(
                value_msats=payout.amount_sats * 1000, preimage=player.secrets.payout_preimage
            )
            await player.request_payout(invoice.payment_request)
        elif payout.state == PayoutState.PAID:
            if index in self._scenario.hands_over and not payout.ephemeral_key_received:
                await player.hand_over_key()
        else:
            assert payout.state != PayoutState.FAILED, payout.failure_reason

    async def _send(self, admin: GrpcClient) -> None:
        """A payment of the wallet's, repeated with the same idempotency key."""
        await admin.wallet.send(
            SendRequest(
                address=DESTINATION, amount_sats=self._scenario.sends_sats, idempotency_key=f"send {self._id}"
            )
        )


@dataclass
class _Payer:
    """What `World.pay` wants to know of a player."""

    name: str
    payment: asyncio.Task[object] | None = None


DESTINATION = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def _at(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _predictions(index: int) -> list[ExpectedObservation]:
    options = (Prediction.OVER, Prediction.PAR, Prediction.UNDER)
    pairs = [(station, metric) for station in STATIONS for metric in METRICS]
    return [
        ExpectedObservation(station=station, metric=metric, prediction=options[(index + place) % 3])
        for place, (station, metric) in enumerate(pairs)
    ]


def _database(world: World) -> Path:
    return Path(world.settings.database_url.removeprefix("sqlite:///"))


@asynccontextmanager
async def _gateway(world: World) -> AsyncIterator[str]:
    config = GatewayConfig(
        core=f"127.0.0.1:{world.settings.grpc_port}",
        port=free_port(),
        token=world.settings.gateway_token,
        rate_limit_per_second=0,
    )
    gateway = RunningGateway(config)
    await gateway.start()
    try:
        yield gateway.url
    finally:
        await gateway.stop()


async def play(
    folder: Path, scenario: Scenario, *, most: int, only: str = "", seconds: float = 600
) -> Result:
    """Plays a competition with a core that dies up to `most` times at each crash point whose name fits the
    regular expression `only`, and checks the books.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        port = free_port()
        world = await stack.enter_async_context(
            running_outside(folder, grpc_port=port, escrow_confirmations=1)
        )
        gateway_url = await stack.enter_async_context(_gateway(world))
        core = MortalCore(world, folder, most, only)
        stack.callback(core.destroy)
        await core.start()
        books = Books(_database(world))
        settlements = Settlements(world.chain.node, world.lightning, books)
        address = f"127.0.0.1:{port}"
        state = await Play(world, core, gateway_url, address, scenario).run(seconds)
        while True:
            with contextlib.suppress(Unavailable):
                async with GrpcClient(address, ADMIN) as admin:
                    balance = await admin.wallet.get_balance(GetBalanceRequest())
                    break
            core.check()
        await core.stop()
        check_log(books)
        check_entries(books)
        check_payments(world.lightning, books)
        check_supply(world.chain.node, world.lightning)
        assert not settlements.early, f"settled before funding was confirmed: {settlements.early}"
        assert balance.locked_sats == 0, "coins are locked although nothing is left to be sent"
        balances = {
            "wallet": balance.confirmed_sats + balance.unconfirmed_sats,
            **{
                name: node.ledger.balances(name).local_msats // 1000
                for name, node in world.lightning.nodes.items()
            },
        }
        return Result(
            state, balances, fees_sats(world.chain.node, books), core.died_at, time.monotonic() - started
        )
