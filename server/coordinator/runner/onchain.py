"""Transactions that were recorded before they were sent: sending them, and finding them in the chain."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.domain.competition import Broadcast
from coordinator.ports.chain import TransactionStatus

# Fee rate in sat/vB where the chain's estimate is missing, and the confirmation target that is asked for.
FALLBACK_FEE_RATE_SATS_PER_VB = 2.0
TARGET_BLOCKS = 3


async def fee_rate(core: Core, *, at_least: float = 1.0, target_blocks: int = TARGET_BLOCKS) -> float:
    """The chain's estimate for a confirmation target, in sat/vB."""
    rates = await core.chain.fee_rates()
    fitting = [rate for target, rate in sorted(rates.items()) if target <= target_blocks]
    rate = fitting[-1] if fitting else min(rates.values(), default=FALLBACK_FEE_RATE_SATS_PER_VB)
    return max(rate, at_least)


async def ensure_broadcast(core: Core, broadcast: Broadcast) -> TransactionStatus | None:
    """Where the transaction is; sends it (again) when the chain does not know it.

    Returns:
        Its status, or None when it was only now sent.

    Raises:
        TransactionRejected: the chain does not take it.
        ChainUnavailable: nothing is known; try again.
    """
    status = await core.chain.transaction_status(broadcast.txid)
    if status is None:
        await core.chain.broadcast(broadcast.transaction)
    return status


async def confirmations(core: Core, status: TransactionStatus | None) -> int:
    """How many blocks have it, its own included."""
    if status is None or not status.confirmed or status.block_height is None:
        return 0
    tip = await core.chain.tip()
    return max(0, tip.height - status.block_height + 1)
