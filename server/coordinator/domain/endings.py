"""What a competition that ended before it was funded means for everybody's money, in words for a person."""

from __future__ import annotations

from coordinator.domain.states import Cancelled, Failed

BLOCKS_PER_DAY = 144


def ending_words(ended: Failed | Cancelled) -> str:
    """Why it ended and where the money is, as one text."""
    return f"{ended.reason.rstrip('. ')}. {money_words(ended)}"


def money_words(ended: Failed | Cancelled) -> str:
    """Where the money is now, and what is still to happen to it."""
    if ended.escrow is None or not ended.escrow_broadcast:
        if ended.money_returned:
            return "Every payment was returned: it had only been held, and never taken."
        return "Every payment is being returned: it was only held, and never taken."
    if ended.money_returned:
        return "Every payment was returned, and the coordinator's coins came back from the escrows."
    blocks = ended.escrow.release_blocks
    days = round(blocks / BLOCKS_PER_DAY)
    return (
        "Every payment is being returned: it was only held, and never taken. The escrows hold coins of the"
        f" coordinator's own, which come back to it {blocks:,} blocks (about {days} days) after"
        " they were confirmed. Players need not do anything."
    )
