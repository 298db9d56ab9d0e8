"""How long a ticket's payment must be held: from the sale of the ticket until the funding is settled.

All in blocks. A hold invoice's HTLC that runs out before the funding transaction has its confirmations is
lost to the coordinator; one that is locked for longer than the payer's node allows cannot be paid at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from coordinator.contract.escrow import ESCROW_CLAWBACK_BLOCKS, LEAST_RELEASE_BLOCKS
from coordinator.ports.lightning import HtlcState, Invoice

TARGET_BLOCK_SECONDS: Final = 600
# LND locks no payment for longer than this (its option `max-cltv-expiry`), the whole route included.
MAX_ROUTE_BLOCKS: Final = 2016
# Left of that to the hops before the last one: three at LND's default of 80.
HOPS_BLOCKS: Final = 240
MAX_HOLD_BLOCKS: Final = MAX_ROUTE_BLOCKS - HOPS_BLOCKS
# A payer's node adds so many blocks to what an invoice asks for (LND's `BlockPadding`).
PAYER_PADDING_BLOCKS: Final = 3
# How long a transaction of ours may wait for its first confirmation.
INCLUSION_BLOCKS: Final = 6
# LND gives an accepted HTLC back 12 blocks before it expires; nearer than this it is not settled.
SETTLE_MARGIN_BLOCKS: Final = 13


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What may pass between the window's start and the settling of the payments, at most."""

    player_signing_seconds: int
    keygen_seconds: int
    signing_seconds: int
    escrow_confirmations: int
    funding_confirmations: int
    htlc_safety_blocks: int

    @property
    def seconds(self) -> int:
        """Both rounds of players' signatures, keymeld's keys and its signatures."""
        return 2 * self.player_signing_seconds + self.keygen_seconds + self.signing_seconds

    @property
    def blocks(self) -> int:
        """The escrow's confirmation, and what must be left when the funding transaction is sent."""
        settling = INCLUSION_BLOCKS + self.funding_confirmations + SETTLE_MARGIN_BLOCKS
        return self.escrow_confirmations + INCLUSION_BLOCKS + max(self.htlc_safety_blocks + 1, settling)


def blocks_within(seconds: int) -> int:
    """Most blocks to expect in a time: as many as on average, and three standard deviations more."""
    mean = max(0, seconds) / TARGET_BLOCK_SECONDS
    return math.ceil(mean + 3 * math.sqrt(mean))


def hold_blocks(start_at: int, limits: StepLimits, now: int) -> int:
    """For how many blocks from now a ticket's payment must be held, should entries come until the window
    starts at `start_at`.
    """
    return blocks_within(max(0, start_at - now) + limits.seconds) + limits.blocks


def asked_blocks(start_at: int, limits: StepLimits, now: int, floor_blocks: int) -> int:
    """What the invoice of a ticket sold now asks for: what it needs, at least `floor_blocks`, and never more
    than can be paid.
    """
    return min(MAX_HOLD_BLOCKS, max(hold_blocks(start_at, limits, now), floor_blocks))


def least_blocks(start_at: int, limits: StepLimits, now: int) -> int:
    """How many blocks a held payment must have left for the funding to be settled in time, on a chain as fast
    as it should be. What is sold by `hold_blocks` has more, unless blocks came much faster than expected.
    """
    return math.ceil((max(0, start_at - now) + limits.seconds) / TARGET_BLOCK_SECONDS) + limits.blocks


def latest_start_at(limits: StepLimits, now: int) -> int:
    """The latest start of a window for which a ticket sold now can still be held long enough."""
    low, high = now, now + MAX_HOLD_BLOCKS * TARGET_BLOCK_SECONDS
    while low < high:
        middle = (low + high + 1) // 2
        if hold_blocks(middle, limits, now) <= MAX_HOLD_BLOCKS:
            low = middle
        else:
            high = middle - 1
    return low


def blocks_left(invoice: Invoice, tip_height: int) -> int:
    """Blocks until the first accepted HTLC of an invoice expires; 0 when none is held."""
    return max(0, min(_held(invoice), default=0) - tip_height)


def longest_blocks_left(invoice: Invoice, tip_height: int) -> int:
    """Blocks until the last accepted HTLC of an invoice expires; 0 when none is held."""
    return max(0, max(_held(invoice), default=0) - tip_height)


def release_blocks(longest_left_blocks: int, most_asked_blocks: int) -> int:
    """How many confirmations an escrow's release must wait for, so that every player that paid over an
    ordinary route can sign it (docs/escrow.md).

    Args:
        longest_left_blocks: until the last HTLC of all tickets expires, as the coordinator's node sees it. A
            player's own, the first of its route, expires up to `HOPS_BLOCKS` later.
        most_asked_blocks: the most that any of the invoices asked for. What a payer added to it, a few blocks
            of padding aside, does not count: it could lock the coordinator's coins for as long as it likes.
    """
    left = min(longest_left_blocks, most_asked_blocks + PAYER_PADDING_BLOCKS)
    return max(LEAST_RELEASE_BLOCKS, left + HOPS_BLOCKS + ESCROW_CLAWBACK_BLOCKS)


def _held(invoice: Invoice) -> list[int]:
    return [htlc.expiry_height for htlc in invoice.htlcs if htlc.state is HtlcState.ACCEPTED]
