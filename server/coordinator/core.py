"""What operations and the runner work with: ports, store, keys and settings, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.adapters.secret_box import SecretBox
from coordinator.config import Settings
from coordinator.domain.keys import CompetitionKeys
from coordinator.ports.chain import Chain
from coordinator.ports.clock import Clock
from coordinator.ports.keymeld import Keymeld
from coordinator.ports.lightning import Lightning
from coordinator.ports.oracle import Oracle
from coordinator.ports.payees import Payees
from coordinator.store.competitions import Competitions
from coordinator.store.events import EventSignal
from coordinator.wallet import Wallet
from coordinator.workers import Workers
from coordinator_client.nostr import NostrKey


@dataclass(frozen=True, slots=True)
class Core:
    """The parts, wired by `app`."""

    settings: Settings
    clock: Clock
    chain: Chain
    lightning: Lightning
    keymeld: Keymeld
    oracle: Oracle
    payees: Payees
    wallet: Wallet
    competitions: Competitions
    signal: EventSignal
    box: SecretBox
    master: bytes
    nostr_key: NostrKey
    wake: Callable[[str], None]
    workers: Workers

    def keys(self, competition_id: str) -> CompetitionKeys:
        """The coordinator's keys of a competition."""
        return CompetitionKeys(self.master, competition_id)
