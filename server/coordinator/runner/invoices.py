"""Watching hold invoices: the runner is woken when one is paid or given back; it need not keep asking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from coordinator.core import Core
from coordinator.ports.lightning import InvoiceNotFound, LightningUnavailable
from coordinator.runner.backoff import Backoff
from coordinator.store.models import TicketRow

log = logging.getLogger(__name__)

# Without news an invoice is looked up all the same, once in this many poll intervals.
SAFETY_NET_POLLS: Final = 15


class InvoiceWatcher:
    """One subscription for each ticket's invoice, from its first `look` until the invoice is final.

    A subscription starts with the invoice as it is, also after a lost connection: nothing that happened
    meanwhile is missed. Here is only remembered whether there is news; what is true, the node says.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Payment hash (hex) → until when there is nothing to look at without news, by the loop's clock.
        self._seen_until: dict[str, float] = {}

    async def look(self, ticket: TicketRow, act: Callable[[Core, TicketRow], Awaitable[None]]) -> None:
        """Has `act` look the invoice up if there is news of it, or none for long. If it raises, it is due
        again at once.
        """
        key = ticket.ticket_hash
        if ticket.payment_request and key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._watch(key, ticket.competition_id))
        now = asyncio.get_running_loop().time()
        if now < self._seen_until.get(key, 0.0):
            return
        # Set before looking: news that comes meanwhile must not be lost.
        self._seen_until[key] = now + SAFETY_NET_POLLS * self._core.settings.poll_interval_seconds
        try:
            await act(self._core, ticket)
        except BaseException:
            self._seen_until.pop(key, None)
            raise

    async def stop(self) -> None:
        """Ends the subscriptions."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: str, competition_id: str) -> None:
        """Until the invoice is final; subscribes again however often the node is lost."""
        backoff = Backoff()
        try:
            while True:
                try:
                    async for _ in self._core.lightning.subscribe_invoice(bytes.fromhex(key)):
                        backoff.reset()
                        self._seen_until.pop(key, None)
                        self._core.wake(competition_id)
                    return
                except InvoiceNotFound:
                    return
                except LightningUnavailable as error:
                    log.warning("the subscription to invoice %s broke off: %s", key, error)
                except Exception:
                    log.exception("the subscription to invoice %s", key)
                await backoff.wait()
        finally:
            self._tasks.pop(key, None)
            self._seen_until.pop(key, None)
