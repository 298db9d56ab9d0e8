"""The details of a gRPC error: the messages of google/rpc/{status,error_details}.proto that the coordinator
sends, read without Google's own Python packages."""
# ruff: noqa: RUF009 - betterproto declares fields this way

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import betterproto
from betterproto.lib.google.protobuf import Any as AnyMessage
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase


@dataclass(eq=False, repr=False)
class StatusMessage(betterproto.Message):
    """google.rpc.Status: the content of `grpc-status-details-bin`."""

    code: int = betterproto.int32_field(1)
    message: str = betterproto.string_field(2)
    details: list[AnyMessage] = betterproto.message_field(3)


@dataclass(eq=False, repr=False)
class ErrorInfo(betterproto.Message):
    """google.rpc.ErrorInfo: why, for programs."""

    reason: str = betterproto.string_field(1)
    domain: str = betterproto.string_field(2)
    metadata: dict[str, str] = betterproto.map_field(3, betterproto.TYPE_STRING, betterproto.TYPE_STRING)


@dataclass(eq=False, repr=False)
class FieldViolation(betterproto.Message):
    """google.rpc.BadRequest.FieldViolation: one wrong field."""

    field: str = betterproto.string_field(1)
    description: str = betterproto.string_field(2)


@dataclass(eq=False, repr=False)
class BadRequest(betterproto.Message):
    """google.rpc.BadRequest: what is wrong with the request."""

    field_violations: list[FieldViolation] = betterproto.message_field(1)


@dataclass(eq=False, repr=False)
class RetryInfo(betterproto.Message):
    """google.rpc.RetryInfo: how long to wait before the next attempt."""

    retry_delay: timedelta = betterproto.message_field(1)


Detail = ErrorInfo | BadRequest | RetryInfo

_KINDS: Final[dict[str, type[ErrorInfo] | type[BadRequest] | type[RetryInfo]]] = {
    "google.rpc.ErrorInfo": ErrorInfo,
    "google.rpc.BadRequest": BadRequest,
    "google.rpc.RetryInfo": RetryInfo,
}


class StatusDetailsCodec(StatusDetailsCodecBase):
    """Gives `GRPCError.details` as a list of `Detail`."""

    def encode(self, status: Status, message: str | None, details: Sequence[Any]) -> bytes:
        """Of servers only."""
        raise NotImplementedError

    def decode(self, status: Status, message: str | None, data: bytes) -> list[Detail]:
        """What is known of the details. Others, and malformed ones, are left out: the status says enough."""
        try:
            packed = StatusMessage.FromString(data).details
        except Exception:  # betterproto has no error of its own for bytes that are no message
            return []
        details: list[Detail] = []
        for item in packed:
            kind = _KINDS.get(item.type_url.rpartition("/")[2])
            try:
                if kind is not None:
                    details.append(kind.FromString(item.value))
            except Exception:  # noqa: S112
                continue
        return details
