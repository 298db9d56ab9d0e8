"""Nostr events: serialisation, id, signature (NIP-01)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coincurve import PrivateKey, PublicKeyXOnly
from pynostr.event import Event

from coordinator_client.nostr.errors import InvalidEvent

_HEX_32: Final = re.compile(r"[0-9a-f]{64}")
_HEX_64: Final = re.compile(r"[0-9a-f]{128}")
_MAX_KIND: Final = 65535
_MAX_CREATED_AT: Final = 2**63 - 1

Tags = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class NostrEvent:
    """A signed event. `created_at` is in unix seconds; `id`, `pubkey`, `sig` are lower-case hex.

    Having one proves nothing: `verify_event` checks id and signature.
    """

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> NostrEvent:
        """From decoded JSON; raises `InvalidEvent` where a field is missing or of the wrong type."""
        if not isinstance(fields, Mapping):
            raise InvalidEvent("an event is a JSON object")
        try:
            event = cls(
                id=fields["id"],
                pubkey=fields["pubkey"],
                created_at=fields["created_at"],
                kind=fields["kind"],
                tags=_tags(fields["tags"]),
                content=fields["content"],
                sig=fields["sig"],
            )
        except KeyError as missing:
            raise InvalidEvent(f"an event needs the field {missing}") from None
        for name, value, pattern in (
            ("id", event.id, _HEX_32),
            ("pubkey", event.pubkey, _HEX_32),
            ("sig", event.sig, _HEX_64),
        ):
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise InvalidEvent(f"{name} must be lower-case hex of the right length")
        _check_content(event.kind, event.created_at, event.content)
        return event

    @classmethod
    def from_json(cls, text: str | bytes) -> NostrEvent:
        """From JSON text; raises `InvalidEvent`."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidEvent("an event is JSON") from None
        return cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of NIP-01."""
        return {
            "id": self.id,
            "pubkey": self.pubkey,
            "created_at": self.created_at,
            "kind": self.kind,
            "tags": [list(tag) for tag in self.tags],
            "content": self.content,
            "sig": self.sig,
        }

    def to_json(self) -> str:
        """Compact JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)

    def tag_values(self, name: str) -> tuple[str, ...]:
        """The first value of every tag of this name that has one."""
        return tuple(tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name)


def event_id(*, pubkey: str, created_at: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> str:
    """The event id in hex: SHA256 of NIP-01's serialisation; raises `InvalidEvent` on invalid Unicode."""
    try:
        event = Event(
            pubkey=pubkey,
            created_at=created_at,
            kind=kind,
            tags=[list(tag) for tag in tags],
            content=content,
        )
    except UnicodeEncodeError:
        raise InvalidEvent("an event's text must be valid Unicode") from None
    return str(event.id)


def verify_event(event: NostrEvent) -> None:
    """Raises `InvalidEvent` unless the id is the hash of the content and the signature is the author's."""
    expected = event_id(
        pubkey=event.pubkey,
        created_at=event.created_at,
        kind=event.kind,
        tags=event.tags,
        content=event.content,
    )
    if event.id != expected:
        raise InvalidEvent("the event id is not the hash of its content")
    if not signature_fits(event):
        raise InvalidEvent("the event's signature is not its author's")


def signature_fits(event: NostrEvent) -> bool:
    """Whether `sig` is a BIP-340 signature over `id` by `pubkey`. Does not look at the content."""
    try:
        key = PublicKeyXOnly(bytes.fromhex(event.pubkey))
        return bool(key.verify(bytes.fromhex(event.sig), bytes.fromhex(event.id)))
    except ValueError:
        return False


def sign(
    key: PrivateKey, *, kind: int, created_at: int, tags: Sequence[Sequence[str]], content: str
) -> NostrEvent:
    """Build and sign an event; `created_at` in unix seconds. Raises `InvalidEvent`."""
    checked_tags = _tags(tags)
    _check_content(kind, created_at, content)
    pubkey = key.public_key_xonly.format().hex()
    computed = event_id(pubkey=pubkey, created_at=created_at, kind=kind, tags=checked_tags, content=content)
    return NostrEvent(
        id=computed,
        pubkey=pubkey,
        created_at=created_at,
        kind=kind,
        tags=checked_tags,
        content=content,
        sig=key.sign_schnorr(bytes.fromhex(computed)).hex(),
    )


def _tags(value: Any) -> Tags:
    if not isinstance(value, list | tuple):
        raise InvalidEvent("tags must be a list")
    for tag in value:
        if not isinstance(tag, list | tuple) or not all(isinstance(part, str) for part in tag):
            raise InvalidEvent("a tag is a list of strings")
    return tuple(tuple(tag) for tag in value)


def _check_content(kind: Any, created_at: Any, content: Any) -> None:
    for name, value, highest in (("kind", kind, _MAX_KIND), ("created_at", created_at, _MAX_CREATED_AT)):
        # bool is an int to Python, but `true` is no number in JSON.
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            raise InvalidEvent(f"{name} must be a whole number between 0 and {highest}")
    if not isinstance(content, str):
        raise InvalidEvent("content must be a string")
