"""Paying winners over Lightning: each payment hash at most once, whatever crashes in between."""

from __future__ import annotations

import asyncio
import hashlib
import logging

from coordinator.core import Core
from coordinator.ports.lightning import LightningError, LightningUnavailable, Payment, PaymentState
from coordinator.store.events import NewEvent
from coordinator.store.intents import attempt_intent, finish_intent, record_intent
from coordinator.store.models import EntryRow, PaymentAttemptRow, PayoutRow
from coordinator.store.tickets import IntentStatus, PayoutState

log = logging.getLogger(__name__)


class PaymentDriver:
    """Keeps at most one task per payment; its truth is in the store and in the node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def drive(self, competition_id: str) -> None:
        """Starts what was requested and follows what is in flight."""
        unfinished = await PayoutRow.filter(
            competition_id=competition_id, state__in=(PayoutState.REQUESTED, PayoutState.IN_FLIGHT)
        )
        for payout in unfinished:
            task = self._tasks.get(payout.payment_hash)
            if task is None or task.done():
                self._tasks[payout.payment_hash] = asyncio.create_task(self._pay(payout))

    async def stop(self) -> None:
        """Ends the tasks; payments in flight go on in the node and are found there at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _pay(self, payout: PayoutRow) -> None:
        try:
            await self._follow(payout)
        except asyncio.CancelledError:
            raise
        except LightningUnavailable as error:
            log.warning("payout %s: the Lightning node does not answer: %s", payout.entry_id, error)
        except Exception:
            log.exception("payout %s", payout.entry_id)
        finally:
            self._core.wake(payout.competition_id)

    async def _follow(self, payout: PayoutRow) -> None:
        core = self._core
        key = f"pay:{payout.payment_hash}"
        payment_hash = bytes.fromhex(payout.payment_hash)
        if payout.state == PayoutState.REQUESTED:
            async with core.competitions.transaction():
                await record_intent(
                    key,
                    core.clock.now(),
                    competition_id=payout.competition_id,
                    data={"entry_id": payout.entry_id, "amount_sats": payout.amount_sats},
                )
                payout.state = PayoutState.IN_FLIGHT
                payout.attempts += 1
                await payout.save(update_fields=["state", "attempts"])
                await core.competitions.tell(
                    payout.competition_id,
                    core.clock.now(),
                    [NewEvent("payout.in_flight", {"entry_id": payout.entry_id})],
                )
        # The node is asked first: after a crash the payment may be under way or over.
        payment = await core.lightning.track_payment(payment_hash)
        if payment is None:
            await attempt_intent(key, core.clock.now())
            payment = await self._send(payout)
        elif payment.state is PaymentState.IN_FLIGHT:
            # Still out: the next look tracks it again. It is never sent a second time.
            return
        if payment.state is PaymentState.SUCCEEDED:
            await self._succeeded(payout, payment, key)
        elif payment.state is PaymentState.FAILED:
            await self._failed(payout, payment.failure_reason or "the payment failed", key)

    async def _send(self, payout: PayoutRow) -> Payment:
        settings = self._core.settings
        fee_limit_msats = payout.amount_sats * 10 * settings.payout_fee_limit_percent
        last: Payment | None = None
        try:
            async for payment in self._core.lightning.pay(
                payout.payment_request,
                fee_limit_msats=fee_limit_msats,
                timeout_seconds=settings.payout_timeout_seconds,
            ):
                last = payment
        except LightningUnavailable:
            raise
        except LightningError as error:
            # The node refused: nothing was sent.
            return Payment(
                payment_hash=bytes.fromhex(payout.payment_hash),
                state=PaymentState.FAILED,
                amount_msats=payout.amount_sats * 1000,
                fee_msats=0,
                preimage=None,
                failure_reason=str(error),
            )
        if last is None:
            raise LightningUnavailable("the node said nothing of the payment")
        return last

    async def _succeeded(self, payout: PayoutRow, payment: Payment, key: str) -> None:
        core = self._core
        now = core.clock.now()
        entry = await EntryRow.get(id=payout.entry_id)
        async with core.competitions.transaction():
            payout.state = PayoutState.PAID
            payout.paid_at = now
            payout.fee_msats = payment.fee_msats
            preimage = payment.preimage
            if preimage is not None and hashlib.sha256(preimage).hexdigest() == entry.payout_hash:
                payout.payout_preimage_encrypted = core.box.seal(f"payout-preimage:{entry.id}", preimage)
            await payout.save()
            await PaymentAttemptRow.filter(payment_hash=payout.payment_hash).update(
                state=PayoutState.PAID, finished_at=now
            )
            await finish_intent(key, now)
            told = NewEvent("payout.paid", {"entry_id": payout.entry_id, "amount_sats": payout.amount_sats})
            await core.competitions.tell(payout.competition_id, now, [told])

    async def _failed(self, payout: PayoutRow, reason: str, key: str) -> None:
        core = self._core
        now = core.clock.now()
        async with core.competitions.transaction():
            payout.state = PayoutState.FAILED
            payout.failure_reason = reason
            await payout.save(update_fields=["state", "failure_reason"])
            await PaymentAttemptRow.filter(payment_hash=payout.payment_hash).update(
                state=PayoutState.FAILED, failure_reason=reason, finished_at=now
            )
            await finish_intent(key, now, IntentStatus.ABANDONED)
            told = NewEvent("payout.failed", {"entry_id": payout.entry_id, "reason": reason})
            await core.competitions.tell(payout.competition_id, now, [told])
