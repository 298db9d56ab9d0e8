"""Session, user, subset and item ids: UUIDs of version 7 (RFC 9562 section 5.7)."""

import hashlib
import secrets
import time
import uuid


def _uuid7(unix_ms: int, tail: bytes) -> str:
    """48-bit millisecond timestamp, then version and variant over 10 bytes of `tail`."""
    value = bytearray((unix_ms & (1 << 48) - 1).to_bytes(6, "big") + tail[:10])
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(value)))


def new_uuid7() -> str:
    """A fresh random UUIDv7 of now."""
    return _uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def derived_uuid7(seed_parts: tuple[str, ...], at: int) -> str:
    """The same UUIDv7 every time for the same parts and `at` (Unix milliseconds).

    Deterministic ids make a session resumable after a crash: who knows what it was for knows its id.
    The parts are length-prefixed before hashing, so ("a", "bc") and ("ab", "c") differ.
    """
    digest = hashlib.sha256(b"coordinator/uuid7")
    for part in seed_parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return _uuid7(at, digest.digest())


def uuid7_ms(value: str) -> int:
    """The Unix millisecond timestamp inside a UUIDv7.

    Raises:
        ValueError: it is not a UUID of version 7.
    """
    parsed = uuid.UUID(value)
    if parsed.version != 7:
        raise ValueError(f"{value} is not a UUID of version 7")
    return int.from_bytes(parsed.bytes[:6], "big")


def is_uuid7(value: object) -> bool:
    """Whether `value` is the canonical text of a UUIDv7."""
    if not isinstance(value, str):
        return False
    try:
        parsed = uuid.UUID(value)
    except ValueError:
        return False
    return parsed.version == 7 and str(parsed) == value
