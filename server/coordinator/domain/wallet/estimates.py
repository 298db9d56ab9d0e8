"""Reading fee estimates."""

from __future__ import annotations

from collections.abc import Mapping


def estimate_for(rates: Mapping[int, float], target_blocks: int, default: float) -> float:
    """The fee rate in sat/vB for a confirmation target, at least 1.

    Args:
        rates: confirmation target in blocks -> sat/vB; may be empty.
        target_blocks: of the targets that are no later than this the latest counts; if all are later, the
            earliest of them.
        default: where there is no estimate.
    """
    quick = [rate for target, rate in sorted(rates.items()) if target <= target_blocks]
    slow = [rate for target, rate in sorted(rates.items()) if target > target_blocks]
    return max(1.0, (quick[-1:] + slow[:1] + [default])[0])
