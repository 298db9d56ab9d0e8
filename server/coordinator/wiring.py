"""The composition root: from settings to the parts of a core, connected to its ports."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from coordinator.adapters.esplora import EsploraChain
from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.adapters.lnd import LndLightning
from coordinator.adapters.lnurl import LnurlPayees
from coordinator.adapters.secret_box import SecretBox
from coordinator.adapters.weather_oracle import WeatherOracle
from coordinator.config import Settings
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.ids import new_uuid7
from coordinator.domain.keys import derive_key
from coordinator.domain.wallet.keys import WalletKeys
from coordinator.ports.clock import Clock, SystemClock
from coordinator.runner import Runner
from coordinator.store.competitions import Competitions
from coordinator.store.database import close_database, is_postgres, open_database
from coordinator.store.events import EventSignal
from coordinator.store.leases import SOLE_CORE, PostgresLeases
from coordinator.store.models import SecretRow
from coordinator.store.notifications import Listener
from coordinator.wallet import Wallet
from coordinator.workers import Workers
from coordinator_client.keymeld.dlc import KeymeldLimits
from coordinator_client.nostr import NostrKey

MASTER_SEED = "master-seed"


@dataclass(frozen=True, slots=True)
class Wired:
    """A core whose ports are connected. The runner does nothing until it is run."""

    core: Core
    contracts: ContractCache
    runner: Runner


async def load_master_seed(box: SecretBox) -> bytes:
    """The coordinator's master seed, made and stored encrypted at the first start.

    Everything of the coordinator's is derived from it: back up the database and the secret key.
    """
    row = await SecretRow.get_or_none(name=MASTER_SEED)
    if row is None:
        row = await SecretRow.create(
            name=MASTER_SEED, ciphertext=box.seal(MASTER_SEED, secrets.token_bytes(32))
        )
    return box.open(MASTER_SEED, bytes(row.ciphertext))


@asynccontextmanager
async def _listening(
    database_url: str, signal: EventSignal, wake: Callable[[str], None]
) -> AsyncIterator[None]:
    """What other cores write wakes this one's streams and runner."""

    def heard(competition_id: str) -> None:
        signal.notify()
        if competition_id:
            wake(competition_id)

    task = asyncio.create_task(Listener(database_url, heard).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def wired_core(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Wired]:
    """Opens the database and connects every port until left."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        await open_database(settings.database_url)
        stack.push_async_callback(close_database)
        box = SecretBox(settings.secret_key)
        master = await load_master_seed(box)
        nostr_key = NostrKey(derive_key(master, "nostr"))
        chain = EsploraChain(settings.esplora_url)
        stack.push_async_callback(chain.aclose)
        lightning = LndLightning(
            settings.lnd_address,
            tls_certificate=settings.lnd_tls_certificate_file.read_bytes(),
            macaroon_hex=settings.lnd_macaroon_file.read_bytes().hex(),
        )
        stack.push_async_callback(lightning.aclose)
        workers = Workers(settings.worker_processes)
        stack.push_async_callback(workers.close)
        limits = KeymeldLimits(settings.keymeld_max_subsets, settings.keymeld_max_batch_items)
        keymeld = KeymeldAdapter(
            settings.keymeld_url,
            limits=limits,
            tagged_tweaks=settings.keymeld_tagged_tweaks,
            workers=workers,
        )
        stack.push_async_callback(keymeld.close)
        oracle = WeatherOracle(settings.oracle_url, nostr_key)
        stack.push_async_callback(oracle.aclose)
        payees = LnurlPayees(private_hosts=settings.payout_private_hosts)
        stack.push_async_callback(payees.aclose)
        signal = EventSignal()
        runner: Runner | None = None

        def wake(competition_id: str) -> None:
            if runner is not None:
                runner.wake(competition_id)

        wallet_keys = WalletKeys.from_seed(derive_key(master, "wallet"), settings.network)
        core = Core(
            settings=settings,
            clock=clock,
            chain=chain,
            lightning=lightning,
            keymeld=keymeld,
            oracle=oracle,
            payees=payees,
            wallet=Wallet(chain, wallet_keys, settings.network, clock),
            competitions=Competitions(signal),
            signal=signal,
            box=box,
            master=master,
            nostr_key=nostr_key,
            wake=wake,
            workers=workers,
        )
        contracts = ContractCache(workers)
        shared = is_postgres()
        runner = Runner(core, contracts, PostgresLeases(new_uuid7()) if shared else SOLE_CORE)
        stack.push_async_callback(runner.stop)
        if shared:
            await stack.enter_async_context(_listening(settings.database_url, signal, wake))
        yield Wired(core, contracts, runner)
