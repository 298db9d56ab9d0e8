"""JSON in pieces is JSON at once, and who gets it compressed."""

from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordinator.v1 import competition_pb2
from coordinator_gateway import api, jsoncodec, jsonpieces
from coordinator_gateway.jsonanswer import accepts_gzip
from support.messages import filled

METHODS = [method for service in api.services() for method in service.methods]


def at_once(message: Message) -> bytes:
    return jsoncodec.dumps(jsoncodec.encode(message))


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_answer(method: MethodDescriptor, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonpieces, "_ITEMS", size)
    monkeypatch.setattr(jsonpieces, "_CHARACTERS", size)
    for message in (GetMessageClass(method.output_type)(), filled(method.output_type, 5)):
        assert b"".join(jsonpieces.pieces(message)) == at_once(message)


def test_text_is_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonpieces, "_CHARACTERS", 3)
    message = competition_pb2.GetContractResponse(parameters_json='{"é": "\n\\"}' + "\U0001f300\x7f\x01/" * 7)
    assert b"".join(jsonpieces.pieces(message)) == at_once(message)


def test_no_piece_is_large() -> None:
    message = competition_pb2.GetContractResponse(parameters_json="x" * 3_000_000)
    for number in range(10_000):
        message.signatures.add(key=f"att{number}", signature=bytes(65))
    sizes = [len(piece) for piece in jsonpieces.pieces(message)]
    assert max(sizes) < 300_000 < sum(sizes)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("*", True),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_who_takes_gzip(header: str | None, accepted: bool) -> None:
    headers: list[Any] = [(b"host", b"x")]
    if header is not None:
        headers.append((b"accept-encoding", header.encode()))
    assert accepts_gzip({"headers": headers}) is accepted
