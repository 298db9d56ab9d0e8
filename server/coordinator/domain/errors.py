"""Errors of the domain, each with what a caller needs to mend its request.

The api maps them to gRPC statuses with google.rpc details; nothing is stored when one is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: its path in the request, and what is wrong in words for a person."""

    field: str
    description: str


class DomainError(Exception):
    """Base of all. `reason` is a stable UPPER_SNAKE_CASE code for programs."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class InvalidInput(DomainError):
    """Fields of the request are wrong; names each of them."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str) -> InvalidInput:
        """An error about a single field."""
        return cls([FieldViolation(field, description)])


class NotFound(DomainError):
    """There is no such thing."""

    reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """The id is taken by something else."""

    reason = "ALREADY_EXISTS"


class PreconditionFailed(DomainError):
    """The request is fine, but not in this state."""

    reason = "PRECONDITION_FAILED"


class Exhausted(DomainError):
    """No place is left (now)."""

    reason = "EXHAUSTED"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class Unauthenticated(DomainError):
    """No valid proof of who is calling."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(DomainError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class OutOfRange(DomainError):
    """A position outside of what exists, e.g. a sequence in the future."""

    reason = "OUT_OF_RANGE"


class ServiceUnavailable(DomainError):
    """An outside service does not answer; trying again may help."""

    reason = "SERVICE_UNAVAILABLE"


class IllegalTransition(DomainError):
    """A state was asked for a step that the diagram does not have."""

    reason = "ILLEGAL_TRANSITION"
