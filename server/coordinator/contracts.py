"""Contracts in memory: each is rebuilt from its state once, off the event loop, and kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from coordinator.contract import rankings
from coordinator.contract.dlc import TicketedDLC
from coordinator.domain.contracts import dlc_of
from coordinator.domain.errors import PreconditionFailed
from coordinator.domain.states import CONTRACTED, Contracted
from coordinator.store.competitions import CompetitionRecord
from coordinator.workers import Workers

# A contract of 25 entries and 3 places takes some megabytes.
DEFAULT_KEPT = 8


class ContractCache:
    """Least recently used contracts, by funding txid."""

    def __init__(self, workers: Workers, kept: int = DEFAULT_KEPT) -> None:
        self._workers = workers
        self._kept = kept
        self._contracts: OrderedDict[str, TicketedDLC] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    @staticmethod
    def status_of(record: CompetitionRecord) -> Contracted:
        """The state as one that has a contract.

        Raises:
            PreconditionFailed: it has none yet, or never got one.
        """
        if not isinstance(record.status, CONTRACTED):
            raise PreconditionFailed(
                f"there is no contract: the competition is {record.status.name}", reason="NO_CONTRACT"
            )
        return record.status

    async def get(self, record: CompetitionRecord) -> TicketedDLC:
        """The contract of a competition.

        Raises:
            PreconditionFailed: it has none.
        """
        return await self.of(self.status_of(record))

    async def of(self, status: Contracted) -> TicketedDLC:
        """The contract of a state."""
        key = status.funding.txid
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            dlc = self._contracts.get(key)
            if dlc is None:
                outcomes = rankings.count(len(status.roster), status.facts.terms.number_of_places_win)
                dlc = await self._workers.run_sized(outcomes, dlc_of, status)
                self._contracts[key] = dlc
            self._contracts.move_to_end(key)
            while len(self._contracts) > self._kept:
                dropped, _ = self._contracts.popitem(last=False)
                self._locks.pop(dropped, None)
        return dlc
