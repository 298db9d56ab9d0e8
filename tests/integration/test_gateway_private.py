"""Gateway and core together: who sees which events and how long, and a request's id up to the log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from support.api import GATEWAY_TOKEN, Api, running_api
from support.gateway import EventStreamClient, Frame, RunningGateway, gateway_to

LOGIN, LOGOUT = "/api/v1/users/login", "/api/v1/users/logout"


@dataclass
class Site:
    """The API as the web sees it."""

    api: Api
    gateway: RunningGateway
    http: httpx.AsyncClient

    async def login(self, key: NostrKey) -> tuple[str, str]:
        """A session's token, and the cookie header that a browser would send."""
        url = f"{self.gateway.url}{LOGIN}"
        answer = await self.http.post(url, headers={"authorization": authorization(key, url, "POST", b"")})
        assert answer.status_code == 200, answer.text
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        self.http.cookies.clear()
        return str(answer.json()["session_token"]), cookie.partition(";")[0]

    async def stream(self, **headers: str) -> EventStreamClient:
        """An event stream after its snapshot."""
        stream = await EventStreamClient.open(self, **headers)  # type: ignore[arg-type]
        assert stream.status == 200
        while (await stream.frame()).event != "snapshot":
            pass
        return stream


@pytest_asyncio.fixture
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with (
        running_api(tmp_path_factory.mktemp("api"), heartbeat_seconds=0.3) as api,
        gateway_to(f"127.0.0.1:{api.port}", token=GATEWAY_TOKEN) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=10) as http,
    ):
        yield Site(api, gateway, http)


async def until(stream: EventStreamClient, kind: str) -> list[Frame]:
    """Events up to the first of a kind, that one included."""
    frames = []
    async with asyncio.timeout(20):
        while not frames or frames[-1].event != kind:
            frames.append(await stream.event(20))
    return frames


async def end_of(stream: EventStreamClient) -> None:
    """Until it ends in good order."""
    async with asyncio.timeout(20):
        with suppress(EOFError):
            while True:
                await stream.frame(20)


async def test_own_events_by_cookie_and_by_token(site: Site) -> None:
    world = site.api.world
    competition_id = await world.create()
    player = await world.player("player0")
    token, cookie = await site.login(player.key)
    streams = {
        "public": await site.stream(),
        "cookie": await site.stream(cookie=cookie),
        "token": await site.stream(authorization=f"Bearer {token}"),
        "another": await site.stream(cookie=(await site.login(NostrKey.generate()))[1]),
    }
    await world.buy_ticket(competition_id, player)
    await world.enter(competition_id, player)
    seen = {name: await until(stream, "entry.submitted") for name, stream in streams.items()}

    def kinds(name: str) -> list[str]:
        return [frame.event for frame in seen[name]]

    own = kinds("cookie")
    assert own == kinds("token")
    assert [frame.id for frame in seen["cookie"]] == [frame.id for frame in seen["token"]]
    assert "ticket.reserved" in own
    assert kinds("another") == kinds("public")
    # In order, and what the public sees is what the owner sees as well.
    for frames in seen.values():
        numbers = [int(frame.id) for frame in frames]
        assert numbers == sorted(set(numbers))
    assert {frame.id for frame in seen["public"]} <= {frame.id for frame in seen["cookie"]}


async def test_private_streams_end_with_their_session(site: Site) -> None:
    key = NostrKey.generate()
    token, cookie = await site.login(key)
    ended = [await site.stream(cookie=cookie), await site.stream(authorization=f"Bearer {token}")]
    other = await site.stream(cookie=(await site.login(key))[1])
    public = await site.stream()
    assert (await site.http.post(LOGOUT, headers={"cookie": cookie})).status_code == 200
    for stream in ended:
        await end_of(stream)
    for headers in ({"cookie": cookie}, {"authorization": f"Bearer {token}"}):
        answer = await site.http.get("/api/v1/events", headers={**headers, "last-event-id": "0"})
        assert answer.status_code == 401
    # Neither the key's other session nor anybody else is touched.
    competition_id = await site.api.world.create()
    for stream in (other, public):
        assert (await stream.event(20)).json["competition_id"] == competition_id


@contextmanager
def lines_of(name: str) -> Iterator[list[str]]:
    """What a logger says meanwhile."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger(name), Keeping(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.parametrize("given", ["web-7f.3", "not sane", None])
async def test_a_request_has_one_id_up_to_the_core(site: Site, given: str | None) -> None:
    headers: dict[str, Any] = {} if given is None else {"x-request-id": given}
    with lines_of("coordinator.api.interceptor") as lines:
        answer = await site.http.get("/api/v1/competitions", headers=headers)
    request_id = answer.headers["x-request-id"]
    assert (request_id == given) is (given == "web-7f.3")
    assert any(line.startswith(f"[{request_id}] ") and "ListCompetitions ok" in line for line in lines), lines
