"""The loop: which competition is due, one task for each, errors with backoff, giving up in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import assert_never

from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain import states
from coordinator.domain.endings import ending_words
from coordinator.domain.states import CANCELLABLE
from coordinator.ports.chain import ChainUnavailable
from coordinator.ports.keymeld import KeymeldUnavailable
from coordinator.ports.lightning import LightningUnavailable
from coordinator.ports.oracle import OracleUnavailable
from coordinator.runner import (
    announcing,
    attesting,
    closing,
    collecting,
    contracting,
    escrow,
    funding,
    refunding,
)
from coordinator.runner.invoices import InvoiceWatcher
from coordinator.runner.oracle_watch import OracleWatcher
from coordinator.runner.payments import PaymentDriver
from coordinator.runner.step import Context, GiveUp, Next
from coordinator.store.competitions import CompetitionRecord, StaleState
from coordinator.store.events import NewEvent
from coordinator.store.leases import LEASE_SECONDS, SOLE_CORE, Leases
from coordinator.store.models import CompetitionRow

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 60
# How often the wallet looks after payments that are not buried yet.
WALLET_LOOK_SECONDS = 30
# States that are stepped through without looking elsewhere in between, at most, before others get a turn.
MAX_STEPS_AT_ONCE = 50
UNAVAILABLE = (ChainUnavailable, KeymeldUnavailable, LightningUnavailable, OracleUnavailable)


class Runner:
    """Steps every competition that is not at rest."""

    def __init__(self, core: Core, contracts: ContractCache, leases: Leases = SOLE_CORE) -> None:
        self._core = core
        self._leases = leases
        self._leased: dict[str, float] = {}
        self._payments = PaymentDriver(core)
        self._invoices = InvoiceWatcher(core)
        self._oracle = OracleWatcher(core)
        self._context = Context(core, contracts, self._payments, self._invoices)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken: set[str] = set()
        self._wakeup = asyncio.Event()
        self._stopping = False
        self._tending: asyncio.Task[None] | None = None
        self._tend_at = 0

    def wake(self, competition_id: str) -> None:
        """Something happened to this competition: look at it now."""
        self._woken.add(competition_id)
        self._wakeup.set()

    async def run(self) -> None:
        """Runs until `stop`."""
        while not self._stopping:
            # Cleared first: what wakes it while it looks is not lost.
            self._wakeup.clear()
            try:
                await self._start_due()
            except Exception:
                log.exception("cannot read which competitions are due")
            self._start_tending()
            if self._stopping:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), self._core.settings.poll_interval_seconds)

    async def stop(self) -> None:
        """Cancels running steps at their next await; whatever they did is found again at the next start."""
        self._stopping = True
        self._wakeup.set()
        running = [*self._tasks.values(), *([self._tending] if self._tending else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._payments.stop()
        await self._invoices.stop()
        await self._oracle.stop()
        with contextlib.suppress(Exception):
            # Without a database they end by themselves.
            await self._leases.release()

    def _start_tending(self) -> None:
        """Lets the wallet look after its own transactions, beside the competitions."""
        now = self._core.clock.now()
        if now >= self._tend_at and (self._tending is None or self._tending.done()):
            self._tend_at = now + WALLET_LOOK_SECONDS
            self._tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        try:
            await self._core.wallet.tend()
        except UNAVAILABLE as error:
            log.warning("the wallet: %s", error)
        except Exception:
            log.exception("the wallet")

    async def _start_due(self) -> None:
        woken, self._woken = self._woken, set()
        now = self._core.clock.now()
        rows = await CompetitionRow.filter(at_rest=False).values("id", "next_attempt_at")
        due = {row["id"] for row in rows if row["id"] in woken or row["next_attempt_at"] <= now}
        ours = await self._claim(due | self._tasks.keys())
        # No await from here on: a drive that ended before it was looked at here has woken nobody.
        self._tasks = {id: task for id, task in self._tasks.items() if not task.done()}
        for competition_id, task in self._tasks.items():
            if competition_id in woken:
                self._woken.add(competition_id)
            if competition_id not in ours:
                log.warning("another core drives competition %s now", competition_id)
                task.cancel()
        for competition_id in due & ours - self._tasks.keys():
            task = asyncio.create_task(self.drive(competition_id))
            task.add_done_callback(lambda _: self._driven())
            self._tasks[competition_id] = task

    async def _claim(self, competition_ids: set[str]) -> set[str]:
        """Those whose lease this core has; a lease is prolonged when half of it is over."""
        now = asyncio.get_running_loop().time()
        self._leased = {id: until for id, until in self._leased.items() if until > now}
        asked = {id for id in competition_ids if self._leased.get(id, 0.0) - now < LEASE_SECONDS / 2}
        claimed = await self._leases.claim(asked)
        self._leased |= dict.fromkeys(claimed, now + LEASE_SECONDS)
        return competition_ids & self._leased.keys()

    def _driven(self) -> None:
        """Whoever was woken while it was being driven is looked at again now, not at the next poll."""
        if self._woken:
            self._wakeup.set()

    async def drive(self, competition_id: str) -> None:
        """Steps one competition until it has to wait."""
        for _ in range(MAX_STEPS_AT_ONCE):
            record = None
            try:
                record = await self._core.competitions.load(competition_id)
                self._oracle.look(record.id, record.status)
                wait = await self._step(record)
                await self._note_success(record)
            except StaleState:
                continue
            except GiveUp as reason:
                await self._fail(competition_id, str(reason))
                continue
            except asyncio.CancelledError:
                raise
            except Exception as error:
                await self._note_error(competition_id, record, error)
                return
            if wait is None:
                return
            if wait > 0:
                await asyncio.sleep(wait)
        self.wake(competition_id)

    async def _note_success(self, record: CompetitionRecord) -> None:
        """The step went well; what a payment beside it meets is an error all the same."""
        problem = self._payments.problem(record.id)
        if problem is not None:
            await self._note(record.id, problem.attempts, problem.text, problem.next_attempt_at)
        elif record.last_error:
            await self._note(record.id, 0, "", 0)

    async def _note_error(
        self, competition_id: str, record: CompetitionRecord | None, error: Exception
    ) -> None:
        attempts = (record.failed_attempts if record else 0) + 1
        delay = min(MAX_BACKOFF_SECONDS, 2 ** min(attempts - 1, 10))
        if isinstance(error, UNAVAILABLE):
            log.warning("competition %s: %s", competition_id, error)
        else:
            log.error("competition %s", competition_id, exc_info=error)
        name = type(error).__name__
        await self._note(competition_id, attempts, f"{name}: {error}", self._core.clock.now() + delay)

    async def _note(self, competition_id: str, attempts: int, error: str, next_attempt_at: int) -> None:
        await CompetitionRow.filter(id=competition_id).update(
            failed_attempts=attempts, last_error=error, next_attempt_at=next_attempt_at
        )

    async def _fail(self, competition_id: str, reason: str) -> None:
        record = await self._core.competitions.load(competition_id)
        status = record.status
        if not isinstance(status, CANCELLABLE):
            return
        log.warning("competition %s failed in %s: %s", competition_id, status.name, reason)
        failed = status.fail(reason)
        told = [NewEvent("competition.failed", {"reason": ending_words(failed), "failed_in": status.name})]
        with contextlib.suppress(StaleState):
            await self._core.competitions.advance(record, failed, self._core.clock.now(), told)

    async def _step(self, record: CompetitionRecord) -> Next:
        context, status = self._context, record.status
        match status:
            case states.Created() | states.CollectingEntries():
                return await collecting.collect(context, record, status)
            case states.AwaitingEscrow():
                return await escrow.await_escrow(context, record, status)
            case states.EscrowConfirmed():
                return await announcing.create_event(context, record, status)
            case states.EventCreated():
                return await announcing.submit_entries(context, record, status)
            case states.EntriesSubmitted():
                return await contracting.create_contract(context, record, status)
            case states.ContractCreated():
                return await contracting.start_keygen(context, record, status)
            case states.AwaitingKeygen():
                return await contracting.await_keygen(context, record, status)
            case states.AwaitingSigning():
                return await contracting.await_signing(context, record, status)
            case states.FundingReady():
                return await funding.complete_funding(context, record, status)
            case states.FundingBroadcasted():
                return await funding.confirm_funding(context, record, status)
            case states.FundingConfirmed():
                return await funding.settle(context, record, status)
            case states.FundingSettled():
                return await funding.await_attestation(context, record, status)
            case states.AwaitingAttestation():
                return await attesting.await_attestation(context, record, status)
            case states.Attested():
                return await attesting.broadcast_outcome(context, record, status)
            case states.OutcomeBroadcasted() | states.ExpiryBroadcasted():
                return await closing.pay_out(context, record, status)
            case states.DeltaBroadcasted():
                return await closing.take_back(context, record, status)
            case states.Completed():
                return await closing.settle_on_chain(context, record, status)
            case states.Failed() | states.Cancelled():
                return await refunding.refund(context, record, status)
            case _:
                assert_never(status)
