"""A competition whose players approve what their keys sign, played over REST: gateway, core and keymeld on
real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coordinator.api.server import build_server
from coordinator.v1 import keymeld_pb2
from coordinator_client.player import Player, PlayerSecrets
from coordinator_client.proto.coordinator.v1 import ExpectedObservation, Prediction
from support.api import GATEWAY_TOKEN, Api, running_api
from support.gateway import RunningGateway, gateway_to
from support.world import METRICS, STATIONS, World, WorldPlayer, until

OBSERVATIONS = [
    ExpectedObservation(station, metric, Prediction.OVER) for station in STATIONS for metric in METRICS
]


@dataclass
class Table:
    """A competition and those who play it, in the order of their tickets, which is that of player indices."""

    api: Api
    gateway: RunningGateway
    competition_id: str
    players: list[Player]
    wallets: list[WorldPlayer]
    restarted: bool = False

    @property
    def world(self) -> World:
        return self.api.world

    async def seat(self, count: int, **options: Any) -> None:
        """Players buy tickets, pay and enter."""
        for _ in range(count):
            wallet = await self.world.player(f"player{len(self.wallets)}")
            player = Player(
                self.gateway.url, self.competition_id, PlayerSecrets.generate(wallet.key), **options
            )
            self.players.append(player)
            self.wallets.append(wallet)
            ticket = await player.request_ticket()
            await self.world.pay(wallet, ticket.payment_request)
            await until(lambda player=player: _paid(player))  # type: ignore[misc]
            await player.enter(OBSERVATIONS)

    async def to_signing(self) -> None:
        """From a full field to awaiting_signing."""
        await self.world.escrow_planned(self.competition_id)
        for player in self.players:
            await player.sign_release()
        await self.world.wait_for(self.competition_id, "awaiting_signing", mining=True)

    async def restart(self) -> None:
        """The core with its API ends and starts anew, at the same address."""
        await self.api.server.stop(0)
        self.world.settings = replace(self.world.settings, grpc_port=self.api.port)
        await self.world.restart()
        self.api.server, port = build_server(self.world.core, self.world.contracts)
        assert port == self.api.port
        self.restarted = True
        await self.api.server.start()

    async def status(self) -> Any:
        request = keymeld_pb2.GetStatusRequest(competition_id=self.competition_id)
        return await self.api.call("KeymeldService/GetStatus", request)

    async def approve(self, *players: Player) -> list[Any]:
        """These players approve at once, each to the end; errors are returned."""
        return await asyncio.gather(
            *(player.approve_signing() for player in players or self.players), return_exceptions=True
        )


async def _paid(player: Player) -> bool:
    return (await player.ticket()).state.name == "PAID"


@asynccontextmanager
async def running_table(folder: Path, *, required: bool = True, **settings: object) -> AsyncIterator[Table]:
    """A competition of three entries and two places, spread over two keygen sessions and several batches."""
    small = {"keymeld_max_subsets": 2, "keymeld_max_batch_items": 10}
    async with (
        running_api(folder, **small | settings) as api,
        gateway_to(f"127.0.0.1:{api.port}", token=GATEWAY_TOKEN) as gateway,
    ):
        now = int(time.time())
        competition_id = await api.world.create(
            start_observation_at=now + 3600,
            end_observation_at=now + 3602,
            signing_at=now + 3604,
            require_signing_approval=required,
        )
        table = Table(api, gateway, competition_id, [], [])
        try:
            await gateway.hub.ready.wait()
            yield table
        finally:
            if table.restarted:
                await api.server.stop(1)
            for player in table.players:
                await player.rest.aclose()
