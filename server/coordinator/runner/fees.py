"""Which fee rate a transaction that is made now pays."""

from __future__ import annotations

from coordinator.core import Core

# Fee rate in sat/vB where the chain's estimate is missing, and the confirmation target that is asked for.
FALLBACK_FEE_RATE_SATS_PER_VB = 2.0
TARGET_BLOCKS = 3


async def fee_rate(core: Core, *, at_least: float = 1.0, target_blocks: int = TARGET_BLOCKS) -> float:
    """The chain's estimate for a confirmation target, in sat/vB."""
    rates = await core.chain.fee_rates()
    fitting = [rate for target, rate in sorted(rates.items()) if target <= target_blocks]
    rate = fitting[-1] if fitting else min(rates.values(), default=FALLBACK_FEE_RATE_SATS_PER_VB)
    return max(rate, at_least)
