"""Whatever is asked by whomever, every answer is one that the OpenAPI document describes.

Requests that fit the document and requests that break it in one place are generated from it, sent to a real
gateway in front of a real core, and each answer is checked: no server error, a documented status, media type,
headers and body; nothing accepted that breaks the document, nothing refused that fits it. Ids in requests are
often those of a competition, a ticket and an entry that exist. The same requests are generated each time.
"""

import zlib
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import load_all_checks

from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from coordinator_gateway import api, httprule, jsoncodec, openapi
from support.site import ADMIN, Site, running_site

MAX_EXAMPLES = 6
DOCUMENT = jsoncodec.loads(
    jsoncodec.dumps(openapi.document([b for service in api.services() for b in httprule.bindings(service)]))
)
CALLERS = ("nobody", "player with a session", "admin with a session", "player who signs", "admin who signs")
# What they take depends on more than a schema can say: how times and numbers relate, addresses, keys on the
# curve, signatures, kinds of events. So do tokens of pages.
MORE_THAN_A_SCHEMA = {
    "POST /api/v1/competitions",
    "POST /api/v1/entries",
    "PATCH /api/v1/entries/{entry_id}",
    "POST /api/v1/entries/{entry_id}/signatures",
    "POST /api/v1/competitions/{competition_id}/entries/{entry_id}/payout",
    "POST /api/v1/competitions/{competition_id}/entries/{entry_id}/ephemeral_key",
    "POST /api/v1/competitions/{competition_id}/keymeld/join",
    "POST /api/competitions/{competition_id}/keymeld/join",
    "GET /api/v1/events",
    "GET /api/v1/competitions/{competition_id}/events",
    "POST /api/v1/wallet/send",
}


def _schema() -> schemathesis.BaseSchema:
    load_all_checks()
    config = schemathesis.Config()
    config.projects.default.generation.update(deterministic=True, max_examples=MAX_EXAMPLES)
    # One that no path has stands for all.
    config.projects.default.phases.coverage.unexpected_methods = {"put"}
    return schemathesis.openapi.from_dict(DOCUMENT, config=config)


SCHEMA = _schema()
# The gateway draws delays in its own thread, meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
IS_STREAM = "/events$"


class Signed(requests.auth.AuthBase):
    """NIP-98: every request signed."""

    def __init__(self, key: NostrKey) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else body
        assert request.url is not None
        assert request.method is not None
        request.headers["authorization"] = authorization(self._key, request.url, request.method, content)
        return request


class Session(requests.auth.AuthBase):
    """A session token as a bearer; a new one for each request that ends it."""

    def __init__(self, site: Site, key: NostrKey) -> None:
        self._site, self._key = site, key
        self._token = site.session(key)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._site.session(self._key) if "/logout" in (request.url or "") else self._token
        request.headers["authorization"] = f"Bearer {token}"
        return request


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), heartbeat_seconds=0.2) as site:
        yield site


Auth = requests.auth.AuthBase | None


@pytest.fixture(scope="module")
def auths(site: Site) -> dict[str, Auth]:
    """How each of the callers authorizes."""
    return {
        "nobody": None,
        "player with a session": Session(site, site.player),
        "admin with a session": Session(site, ADMIN),
        "player who signs": Signed(site.player),
        "admin who signs": Signed(ADMIN),
    }


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        # What login sets must not make somebody of nobody.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield session


def often_known(case: schemathesis.Case, site: Site) -> None:
    """Puts ids that exist in place of about half of those that could."""

    def replace(values: Any) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                replace(value)
            elif name in site.ids and isinstance(value, str) and zlib.crc32(value.encode()) % 2:
                values[name] = site.ids[name]

    if case.meta is None or not case.meta.generation.mode.is_negative:
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, dict):
                replace(part)


def excluded(case: schemathesis.Case) -> list[Any]:
    more = case.operation.label in MORE_THAN_A_SCHEMA or case.operation.query.get("page_token") is not None
    return [schemathesis.checks.positive_data_acceptance] if more else []


def test_the_document_is_the_one_that_is_served(site: Site) -> None:
    assert requests.get(f"{site.url}/api/openapi.json", timeout=10).json() == DOCUMENT


@SCHEMA.exclude(path_regex=IS_STREAM).parametrize()
@pytest.mark.parametrize("caller", CALLERS)
def test_every_answer_is_as_documented(
    case: schemathesis.Case, caller: str, site: Site, auths: dict[str, Auth], http: requests.Session
) -> None:
    often_known(case, site)
    response = case.call(base_url=site.url, session=http, auth=auths[caller])
    case.validate_response(response, excluded_checks=excluded(case))


@SCHEMA.include(path_regex=IS_STREAM).parametrize()
@pytest.mark.parametrize("caller", CALLERS)
def test_every_event_stream_begins_as_documented(
    case: schemathesis.Case, caller: str, site: Site, auths: dict[str, Auth]
) -> None:
    often_known(case, site)
    prepared = case.as_transport_kwargs(base_url=site.url)
    with requests.request(**prepared, auth=auths[caller], stream=True, timeout=10) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            beginning = next(response.iter_content(None))
            assert beginning.startswith(b"retry: ")
            response._content = beginning
        case.validate_response(response, excluded_checks=excluded(case))


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/competitions/{competition_id}/events"])
def test_every_event_is_as_documented(site: Site, auths: dict[str, Auth], caller: str, path: str) -> None:
    ids = {"competition_id": site.ids["competition_id"]} if "{" in path else {}
    case = SCHEMA[path]["GET"].Case(path_parameters=ids, query={"after_sequence": 0})
    prepared = case.as_transport_kwargs(base_url=site.url)
    with requests.request(**prepared, auth=auths[caller], stream=True, timeout=10) as response:
        beginning = b""
        for chunk in response.iter_content(None):
            beginning += chunk
            if b"event: entry.submitted" in beginning and beginning.endswith(b"\n\n"):
                break
        assert beginning.count(b"\nid: ") >= 3
        response._content = beginning
        case.validate_response(response)


@pytest.mark.parametrize("caller", CALLERS)
def test_what_exists_is_found(caller: str, site: Site, auths: dict[str, Auth]) -> None:
    """So that the tests above do not pass because every door is closed."""
    found = {}
    for path, item in DOCUMENT["paths"].items():
        if "get" in item and not path.endswith("/events"):
            found[path] = requests.get(
                f"{site.url}{path.format(**site.ids)}", auth=auths[caller], timeout=10
            ).status_code
    assert sum(status == 200 for status in found.values()) >= (7 if caller == "nobody" else 9), found
