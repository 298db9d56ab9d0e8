"""What ends a command, and the exit code that tells scripts which kind of end it was."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from coordinator_client.errors import ApiError, FieldError


class Exit(IntEnum):
    """Exit codes; promised in docs/admin.md."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    PERMISSION = 3
    NOT_FOUND = 4
    INVALID = 5
    PRECONDITION = 6
    UNAVAILABLE = 7
    INTERRUPTED = 130


class AdminError(Exception):
    """A command cannot go on.

    Attributes:
        code: what the process exits with.
        reason: for programs, UPPER_SNAKE_CASE.
        fields: what is wrong with which field of the request.
    """

    def __init__(self, code: Exit, reason: str, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fields = tuple(fields)


_EXITS: Final = {
    "UNAUTHENTICATED": Exit.PERMISSION,
    "PERMISSION_DENIED": Exit.PERMISSION,
    "NOT_FOUND": Exit.NOT_FOUND,
    "INVALID_ARGUMENT": Exit.INVALID,
    "OUT_OF_RANGE": Exit.INVALID,
    "FAILED_PRECONDITION": Exit.PRECONDITION,
    "ALREADY_EXISTS": Exit.PRECONDITION,
    # Both say: the same request may succeed in a moment.
    "ABORTED": Exit.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": Exit.UNAVAILABLE,
}


def exit_of(error: ApiError) -> Exit:
    """The exit code for a refusal of the core."""
    return _EXITS.get(error.code, Exit.UNEXPECTED)
