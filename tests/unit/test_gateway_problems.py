"""gRPC errors as RFC 9457 problems."""

import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from coordinator_gateway import problems
from coordinator_gateway.jsoncodec import FieldViolation
from coordinator_gateway.problems import Problem


def rpc_error(code: grpc.StatusCode, message: str, *details: Message) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if details:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            status.details.add().Pack(detail)
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("OUT_OF_RANGE", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("ABORTED", 409),
        ("FAILED_PRECONDITION", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("INTERNAL", 500),
        ("UNKNOWN", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("CANCELLED", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_every_code_has_its_status(code: str, status: int) -> None:
    problem = problems.from_rpc_error(rpc_error(grpc.StatusCode[code], "why"))
    document = problem.document("/x")
    assert document["status"] == problem.status == status
    assert document["reason"] == code
    assert document["type"] == f"urn:coordinator:problem:{code.lower().replace('_', '-')}"
    assert document["title"]
    assert document["instance"] == "/x"


def test_no_code_was_forgotten() -> None:
    codes = set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert codes == set(problems._STATUS)


def test_details_of_the_core() -> None:
    error = rpc_error(
        grpc.StatusCode.INVALID_ARGUMENT,
        "two fields are wrong",
        error_details_pb2.ErrorInfo(reason="TERMS_INVALID", domain="coordinator", metadata={"a": "b"}),
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="terms.name", description="is empty"),
                error_details_pb2.BadRequest.FieldViolation(field="terms.locations", description="none"),
            ]
        ),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
        error_details_pb2.Help(),
    )
    problem = problems.from_rpc_error(error)
    assert problem.document("/api/v1/competitions") == {
        "type": "urn:coordinator:problem:terms-invalid",
        "title": "Invalid request",
        "status": 400,
        "detail": "two fields are wrong",
        "instance": "/api/v1/competitions",
        "reason": "TERMS_INVALID",
        "domain": "coordinator",
        "metadata": {"a": "b"},
        "errors": [
            {"field": "terms.name", "description": "is empty"},
            {"field": "terms.locations", "description": "none"},
        ],
        "retry_after_seconds": 2.5,
    }
    assert problem.headers["retry-after"] == "3"


def test_unauthenticated_says_how_to() -> None:
    problem = problems.from_rpc_error(rpc_error(grpc.StatusCode.UNAUTHENTICATED, "no"))
    assert problem.headers["www-authenticate"] == "Nostr"


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "DATA_LOSS"])
def test_what_went_wrong_inside_stays_inside(code: str) -> None:
    problem = problems.from_rpc_error(rpc_error(grpc.StatusCode[code], "password=hunter2"))
    assert "hunter2" not in json.dumps(problem.document("/x"))


def test_the_transports_words_stay_inside_but_not_the_cores() -> None:
    lost = problems.from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "connect ipv4:10.0.0.7:50051"))
    assert "10.0.0.7" not in json.dumps(lost.document("/x"))
    busy = problems.from_rpc_error(
        rpc_error(grpc.StatusCode.UNAVAILABLE, "oracle is down", error_details_pb2.ErrorInfo(reason="ORACLE"))
    )
    assert busy.document("/x")["detail"] == "oracle is down"


def test_details_that_cannot_be_read() -> None:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailing, details="no")
    assert problems.from_rpc_error(error).document("/x")["detail"] == "no"


def test_response() -> None:
    problem = Problem(400, "bad", errors=[FieldViolation("a", "b")], headers={"x-y": "z"}, more=1)
    response = problem.response("/x")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-y"] == "z"
    document = json.loads(bytes(response.body))
    assert document["errors"] == [{"field": "a", "description": "b"}]
    assert document["more"] == 1
    assert "reason" not in document
