"""UUIDv7 identifiers (RFC 9562, section 5.7): sortable by time of creation."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid

from coordinator.domain.errors import FieldViolation, InvalidInput

_last_ms = 0
_counter = 0


def new_uuid7() -> str:
    """A new id as lower-case text; ids of one process are strictly increasing (method 1 of section 6.2)."""
    global _last_ms, _counter
    now_ms = time.time_ns() // 1_000_000
    if now_ms > _last_ms:
        _last_ms, _counter = now_ms, secrets.randbits(11)
    else:
        _counter += 1
        if _counter >> 12:
            _last_ms, _counter = _last_ms + 1, secrets.randbits(11)
    value = (_last_ms << 80) | (7 << 76) | (_counter << 64) | (0b10 << 62) | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def is_uuid7(text: str) -> bool:
    """True for the canonical lower-case text of a version 7 UUID."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        return False
    return value.version == 7 and value.variant == uuid.RFC_4122 and str(value) == text


def check_uuid7(field: str, text: str) -> str:
    """The id itself.

    Raises:
        InvalidInput: it is not a UUIDv7.
    """
    problem = uuid7_violation(field, text)
    if problem is not None:
        raise InvalidInput([problem])
    return text


def uuid7_violation(field: str, text: str) -> FieldViolation | None:
    """What is wrong with an id, or None."""
    if is_uuid7(text):
        return None
    return FieldViolation(field, "must be a UUIDv7 in lower-case canonical form")


def derived_uuid7(at_seconds: int, *parts: str) -> str:
    """The same UUIDv7 for the same time and parts: an id that a crash cannot make us lose.

    Time in front, the rest from SHA256 of the parts (section 5.7 leaves these bits to the implementation).
    """
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    value = (at_seconds * 1000) << 80 | int.from_bytes(digest[:10], "big")
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0b11 << 62) | (0b10 << 62)
    return str(uuid.UUID(int=value))
