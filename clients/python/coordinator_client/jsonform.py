"""The REST API's JSON as the generated messages, and back.

The gateway's form, not protobuf's own: field names as in the .proto files, enum values lower-case without
their prefix, bytes in hex, 64-bit integers as numbers, times in RFC 3339, google.protobuf.Struct as the
object that it stands for, null for absence. Streamed events have a form of their own:
`coordinator_client.watch.Event`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import betterproto
from betterproto.lib.google.protobuf import Struct

from coordinator_client.errors import MalformedAnswer
from coordinator_client.freeform import struct_from_json, struct_to_json

M = TypeVar("M", bound=betterproto.Message)

_INTEGERS: Final = frozenset({"int32", "int64", "uint32", "uint64", "sint32", "sint64"})
_FLOATS: Final = frozenset({"float", "double"})


def from_json(kind: type[M], value: object, path: str = "") -> M:
    """A message from JSON. Members that this version does not know are left out.

    Raises:
        MalformedAnswer: a value has the wrong type; names its path.
    """
    if not isinstance(value, dict):
        raise MalformedAnswer(f"{path or kind.__name__} must be an object")
    message: Any = kind()
    fields = message._betterproto
    for name, meta in fields.meta_by_field_name.items():
        given = value.get(name)
        if given is None:
            continue
        where = f"{path}.{name}" if path else name
        if meta.proto_type == betterproto.TYPE_MAP:
            setattr(message, name, _map_from(fields, name, meta, given, where))
        elif isinstance(getattr(message, name, None), list):
            if not isinstance(given, list):
                raise MalformedAnswer(f"{where} must be a list")
            kind_of_item = fields.cls_by_field[name]
            items = [
                _from(meta.proto_type, kind_of_item, item, f"{where}[{index}]")
                for index, item in enumerate(given)
            ]
            setattr(message, name, items)
        else:
            setattr(message, name, _from(meta.proto_type, fields.cls_by_field[name], given, where))
    parsed: M = message
    return parsed


def to_json(message: betterproto.Message) -> dict[str, Any]:
    """JSON of a message, without the fields that have their default."""
    result: dict[str, Any] = {}
    fields: Any = message._betterproto  # type: ignore[arg-type]
    for name, meta in fields.meta_by_field_name.items():
        value = getattr(message, name, None)  # None, too, for what is not the set one of a oneof
        if value is None or (not meta.optional and not meta.group and _is_default(value)):
            continue
        if meta.proto_type == betterproto.TYPE_MAP:
            result[name] = {str(key): _to(item) for key, item in value.items()}
        elif isinstance(value, list):
            result[name] = [_to(item) for item in value]
        else:
            result[name] = _to(value)
    return result


def _map_from(fields: Any, name: str, meta: Any, given: object, where: str) -> dict[Any, Any]:
    if not isinstance(given, dict):
        raise MalformedAnswer(f"{where} must be an object")
    key_type, value_type = meta.map_types
    kind = fields.cls_by_field[f"{name}.value"]
    try:
        return {
            (int(key) if key_type in _INTEGERS else key): _from(value_type, kind, item, f"{where}.{key}")
            for key, item in given.items()
        }
    except ValueError:
        raise MalformedAnswer(f"{where} must have numbers as keys") from None


def _from(proto_type: str, kind: Any, value: object, where: str) -> Any:
    if proto_type == betterproto.TYPE_MESSAGE:
        return _message_from(kind, value, where)
    if proto_type == betterproto.TYPE_ENUM:
        return _enum_from(kind, value, where)
    if proto_type == betterproto.TYPE_BOOL:
        expected, right = "true or false", isinstance(value, bool)
    elif proto_type in _INTEGERS:
        expected, right = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    elif proto_type in _FLOATS:
        expected, right = "a number", isinstance(value, int | float) and not isinstance(value, bool)
    else:
        expected, right = "text", isinstance(value, str)
    if not right:
        raise MalformedAnswer(f"{where} must be {expected}")
    if proto_type == betterproto.TYPE_BYTES:
        try:
            return bytes.fromhex(str(value))
        except ValueError:
            raise MalformedAnswer(f"{where} must be hexadecimal") from None
    return value


def _message_from(kind: Any, value: object, where: str) -> Any:
    if kind is datetime:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if not isinstance(value, str) or moment is None or moment.tzinfo is None:
            raise MalformedAnswer(f"{where} must be a time (RFC 3339)")
        return moment
    if kind is Struct:
        if not isinstance(value, dict):
            raise MalformedAnswer(f"{where} must be an object")
        return struct_from_json(value)
    return from_json(kind, value, where)


def _enum_from(kind: Any, value: object, where: str) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return kind.try_value(value)  # newer than this client
    try:
        return kind[str(value).upper()]
    except KeyError:
        raise MalformedAnswer(f"{where} must be one of {kind.__name__}, is {value!r:.50}") from None


def _to(value: Any) -> Any:
    if isinstance(value, betterproto.Enum):
        return value.name.lower() if value.name else value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Struct):
        return struct_to_json(value)
    if isinstance(value, betterproto.Message):
        return to_json(value)
    return value


def _is_default(value: Any) -> bool:
    if isinstance(value, betterproto.Message):
        return not bytes(value) and not betterproto.serialized_on_wire(value)
    if isinstance(value, datetime):
        return value.timestamp() == 0
    return not value
