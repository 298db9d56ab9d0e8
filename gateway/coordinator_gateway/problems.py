"""Errors as RFC 9457 problem details (`application/problem+json`).

A gRPC status becomes an HTTP status by its code. FAILED_PRECONDITION is 409 here, not 400 as in google.rpc's
own table: the request is well formed and may succeed once the competition has another state, which is what
409 tells a web client. Details that the core attaches (google.rpc.Status in `grpc-status-details-bin`) are
written out: ErrorInfo as `reason`, `domain`, `metadata`; BadRequest as `errors`; RetryInfo as
`retry_after_seconds` and the Retry-After header.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import Response

from coordinator_gateway import jsoncodec
from coordinator_gateway.jsoncodec import FieldViolation

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_TOO_LARGE = "message larger than max"
_DETAILS_KEY = "grpc-status-details-bin"

_STATUS: dict[grpc.StatusCode, tuple[int, str]] = {
    grpc.StatusCode.CANCELLED: (503, "The server stopped working on the request"),
    grpc.StatusCode.UNKNOWN: (500, "Internal error"),
    grpc.StatusCode.INVALID_ARGUMENT: (400, "Invalid request"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "The server did not answer in time"),
    grpc.StatusCode.NOT_FOUND: (404, "Not found"),
    grpc.StatusCode.ALREADY_EXISTS: (409, "Already exists"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "Not allowed"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "Limit reached"),
    grpc.StatusCode.FAILED_PRECONDITION: (409, "Not possible in this state"),
    grpc.StatusCode.ABORTED: (409, "Conflict with another request"),
    grpc.StatusCode.OUT_OF_RANGE: (400, "Out of range"),
    grpc.StatusCode.UNIMPLEMENTED: (501, "Not implemented"),
    grpc.StatusCode.INTERNAL: (500, "Internal error"),
    grpc.StatusCode.UNAVAILABLE: (503, "Not available at the moment"),
    grpc.StatusCode.DATA_LOSS: (500, "Internal error"),
    grpc.StatusCode.UNAUTHENTICATED: (401, "Authorization needed"),
}
_TITLES = {
    400: "Invalid request",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    410: "Gone",
    413: "Request body too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available at the moment",
}


class Problem(Exception):
    """An error to answer a request with. `extra` are further members of the problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str = "",
        title: str = "",
        errors: Iterable[FieldViolation] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.title = title or _TITLES.get(status, "Error")
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self, instance: str) -> dict[str, Any]:
        """The problem document (RFC 9457 section 3)."""
        name = self.reason or self.title
        document: dict[str, Any] = {
            "type": f"urn:coordinator:problem:{'-'.join(name.lower().replace('_', ' ').split())}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.errors:
            document["errors"] = [violation._asdict() for violation in self.errors]
        return document | self.extra

    def response(self, instance: str) -> Response:
        """The answer for a request to `instance` (its path)."""
        return Response(
            jsoncodec.dumps(self.document(instance)),
            self.status,
            {"cache-control": "no-store", **self.headers},
            MEDIA_TYPE,
        )


def retry_later(status: int, detail: str, seconds: float, *, reason: str) -> Problem:
    """A problem that goes away: says after how many seconds to try again."""
    return Problem(
        status,
        detail,
        reason=reason,
        headers={"retry-after": str(max(1, math.ceil(seconds)))},
        retry_after_seconds=round(seconds, 3),
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Problem:
    """The problem that a failed call to the core is for the HTTP client."""
    code = error.code()
    status, title = _STATUS.get(code, (500, "Internal error"))
    # What went wrong inside is for the core's log; strangers learn only that it did.
    detail = title if status == 500 else (error.details() or title)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or ""):
        # Not the core's word: its answer is more than `max_response_bytes`, or than the core itself sends.
        logger.error("an answer of the core is too large: %s", error.details())
        return Problem(500, "The answer is too large for this gateway.", reason="ANSWER_TOO_LARGE")
    if code is grpc.StatusCode.UNAVAILABLE and not _details_bytes(error):
        # The transport's own words hold addresses.
        detail = "The coordinator cannot be reached."
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}
    errors: list[FieldViolation] = []
    reason = ""
    if status == 401:
        headers["www-authenticate"] = "Nostr"
    for item in _details(error):
        if item.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            item.Unpack(info)
            reason = info.reason
            extra |= {"domain": info.domain, "metadata": dict(info.metadata)}
        elif item.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            item.Unpack(bad)
            errors += [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif item.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            item.Unpack(retry)
            seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            headers["retry-after"] = str(max(1, math.ceil(seconds)))
            extra["retry_after_seconds"] = round(seconds, 3)
    return Problem(
        status, detail, reason=reason or code.name, title=title, errors=errors, headers=headers, **extra
    )


def _details(error: grpc.aio.AioRpcError) -> Iterable[Any]:
    packed = _details_bytes(error)
    if packed is None:
        return ()
    try:
        return status_pb2.Status.FromString(packed).details
    except DecodeError:
        return ()


def _details_bytes(error: grpc.aio.AioRpcError) -> bytes | None:
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
