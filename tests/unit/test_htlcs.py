"""How long a ticket's payment is held: as long as its competition needs, and never too long to be paid."""

import pytest

from coordinator.domain import htlcs
from coordinator.domain.htlcs import (
    StepLimits,
    asked_blocks,
    blocks_left,
    blocks_within,
    hold_blocks,
    latest_start_at,
    least_blocks,
    longest_blocks_left,
    release_blocks,
)
from coordinator.ports.lightning import HtlcState, Invoice, InvoiceHtlc, InvoiceState

NOW = 1_790_000_000
DAY = 86_400
LIMITS = StepLimits(
    player_signing_seconds=3600,
    keygen_seconds=1800,
    signing_seconds=3600,
    escrow_confirmations=1,
    funding_confirmations=3,
    htlc_safety_blocks=24,
)


def invoice(*held: tuple[int, HtlcState]) -> Invoice:
    parts = tuple(InvoiceHtlc(1000, 100, height, state) for height, state in held)
    return Invoice(bytes(32), "", InvoiceState.ACCEPTED, 1000, 1000, parts, 0, None)


def test_blocks_of_a_time_are_more_than_its_average() -> None:
    assert [blocks_within(s) for s in (-1, 0, 600, 144 * 600, 1008 * 600)] == [0, 0, 4, 180, 1104]


def test_a_payment_is_held_until_funding_can_be_settled() -> None:
    """21 blocks of signing and 14 of margin for it, 1 + 6 for the escrow, 25 when the funding is sent."""
    assert hold_blocks(NOW, LIMITS, NOW) == hold_blocks(NOW - 5, LIMITS, NOW) == 21 + 14 + 7 + 25
    a_week = hold_blocks(NOW + 7 * DAY, LIMITS, NOW)
    assert a_week == 1029 + 97 + 7 + 25
    # What is left when collection closes at the last moment, on a chain as fast as expected at most, is
    # enough for everything that follows.
    assert a_week - blocks_within(7 * DAY) >= 21 + 7 + 25 - 1


def test_more_confirmations_need_more_blocks() -> None:
    deep = StepLimits(3600, 1800, 3600, 1, 6, 24)
    deeper = StepLimits(3600, 1800, 3600, 6, 12, 24)
    assert hold_blocks(NOW, deep, NOW) == hold_blocks(NOW, LIMITS, NOW)
    assert hold_blocks(NOW, deeper, NOW) == hold_blocks(NOW, LIMITS, NOW) + 5 + 6


def test_what_is_sold_lasts_on_a_chain_that_is_not_much_too_fast() -> None:
    """However long the window, and whenever the payment is looked at."""
    for days in (0, 1, 7, 11):
        start_at = NOW + days * DAY
        sold = hold_blocks(start_at, LIMITS, NOW)
        assert least_blocks(start_at, LIMITS, NOW) == days * 144 + 21 + 7 + 25
        for passed in range(0, days * DAY + 1, DAY // 4):
            left = sold - blocks_within(passed)
            assert left >= least_blocks(start_at, LIMITS, NOW + passed) - 1


def test_the_latest_start_is_the_last_that_can_be_held() -> None:
    latest = latest_start_at(LIMITS, NOW)
    assert hold_blocks(latest, LIMITS, NOW) <= htlcs.MAX_HOLD_BLOCKS < hold_blocks(latest + 1, LIMITS, NOW)
    assert 10 * DAY < latest - NOW < 12 * DAY


def test_an_invoice_asks_for_what_its_ticket_needs_and_never_for_more_than_can_be_paid() -> None:
    needed = hold_blocks(NOW + DAY, LIMITS, NOW)
    assert asked_blocks(NOW + DAY, LIMITS, NOW, 0) == needed
    assert asked_blocks(NOW + DAY, LIMITS, NOW, needed + 1) == needed + 1
    assert asked_blocks(NOW + 20 * DAY, LIMITS, NOW, 0) == asked_blocks(NOW, LIMITS, NOW, 5000) == 1776


@pytest.mark.parametrize(
    ("held", "first", "last"),
    [
        ([], 0, 0),
        ([(150, HtlcState.ACCEPTED)], 50, 50),
        ([(150, HtlcState.ACCEPTED), (120, HtlcState.ACCEPTED)], 20, 50),
        ([(150, HtlcState.ACCEPTED), (101, HtlcState.CANCELED)], 50, 50),
        ([(120, HtlcState.ACCEPTED), (190, HtlcState.CANCELED)], 20, 20),
        ([(99, HtlcState.ACCEPTED)], 0, 0),
    ],
)
def test_the_first_and_the_last_htlc_to_expire(
    held: list[tuple[int, HtlcState]], first: int, last: int
) -> None:
    assert blocks_left(invoice(*held), 100) == first
    assert longest_blocks_left(invoice(*held), 100) == last


def test_a_release_waits_until_every_ordinary_payment_and_the_clawback_are_over() -> None:
    assert [release_blocks(left, 1776) for left in (0, 70, 1011, 1779)] == [384, 454, 1395, 2163]


def test_a_payer_cannot_make_the_release_wait_by_a_payment_that_nobody_asked_for() -> None:
    assert release_blocks(2016, 236) == release_blocks(60_000, 236) == release_blocks(239, 236) == 623
