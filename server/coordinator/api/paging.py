"""Pages of lists (AIP-158): sizes, and opaque tokens that say where the next page starts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Final

from coordinator.domain.errors import InvalidInput

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200


def page_size(asked: int) -> int:
    """How many items a page has: 0 is the default, more than the most is the most.

    Raises:
        InvalidInput: negative.
    """
    if asked < 0:
        raise InvalidInput.of("page_size", f"must be 0 to {MAX_PAGE_SIZE}")
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(scope: str, position: tuple[int, str]) -> str:
    """The token of the page after a position. It belongs to one list: `scope` names it with its filters."""
    plain = json.dumps([_scope_hash(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def position_of(scope: str, token: str) -> tuple[int, str] | None:
    """The position that a token stands for, None for the first page.

    Raises:
        InvalidInput: it is none of this list's.
    """
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        named, number, text = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise _invalid() from None
    if named != _scope_hash(scope) or type(number) is not int or not 0 <= number < 2**63:
        raise _invalid()
    if not isinstance(text, str):
        raise _invalid()
    return number, text


def _scope_hash(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:16]


def _invalid() -> InvalidInput:
    return InvalidInput.of("page_token", "is not from a page of this list with these filters")
