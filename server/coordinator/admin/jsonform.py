"""Generated messages as JSON in the form that the REST API has.

Names as in the .proto files, enum values lower-case without their prefix, bytes in hex, 64-bit integers as
numbers, times in RFC 3339. Every field is written, as the gateway does, so that a script never has to ask
whether one is there; null stands for an unset message. `coordinator_client.jsonform` makes requests, which
leave out what has its default. Of a oneof only the member that is set is written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import betterproto
import betterproto.lib.google.protobuf as known

from coordinator_client.freeform import number_to_json, struct_to_json


def message_json(message: betterproto.Message) -> dict[str, Any]:
    """The JSON object of a message."""
    result: dict[str, Any] = {}
    fields: Any = message._betterproto  # type: ignore[arg-type]
    for name, meta in fields.meta_by_field_name.items():
        if meta.group and not meta.optional and betterproto.which_one_of(message, meta.group)[0] != name:
            continue
        value: Any = getattr(message, name)
        if meta.proto_type == betterproto.TYPE_MAP:
            # An object's members have an order for people, the wire's has no meaning.
            result[name] = {str(key): _json(value[key]) for key in sorted(value)}
        elif isinstance(value, list):
            result[name] = [_json(item) for item in value]
        elif meta.proto_type == betterproto.TYPE_ENUM:
            result[name] = _enum_json(fields.cls_by_field[name], value)
        elif isinstance(value, datetime):
            result[name] = _json(value) if value.timestamp() != 0 else None
        elif isinstance(value, betterproto.Message) and not meta.group:
            result[name] = _json(value) if _is_set(value) else None
        else:
            result[name] = _json(value)
    return result


def _json(value: Any) -> Any:
    match value:
        case datetime():
            text = value.astimezone(UTC).replace(tzinfo=None)
            return text.isoformat(timespec=_precision(text)) + "Z"
        case bytes():
            return value.hex()
        case known.Struct():
            return struct_to_json(value)
        case betterproto.Message():
            return message_json(value)
        case float():
            return number_to_json(value)
        case _:
            return value


def _enum_json(kind: Any, value: Any) -> str | int:
    """A number that this version has no name for stays a number."""
    known_value = kind.try_value(int(value))
    name: str | None = known_value.name
    return int(value) if name is None else name.lower()


def _is_set(message: betterproto.Message) -> bool:
    return betterproto.serialized_on_wire(message) or bool(bytes(message))


def _precision(moment: datetime) -> str:
    if moment.microsecond == 0:
        return "seconds"
    return "microseconds" if moment.microsecond % 1000 else "milliseconds"
