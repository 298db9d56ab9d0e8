"""The documentation's examples do what they say: each is run as it is printed, against a running world."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from coordinator.operations.competitions import cancel_competition
from coordinator.store.competitions import StaleState
from coordinator.store.models import TicketRow
from coordinator_client.player import Player, PlayerSecrets
from coordinator_client.proto.coordinator.v1 import ExpectedObservation, PayoutState, Prediction
from support.api import ADMIN
from support.examples import Curl, Documented, Example, Printed, documented, examples
from support.world import METRICS, STATIONS, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PYTHON = [example for example in examples() if example.language == "python"]
CURLS = [
    line.strip()
    for example in examples()
    for line in example.text.splitlines()
    if example.language == "" and line.strip().startswith("curl ")
]

Check = Callable[[Documented, Example], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def checks(name: str) -> Callable[[Check], Check]:
    """Registers what an example must do."""

    def register(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return register


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Documented]:
    async with documented(tmp_path_factory.mktemp("documented")) as running:
        yield running


async def test_every_example_has_its_check_and_every_check_its_example() -> None:
    assert sorted(example.name for example in PYTHON) == sorted(CHECKS)
    assert len(CURLS) >= 5


@pytest.mark.parametrize("example", PYTHON, ids=lambda example: example.name)
async def test_example(
    site: Documented, example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin.nsec").write_text(ADMIN.nsec + "\n")
    await CHECKS[example.name](site, example)


@pytest.mark.parametrize("line", CURLS)
async def test_curl(site: Documented, line: str) -> None:
    command = Curl.parse(site.here(line))
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream(command.method, command.url, headers=command.headers, content=command.body) as response,
    ):
        assert response.status_code == 200, await response.aread()
        if response.headers["content-type"].startswith("text/event-stream"):
            async for frame in response.aiter_lines():
                if frame == "event: snapshot":
                    return
            raise AssertionError("the stream ended")
        await response.aread()
        assert isinstance(response.json(), dict | list)


@checks("README.md: A short tour")
async def _a_login(site: Documented, example: Example) -> None:
    [header] = await site.run(example)
    url = f"{site.gateway_url}/api/v1/users/register"
    headers = {"authorization": header, "content-type": "application/json"}
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, headers=headers, content=b"{}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["npub"].startswith("npub1")


@checks("README.md: A short tour (2)")
@checks("clients/python/README.md: Administering")
async def _a_balance(site: Documented, example: Example) -> None:
    [printed] = await site.run(example)
    balance = await site.world.core.wallet.balance()
    assert f"confirmed_sats={balance.confirmed_sats}" in printed


async def shows_events(site: Documented, example: Example) -> None:
    """A snapshot first, and then what happens: here a competition is created, until one was shown."""
    before = await site.world.create()

    async def create() -> None:
        while True:
            made = await site.world.create()
            # The runner may be at work on it; nothing depends on its being over.
            with contextlib.suppress(StaleState):
                await cancel_competition(site.world.core, made, "enough")
            await asyncio.sleep(0.2)

    creating = asyncio.create_task(create())
    try:
        lines = await site.run(example, Printed(until="competition.created"))
    finally:
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await creating
    assert before in lines[0] or "test" in lines[0]
    assert "competition.created" in lines[-1]


CHECKS["clients/python/README.md: Watching"] = shows_events
CHECKS["docs/grpc.md: Following the log"] = shows_events


@checks("docs/grpc.md: Retries")
async def _a_service_config(site: Documented, example: Example) -> None:
    assert await site.run(example) == ["regtest"]


class Wallet:
    """The Lightning wallet of the example's player."""

    def __init__(self, site: Documented, competition_id: str, name: str) -> None:
        self._world, self._competition_id, self._name = site.world, competition_id, name

    async def pay(self, payment_request: str) -> None:
        """Until the payment is held, as wallets show it."""
        await self._world.pay(await self._world.player(self._name), payment_request)

        async def held() -> bool:
            row = await TicketRow.get(competition_id=self._competition_id, payment_request=payment_request)
            return row.state == "paid"

        await until(held)

    def invoice(self, amount_sats: int, preimage: bytes) -> str:
        node = self._world.lightning[self._name]
        return node.add_invoice(value_msats=amount_sats * 1000, preimage=preimage).payment_request


@checks("clients/python/README.md: Playing")
async def _a_player(site: Documented, example: Example) -> None:
    """Another player joins in, and time passes, where the example's comments say that a state is reached."""
    world, saved = site.world, list[str]()
    competition_id = await world.create(total_allowed_entries=2, number_of_places_win=1)
    other = await world.player("other1")
    await world.buy_ticket(competition_id, other)
    await world.enter(competition_id, other)
    real = {name: getattr(Player, name) for name in ("sign_release", "sign_funding", "payout")}

    async def sign_release(player: Player) -> Any:
        await world.escrow_planned(competition_id)
        return await real["sign_release"](player)

    async def sign_funding(player: Player) -> Any:
        await world.sign_release(competition_id, other)
        await world.wait_for(competition_id, "funding_ready", mining=True)
        return await real["sign_funding"](player)

    async def payout(player: Player) -> Any:
        await world.sign_funding(competition_id, other)
        await world.wait_for(competition_id, "awaiting_attestation", mining=True)
        index = sorted([other.ticket_id, player.agreement.ticket_id]).index(player.agreement.ticket_id)
        await world.oracle.attest(competition_id, (index,))
        await world.outcome_confirmed(competition_id)
        return await real["payout"](player)

    with pytest.MonkeyPatch.context() as patch:
        for step in (sign_release, sign_funding, payout):
            patch.setattr(Player, step.__name__, step)
        await site.run(
            example,
            names={
                "competition_id": competition_id,
                "predictions": [
                    ExpectedObservation(station=station, metric=metric, prediction=Prediction.OVER)
                    for station in STATIONS
                    for metric in METRICS
                ],
                "save": saved.append,
                "wallet": Wallet(site, competition_id, "example1"),
            },
        )
    # What it saved is enough to go on with.
    assert len(saved) == 2
    async with Player(site.gateway_url, competition_id, PlayerSecrets.from_json(saved[-1])) as player:

        async def paid() -> bool:
            return (await player.payout()).state == PayoutState.PAID

        await until(paid)
        assert (await player.payout()).amount_sats > 80_000
