"""The delay of an escrow's release: what it promises to players, and what it may cost the coordinator."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.contract.escrow import (
    ESCROW_CLAWBACK_BLOCKS,
    LEAST_RELEASE_BLOCKS,
    MOST_RELEASE_BLOCKS,
    covered_blocks,
)
from coordinator.domain.htlcs import (
    HOPS_BLOCKS,
    MAX_HOLD_BLOCKS,
    PAYER_PADDING_BLOCKS,
    StepLimits,
    asked_blocks,
    release_blocks,
)

NOW = 1_790_000_000
LEFT = st.integers(0, 10**6)
ASKED = st.integers(0, MAX_HOLD_BLOCKS)
SECONDS = st.integers(60, 7200)
LIMITS = st.builds(
    StepLimits, SECONDS, SECONDS, SECONDS, st.integers(1, 6), st.integers(1, 12), st.integers(14, 60)
)


@given(LEFT, ASKED)
def test_it_is_the_longest_payment_its_hops_and_the_clawback(left: int, asked: int) -> None:
    blocks = release_blocks(left, asked)
    if left <= asked + PAYER_PADDING_BLOCKS:
        assert blocks == max(LEAST_RELEASE_BLOCKS, left + HOPS_BLOCKS + ESCROW_CLAWBACK_BLOCKS)
    else:
        assert blocks == release_blocks(asked + PAYER_PADDING_BLOCKS, asked)
    assert LEAST_RELEASE_BLOCKS <= blocks <= 2163 < MOST_RELEASE_BLOCKS
    assert release_blocks(left + 1, asked) >= blocks


@given(LIMITS, st.integers(0, 20 * 86_400), st.lists(st.integers(0, 20 * 86_400), min_size=1), st.data())
def test_every_player_may_sign_whenever_it_paid_and_whoever_paid_last(
    limits: StepLimits, lead_seconds: int, paid_after: list[int], data: st.DataObject
) -> None:
    """Tickets sold at any time before the window, to payers whose nodes pad, over routes of ordinary length;
    and any number of blocks since.
    """
    start_at = NOW + lead_seconds
    asked = [
        asked_blocks(start_at, limits, NOW + min(after, lead_seconds), 0) + PAYER_PADDING_BLOCKS
        for after in paid_after
    ]
    lefts = [max(0, blocks - data.draw(st.integers(0, blocks))) for blocks in asked]
    delay = release_blocks(max(lefts), asked_blocks(start_at, limits, NOW, 0))
    for left in lefts:
        hops = data.draw(st.integers(0, HOPS_BLOCKS))
        assert left + hops <= covered_blocks(delay)
        # Confirmed in the next block at the earliest, settled in the last one: the clawback has its blocks.
        escrow_height, settled_height = 1, left + hops
        valid_from = max(escrow_height + ESCROW_CLAWBACK_BLOCKS, settled_height)
        assert escrow_height + delay - valid_from >= ESCROW_CLAWBACK_BLOCKS
