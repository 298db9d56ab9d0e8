"""A player signs its release only while its payment cannot outlive the escrow's protection."""

from dataclasses import replace

import httpx
import pytest

from coordinator.contract.network import Network
from coordinator_client import player as player_module
from coordinator_client.agreement import Agreement
from coordinator_client.contract_check import settleable_blocks
from coordinator_client.errors import UnsafeHtlc
from coordinator_client.jsonform import to_json
from coordinator_client.player import Player
from support.agreed import COMPETITION_ID, Agreed, agreed
from support.client import BASE, client


@pytest.fixture(scope="module")
def deal() -> Agreed:
    return agreed()


def signing(deal: Agreed, **known: object) -> tuple[Player, list[str]]:
    """A player on mainnet, and what it hands in."""
    handed_in: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            handed_in.append(request.url.path)
            return httpx.Response(200, json={"id": deal.secrets.entry_id})
        return httpx.Response(200, json=to_json(deal.response))

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


async def test_on_regtest_blocks_say_nothing_of_time(deal: Agreed) -> None:
    player, handed_in = signing(deal, htlc_blocks=1011)
    assert player.secrets.agreement is not None
    player.secrets.agreement = replace(player.secrets.agreement, network=Network.REGTEST)
    with pytest.raises(UnsafeHtlc):
        await player.sign_release(htlc_blocks_left=145)
    await player.sign_release()
    assert len(handed_in) == 1


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
        return settleable_blocks(terms, now)

    assert left(None, 800, 900) is None
    assert left(200, None, 900) == left(200, 800, None) == 200
    # Paid at most twelve blocks after it was requested.
    assert [left(200, 800, now) for now in (790, 800, 812, 813, 1012, 2000)] == [200, 200, 200, 199, 0, 0]


OTHERS = [name for name in Agreement.__slots__ if name not in ("htlc_blocks", "height")]
