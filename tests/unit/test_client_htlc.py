"""A player signs its release only while its payment cannot outlive the escrow's protection."""

import math
from dataclasses import replace

import httpx
import pytest

from coordinator.contract.network import Network
from coordinator.domain.htlcs import HOPS_BLOCKS, PAYER_PADDING_BLOCKS, StepLimits, asked_blocks
from coordinator.domain.htlcs import release_blocks as release_blocks_of
from coordinator_client import player as player_module
from coordinator_client.agreement import Agreement
from coordinator_client.contract_check import settleable_blocks
from coordinator_client.errors import ContractMismatch, UnsafeHtlc
from coordinator_client.jsonform import to_json
from coordinator_client.player import Player
from support.agreed import COMPETITION_ID, Agreed, agreed
from support.client import BASE, client


@pytest.fixture(scope="module")
def deal() -> Agreed:
    return agreed()


def signing(deal: Agreed, release_blocks: int = 288, **known: object) -> tuple[Player, list[str]]:
    """A player on mainnet, and what it hands in."""
    handed_in: list[str] = []
    shown = deal.shown()
    shown.release_blocks = release_blocks

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            handed_in.append(request.url.path)
            return httpx.Response(200, json={"id": deal.secrets.entry_id})
        return httpx.Response(200, json=to_json(shown))

    terms = replace(deal.agreement, network=Network.MAINNET, **known)  # type: ignore[arg-type]
    made = Player(BASE, COMPETITION_ID, replace(deal.secrets, agreement=terms))
    made.rest = client(answer, made.key)
    return made, handed_in


async def test_by_default_the_invoices_blocks_are_checked(deal: Agreed) -> None:
    player, handed_in = signing(deal, htlc_blocks=145)
    with pytest.raises(UnsafeHtlc, match="145"):
        await player.sign_release()
    assert handed_in == []
    player, handed_in = signing(deal, htlc_blocks=144)
    await player.sign_release()
    assert len(handed_in) == 1


async def test_what_the_players_wallet_knows_comes_first(deal: Agreed) -> None:
    player, handed_in = signing(deal, htlc_blocks=100)
    with pytest.raises(UnsafeHtlc):
        await player.sign_release(htlc_blocks_left=200)
    player, handed_in = signing(deal, htlc_blocks=1000)
    await player.sign_release(htlc_blocks_left=100)
    assert len(handed_in) == 1


async def test_trusting_the_coordinator_must_be_said(deal: Agreed) -> None:
    player, handed_in = signing(deal, htlc_blocks=1011)
    await player.sign_release(trust_not_settled_late=True)
    assert len(handed_in) == 1


async def test_regtest_is_no_exception(deal: Agreed) -> None:
    player, handed_in = signing(deal, 1395, htlc_blocks=1252)
    assert player.secrets.agreement is not None
    player.secrets.agreement = replace(player.secrets.agreement, network=Network.REGTEST)
    with pytest.raises(UnsafeHtlc):
        await player.sign_release()
    await player.sign_release(htlc_blocks_left=1251)
    assert len(handed_in) == 1


@pytest.mark.parametrize("release_blocks", [288, 455, 1395, 2163])
async def test_the_clawbacks_blocks_must_be_left_before_the_release(
    deal: Agreed, release_blocks: int
) -> None:
    player, handed_in = signing(deal, release_blocks, htlc_blocks=release_blocks - 144 + 1)
    with pytest.raises(UnsafeHtlc, match=f"{release_blocks - 143}.*{release_blocks - 144}"):
        await player.sign_release()
    assert handed_in == []
    player, handed_in = signing(deal, release_blocks, htlc_blocks=release_blocks - 144)
    await player.sign_release()
    assert len(handed_in) == 1


async def test_a_coordinator_that_does_not_say_the_delay_has_the_least(deal: Agreed) -> None:
    player, handed_in = signing(deal, 0)
    with pytest.raises(UnsafeHtlc):
        await player.sign_release(htlc_blocks_left=145)
    await player.sign_release(htlc_blocks_left=144)
    assert len(handed_in) == 1


async def test_a_delay_that_is_longer_than_needed_is_no_harm(deal: Agreed) -> None:
    player, handed_in = signing(deal, 65_535, htlc_blocks=70)
    await player.sign_release()
    assert len(handed_in) == 1


@pytest.mark.parametrize("release_blocks", [-1, 144, 287, 65_536, 65_536 | 288, 1 << 22 | 288])
async def test_a_delay_that_no_release_may_have_is_refused(deal: Agreed, release_blocks: int) -> None:
    player, handed_in = signing(deal, release_blocks, htlc_blocks=70)
    for trusting in (False, True):
        with pytest.raises(ContractMismatch, match="release_blocks"):
            await player.sign_release(trust_not_settled_late=trusting)
    assert handed_in == []


@pytest.mark.parametrize("days", [0, 1, 7, 10])
async def test_a_competition_may_fill_up_long_before_its_window(deal: Agreed, days: int) -> None:
    """Sold as the coordinator sells, and filled up within hours: players sign without being told to."""
    asked = asked_blocks(NOW + days * 86_400, LIMITS, NOW, 0)
    mined_meanwhile = 20
    delay = release_blocks_of(asked + PAYER_PADDING_BLOCKS - mined_meanwhile, asked)
    # The player asks nobody for the height, so the twenty blocks count for it as if they were still to come.
    player, handed_in = signing(deal, delay, htlc_blocks=asked + PAYER_PADDING_BLOCKS)
    await player.sign_release()
    # Three hops more, as its own wallet knows them.
    await player.sign_release(htlc_blocks_left=asked + PAYER_PADDING_BLOCKS - mined_meanwhile + HOPS_BLOCKS)
    assert len(handed_in) == 2
    with pytest.raises(UnsafeHtlc):
        await player.sign_release(htlc_blocks_left=delay - 143)


async def test_time_that_has_run_down_counts_by_the_players_own_explorer(
    deal: Agreed, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = iter(["856\n", "855\n", "no number", ""])
    transport = httpx.MockTransport(
        lambda request: httpx.Response(
            200 if request.url.path == "/api/blocks/tip/height" else 404, text=next(heights)
        )
    )
    player, handed_in = signing(deal, htlc_blocks=188, height=800)
    real = httpx.AsyncClient
    monkeypatch.setattr(
        player_module.httpx, "AsyncClient", lambda **options: real(transport=transport, **options)
    )
    player._chain_url = "https://explorer.test/api/"
    await player.sign_release()
    assert len(handed_in) == 1
    for left in ("145", "188", "188"):
        with pytest.raises(UnsafeHtlc, match=left):
            await player.sign_release()


def test_the_bound_takes_the_latest_payment() -> None:
    def left(htlc_blocks: int | None, at: int | None, now: int | None) -> int | None:
        terms = Agreement(htlc_blocks=htlc_blocks, height=at, **dict.fromkeys(OTHERS))  # type: ignore[arg-type]
        return settleable_blocks(terms, now, NOW)

    assert left(None, 800, 900) is None
    assert left(200, None, 900) == left(200, 800, None) == 200
    # Paid at most twelve blocks after it was requested.
    assert [left(200, 800, now) for now in (790, 800, 812, 813, 1012, 2000)] == [200, 200, 200, 199, 0, 0]


def test_without_an_explorer_the_players_clock_says_what_must_have_passed() -> None:
    hour, day = 3600, 86_400

    def left(seconds: int, *, height: int | None = None, at: int | None = None) -> int | None:
        known = {"htlc_blocks": 1161, "height": at, "requested_at": NOW}
        terms = Agreement(**known, **dict.fromkeys(set(OTHERS) - {"requested_at"}))  # type: ignore[arg-type]
        return settleable_blocks(terms, height, NOW + seconds)

    # Nothing is sure of a few blocks; a clock that was put back gives none.
    assert left(-day) == left(0) == left(hour) == left(hour + 9 * 600) == 1161
    assert left(hour + 100 * 600) == 1161 - 70
    assert left(hour + 7 * day) == 1161 - (1008 - 96)
    assert left(100 * day) == 0
    # The player's explorer knows better, both ways.
    assert left(7 * day, height=900, at=800) == 1161 - 88
    assert left(0, height=1812, at=800) == 1161 - 1000
    # One that was named later cannot say what has passed.
    assert left(hour + 100 * 600, height=900) == 1161 - 70


@pytest.mark.parametrize("days", [1, 3, 7, 10])
@pytest.mark.parametrize("speed", ["slow", "usual", "fast"])
async def test_without_an_explorer_players_sign_when_entries_came_until_the_window(
    deal: Agreed, monkeypatch: pytest.MonkeyPatch, days: int, speed: str
) -> None:
    """Who entered first counts by its clock what the coordinator counts by blocks."""
    start_at = NOW + days * 86_400
    asked = asked_blocks(start_at, LIMITS, NOW, 0)
    mean = days * 144
    spread = 3 * math.isqrt(mean)
    mined = {"slow": mean - spread, "usual": mean, "fast": mean + spread}[speed]
    delay = release_blocks_of(asked + PAYER_PADDING_BLOCKS - mined, asked)
    player, handed_in = signing(deal, delay, htlc_blocks=asked + PAYER_PADDING_BLOCKS, requested_at=NOW)
    monkeypatch.setattr(player_module.time, "time", lambda: float(start_at))
    await player.sign_release()
    assert len(handed_in) == 1


NOW = 1_790_000_000
LIMITS = StepLimits(3600, 1800, 3600, 1, 3, 24)
OTHERS = [name for name in Agreement.__slots__ if name not in ("htlc_blocks", "height")]
