"""What a step is, and what it may say about the next look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.runner.invoices import InvoiceWatcher
from coordinator.runner.payments import PaymentDriver

# Seconds until the next look at a competition: now, or when the poll interval is over.
AT_ONCE: Final = 0.0
LATER: Final = None
Next = float | None


class GiveUp(Exception):
    """The competition cannot be funded any more; the message says why, in words for a person."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every step works with."""

    core: Core
    contracts: ContractCache
    payments: PaymentDriver
    invoices: InvoiceWatcher
