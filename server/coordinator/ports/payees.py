"""What the coordinator needs to pay somebody who names an address instead of an invoice."""

from __future__ import annotations

from typing import Protocol

from coordinator.domain.lnurl import Destination


class PayeeError(Exception):
    """No invoice could be had; the message is for whoever named the destination."""


class PayeeUnavailable(PayeeError):
    """The destination does not answer now."""


class PayeeRefused(PayeeError):
    """The destination refuses, or what it answers must not be paid."""


class Payees(Protocol):
    """Services that make invoices on request."""

    async def invoice(self, destination: Destination, amount_msats: int) -> str:
        """A fresh BOLT11 invoice of exactly this amount, which commits to what the destination says of itself
        (LUD-06): both was checked.

        Raises:
            PayeeUnavailable: it does not answer now.
            PayeeRefused: it takes no such amount, refuses, or answers something that must not be paid.
        """
        ...
