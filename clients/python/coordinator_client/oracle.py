"""What the oracle says to everybody, fetched by the player itself.

Only the part that a contract hangs on: key, nonce, expiry, and which entries it will rank. In its answers
`nonce` may be the secret scalar (the live oracle publishes it); it is turned into its point and forgotten.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from coordinator.contract.errors import ContractError
from coordinator.contract.secp import lift_x, mul_base, parse_point, parse_secret
from coordinator_client.errors import MalformedAnswer, Unavailable

_NO_FIELDS: Final = frozenset({"stations"})


@dataclass(frozen=True, slots=True)
class Announcement:
    """The oracle's commitment to one event.

    Attributes:
        oracle_pubkey: 32 bytes x-only.
        nonce_point: 33 bytes.
        expiry: from when on the contract may be refunded, unix seconds; None: never.
        entries: entry id (the ticket id) to its predictions (station, metric, over|par|under); None where the
            oracle does not show them (yet).
    """

    oracle_pubkey: bytes
    nonce_point: bytes
    expiry: int | None
    entries: dict[str, frozenset[tuple[str, str, str]] | None]


async def fetch_announcement(oracle_url: str, event_id: str) -> Announcement:
    """Asks the oracle.

    Raises:
        Unavailable: it does not answer, or does not know the event.
        MalformedAnswer: its answer cannot be read.
    """
    base_url = oracle_url.rstrip("/")
    async with httpx.AsyncClient(timeout=30) as client:
        key = await _get(client, f"{base_url}/oracle/pubkey")
        event = await _get(client, f"{base_url}/oracle/events/{quote(event_id, safe='')}")
    try:
        if event["id"] != event_id:
            raise MalformedAnswer("the oracle answered with another event")
        return Announcement(_pubkey(key["key"]), _nonce_point(event), _expiry(event), _entries(event))
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, ContractError) as error:
        # Never the value: it may be a secret nonce.
        raise MalformedAnswer(f"the oracle's answer cannot be read ({type(error).__name__})") from None


async def _get(client: httpx.AsyncClient, url: str) -> Any:
    try:
        response = await client.get(url)
    except httpx.HTTPError as error:
        raise Unavailable(f"the oracle does not answer: {type(error).__name__}") from error
    if response.status_code != 200:
        raise Unavailable(f"the oracle answered with HTTP status {response.status_code}")
    try:
        return response.json()
    except ValueError:
        raise MalformedAnswer("the oracle's answer is not JSON") from None


def _pubkey(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    xonly = key[1:] if len(key) == 33 and key[0] in (2, 3) else key
    lift_x(xonly)
    return xonly


def _nonce_point(event: dict[str, Any]) -> bytes:
    if event.get("nonce_point") is not None:
        point = bytes.fromhex(event["nonce_point"])
        parse_point(point)
        return point
    return mul_base(parse_secret(bytes.fromhex(event["nonce"])))


def _expiry(event: dict[str, Any]) -> int | None:
    expiry = event["event_announcement"].get("expiry")
    if expiry is not None and (isinstance(expiry, bool) or not isinstance(expiry, int)):
        raise ValueError("expiry")
    return expiry


def _entries(event: dict[str, Any]) -> dict[str, frozenset[tuple[str, str, str]] | None]:
    shown = event.get("entries")
    if not shown:
        return {str(entry_id): None for entry_id in event.get("entry_ids") or ()}
    return {str(entry["id"]): _observations(entry.get("expected_observations")) for entry in shown}


def _observations(stations: Any) -> frozenset[tuple[str, str, str]] | None:
    if not stations:
        return None
    return frozenset(
        (str(station["stations"]), name, str(value).lower())
        for station in stations
        for name, value in station.items()
        if name not in _NO_FIELDS and isinstance(value, str) and value.lower() in ("over", "par", "under")
    )
