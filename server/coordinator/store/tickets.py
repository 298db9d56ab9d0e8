"""What tickets, payouts and intents are called in the store, and counting tickets."""

from __future__ import annotations

from enum import StrEnum

from coordinator.store.models import TicketRow


class TicketState(StrEnum):
    """See proto TicketState."""

    RESERVED = "reserved"
    PAID = "paid"
    ENTERED = "entered"
    SETTLED = "settled"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class PayoutState(StrEnum):
    """See proto PayoutState."""

    AVAILABLE = "available"
    REQUESTED = "requested"
    IN_FLIGHT = "in_flight"
    PAID = "paid"
    FAILED = "failed"
    ON_CHAIN = "on_chain"


class IntentStatus(StrEnum):
    """Where a recorded side effect is."""

    PENDING = "pending"
    DONE = "done"
    ABANDONED = "abandoned"


# These hold one of the competition's places.
HOLDING_A_PLACE = (TicketState.RESERVED, TicketState.PAID, TicketState.ENTERED, TicketState.SETTLED)


async def places_taken(competition_id: str) -> int:
    """How many tickets hold a place."""
    return await TicketRow.filter(competition_id=competition_id, state__in=HOLDING_A_PLACE).count()
