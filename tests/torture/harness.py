"""A competition played through a real core that is killed again and again; the world around it lives on.

Chain, Lightning, keymeld, oracle and gateway run in the test's process on real sockets. Players and admin use
the client library through gateway and gRPC as anybody would: a call without an answer is simply made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
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
    GetBalanceResponse,
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
    LightningBefore,
    check_entries,
    check_log,
    check_payments,
    check_settlements,
    check_supply,
    check_transactions,
    fees_sats,
    watching_settlements,
)
from torture.mortal_core import Orders

ADMIN = NostrKey(b"\x77" * 32)
MORTAL_CORE = Path(__file__).with_name("mortal_core.py")
TESTS = MORTAL_CORE.parent.parent
LOOK_SECONDS = 0.03
MANY_BLOCKS = 12
# A release waits for some 1,400 blocks on regtest, where payments are held for 1,008.
RELEASE_BLOCKS_AT_ONCE = 60
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
        CompetitionState.FAILED,
    }
)


@dataclass(frozen=True)
class Scenario:
    """How a competition of three players goes.

    `winners` are player indices, best first; None: everybody is refunded. `paid` ask for their prize over
    Lightning, `hands_over` also give their keys. `withheld`: the oracle stays silent until the expiry.
    `cancelled_in`: where an admin cancels it. `lost_in`: where the node loses the first player's payment, so
    that the competition has to fail.
    """

    name: str
    winners: tuple[int, ...] | None = (1, 0)
    paid: tuple[int, ...] = (0, 1)
    hands_over: tuple[int, ...] = (0, 1)
    withheld: bool = False
    cancelled_in: CompetitionState | None = None
    lost_in: CompetitionState | None = None
    relative_locktime_blocks: int = 144
    sends_sats: int = 0


CLOSED = Scenario("closed", sends_sats=123_456)
SPLIT = Scenario("split", winners=(2, 0), paid=(2,), hands_over=(), relative_locktime_blocks=80)
EXPIRED = Scenario("expired", withheld=True, paid=(0, 1, 2), hands_over=(0, 1, 2))
REFUNDED = Scenario("refunded", winners=None, paid=(0, 1, 2), hands_over=(0, 1, 2))
CANCELLED = Scenario("cancelled", cancelled_in=CompetitionState.FUNDING_READY)
FAILED = Scenario("failed", lost_in=CompetitionState.FUNDING_READY)
SCENARIOS = (CLOSED, SPLIT, EXPIRED, REFUNDED, CANCELLED, FAILED)


@dataclass(frozen=True)
class Ending:
    """How it ended. `balances` in sats: every Lightning node's change, and the coordinator's wallet."""

    state: str
    reason: str
    balances: Mapping[str, int]
    fees_sats: int


@dataclass(frozen=True)
class Result:
    """An ending, and what it took: deaths by crash point, crossed points in order (if recorded)."""

    ending: Ending
    died_at: Counter[str]
    crossings: tuple[str, ...]
    seconds: float


class MortalCore:
    """The supervisor process of cores, one at a time. Use as an async context manager."""

    def __init__(self) -> None:
        self._orders: Orders | None = None
        self._ended: asyncio.Task[bytes] | None = None

    async def __aenter__(self) -> MortalCore:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(MORTAL_CORE),
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Whatever is left of it dies."""
        if self._ended is not None:
            self._ended.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    @property
    def died_at(self) -> Counter[str]:
        """How often at which point."""
        return Counter(_lines(self._current.journal))

    @property
    def crossings(self) -> tuple[str, ...]:
        """Every crash point that was passed, in order."""
        return tuple(_lines(self._current.crossings))

    @property
    def log(self) -> str:
        """What the core said."""
        return Path(self._current.log).read_text() if Path(self._current.log).exists() else ""

    @property
    def _current(self) -> Orders:
        assert self._orders is not None
        return self._orders

    async def start(self, orders: Orders) -> None:
        """Starts a core, and again each time that it dies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders = orders
        self._process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
        await self._process.stdin.drain()
        self._ended = asyncio.create_task(self._process.stdout.readline())

    def check(self) -> None:
        """Fails if the core ended by itself: with an error, that is."""
        assert self._ended is not None
        assert not self._ended.done(), f"the core ended by itself\n{self.log[-4000:]}"

    async def stop(self) -> None:
        """In order."""
        assert self._ended is not None
        self._process.terminate()
        code = await asyncio.wait_for(self._ended, 30)
        assert code == b"0\n", self.log[-4000:]


class Play:
    """One competition, played by whoever is not the core."""

    def __init__(
        self,
        world: World,
        core: MortalCore,
        books: Books,
        gateway_url: str,
        scenario: Scenario,
        nodes: tuple[str, ...],
    ) -> None:
        self._world = world
        self._core = core
        self._books = books
        self._gateway_url = gateway_url
        self._scenario = scenario
        self._nodes = nodes
        self._id = new_uuid7()
        self._players: list[Player] = []
        self._paying: set[str] = set()
        self._paid: set[int] = set()
        self._attested = False
        self._last_doing = ""

    async def run(self, seconds: float) -> Competition:
        """Plays until nothing is left to do; the competition in the end."""
        async with AsyncExitStack() as stack:
            address = f"127.0.0.1:{self._world.settings.grpc_port}"
            admin = await stack.enter_async_context(GrpcClient(address, ADMIN))
            public = await stack.enter_async_context(RestClient(self._gateway_url))
            await self._again(self._fund_wallet, admin)
            await self._again(self._create, admin)
            for node in self._nodes:
                await self._world.lightning.add_node(node)
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

    async def _play(self, admin: GrpcClient, public: RestClient) -> Competition:
        while True:
            self._core.check()
            competition = await public.competition(self._id)
            self._last_doing = f"playing in {competition.state.name}"
            if self._scenario.lost_in is None:
                assert competition.state != CompetitionState.FAILED, competition.failure_reason
            if self._at_rest():
                return await public.competition(self._id)
            try:
                await self._act(admin, competition)
            except ApiError as error:
                # The competition has moved on since it was looked at.
                if error.reason not in ("SIGNATURE_NOT_EXPECTED", "NO_CONTRACT", "NO_OUTCOME"):
                    raise
            if competition.state in WAITING_FOR_BLOCKS:
                await self._world.chain.mine(self._blocks_at_once(competition))
            await asyncio.sleep(LOOK_SECONDS)

    def _blocks_at_once(self, competition: Competition) -> int:
        """Many where there is nothing left but to wait for a timelock."""
        match competition.state:
            case CompetitionState.CANCELLED | CompetitionState.FAILED:
                return RELEASE_BLOCKS_AT_ONCE
            case CompetitionState.DELTA_BROADCASTED:
                return MANY_BLOCKS
            case CompetitionState.OUTCOME_BROADCASTED | CompetitionState.EXPIRY_BROADCASTED:
                return MANY_BLOCKS if self._paid.issuperset(self._scenario.paid) else 1
            case _:
                return 1

    def _at_rest(self) -> bool:
        return self._books.rows("SELECT at_rest FROM competitions WHERE id = ?", self._id) == [(1,)]

    async def _act(self, admin: GrpcClient, competition: Competition) -> None:
        if competition.state == self._scenario.cancelled_in:
            await admin.competitions.cancel_competition(
                CancelCompetitionRequest(competition_id=self._id, reason="for a test")
            )
            return
        if competition.state in (CompetitionState.CANCELLED, CompetitionState.FAILED):
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
                if competition.state == self._scenario.lost_in:
                    lost = self._players[0].agreement.ticket_hash
                    self._world.lightning.ledger.cancel_invoice("coordinator", lost)
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
            await self._world.pay(_Payer(self._nodes[index]), ticket.payment_request)  # type: ignore[arg-type]
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
            node = self._world.lightning[self._nodes[index]]
            held = node.ledger.find_invoice(node.name, player.payout_hash)
            invoice = held or node.add_invoice(
                value_msats=payout.amount_sats * 1000, preimage=player.secrets.payout_preimage
            )
            await player.request_payout(invoice.payment_request)
        elif payout.state == PayoutState.PAID:
            self._paid.add(index)
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


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if path and Path(path).exists() else []


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


class Stage:
    """A world and a supervisor for many plays, each with a core and players of its own."""

    def __init__(self, folder: Path, world: World, core: MortalCore) -> None:
        self._folder = folder
        self._world = world
        self._core = core
        self._plays = 0

    async def play(
        self,
        scenario: Scenario,
        *,
        most: int = 0,
        only: str = "",
        once: str = "",
        nth: int = 1,
        record: bool = False,
        seconds: float = 600,
    ) -> Result:
        """Plays a competition with a core that dies as `Orders` says, and checks the books.

        Args:
            scenario: how it goes.
            most, only, once, nth: see `Orders`.
            record: whether crossed crash points are wanted.
            seconds: longer is stuck.
        """
        started = time.monotonic()
        self._plays += 1
        folder = self._folder / f"{self._plays}"
        folder.mkdir()
        database = folder / "core.sqlite3"
        world = self._world
        world.settings = replace(world.settings, database_url=f"sqlite:///{database}")
        settings = folder / "settings.pickle"
        settings.write_bytes(pickle.dumps(world.settings))
        orders = Orders(
            settings=str(settings),
            journal=str(folder / "journal"),
            log=str(folder / "core.log"),
            most=most,
            only=only,
            once=once,
            nth=nth,
            crossings=str(folder / "crossings") if record else "",
        )
        books = Books(database)
        before = LightningBefore.of(world.lightning)
        nodes = tuple(f"player{index}-{self._plays}" for index in range(3))
        with watching_settlements(world.chain.node, world.lightning, books) as settlements:
            await self._core.start(orders)
            async with _gateway(world) as gateway_url:
                play = Play(world, self._core, books, gateway_url, scenario, nodes)
                competition = await play.run(seconds)
            balance = await self._balance()
            await self._core.stop()
        await world.end_payments()
        check_log(books)
        check_entries(books)
        check_transactions(world.chain.node, books)
        check_payments(world.lightning, books, before)
        check_supply(world.chain.node, world.lightning)
        assert not settlements.early, f"settled before funding was confirmed: {settlements.early}"
        check_settlements(settlements, books)
        assert balance.locked_sats == 0, "coins are locked although nothing is left to be sent"
        changes = before.changes_sats(world.lightning)
        balances = {"wallet": balance.confirmed_sats + balance.unconfirmed_sats}
        balances |= {name.partition("-")[0]: sats for name, sats in changes.items()}
        fees = fees_sats(world.chain.node, books)
        assert sum(balances.values()) + fees + scenario.sends_sats == FAUCET_SATS, (balances, fees)
        return Result(
            Ending(competition.state.name or "", competition.failure_reason, balances, fees),
            self._core.died_at,
            self._core.crossings if record else (),
            time.monotonic() - started,
        )

    async def _balance(self) -> GetBalanceResponse:
        while True:
            with contextlib.suppress(Unavailable):
                address = f"127.0.0.1:{self._world.settings.grpc_port}"
                async with GrpcClient(address, ADMIN) as admin:
                    return await admin.wallet.get_balance(GetBalanceRequest())
            self._core.check()


@asynccontextmanager
async def running_stage(folder: Path) -> AsyncIterator[Stage]:
    """A stage in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    async with (
        running_outside(folder, grpc_port=free_port(), escrow_confirmations=1) as world,
        MortalCore() as core,
    ):
        yield Stage(folder, world, core)
