"""The coordinator's REST API: one method a call, typed answers, typed errors, signed per call (NIP-98)."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import betterproto
import httpx

from coordinator_client.errors import ApiError, FieldError, MalformedAnswer, Unavailable
from coordinator_client.jsonform import from_json, to_json
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization
from coordinator_client.proto.coordinator.v1 import (
    Competition,
    Entry,
    ExpectedObservation,
    GetContractResponse,
    GetCoordinatorResponse,
    GetStatusResponse,
    JoinResponse,
    ListCompetitionsResponse,
    ListEntriesResponse,
    ListSigningSessionsResponse,
    LoginResponse,
    Payout,
    Ticket,
    User,
)
from coordinator_client.retry import retry_delay

M = TypeVar("M", bound=betterproto.Message)

_ATTEMPTS: Final = 4

Query = Mapping[str, str | int | bool | Sequence[str]]


class RestClient:
    """Talks to one coordinator. Use as an async context manager, or call `aclose`.

    Every method raises `ApiError` if the coordinator refuses, `Unavailable` if there is no answer and
    `MalformedAnswer` if the answer is not what the API promises. Reads are tried a few times, and so is what
    makes something (a ticket, an entry, a payout), all attempts with one `Idempotency-Key`. Other writes are
    not; they may be repeated with the same arguments.
    """

    def __init__(
        self,
        base_url: str,
        key: NostrKey | None = None,
        *,
        timeout_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            base_url: of the gateway, e.g. `https://play.example.org`; what is signed starts with it.
            key: who calls; None for reading what is public.
            timeout_seconds: of a single request.
            transport: another way to reach it, e.g. in-process.
        """
        self.base_url = base_url.rstrip("/")
        self.key = key
        self.http = httpx.AsyncClient(timeout=timeout_seconds, transport=transport)

    async def __aenter__(self) -> RestClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    # Public

    async def healthy(self) -> bool:
        """Whether gateway and core answer; never raises."""
        try:
            return (await self.http.get(f"{self.base_url}/api/v1/health_check")).status_code == 200
        except httpx.HTTPError:
            return False

    async def coordinator(self) -> GetCoordinatorResponse:
        """Who runs it, and which networks and services it uses."""
        return await self._get(GetCoordinatorResponse, "/api/v1/coordinator")

    async def competition(self, competition_id: str) -> Competition:
        """One competition."""
        return await self._get(Competition, _path("competitions", competition_id))

    async def competitions(
        self, *, page_size: int = 0, page_token: str = "", states: Sequence[str] = ()
    ) -> ListCompetitionsResponse:
        """A page of competitions, newest first."""
        query: Query = {"page_size": page_size, "page_token": page_token, "states": states}
        return await self._get(ListCompetitionsResponse, "/api/v1/competitions", query)

    async def contract(self, competition_id: str, *, include_signatures: bool = False) -> GetContractResponse:
        """The contract in public."""
        query: Query = {"include_signatures": include_signatures}
        return await self._get(GetContractResponse, _path("competitions", competition_id, "contract"), query)

    async def entries(
        self, competition_id: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> ListEntriesResponse:
        """A page of a competition's entries, or of the caller's own."""
        query: Query = {"competition_id": competition_id, "page_size": page_size, "page_token": page_token}
        return await self._get(ListEntriesResponse, "/api/v1/entries", query)

    async def own_entries(self) -> AsyncIterator[Entry]:
        """All of the caller's entries, page by page."""
        page_token = ""
        while True:
            page = await self.entries(page_token=page_token)
            for entry in page.entries:
                yield entry
            page_token = page.next_page_token
            if not page_token:
                return

    async def entry(self, entry_id: str) -> Entry:
        """One entry, with what the caller may see of it."""
        return await self._get(Entry, _path("entries", entry_id))

    async def keymeld_status(self, competition_id: str) -> GetStatusResponse:
        """How far key generation and signing are."""
        return await self._get(GetStatusResponse, _path("competitions", competition_id, "keymeld", "status"))

    # A player's own

    async def register(self) -> User:
        """Makes the caller known."""
        return await self._post(User, "/api/v1/users/register", {})

    async def login(self) -> LoginResponse:
        """Opens a session: a bearer token for private streams and reads."""
        return await self._post(LoginResponse, "/api/v1/users/login", {})

    async def request_ticket(self, competition_id: str) -> Ticket:
        """Reserves a place; the reserved and unpaid ticket if there is one."""
        return await self._make(Ticket, _path("competitions", competition_id, "ticket"), {})

    async def ticket(self, competition_id: str, ticket_id: str) -> Ticket:
        """The caller's ticket."""
        path = _path("competitions", competition_id, "tickets", ticket_id, "status")
        return await self._get(Ticket, path)

    async def create_entry(self, entry: Entry) -> Entry:
        """Submits an entry on the caller's paid ticket."""
        return await self._make(Entry, "/api/v1/entries", to_json(entry))

    async def update_entry(self, entry_id: str, observations: Sequence[ExpectedObservation]) -> Entry:
        """Changes an entry's predictions."""
        body = {"expected_observations": [to_json(observation) for observation in observations]}
        return await self._call(Entry, "PATCH", _path("entries", entry_id), body=body)

    async def submit_signatures(
        self, entry_id: str, *, escrow_release_signature: str = "", funding_signature: str = ""
    ) -> Entry:
        """Hands in signatures of the entry's ephemeral key: DER with SIGHASH_ALL, hex."""
        body = {
            "escrow_release_signature": escrow_release_signature,
            "funding_signature": funding_signature,
        }
        return await self._post(Entry, _path("entries", entry_id, "signatures"), body)

    async def join_keymeld(self, competition_id: str, entry_id: str = "") -> JoinResponse:
        """The keymeld session secret, encrypted to the caller."""
        path = _path("competitions", competition_id, "keymeld", "join")
        return await self._post(JoinResponse, path, {"entry_id": entry_id})

    async def signing_sessions(
        self, competition_id: str, *, page_size: int = 0, page_token: str = ""
    ) -> ListSigningSessionsResponse:
        """A page of the signing sessions that the competition's players are asked to approve."""
        query: Query = {"page_size": page_size, "page_token": page_token}
        path = _path("competitions", competition_id, "keymeld", "signing_sessions")
        return await self._get(ListSigningSessionsResponse, path, query)

    async def payout(self, competition_id: str, entry_id: str) -> Payout:
        """The caller's prize and where its payment is."""
        return await self._get(Payout, _path("competitions", competition_id, "entries", entry_id, "payout"))

    async def request_payout(
        self,
        competition_id: str,
        entry_id: str,
        payment_request: str,
        *,
        payout_preimage: str = "",
        ephemeral_private_key: str = "",
    ) -> Payout:
        """Asks for the prize over Lightning."""
        body = {
            "payment_request": payment_request,
            "payout_preimage": payout_preimage,
            "ephemeral_private_key": ephemeral_private_key,
        }
        path = _path("competitions", competition_id, "entries", entry_id, "payout")
        return await self._make(Payout, path, body)

    async def hand_over_key(self, competition_id: str, entry_id: str, ephemeral_private_key: str) -> Payout:
        """Gives a paid entry's ephemeral key, for a cooperative close."""
        path = _path("competitions", competition_id, "entries", entry_id, "ephemeral_key")
        return await self._post(Payout, path, {"ephemeral_private_key": ephemeral_private_key})

    # How

    def url(self, path: str, query: Query | None = None) -> str:
        """The absolute URL of a call, as it is signed and sent."""
        pairs: list[tuple[str, str]] = []
        for name, value in (query or {}).items():
            if isinstance(value, bool):
                pairs += [(name, "true")] if value else []
            elif isinstance(value, str | int):
                pairs += [(name, str(value))] if value else []
            else:
                pairs += [(name, item) for item in value]
        return f"{self.base_url}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    def headers(self, url: str, method: str, body: bytes | None) -> dict[str, str]:
        """The headers of one request: never use them for a second one."""
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        if self.key is not None:
            headers["authorization"] = authorization(self.key, url, method, body)
        return headers

    async def _get(self, kind: type[M], path: str, query: Query | None = None) -> M:
        return await self._repeated(lambda: self._call(kind, "GET", path, query=query))

    async def _make(self, kind: type[M], path: str, body: Mapping[str, Any]) -> M:
        """A POST that takes an `Idempotency-Key`."""
        key = secrets.token_hex(16)
        return await self._repeated(lambda: self._call(kind, "POST", path, body=body, idempotency_key=key))

    async def _repeated(self, call: Callable[[], Awaitable[M]]) -> M:
        for attempt in range(_ATTEMPTS):
            try:
                return await call()
            except Unavailable:
                if attempt == _ATTEMPTS - 1:
                    raise
            await asyncio.sleep(retry_delay(attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, kind: type[M], path: str, body: Mapping[str, Any]) -> M:
        return await self._call(kind, "POST", path, body=body)

    async def _call(
        self,
        kind: type[M],
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
    ) -> M:
        url = self.url(path, query)
        raw = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = self.headers(url, method, raw)
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        try:
            response = await self.http.request(method, url, content=raw, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__}") from error
        if response.status_code != 200:
            raise refusal(response)
        try:
            answer = response.json()
        except ValueError:
            raise MalformedAnswer(f"{method} {path}: the answer is not JSON") from None
        return from_json(kind, answer)


def refusal(response: httpx.Response) -> ApiError | Unavailable:
    """What a response that is not a success means: a problem document (RFC 9457), or no answer at all."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    members = problem if isinstance(problem, dict) else {}
    seconds = members.get("retry_after_seconds")
    retry_after_seconds = float(seconds) if isinstance(seconds, int | float) else None
    if response.status_code in (502, 503, 504):
        return Unavailable(
            str(members.get("detail") or f"HTTP status {response.status_code}"),
            reason=str(members.get("reason") or ""),
            retry_after_seconds=retry_after_seconds,
        )
    if not isinstance(problem, dict):
        return ApiError("UNKNOWN", f"HTTP status {response.status_code}", status=response.status_code)
    errors = problem.get("errors")
    return ApiError(
        str(problem.get("reason") or "UNKNOWN"),
        str(problem.get("detail") or problem.get("title") or ""),
        status=response.status_code,
        field_errors=tuple(
            FieldError(str(error.get("field", "")), str(error.get("description", "")))
            for error in (errors if isinstance(errors, list) else ())
            if isinstance(error, dict)
        ),
        retry_after_seconds=retry_after_seconds,
    )


def _path(*segments: str) -> str:
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)
