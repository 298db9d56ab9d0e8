"""Reading a call's metadata: text values, and each of ours at most once."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

from coordinator.domain.errors import InvalidInput

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_SINGLE: Final = frozenset(
    {
        "authorization",
        "idempotency-key",
        "x-coordinator-gateway",
        "x-http-body-sha256",
        "x-http-method",
        "x-http-url",
        "x-session-token",
    }
)


class CallMetadata:
    """Metadata of one call."""

    def __init__(self, items: Iterable[tuple[str, str | bytes]]) -> None:
        """Raises:
        InvalidInput: a value that must be one is given twice.
        """
        self._values: dict[str, str] = {}
        for key, value in items:
            if key not in _SINGLE or not isinstance(value, str):
                continue
            if key in self._values:
                # Two would let one reader judge the first and another one the second.
                raise InvalidInput.of(key, "is given twice")
            self._values[key] = value

    def get(self, key: str) -> str:
        """A value, empty where there is none."""
        return self._values.get(key, "")

    def has(self, key: str) -> bool:
        """Whether it is given at all, be it empty."""
        return key in self._values

    @staticmethod
    def request_id_of(items: Iterable[tuple[str, str | bytes]]) -> str:
        """The caller's id for this request if it is a sane one, else a new one."""
        for key, value in items:
            if key == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
                return value
        return secrets.token_hex(16)
