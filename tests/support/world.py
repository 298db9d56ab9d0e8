"""A whole world in one process: devnet's chain, Lightning, keymeld and oracle on real sockets, a core on real
adapters, and players that call the core's operations directly. Tests move time by mining and by attesting."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from coordinator.config import Settings
from coordinator.contract.escrow import sign_release
from coordinator.contract.network import Network
from coordinator.contract.secp import public_key
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.contracts import rebuild_funding
from coordinator.domain.escrow import escrow_coin, release_of
from coordinator.domain.payouts import PAYABLE
from coordinator.domain.states import AwaitingEscrow, FundingReady
from coordinator.domain.terms import Terms
from coordinator.operations import competitions, entries, payouts, tickets
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import EventRow, TicketRow
from coordinator.wallet import to_wallet_coin
from coordinator.wiring import Wired, wired_core
from coordinator_client.keymeld import KeymeldClient, register_player
from coordinator_client.nostr import NostrKey
from coordinator_devnet.lightning import LightningNetwork
from coordinator_devnet.oracle import OracleService, create_app
from support import chain as chain_support
from support import keymeld as keymeld_support
from support.lightning import lnd

FAUCET_SATS = 500_000_000
METRICS = ("temp_high", "wind_speed")
STATIONS = ("KORD", "KDEN")


@dataclass
class WorldPlayer:
    """A player's secrets and Lightning node."""

    name: str
    key: NostrKey = field(default_factory=NostrKey.generate)
    ephemeral_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    payout_preimage: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    ticket_id: str = ""
    entry_id: str = ""
    payment: asyncio.Task[object] | None = None

    @property
    def pubkey(self) -> str:
        return self.key.public_hex


@dataclass
class World:
    """Everything, running."""

    chain: chain_support.RunningChain
    lightning: LightningNetwork
    oracle: OracleService
    keymeld_url: str
    settings: Settings
    wired: Wired | None = None
    running: AsyncExitStack = field(default_factory=AsyncExitStack)
    payments: list[asyncio.Task[object]] = field(default_factory=list)

    async def stop(self) -> None:
        """Ends the players' payments and the core."""
        await self.end_payments()
        await self.running.aclose()

    async def end_payments(self) -> None:
        """Stops looking at the players' payments."""
        for payment in self.payments:
            payment.cancel()
        await asyncio.gather(*self.payments, return_exceptions=True)
        self.payments.clear()

    @property
    def core(self) -> Core:
        assert self.wired is not None
        return self.wired.core

    @property
    def contracts(self) -> ContractCache:
        assert self.wired is not None
        return self.wired.contracts

    async def restart(self) -> None:
        """Stops the core and starts it again on the same database."""
        await self.running.aclose()
        self.wired = await self.running.enter_async_context(world_core(self))

    def terms(self, **changes: object) -> Terms:
        """Terms of a small competition that starts in a minute."""
        now = int(time.time())
        return replace(
            Terms(
                name="test",
                entry_fee_sats=50_000,
                coordinator_fee_percent=10,
                total_competition_pool_sats=0,
                total_allowed_entries=3,
                min_entries=0,
                number_of_places_win=2,
                number_of_values_per_entry=4,
                locations=STATIONS,
                scoring_fields=METRICS,
                start_observation_at=now + 60,
                end_observation_at=now + 62,
                signing_at=now + 64,
                relative_locktime_blocks=144,
                fee_rate_sats_per_vb=2,
            ),
            **changes,  # type: ignore[arg-type]
        )

    async def create(self, **changes: object) -> str:
        record = await competitions.create_competition(self.core, "", self.terms(**changes))
        return record.id

    async def player(self, name: str) -> WorldPlayer:
        await self.lightning.add_node(name)
        return WorldPlayer(name)

    async def new_players(self, count: int) -> list[WorldPlayer]:
        return [await self.player(f"player{index}") for index in range(count)]

    async def fill(self, competition_id: str, players: list[WorldPlayer]) -> list[WorldPlayer]:
        """Tickets and entries for all; returns the players in player index order."""
        for player in players:
            await self.buy_ticket(competition_id, player)
            await self.enter(competition_id, player)
        return sorted(players, key=lambda player: player.ticket_id)

    async def buy_ticket(self, competition_id: str, player: WorldPlayer) -> TicketRow:
        """Requests a ticket and pays its hold invoice; returns once the payment is held."""
        ticket = await tickets.request_ticket(self.core, competition_id, player.pubkey)
        player.ticket_id = ticket.id
        await self.pay(player, ticket.payment_request)
        async with asyncio.timeout(20):
            while (
                await tickets.get_ticket(self.core, competition_id, ticket.id, player.pubkey)
            ).state != "paid":
                await asyncio.sleep(0.05)
        return ticket

    async def pay(self, player: WorldPlayer, payment_request: str) -> None:
        async def run() -> object:
            async with lnd(self.lightning[player.name]) as client:
                async for payment in client.pay(payment_request, fee_limit_msats=0, timeout_seconds=60):
                    last = payment
                return last

        player.payment = asyncio.create_task(run())
        self.payments.append(player.payment)

    async def enter(self, competition_id: str, player: WorldPlayer) -> None:
        async with KeymeldClient(self.keymeld_url) as client:
            enclaves = await client.enclaves()
        facts = (await self.core.competitions.load(competition_id)).status.facts
        registration = register_player(
            player.ticket_id,
            player.ephemeral_secret,
            keygen_session_ids=facts.keygen_session_ids,
            enclaves=enclaves,
        )
        options = tuple(entries.PREDICTIONS)
        offset = int(player.name[-1]) if player.name[-1].isdigit() else 0
        observations = tuple(
            entries.ExpectedObservation(station, metric, options[(offset + i) % 3])
            for i, station in enumerate(facts.terms.locations)
            for metric in facts.terms.scoring_fields
        )
        entry = await entries.create_entry(
            self.core,
            entries.NewEntry(
                id="",
                ticket_id=player.ticket_id,
                competition_id=competition_id,
                expected_observations=observations,
                ephemeral_pubkey=public_key(player.ephemeral_secret).hex(),
                payout_hash=hashlib.sha256(player.payout_preimage).hexdigest(),
                ephemeral_private_key_encrypted="",
                payout_preimage_encrypted="",
                keymeld=entries.KeymeldRegistration(
                    auth_pubkeys={k: v.hex() for k, v in registration.auth_pubkeys.items()},
                    ciphertexts=tuple(
                        entries.EnclaveCiphertext(
                            enclave, registration.enclave_key_epochs[enclave], ciphertext
                        )
                        for enclave, ciphertext in registration.encrypted_private_keys.items()
                    ),
                    require_signing_approval=False,
                ),
            ),
            player.pubkey,
        )
        player.entry_id = entry.id

    async def sign_release(self, competition_id: str, player: WorldPlayer) -> None:
        status = (await self.core.competitions.load(competition_id)).status
        assert isinstance(status, AwaitingEscrow)
        assert status.escrow is not None
        index = [p.entry_id for p in status.roster].index(player.entry_id)
        coin = escrow_coin(status.roster, status.escrow, index)
        release = release_of(coin, status.escrow)
        signature = sign_release(
            player.ephemeral_secret, release, coin.value_sats, coin.escrow, status.escrow.release_blocks
        )
        await entries.submit_signatures(self.core, player.entry_id, signature.hex(), "", player.pubkey)

    async def sign_funding(self, competition_id: str, player: WorldPlayer) -> None:
        status = (await self.core.competitions.load(competition_id)).status
        assert isinstance(status, FundingReady)
        coins = [to_wallet_coin(coin, self.core.wallet.keys) for coin in status.funding.coins]
        funding = rebuild_funding(status, coins)
        index = funding.index_of(player.ticket_id)
        signature = funding.sign(index, player.ephemeral_secret)
        await entries.submit_signatures(self.core, player.entry_id, "", signature.hex(), player.pubkey)

    async def take_payout(self, competition_id: str, player: WorldPlayer, *, hand_over: bool = True) -> int:
        """Asks for the prize, waits for it, hands the key over. Returns the sats."""
        contracts = self.contracts
        payout = await payouts.get_payout(
            self.core, contracts, competition_id, player.entry_id, player.pubkey
        )
        invoice = self.lightning[player.name].add_invoice(
            value_msats=payout.amount_sats * 1000, preimage=player.payout_preimage
        )
        await payouts.request_payout(
            self.core,
            contracts,
            competition_id,
            player.entry_id,
            invoice.payment_request,
            "",
            "",
            player.pubkey,
        )

        async def paid() -> bool:
            row = await payouts.get_payout(
                self.core, contracts, competition_id, player.entry_id, player.pubkey
            )
            assert row.state != "failed", row.failure_reason
            return row.state == "paid"

        await until(paid)
        if hand_over:
            await payouts.hand_over_key(
                self.core, competition_id, player.entry_id, player.ephemeral_secret.hex(), player.pubkey
            )
        return int(payout.amount_sats)

    async def wait_for(self, competition_id: str, *names: str, mining: bool = False) -> CompetitionRecord:
        """Until the competition is in one of these states; mines meanwhile if asked to."""
        async with asyncio.timeout(60):
            while True:
                record = await self.core.competitions.load(competition_id)
                if record.status.name in names:
                    return record
                if record.status.name in ("failed", "cancelled"):
                    raise AssertionError(f"{record.status}")
                if record.failed_attempts > 5:
                    raise AssertionError(record.last_error)
                if mining:
                    await self.chain.mine()
                await asyncio.sleep(0.05)

    async def escrow_planned(self, competition_id: str) -> None:
        """Until players can sign their release."""

        async def planned() -> bool:
            status = (await self.core.competitions.load(competition_id)).status
            return isinstance(status, AwaitingEscrow) and status.escrow is not None

        await until(planned)

    async def releases_signed(self, competition_id: str, players: list[WorldPlayer]) -> None:
        await self.escrow_planned(competition_id)
        for player in players:
            await self.sign_release(competition_id, player)

    async def outcome_confirmed(self, competition_id: str) -> None:
        """Until the outcome (or expiry) transaction is in a block and the core knows it."""

        async def confirmed() -> bool:
            status = (await self.core.competitions.load(competition_id)).status
            if not isinstance(status, PAYABLE):
                return False
            if status.outcome_broadcast.block_height is None:
                await self.chain.mine()
                return False
            return True

        await until(confirmed)

    async def funded(self, competition_id: str, players: list[WorldPlayer]) -> None:
        """From a full field to awaiting_attestation."""
        await self.releases_signed(competition_id, players)
        await self.wait_for(competition_id, "funding_ready", mining=True)
        for player in players:
            await self.sign_funding(competition_id, player)
        await self.wait_for(competition_id, "awaiting_attestation", mining=True)

    async def wealth_sats(self) -> dict[str, int]:
        """Everybody's balances. Call it when nothing is in flight."""
        balances = {"wallet": sum(coin.value_sats for coin in await self.core.wallet.coins())}
        for name, node in self.lightning.nodes.items():
            async with lnd(node) as client:
                balances[f"lightning:{name}"] = await client.balance_msats() // 1000
        return balances

    async def fees_sats(self, competition_id: str) -> int:
        """What the competition's transactions paid to miners."""
        rows = await EventRow.filter(competition_id=competition_id, kind="transaction.broadcast")
        total = 0
        for txid in {str(row.data["txid"]) for row in rows}:
            transaction = await self.chain.json(f"/tx/{txid}")
            total += transaction["fee"]  # type: ignore[index]
        return total

    async def at_rest(self, competition_id: str, *, mining: bool = True) -> CompetitionRecord:
        """Until nothing is left to do for a competition."""

        async def resting() -> bool:
            if mining:
                await self.chain.mine()
            return (await self.core.competitions.load(competition_id)).at_rest

        await until(resting)
        return await self.core.competitions.load(competition_id)

    async def event_kinds(self, competition_id: str) -> list[str]:
        rows = await EventRow.filter(competition_id=competition_id).order_by("sequence")
        return [row.kind for row in rows]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Polls a condition."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running_outside(folder: Path, **settings: object) -> AsyncIterator[World]:
    """The world without a core: everything it talks to, and its settings."""
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(chain_support.running_chain(folder / "chain"))
        network = LightningNetwork(folder / "lightning", height=chain.node.height, poll_seconds=0.05)
        await network.start()
        stack.push_async_callback(network.stop)
        keymeld = await stack.enter_async_context(keymeld_support.running(folder / "keymeld"))
        oracle = OracleService(folder / "oracle", seed=b"\x11" * 32, expiry_after_seconds=30)
        oracle_url = await stack.enter_async_context(chain_support.serving(create_app(oracle)))
        stack.push_async_callback(oracle.stop)
        node = network["coordinator"]
        configured = Settings.from_environment(
            {
                "COORDINATOR_DATABASE_URL": f"sqlite:///{folder}/core.sqlite3",
                "COORDINATOR_NETWORK": "regtest",
                "COORDINATOR_GRPC_PORT": "0",
                "COORDINATOR_ESPLORA_URL": chain.base_url,
                "COORDINATOR_LND_ADDRESS": node.address,
                "COORDINATOR_LND_TLS_CERT_FILE": str(node.tls_cert_path),
                "COORDINATOR_LND_MACAROON_FILE": str(node.macaroon_path),
                "COORDINATOR_KEYMELD_URL": keymeld.url,
                "COORDINATOR_ORACLE_URL": oracle_url,
                "COORDINATOR_ADMIN_NPUBS": NostrKey(b"\x77" * 32).npub,
                "COORDINATOR_GATEWAY_TOKEN": "a-gateway-token-for-tests",
                "COORDINATOR_SECRET_KEY": "42" * 32,
                "COORDINATOR_FUNDING_CONFIRMATIONS": "1",
                "COORDINATOR_POLL_INTERVAL_SECONDS": "0.05",
                **{f"COORDINATOR_{name.upper()}": str(value) for name, value in settings.items()},
            }
        )
        assert configured.network is Network.REGTEST
        world = World(chain, network, oracle, keymeld.url, configured)
        stack.push_async_callback(world.stop)
        yield world


@asynccontextmanager
async def running_world(folder: Path, **settings: object) -> AsyncIterator[World]:
    """The world with a running core, its wallet funded."""
    async with running_outside(folder, **settings) as world:
        await world.restart()
        await world.chain.faucet(await world.core.wallet.receive_address(), FAUCET_SATS)
        await world.chain.mine()
        yield world


@asynccontextmanager
async def world_core(world: World) -> AsyncIterator[Wired]:
    """A core of the world; leave it and enter again to restart."""
    async with wired_core(world.settings) as wired:
        driving = asyncio.create_task(wired.runner.run())
        try:
            yield wired
        finally:
            await wired.runner.stop()
            await driving
