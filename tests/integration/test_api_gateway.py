"""Gateway and core together: what a browser signs and sends over HTTP is what the core verifies and does."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from coordinator.domain.ids import new_uuid7
from coordinator.store.models import CompetitionRow
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from support.api import ADMIN, GATEWAY_TOKEN, Api, running_api
from support.gateway import gateway_to


@dataclass
class Site:
    """The API as the web sees it."""

    api: Api
    http: httpx.AsyncClient

    async def send(
        self, method: str, path: str, body: Any = None, key: NostrKey | None = None, **headers: str
    ) -> httpx.Response:
        content = b"" if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["content-type"] = "application/json"
        if key is not None:
            sent["authorization"] = authorization(key, f"{self.http.base_url}{path}", method, content)
        return await self.http.request(method, path, content=content, headers=sent)


@pytest_asyncio.fixture
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with (
        running_api(tmp_path_factory.mktemp("api"), heartbeat_seconds=0.5) as api,
        gateway_to(f"127.0.0.1:{api.port}", token=GATEWAY_TOKEN) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=10) as http,
    ):
        yield Site(api, http)


def terms() -> dict[str, Any]:
    def at(seconds: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))

    return {
        "name": "Over HTTP",
        "entry_fee_sats": 5000,
        "total_allowed_entries": 3,
        "number_of_places_win": 1,
        "number_of_values_per_entry": 1,
        "locations": ["KORD"],
        "scoring_fields": ["temp_high"],
        "start_observation_at": at(600),
        "end_observation_at": at(700),
        "signing_at": at(800),
    }


async def test_an_admin_creates_a_competition_once_per_key(site: Site) -> None:
    body = {"terms": terms()}
    path = "/api/v1/competitions"
    first = await site.send("POST", path, body, ADMIN, idempotency_key="k1")
    assert first.status_code == 200, first.text
    again = await site.send("POST", path, body, ADMIN, idempotency_key="k1")
    assert again.json() == first.json()
    assert await CompetitionRow.all().count() == 1
    body["terms"]["name"] = "Another"
    other = await site.send("POST", path, body, ADMIN, idempotency_key="k1")
    assert (other.status_code, other.json()["reason"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    got = await site.send("GET", f"{path}/{first.json()['id']}")
    assert got.json() == first.json()


async def test_errors_reach_the_browser_with_their_fields(site: Site) -> None:
    wrong = terms() | {"entry_fee_sats": -1, "locations": []}
    answer = await site.send("POST", "/api/v1/competitions", {"terms": wrong}, ADMIN)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    named = {error["field"] for error in answer.json()["errors"]}
    assert named >= {"terms.entry_fee_sats", "terms.locations"}
    missing = await site.send("GET", f"/api/v1/competitions/{new_uuid7()}")
    assert (missing.status_code, missing.json()["reason"]) == (404, "COMPETITION_NOT_FOUND")


async def test_who_may_and_who_may_not(site: Site) -> None:
    player = NostrKey.generate()
    body = {"terms": terms()}
    path = "/api/v1/competitions"
    assert (await site.send("POST", path, body)).status_code == 401
    assert (await site.send("POST", path, body, player)).status_code == 403
    # Signed for this URL and method, with another body.
    header = authorization(ADMIN, f"{site.http.base_url}{path}", "POST", json.dumps(terms()).encode())
    tampered = await site.send("POST", path, body, authorization=header)
    assert (tampered.status_code, tampered.json()["reason"]) == (401, "AUTH_WRONG_PAYLOAD")
    header = authorization(ADMIN, "https://evil.test/api/v1/competitions", "POST", json.dumps(body).encode())
    elsewhere = await site.send("POST", path, body, authorization=header)
    assert (elsewhere.status_code, elsewhere.json()["reason"]) == (401, "AUTH_WRONG_URL")
    assert await CompetitionRow.all().count() == 0


async def test_a_login_is_a_cookie_that_reads(site: Site) -> None:
    login = await site.send("POST", "/api/v1/users/login", {}, ADMIN)
    assert login.status_code == 200, login.text
    balance = await site.send("GET", "/api/v1/wallet/balance")
    assert balance.status_code == 200
    refused = await site.send("POST", "/api/v1/competitions", {"terms": terms()})
    assert (refused.status_code, refused.json()["reason"]) == (401, "AUTH_SIGNATURE_REQUIRED")
    # Signing in anew is never in the way of an old cookie, nor is the cookie in the way of signing.
    other = await site.send("POST", "/api/v1/users/login", {}, NostrKey.generate())
    assert other.json()["user"]["is_admin"] is False
    logout = await site.send("POST", "/api/v1/users/logout", {})
    assert logout.status_code == 200
    assert (await site.send("GET", "/api/v1/wallet/balance")).status_code == 401


async def test_the_stream_resumes_where_the_browser_was(site: Site) -> None:
    made = (await site.send("POST", "/api/v1/competitions", {"terms": terms()}, ADMIN)).json()
    path = f"/api/v1/competitions/{made['id']}"

    async def read(last_event_id: str, count: int) -> list[str]:
        ids: list[str] = []
        headers = {"last-event-id": last_event_id}
        async with site.http.stream("GET", f"{path}/events", headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("id:"):
                    ids.append(line.removeprefix("id:").strip())
                if len(ids) == count:
                    break
        return ids

    for paused in (True, False, True):
        await site.send("POST", f"{path}/pause", {"paused": paused}, ADMIN)
    assert await read("0", 2) == ["1", "2"]
    assert await read("2", 2) == ["3", "4"]
