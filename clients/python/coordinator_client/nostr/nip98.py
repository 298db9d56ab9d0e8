"""HTTP login by signed event (NIP-98): the `Authorization: Nostr <base64 event>` header.

Both sides: `authorization` makes the header, `verify` judges one. Accepting each event id only once is the
verifier's store's business, and must happen after `verify`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from coordinator_client.nostr.errors import InvalidEvent, NostrError
from coordinator_client.nostr.events import NostrEvent, event_id, signature_fits
from coordinator_client.nostr.keys import NostrKey

HTTP_AUTH_KIND: Final = 27235
MAX_HEADER_CHARACTERS: Final = 16384

_SCHEME: Final = "nostr"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HEX_32: Final = re.compile(r"[0-9a-fA-F]{64}")
_EMPTY_SHA256: Final = hashlib.sha256(b"").digest()


class Nip98Reason(StrEnum):
    """Why a login was refused."""

    MALFORMED = "malformed"
    WRONG_KIND = "wrong_kind"
    BAD_ID = "bad_id"
    BAD_SIGNATURE = "bad_signature"
    STALE = "stale"
    FUTURE = "future"
    WRONG_URL = "wrong_url"
    WRONG_METHOD = "wrong_method"
    MISSING_PAYLOAD = "missing_payload"
    WRONG_PAYLOAD = "wrong_payload"


class Nip98Error(NostrError):
    """A login is refused; `reason` says why, for programs, and the message for people."""

    def __init__(self, reason: Nip98Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Nip98Event:
    """Who logged in (`pubkey`, x-only hex), with which event (`id`, hex), made when (unix seconds)."""

    pubkey: str
    id: str
    created_at: int


def authorization(
    key: NostrKey, url: str, method: str, body: bytes | None, *, created_at: int | None = None
) -> str:
    """The value of the Authorization header for one request.

    A random `nonce` tag makes each header another one: a verifier takes an event id once, and without it two
    equal requests within a second would have the same.

    Args:
        key: the caller's key.
        url: absolute URL of the request, with its query.
        method: HTTP method.
        body: the exact bytes that will be sent; None or empty for no body.
        created_at: unix seconds; now if left out.

    Raises:
        InvalidEvent: text that is not Unicode, or `created_at` out of range.
    """
    tags = [("u", url), ("method", method.upper()), ("nonce", secrets.token_hex(8))]
    if body:
        tags.append(("payload", hashlib.sha256(body).hexdigest()))
    event = key.sign_event(
        kind=HTTP_AUTH_KIND, created_at=int(time.time()) if created_at is None else created_at, tags=tags
    )
    return "Nostr " + base64.b64encode(event.to_json().encode()).decode()


def verify(
    header: str,
    *,
    url: str,
    method: str,
    body_sha256: bytes | None,
    now: int,
    max_age_seconds: int = 60,
) -> Nip98Event:
    """Judge the Authorization header of a request.

    Args:
        header: value of the Authorization header.
        url: absolute URL the client asked for. Scheme and host are compared without case and default ports
            are dropped; path and query must be the same characters.
        method: HTTP method of the request.
        body_sha256: SHA256 of the body received (32 bytes), or None where there was none.
        now: unix seconds.
        max_age_seconds: how far `created_at` may lie from `now`, either way.

    Raises:
        Nip98Error: with one `Nip98Reason`.
    """
    event = _parse(header)
    if event.kind != HTTP_AUTH_KIND:
        raise Nip98Error(Nip98Reason.WRONG_KIND, f"the event must be of kind {HTTP_AUTH_KIND}")
    _check_authentic(event)
    if event.created_at < now - max_age_seconds:
        raise Nip98Error(Nip98Reason.STALE, f"the event is older than {max_age_seconds} seconds")
    if event.created_at > now + max_age_seconds:
        raise Nip98Error(Nip98Reason.FUTURE, f"the event is dated more than {max_age_seconds} seconds ahead")
    if normalised_url(_only_tag(event, "u", Nip98Reason.WRONG_URL)) != normalised_url(url):
        raise Nip98Error(Nip98Reason.WRONG_URL, "the event is for another URL")
    if _only_tag(event, "method", Nip98Reason.WRONG_METHOD).upper() != method.upper():
        raise Nip98Error(Nip98Reason.WRONG_METHOD, "the event is for another HTTP method")
    _check_payload(event, body_sha256)
    return Nip98Event(pubkey=event.pubkey, id=event.id, created_at=event.created_at)


def normalised_url(url: str) -> str:
    """The URL with what does not matter made equal: case of scheme and host, default port, empty path.

    RFC 3986, sections 6.2.2.1 and 6.2.3. A URL that cannot be parsed comes back as it is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    user, at, _ = parts.netloc.rpartition("@")
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    shown_port = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    path = parts.path or ("/" if parts.scheme in _DEFAULT_PORTS else "")
    return urlunsplit((parts.scheme, f"{user}{at}{host}{shown_port}", path, parts.query, parts.fragment))


def _parse(header: str) -> NostrEvent:
    if len(header) > MAX_HEADER_CHARACTERS:
        raise Nip98Error(Nip98Reason.MALFORMED, "the Authorization header is too long")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise Nip98Error(Nip98Reason.MALFORMED, "the Authorization header must be `Nostr <base64 event>`")
    try:
        return NostrEvent.from_json(base64.b64decode(token.strip(), validate=True))
    except (binascii.Error, InvalidEvent, ValueError) as error:
        raise Nip98Error(Nip98Reason.MALFORMED, f"the login event cannot be read: {error}") from None


def _check_authentic(event: NostrEvent) -> None:
    try:
        expected = event_id(
            pubkey=event.pubkey,
            created_at=event.created_at,
            kind=event.kind,
            tags=event.tags,
            content=event.content,
        )
    except InvalidEvent as error:
        raise Nip98Error(Nip98Reason.MALFORMED, str(error)) from None
    if event.id != expected:
        raise Nip98Error(Nip98Reason.BAD_ID, "the event id is not the hash of its content")
    if not signature_fits(event):
        raise Nip98Error(Nip98Reason.BAD_SIGNATURE, "the event's signature is not its author's")


def _only_tag(event: NostrEvent, name: str, reason: Nip98Reason) -> str:
    """Two `u` tags would let one event stand for two requests, so there must be exactly one of each."""
    values = event.tag_values(name)
    if len(values) != 1:
        raise Nip98Error(reason, f"the event must have exactly one {name} tag")
    return values[0]


def _check_payload(event: NostrEvent, body_sha256: bytes | None) -> None:
    received = _EMPTY_SHA256 if body_sha256 is None else body_sha256
    if not event.tag_values("payload"):
        if received != _EMPTY_SHA256:
            raise Nip98Error(
                Nip98Reason.MISSING_PAYLOAD, "a request with a body needs the payload tag: its SHA256"
            )
        return
    payload = _only_tag(event, "payload", Nip98Reason.WRONG_PAYLOAD)
    if not _HEX_32.fullmatch(payload) or bytes.fromhex(payload) != received:
        raise Nip98Error(Nip98Reason.WRONG_PAYLOAD, "the payload tag is not the SHA256 of the body")
