"""The API as the web sees it: a real gateway in front of a real core, in a thread of its own.

For tests that are not asynchronous themselves. The core has one competition that takes entries, with a player
who has paid for a ticket and submitted an entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal

from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from support.api import ADMIN, GATEWAY_TOKEN, Api, running_api
from support.gateway import gateway_to


@dataclass
class Site:
    """Where it is, who may call it, and what is there."""

    url: str
    player: NostrKey
    ids: dict[str, str]
    """What a competition, a ticket and an entry are called, by the name of the field that holds it."""

    def session(self, key: NostrKey) -> str:
        """A session token of a key."""
        url = f"{self.url}/api/v1/users/login"
        body = json.dumps({}).encode()
        headers = {"content-type": "application/json", "authorization": authorization(key, url, "POST", body)}
        answer = httpx.post(url, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["session_token"])


@asynccontextmanager
async def _site(folder: Path, settings: dict[str, Any]) -> AsyncIterator[Site]:
    async with running_api(folder) as api:
        ids, player = await _competition(api)
        options = {"token": GATEWAY_TOKEN} | settings
        async with gateway_to(f"127.0.0.1:{api.port}", **options) as gateway:
            await gateway.hub.ready.wait()
            yield Site(gateway.url, player, ids)


async def _competition(api: Api) -> tuple[dict[str, str], NostrKey]:
    now = int(time.time())
    competition_id = await api.world.create(
        start_observation_at=now + 3600, end_observation_at=now + 7200, signing_at=now + 9000
    )
    player = await api.world.player("player0")
    await api.world.buy_ticket(competition_id, player)
    await api.world.enter(competition_id, player)
    ids = {"competition_id": competition_id, "ticket_id": player.ticket_id, "entry_id": player.entry_id}
    return ids, player.key


@contextmanager
def running_site(folder: Path, **settings: Any) -> Iterator[Site]:
    """A site with these settings of its gateway."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_site(folder, settings)) as site,
    ):
        yield site


__all__ = ["ADMIN", "Site", "running_site"]
