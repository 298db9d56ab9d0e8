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

# Blocks kept between a payment's last possible settlement and the winner's own way to the prize.
SAFETY_BLOCKS = 12


def payment_blocks_left(status: OutcomeBroadcasted | ExpiryBroadcasted, tip_height: int) -> int:
    """For how many blocks from the tip on an HTLC that pays a winner may be out.

    A payment must be over before the winner can take the prize on chain as well. The earliest is 2 * delta
    after the outcome transaction's block: delta until the split, delta until the win.
    """
    outcome_height = status.outcome_broadcast.block_height
    start = tip_height + 1 if outcome_height is None else outcome_height
    return start + 2 * status.facts.terms.relative_locktime_blocks - tip_height - SAFETY_BLOCKS


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
