"""google.protobuf.Struct as the JSON object that it stands for, and back (google/protobuf/struct.proto)."""

from __future__ import annotations

import math
from typing import Any

import betterproto
from betterproto.lib.google.protobuf import ListValue, NullValue, Struct, Value


def struct_to_json(struct: Struct) -> dict[str, Any]:
    """The object."""
    return {name: _value_to_json(value) for name, value in struct.fields.items()}


def struct_from_json(content: dict[str, Any]) -> Struct:
    """The message of an object.

    Raises:
        ValueError: something in it is no JSON.
    """
    return Struct(fields={name: _value_from_json(item) for name, item in content.items()})


def number_to_json(value: float) -> float | int:
    """20 and not 20.0, where nothing is lost by it."""
    if not math.isfinite(value) or not value.is_integer() or abs(value) >= 2**53:
        return value
    is_negative_zero = value == 0 and math.copysign(1, value) < 0
    return value if is_negative_zero else int(value)


def _value_to_json(value: Value) -> Any:
    kind: tuple[str, Any] = betterproto.which_one_of(value, "kind")
    match kind:
        case "number_value", number:
            return number_to_json(number)
        case "struct_value", struct:
            return struct_to_json(struct)
        case "list_value", items:
            return [_value_to_json(item) for item in items.values]
        case (("string_value" | "bool_value"), plain):
            return plain
        case _:
            return None


def _value_from_json(content: Any) -> Value:
    match content:
        case None:
            return Value(null_value=NullValue(0))
        case bool():
            return Value(bool_value=content)
        case int() | float():
            return Value(number_value=float(content))
        case str():
            return Value(string_value=content)
        case dict():
            return Value(struct_value=struct_from_json(content))
        case list():
            return Value(list_value=ListValue(values=[_value_from_json(item) for item in content]))
        case _:
            raise ValueError(f"{type(content).__name__} is no JSON")
