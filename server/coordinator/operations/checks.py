"""Reading fields of a request: collects what is wrong instead of stopping at the first."""

from __future__ import annotations

from coordinator.contract.secp import is_point
from coordinator.domain.errors import FieldViolation, InvalidInput
from coordinator.domain.ids import uuid7_violation


class FieldChecks:
    """Collects violations; `finish` raises them together."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def require(self, ok: bool, field: str, description: str) -> bool:
        """Notes a violation unless `ok`."""
        if not ok:
            self._violations.append(FieldViolation(field, description))
        return ok

    def uuid7(self, field: str, text: str) -> None:
        """Must be a UUIDv7."""
        violation = uuid7_violation(field, text)
        if violation is not None:
            self._violations.append(violation)

    def hex_bytes(self, field: str, text: str, length: int) -> bytes:
        """Must be so many bytes in lower-case hex; empty bytes if it is not."""
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if not self.require(
            len(value) == length and text == value.hex(), field, f"must be {length} bytes in lower-case hex"
        ):
            return b""
        return value

    def point(self, field: str, text: str) -> bytes:
        """Must be a compressed public key in hex."""
        value = self.hex_bytes(field, text, 33)
        if value:
            self.require(is_point(value), field, "is not a point of secp256k1")
        return value

    def finish(self) -> None:
        """Raises:
        InvalidInput: something was wrong.
        """
        if self._violations:
            raise InvalidInput(self._violations)
