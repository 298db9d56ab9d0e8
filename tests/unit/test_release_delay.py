"""The delay of a competition's releases: by all its payments, and by no payment that nobody asked for."""

from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.domain.htlcs import asked_blocks
from coordinator.operations.tickets import step_limits
from coordinator.ports.lightning import HtlcState, Invoice, InvoiceHtlc, InvoiceState
from coordinator.runner.htlcs import release_delay

NOW = 1_790_000_000
SETTINGS: Any = SimpleNamespace(
    player_signing_seconds=3600,
    keygen_seconds=1800,
    signing_seconds=3600,
    escrow_confirmations=1,
    funding_confirmations=3,
    htlc_safety_blocks=24,
    hold_invoice_cltv_blocks=0,
)
ASKED = asked_blocks(NOW + 7 * 86_400, step_limits(SETTINGS), NOW, 0)


def facts(created_at: int = NOW) -> Any:
    return SimpleNamespace(
        terms=SimpleNamespace(start_observation_at=NOW + 7 * 86_400), created_at=created_at
    )


class Outside:
    """A chain and a Lightning node, each at its height, with the expiry heights of what each ticket holds."""

    def __init__(self, *held: list[int] | None, chain_height: int = 1000, node_height: int = 1000) -> None:
        self.settings = SETTINGS
        self.chain = self.lightning = self
        self._heights = chain_height, node_height
        self._held = {bytes([index]) * 32: expiries for index, expiries in enumerate(held)}

    @property
    def tickets(self) -> Any:
        return [SimpleNamespace(ticket_hash=payment_hash.hex()) for payment_hash in self._held]

    async def tip(self) -> Any:
        return SimpleNamespace(height=self._heights[0])

    async def info(self) -> Any:
        return SimpleNamespace(block_height=self._heights[1])

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        expiries = self._held[payment_hash]
        if expiries is None:
            return None
        parts = tuple(InvoiceHtlc(1, 900, height, HtlcState.ACCEPTED) for height in expiries)
        return Invoice(payment_hash, "", InvoiceState.ACCEPTED, 1, 1, parts, 0, None)

    async def delay(self, created_at: int = NOW) -> int:
        core: Any = self
        return await release_delay(core, facts(created_at), self.tickets)


async def test_the_payment_that_lasts_longest_counts_with_all_its_parts() -> None:
    assert await Outside([1070], [1100, 1300], None, [1200]).delay() == 300 + 384
    assert await Outside(None, []).delay() == 384


@pytest.mark.parametrize("heights", [(1000, 1005), (1005, 1000)])
async def test_whoever_lags_gives_the_longer_delay(heights: tuple[int, int]) -> None:
    outside = Outside([1300], chain_height=heights[0], node_height=heights[1])
    assert await outside.delay() == 300 + 384


async def test_a_payer_that_held_longer_than_asked_locks_nobodys_coins_for_longer() -> None:
    longest = ASKED + 3 + 384
    assert await Outside([1000 + ASKED + 3]).delay() == longest
    for more in (4, 500, 100_000):
        assert await Outside([1000 + ASKED + more], [1070]).delay() == longest
    # Nor does a node that has not found its blocks yet.
    assert await Outside([1000 + ASKED], node_height=0).delay() == longest


async def test_a_competition_made_later_asked_for_less() -> None:
    a_day_before = NOW + 6 * 86_400
    assert await Outside([5000]).delay(a_day_before) < await Outside([5000]).delay() == ASKED + 387
