"""Which states pay out, and what their outcome is."""

from __future__ import annotations

from coordinator.contract.payouts import EXPIRY, outcome_key
from coordinator.domain.states import (
    CompetitionStatus,
    Completed,
    DeltaBroadcasted,
    ExpiryBroadcasted,
    OutcomeBroadcasted,
)

PAYABLE = (OutcomeBroadcasted, ExpiryBroadcasted)


def outcome_key_of(status: CompetitionStatus) -> str | None:
    """ "att<i>" or "exp" once an outcome transaction was broadcast, else None."""
    match status:
        case OutcomeBroadcasted():
            return outcome_key(status.attestation.outcome)
        case ExpiryBroadcasted():
            return EXPIRY
        case DeltaBroadcasted() | Completed():
            return EXPIRY if status.attestation is None else outcome_key(status.attestation.outcome)
        case _:
            return None
