"""Errors as gRPC statuses: each has its code and reason, and nothing internal gets out."""

import logging
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from coordinator.api.errors import RETRY_SECONDS, status_of
from coordinator.domain import errors
from coordinator.domain.errors import DomainError, FieldViolation, InvalidInput
from coordinator.domain.wallet.errors import InsufficientFunds, WalletError
from coordinator.ports.chain import ChainUnavailable, TransactionRejected
from coordinator.ports.keymeld import KeymeldUnavailable
from coordinator.ports.lightning import LightningError, LightningUnavailable
from coordinator.ports.oracle import OracleUnavailable
from coordinator.store.competitions import StaleState

M = TypeVar("M", bound=Message)


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    return None


def reason(status: status_pb2.Status) -> str:
    info = detail(status, error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.domain == "coordinator.v1"
    return info.reason


CODES: list[tuple[DomainError, int]] = [
    (InvalidInput.of("name", "is missing"), code_pb2.INVALID_ARGUMENT),
    (WalletError("address", "is mistyped"), code_pb2.INVALID_ARGUMENT),
    (errors.NotFound("x"), code_pb2.NOT_FOUND),
    (errors.AlreadyExists("x"), code_pb2.ALREADY_EXISTS),
    (errors.PreconditionFailed("x"), code_pb2.FAILED_PRECONDITION),
    (InsufficientFunds(2, 1), code_pb2.FAILED_PRECONDITION),
    (errors.Exhausted("x"), code_pb2.RESOURCE_EXHAUSTED),
    (errors.Unauthenticated("x"), code_pb2.UNAUTHENTICATED),
    (errors.PermissionDenied("x"), code_pb2.PERMISSION_DENIED),
    (errors.OutOfRange("x"), code_pb2.OUT_OF_RANGE),
    (errors.ServiceUnavailable("x"), code_pb2.UNAVAILABLE),
    (errors.IllegalTransition("x"), code_pb2.FAILED_PRECONDITION),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_domain_errors_keep_their_words_and_reason(error: DomainError, code: int) -> None:
    status = status_of(error)
    assert (status.code, status.message, reason(status)) == (code, str(error), error.reason)


def test_every_domain_error_has_a_code() -> None:
    tried = {type(error) for error, _ in CODES}
    assert tried >= set(DomainError.__subclasses__())


def test_invalid_input_names_its_fields() -> None:
    status = status_of(InvalidInput([FieldViolation("a.b", "is odd"), FieldViolation("c", "is missing")]))
    bad = detail(status, error_details_pb2.BadRequest)
    assert bad is not None
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("a.b", "is odd"),
        ("c", "is missing"),
    ]


def test_a_status_with_very_many_violations_still_fits_http_headers() -> None:
    status = status_of(InvalidInput([FieldViolation(f"field[{i}]", "ü" * 500) for i in range(1000)]))
    # The words travel twice, percent-encoded the first time, and base64-encoded in the details.
    assert len(status.message.encode()) * 3 + status.ByteSize() * 4 / 3 < 8192
    bad = detail(status, error_details_pb2.BadRequest)
    assert bad is not None
    assert bad.field_violations[0].field == "field[0]"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ChainUnavailable("http://10.0.0.1: refused"), "CHAIN_UNAVAILABLE"),
        (LightningUnavailable("10.0.0.2"), "LIGHTNING_UNAVAILABLE"),
        (KeymeldUnavailable("10.0.0.3"), "KEYMELD_UNAVAILABLE"),
        (OracleUnavailable("10.0.0.4"), "ORACLE_UNAVAILABLE"),
    ],
)
def test_a_service_out_of_reach_says_when_to_come_back_and_no_address(
    error: Exception, expected: str
) -> None:
    status = status_of(error)
    retry = detail(status, error_details_pb2.RetryInfo)
    assert (status.code, reason(status)) == (code_pb2.UNAVAILABLE, expected)
    assert retry is not None
    assert retry.retry_delay.seconds == RETRY_SECONDS
    assert "10.0.0" not in status.message


def test_exhausted_says_when_a_place_may_be_free() -> None:
    retry = detail(status_of(errors.Exhausted("full", retry_after_seconds=17)), error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.seconds == 17
    assert detail(status_of(errors.Exhausted("full")), error_details_pb2.RetryInfo) is None


def test_a_write_that_came_too_late_may_be_repeated() -> None:
    status = status_of(StaleState("some id"))
    assert (status.code, reason(status)) == (code_pb2.ABORTED, "CONCURRENT_CHANGE")
    assert detail(status, error_details_pb2.RetryInfo) is not None


def test_a_refused_transaction_says_why() -> None:
    status = status_of(TransactionRejected("bad-txns-inputs-missingorspent"))
    assert (status.code, reason(status)) == (code_pb2.FAILED_PRECONDITION, "TRANSACTION_REJECTED")
    assert "bad-txns-inputs-missingorspent" in status.message


@pytest.mark.parametrize("error", [KeyError("secret-column"), LightningError("secret-node"), ValueError()])
def test_what_is_our_fault_is_told_by_an_incident_and_nothing_else(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status = status_of(error)
    info: Any = detail(status, error_details_pb2.ErrorInfo)
    incident = info.metadata["incident"]
    assert status.code == code_pb2.INTERNAL
    assert incident in status.message
    assert "secret" not in str(status)
    assert incident in caplog.text
    assert type(error).__name__ in caplog.text
