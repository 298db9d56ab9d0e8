"""Paying winners over Lightning: each payment hash at most once, whatever crashes in between.

A payout is paid with one invoice at a time. What became of it, only the node's record of its payment hash
says: an error that comes back from sending says nothing, since the node may have taken the payment before
the answer was lost. Only a payment that the node calls failed, or never made and refuses to make, frees the
payout for another invoice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from dataclasses import dataclass
from typing import Final

from coordinator.core import Core
from coordinator.domain.payouts import PAYABLE, payment_blocks_left
from coordinator.ports.lightning import InvalidPaymentRequest, LightningUnavailable, Payment, PaymentState
from coordinator.runner.backoff import Backoff
from coordinator.store.events import NewEvent
from coordinator.store.intents import attempt_intent, finish_intent, record_intent
from coordinator.store.models import EntryRow, PaymentAttemptRow, PayoutRow
from coordinator.store.tickets import IntentStatus, PayoutState

log = logging.getLogger(__name__)

UNFINISHED: Final = (PayoutState.REQUESTED, PayoutState.IN_FLIGHT)

# LND's reasons, for a person.
_FAILURES: Final = {
    "FAILURE_REASON_TIMEOUT": "no route was found in time",
    "FAILURE_REASON_NO_ROUTE": "no route to the payee can carry the amount within the fee limit",
    "FAILURE_REASON_ERROR": "the node met an error",
    "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS": "the payee refused it: the invoice is unknown there, paid,"
    " cancelled, or of another amount",
    "FAILURE_REASON_INSUFFICIENT_BALANCE": "the coordinator's node has too little balance to send now",
    "FAILURE_REASON_CANCELED": "it was cancelled",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a payment does not go on: what its last attempt met, and when the next is due at the latest."""

    competition_id: str
    text: str
    attempts: int
    next_attempt_at: int


class PaymentDriver:
    """Keeps at most one task per payment; its truth is in the store and in the node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._problems: dict[str, Problem] = {}

    async def drive(self, competition_id: str) -> None:
        """Starts what was requested and follows what is in flight, each until it is over."""
        unfinished = await PayoutRow.filter(competition_id=competition_id, state__in=UNFINISHED)
        for payout in unfinished:
            task = self._tasks.get(payout.payment_hash)
            if task is None or task.done():
                self._tasks[payout.payment_hash] = asyncio.create_task(self._pay(payout))
        for payment_hash in [key for key, task in self._tasks.items() if task.done()]:
            del self._tasks[payment_hash]

    def problem(self, competition_id: str) -> Problem | None:
        """What keeps one of a competition's payments from going on, if anything does."""
        found = (each for each in self._problems.values() if each.competition_id == competition_id)
        return next(found, None)

    async def stop(self) -> None:
        """Ends the tasks; payments in flight go on in the node and are found there at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _pay(self, payout: PayoutRow) -> None:
        """Until the payment is over, however often the node is lost meanwhile."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._follow(payout.entry_id, payout.payment_hash, backoff)
                    break
                except LightningUnavailable as error:
                    log.warning("payout %s: the Lightning node does not answer: %s", payout.entry_id, error)
                    self._met(payout, error, backoff)
                except Exception as error:
                    log.exception("payout %s: what became of its payment is not known yet", payout.entry_id)
                    self._met(payout, error, backoff)
                await backoff.wait()
        finally:
            self._problems.pop(payout.payment_hash, None)
        self._core.wake(payout.competition_id)

    def _met(self, payout: PayoutRow, error: Exception, backoff: Backoff) -> None:
        """Keeps it for whoever asks why nothing happens."""
        before = self._problems.get(payout.payment_hash)
        self._problems[payout.payment_hash] = Problem(
            payout.competition_id,
            f"payout of entry {payout.entry_id}: {type(error).__name__}: {error}",
            before.attempts + 1 if before is not None else 1,
            self._core.clock.now() + math.ceil(backoff.next_seconds),
        )
        self._core.wake(payout.competition_id)

    async def _follow(self, entry_id: str, hash_hex: str, backoff: Backoff) -> None:
        core = self._core
        payout = await PayoutRow.get(entry_id=entry_id)
        if payout.payment_hash != hash_hex or payout.state not in UNFINISHED:
            return
        if payout.state == PayoutState.REQUESTED:
            await self._begin(payout)
        payment_hash = bytes.fromhex(hash_hex)
        # The node is asked first: after a crash or a lost answer the payment may be under way or over.
        payment = await core.lightning.track_payment(payment_hash)
        if payment is None:
            blocks_left = await self._blocks_left(payout)
            if blocks_left <= 0:
                await self._failed(payout, "it is too late for Lightning: the prize can be taken on chain")
                return
            await attempt_intent(_key(payout), core.clock.now())
            try:
                payment = await self._send(payout, blocks_left)
            except InvalidPaymentRequest as error:
                # The node looked at the invoice and will not pay it. Unless it has done so before.
                payment = await core.lightning.track_payment(payment_hash)
                if payment is None:
                    await self._failed(payout, f"the invoice cannot be paid: {error}")
                    return
        backoff.reset()
        if payment.state is PaymentState.IN_FLIGHT:
            async for now in core.lightning.follow_payment(payment_hash):
                payment = now
        if payment.state is PaymentState.SUCCEEDED:
            await self._succeeded(payout, payment)
        elif payment.state is PaymentState.FAILED:
            code = payment.failure_reason or ""
            await self._failed(payout, f"{_FAILURES.get(code, 'the payment failed')} ({code})")
        else:
            raise LightningUnavailable("the node does not say how the payment ended")

    async def _begin(self, payout: PayoutRow) -> None:
        """Writes the intent before anything is sent."""
        core = self._core
        now = core.clock.now()
        async with core.competitions.transaction():
            await record_intent(
                _key(payout),
                now,
                competition_id=payout.competition_id,
                data={"entry_id": payout.entry_id, "amount_sats": payout.amount_sats},
            )
            payout.state = PayoutState.IN_FLIGHT
            payout.attempts += 1
            await payout.save(update_fields=["state", "attempts"])
            await PaymentAttemptRow.filter(payment_hash=payout.payment_hash).update(
                state=PayoutState.IN_FLIGHT
            )
            told = NewEvent("payout.in_flight", {"entry_id": payout.entry_id})
            await core.competitions.tell(payout.competition_id, now, [told])

    async def _blocks_left(self, payout: PayoutRow) -> int:
        """For how many blocks an HTLC of this payment may be out, as things are now."""
        core = self._core
        status = (await core.competitions.load(payout.competition_id)).status
        if not isinstance(status, PAYABLE):
            return 0
        return payment_blocks_left(status, (await core.chain.tip()).height)

    async def _send(self, payout: PayoutRow, blocks_left: int) -> Payment:
        settings = self._core.settings
        last: Payment | None = None
        async for payment in self._core.lightning.pay(
            payout.payment_request,
            fee_limit_msats=payout.amount_sats * 10 * settings.payout_fee_limit_percent,
            timeout_seconds=settings.payout_timeout_seconds,
            cltv_limit_blocks=blocks_left,
        ):
            last = payment
        if last is None:
            raise LightningUnavailable("the node said nothing of the payment")
        return last

    async def _succeeded(self, payout: PayoutRow, payment: Payment) -> None:
        core = self._core
        now = core.clock.now()
        entry = await EntryRow.get(id=payout.entry_id)
        async with core.competitions.transaction():
            payout.state = PayoutState.PAID
            payout.paid_at = now
            payout.fee_msats = payment.fee_msats
            changed = ["state", "paid_at", "fee_msats"]
            preimage = payment.preimage
            if preimage is not None and hashlib.sha256(preimage).hexdigest() == entry.payout_hash:
                payout.payout_preimage_encrypted = core.box.seal(f"payout-preimage:{entry.id}", preimage)
                changed.append("payout_preimage_encrypted")
            await payout.save(update_fields=changed)
            await PaymentAttemptRow.filter(payment_hash=payout.payment_hash).update(
                state=PayoutState.PAID, finished_at=now
            )
            await finish_intent(_key(payout), now)
            told = NewEvent("payout.paid", {"entry_id": payout.entry_id, "amount_sats": payout.amount_sats})
            await core.competitions.tell(payout.competition_id, now, [told])

    async def _failed(self, payout: PayoutRow, reason: str) -> None:
        core = self._core
        now = core.clock.now()
        async with core.competitions.transaction():
            payout.state = PayoutState.FAILED
            payout.failure_reason = reason
            await payout.save(update_fields=["state", "failure_reason"])
            await PaymentAttemptRow.filter(payment_hash=payout.payment_hash).update(
                state=PayoutState.FAILED, failure_reason=reason, finished_at=now
            )
            await finish_intent(_key(payout), now, IntentStatus.ABANDONED)
            told = NewEvent("payout.failed", {"entry_id": payout.entry_id, "reason": reason})
            await core.competitions.tell(payout.competition_id, now, [told])


def _key(payout: PayoutRow) -> str:
    """Idempotency key of the payout's present invoice."""
    return f"pay:{payout.payment_hash}"
