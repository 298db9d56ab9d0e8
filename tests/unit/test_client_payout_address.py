"""A player that wants its prize at an address hands over the payout preimage, and only then."""

import json

import httpx

from coordinator_client.player import Player
from support.agreed import COMPETITION_ID, agreed
from support.client import BASE, client


async def test_the_preimage_goes_along_with_an_address() -> None:
    deal = agreed()
    sent: list[tuple[str, dict[str, str]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"entry_id": deal.secrets.entry_id, "destination": "me@pay.example"})

    player = Player(BASE, COMPETITION_ID, deal.secrets)
    player.rest = client(answer, player.key)
    payout = await player.request_payout_to("me@pay.example")
    assert payout.destination == "me@pay.example"
    ((path, body),) = sent
    assert path.endswith(f"/competitions/{COMPETITION_ID}/entries/{deal.secrets.entry_id}/payout")
    assert body["payment_request"] == "me@pay.example"
    assert body["payout_preimage"] == deal.secrets.payout_preimage.hex()
    assert body["ephemeral_private_key"] == ""
