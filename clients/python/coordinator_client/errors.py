"""What can go wrong between a client and the coordinator. Messages never carry secrets."""

from __future__ import annotations

from dataclasses import dataclass


class ClientError(Exception):
    """Base of the errors of this package's REST, gRPC and player parts."""


class Unavailable(ClientError):
    """No answer, or one that says to try again later. The call may have had its effect.

    Attributes:
        reason: for programs, e.g. LIGHTNING_UNAVAILABLE; empty where nothing answers.
        retry_after_seconds: when it may work, if the coordinator says so.
    """

    def __init__(self, message: str, *, reason: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class MalformedAnswer(ClientError):
    """An answer that is not what the API promises; names the place."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request that is wrong."""

    field: str
    description: str


class ApiError(ClientError):
    """The coordinator refuses a request.

    Attributes:
        status: HTTP status; 0 where the call was made over gRPC.
        code: gRPC status name, e.g. FAILED_PRECONDITION; empty where the call was made over REST.
        reason: for programs, e.g. COMPETITION_FULL (google.rpc.ErrorInfo).
        detail: for people.
        field_errors: what is wrong with which field of the request.
        retry_after_seconds: when it may work, if the coordinator says so.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        status: int = 0,
        code: str = "",
        field_errors: tuple[FieldError, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        fields = "".join(f"; {error.field}: {error.description}" for error in field_errors)
        super().__init__(f"{status or code} {reason}: {detail}{fields}")
        self.status = status
        self.code = code
        self.reason = reason
        self.detail = detail
        self.field_errors = field_errors
        self.retry_after_seconds = retry_after_seconds


class CheckFailed(ClientError):
    """The coordinator's word does not hold. Nothing is paid or signed; do not go on with this competition."""


class ContractMismatch(CheckFailed):
    """What is to be signed is not what was agreed.

    Attributes:
        what: the first thing that differs, e.g. `players[1].payout_hash`.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what}: {problem}")
        self.what = what


class InvoiceMismatch(CheckFailed):
    """The ticket's invoice is not for this ticket, this amount or this network."""


class UnsafeHtlc(CheckFailed):
    """The payment could be settled too late for the escrow to protect the player (docs/escrow.md)."""


class PaymentFailed(ClientError):
    """A Lightning payment of the player failed for good; nothing was paid."""
