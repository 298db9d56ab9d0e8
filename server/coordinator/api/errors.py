"""Errors as gRPC statuses with google.rpc details: all that mends a request, nothing internal."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from tortoise.exceptions import DBConnectionError

from coordinator.domain import errors
from coordinator.ports.chain import ChainUnavailable, TransactionRejected
from coordinator.ports.keymeld import KeymeldUnavailable
from coordinator.ports.lightning import LightningUnavailable
from coordinator.ports.oracle import OracleUnavailable
from coordinator.store.competitions import StaleState

log = logging.getLogger(__name__)

DOMAIN: Final = "coordinator.v1"
RETRY_SECONDS: Final = 5
_CONFLICT_RETRY_SECONDS: Final = 1
# A status travels in HTTP/2 headers, of which clients take 8 KiB in all.
_MAX_MESSAGE_BYTES: Final = 400
_MAX_VIOLATIONS_BYTES: Final = 2500

_CODES: Final[tuple[tuple[type[errors.DomainError], int], ...]] = (
    (errors.InvalidInput, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.AlreadyExists, code_pb2.ALREADY_EXISTS),
    (errors.PreconditionFailed, code_pb2.FAILED_PRECONDITION),
    (errors.IllegalTransition, code_pb2.FAILED_PRECONDITION),
    (errors.Exhausted, code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unauthenticated, code_pb2.UNAUTHENTICATED),
    (errors.PermissionDenied, code_pb2.PERMISSION_DENIED),
    (errors.OutOfRange, code_pb2.OUT_OF_RANGE),
    (errors.ServiceUnavailable, code_pb2.UNAVAILABLE),
)
_UNAVAILABLE: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (ChainUnavailable, "CHAIN_UNAVAILABLE", "the chain cannot be reached now"),
    (LightningUnavailable, "LIGHTNING_UNAVAILABLE", "the Lightning node cannot be reached now"),
    (KeymeldUnavailable, "KEYMELD_UNAVAILABLE", "keymeld cannot be reached now"),
    (OracleUnavailable, "ORACLE_UNAVAILABLE", "the oracle cannot be reached now"),
    (DBConnectionError, "STORE_UNAVAILABLE", "the store cannot be reached now"),
)


def status_of(error: Exception) -> status_pb2.Status:
    """The status that tells a caller of an error. What is our own fault is logged under an id."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return _status(code, str(error), error.reason, *_details(error))
    for port_error, reason, words in _UNAVAILABLE:
        if isinstance(error, port_error):
            log.warning("%s: %s", words, error)
            return _status(code_pb2.UNAVAILABLE, words, reason, _retry(RETRY_SECONDS))
    if isinstance(error, StaleState):
        return _status(
            code_pb2.ABORTED,
            "the competition changed in between; try again",
            "CONCURRENT_CHANGE",
            _retry(_CONFLICT_RETRY_SECONDS),
        )
    if isinstance(error, TransactionRejected):
        return _status(
            code_pb2.FAILED_PRECONDITION,
            f"the bitcoin node refuses the transaction: {error.reason}",
            "TRANSACTION_REJECTED",
        )
    incident = secrets.token_hex(8)
    log.error("incident %s", incident, exc_info=error)
    return _status(
        code_pb2.INTERNAL,
        f"something went wrong; the operator finds it in the log as incident {incident}",
        "INTERNAL",
        metadata={"incident": incident},
    )


async def abort(context: grpc.aio.ServicerContext[object, object], error: Exception) -> NoReturn:
    """Ends the call with the error's status."""
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


def _details(error: errors.DomainError) -> list[Message]:
    match error:
        case errors.InvalidInput():
            return [_bad_request(error.violations)]
        case errors.Exhausted(retry_after_seconds=int(seconds)):
            return [_retry(seconds)]
        case errors.ServiceUnavailable():
            return [_retry(RETRY_SECONDS)]
        case _:
            return []


def _bad_request(violations: Sequence[errors.FieldViolation]) -> error_details_pb2.BadRequest:
    """As many violations as fit, the first ones."""
    bad = error_details_pb2.BadRequest()
    left = _MAX_VIOLATIONS_BYTES
    for violation in violations:
        field, description = _cut(violation.field, 200), _cut(violation.description, 600)
        left -= len(field.encode()) + len(description.encode())
        if left < 0:
            break
        bad.field_violations.add(field=field, description=description)
    return bad


def _cut(text: str, most_bytes: int) -> str:
    """The text, or as much of it as fits."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - 3].decode(errors="ignore") + "…"


def _retry(seconds: int) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))


def _status(
    code: int, message: str, reason: str, *details: Message, metadata: dict[str, str] | None = None
) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=_cut(message, _MAX_MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
    for detail in (info, *details):
        status.details.add().Pack(detail)
    return status
