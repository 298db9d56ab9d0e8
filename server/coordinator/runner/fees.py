"""Which fee rate a transaction that is made now pays."""

from __future__ import annotations

from coordinator.core import Core
from coordinator.domain.wallet.estimates import estimate_for

# The confirmation target that is asked for.
TARGET_BLOCKS = 3


async def fee_rate(core: Core, *, target_blocks: int = TARGET_BLOCKS) -> float:
    """The chain's estimate for a confirmation target, else the configured default; in sat/vB."""
    default = core.settings.default_fee_rate_sats_per_vb
    return estimate_for(await core.chain.fee_rates(), target_blocks, default)
