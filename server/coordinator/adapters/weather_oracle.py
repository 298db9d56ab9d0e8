"""The weather oracle over its HTTP interface: the live one's, which devnet's oracle speaks too.

Writes carry a NIP-98 `Authorization` header by the coordinator's key. Every write is looked up before it is
made and after it was refused, so that repeating one never makes a second event or a second set of entries.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

import httpx

from coordinator.adapters import weather_wire as wire
from coordinator.adapters.weather_metrics import metric_configs
from coordinator.ports.oracle import (
    CreateEvent,
    EntrySubmission,
    EventNotFound,
    Measurement,
    MetricConfig,
    OracleEvent,
    OracleRefused,
    OracleUnavailable,
    Station,
)
from coordinator_client.bounded import bounded
from coordinator_client.nostr import NostrKey
from coordinator_client.nostr.nip98 import authorization

log = logging.getLogger(__name__)

NONCE_WARNING: Final = (
    "the oracle publishes the secret nonces of its events: whoever sees one attestation can compute its"
    " private key and attest to any outcome of the others"
)

_RETRYABLE_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_DAY_SECONDS: Final = 86_400


class WeatherOracle:
    """Implements `coordinator.ports.oracle.Oracle`.

    Args:
        base_url: where the API lives, for example `https://oracle.example`.
        nostr_key: the coordinator's key; events belong to it.
        timeout_seconds: limit for one request. Announcing many outcomes takes the oracle a while.
    """

    def __init__(self, base_url: str, nostr_key: NostrKey, *, timeout_seconds: float = 30) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = nostr_key
        self._client = httpx.AsyncClient(timeout=timeout_seconds, event_hooks=bounded())
        self._pubkey: bytes | None = None
        self._publishes_secret_nonces = False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator must be told, as far as seen since the start."""
        return (NONCE_WARNING,) if self._publishes_secret_nonces else ()

    def metrics(self, names: Iterable[str]) -> tuple[MetricConfig, ...]:
        """See `Oracle.metrics`."""
        return metric_configs(names)

    async def pubkey(self) -> bytes:
        """The oracle's public key, 32 bytes x-only."""
        self._pubkey = wire.pubkey(await self._get("/oracle/pubkey"))
        return self._pubkey

    async def create_event(self, event: CreateEvent) -> OracleEvent:
        """See `Oracle.create_event`."""
        wire.check_expressible(event)
        await self.pubkey()
        existing = await self._find(event.id)
        if existing is not None:
            return await self._if_same(event, existing)
        try:
            created = await self._post("/oracle/events", wire.create_body(event))
        except OracleRefused:
            # Somebody may have asked at the same time, or a lost answer was a success.
            existing = await self._find(event.id)
            if existing is None:
                raise
            return await self._if_same(event, existing)
        return await self._if_same(event, created)

    async def get_event(self, event_id: str) -> OracleEvent:
        """See `Oracle.get_event`."""
        return await self._event(await self._get(_event_path(event_id)), event_id)

    async def submit_entries(self, event_id: str, entries: Sequence[EntrySubmission]) -> None:
        """See `Oracle.submit_entries`."""
        wanted = {entry.id: frozenset(entry.observations) for entry in entries}
        if len(wanted) != len(entries):
            raise OracleRefused("an entry id appears twice")
        body = {"event_id": event_id, "entries": [wire.entry_body(event_id, entry) for entry in entries]}
        if wire.has_entries(await self.get_event(event_id), wanted):
            return
        try:
            await self._post(_event_path(event_id) + "/entries", body)
        except OracleRefused:
            if not wire.has_entries(await self.get_event(event_id), wanted):
                raise

    async def stations(self) -> tuple[Station, ...]:
        """Every weather station."""
        return wire.stations(await self._get("/stations"))

    async def forecasts(
        self, station_ids: Sequence[str], start_at: int | None = None, end_at: int | None = None
    ) -> tuple[Measurement, ...]:
        """Forecasts over the window, by default today (UTC)."""
        if start_at is None:
            start_at = int(time.time()) // _DAY_SECONDS * _DAY_SECONDS
        return await self._measurements(
            "/stations/forecasts",
            station_ids,
            start_at,
            start_at + _DAY_SECONDS if end_at is None else end_at,
        )

    async def observations(
        self, station_ids: Sequence[str], start_at: int, end_at: int
    ) -> tuple[Measurement, ...]:
        """Observations over the window (so far)."""
        return await self._measurements("/stations/observations", station_ids, start_at, end_at)

    async def _measurements(
        self, path: str, station_ids: Sequence[str], start_at: int, end_at: int
    ) -> tuple[Measurement, ...]:
        if not station_ids:
            return ()
        query = httpx.QueryParams(
            station_ids=",".join(station_ids), start=wire.rfc3339(start_at), end=wire.rfc3339(end_at)
        )
        return wire.measurements(await self._get(f"{path}?{query}"), station_ids, start_at, end_at)

    async def _find(self, event_id: str) -> dict[str, Any] | None:
        try:
            return cast(dict[str, Any], await self._get(_event_path(event_id)))
        except EventNotFound:
            return None

    async def _if_same(self, wanted: CreateEvent, existing: dict[str, Any]) -> OracleEvent:
        event = await self._event(existing, wanted.id)
        difference = wire.first_difference(wanted, existing, self._key)
        if difference is not None:
            raise OracleRefused(f"the oracle's event {wanted.id} has another {difference}")
        return event

    async def _event(self, answer: Any, event_id: str) -> OracleEvent:
        event = wire.event(answer, event_id, self._pubkey or await self.pubkey())
        if event.publishes_secret_nonce and not self._publishes_secret_nonces:
            self._publishes_secret_nonces = True
            log.warning("%s: %s", self._base_url, NONCE_WARNING)
        return event

    async def _get(self, path: str) -> Any:
        return await self._request("GET", path, None)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._request("POST", path, json.dumps(body, separators=(",", ":")).encode())

    async def _request(self, method: str, path: str, body: bytes | None) -> Any:
        url = self._base_url + path
        headers = {}
        if body is not None:
            headers = {
                "Authorization": authorization(self._key, url, method, body),
                "Content-Type": "application/json",
            }
        try:
            response = await self._client.request(method, url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise OracleUnavailable(f"{method} {path}: {type(error).__name__}") from error
        if response.status_code in _RETRYABLE_STATUS:
            raise OracleUnavailable(f"{method} {path}: HTTP {response.status_code}: {_reason(response)}")
        if response.status_code == 404 and method == "GET" and path.startswith("/oracle/events/"):
            raise EventNotFound(f"{path}: {_reason(response)}")
        if not response.is_success:
            raise OracleRefused(f"{method} {path}: HTTP {response.status_code}: {_reason(response)}")
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise OracleUnavailable(f"{method} {path}: the answer is not JSON") from None


def _event_path(event_id: str) -> str:
    return f"/oracle/events/{quote(event_id, safe='')}"


def _reason(response: httpx.Response) -> str:
    try:
        reason = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        reason = response.text
    return str(reason)[:300]
