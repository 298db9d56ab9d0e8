"""Protobuf messages as JSON and back, from their descriptors.

The mapping differs from protobuf's own (https://protobuf.dev/programming-guides/json/) where a web client
would not expect it:

- names are the proto field names (snake_case), in both directions;
- 64-bit integers are JSON numbers (a decimal string is accepted too). Every amount of this API is far below
  2**53, beyond which JavaScript loses precision;
- enum values are lower-case without the type's prefix: COMPETITION_STATE_CREATED is "created". The full name
  is accepted too. A number that this program does not know stays a number;
- bytes are lower-case hex;
- every field is written: a scalar with its default, an unset message or explicitly optional field as null. A
  null is read for these only: an amount that is null is a mistake, not a wish for the default.

Timestamp, Duration, FieldMask, Struct, Value, ListValue and the wrappers have protobuf's own JSON forms.
What a message type needs is worked out once and kept.
"""

import binascii
import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_INTEGER_TEXT = re.compile(r"-?(0|[1-9][0-9]{0,19})")
_NUMBER_TEXT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
# Deeper nesting than any message of the API has; keeps recursion far from Python's own limit.
_MAX_DEPTH = 64


class FieldViolation(NamedTuple):
    """One thing that is wrong with an input: the field's path (`terms.locations[2]`) and what is wrong."""

    field: str
    description: str


class InvalidJsonError(ValueError):
    """The text is not JSON (RFC 8259), or has a member twice."""


class InvalidFieldsError(ValueError):
    """The JSON does not fit the message. `violations` has every misfit, in order of appearance."""

    def __init__(self, violations: list[FieldViolation]) -> None:
        super().__init__(
            "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations)
        )
        self.violations = tuple(violations)


class _FieldError(ValueError):
    """What is wrong with the field at hand; its path is known further out."""


# --- JSON text ---


# Made once: json.dumps makes a new one at every call that has settings.
_encode_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dumps(value: Any) -> bytes:
    """JSON text of a JSON value: compact, UTF-8, one line."""
    return _encode_text(value).encode()


def loads(text: bytes) -> Any:
    """The JSON value of UTF-8 text. InvalidJsonError says where it breaks."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidJsonError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise InvalidJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InvalidJsonError("nested too deeply") from error
    except InvalidJsonError:
        raise
    except ValueError as error:  # Python refuses integers of more than 4300 digits.
        raise InvalidJsonError("a number is too long") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        # Two readers could take different ones; with amounts that must not be a matter of luck.
        raise InvalidJsonError(f"member {twice!r} appears twice in one object")
    return members


def _no_constant(text: str) -> None:
    raise InvalidJsonError(f"{text} is not JSON")


# --- message to JSON value ---

_Encoder = Callable[[Any], Any]


def encode(message: Message) -> Any:
    """The JSON value (dicts, lists, strings, numbers) of a message."""
    return _message_encoder(message.DESCRIPTOR)(message)


def encode_field(message: Message, name: str) -> Any:
    """The JSON value of one field of a message."""
    return _plan(message.DESCRIPTOR)[name](message)


def encode_items(field: FieldDescriptor, items: Iterable[Any]) -> list[Any]:
    """The JSON values of some of a repeated field's items."""
    value_encoder = _value_encoder(field)
    return list(items) if value_encoder is None else [value_encoder(item) for item in items]


def enum_text(enum: EnumDescriptor, number: int) -> str | int:
    """The lower-case name without the type's prefix, or the number itself if it is not known."""
    return _enum_names(enum).get(number, number)


@cache
def _enum_names(enum: EnumDescriptor) -> dict[int, str]:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", enum.name).upper() + "_"
    # With an alias the first name of a number counts.
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name.removeprefix(prefix).lower())
    return names


@cache
def _enum_numbers(enum: EnumDescriptor) -> dict[str, int]:
    short = {name: number for number, name in _enum_names(enum).items()}
    return short | {value.name: value.number for value in enum.values}


@cache
def _message_encoder(descriptor: Descriptor) -> _Encoder:
    if (known := _KNOWN_ENCODERS.get(descriptor.full_name)) is not None:
        return known
    if descriptor.full_name in _WRAPPERS:
        return _field_encoder(descriptor.fields_by_name["value"])
    plan = tuple(_plan(descriptor).items())
    return lambda message: {name: get(message) for name, get in plan}


@cache
def _plan(descriptor: Descriptor) -> dict[str, _Encoder]:
    return {field.name: _field_encoder(field) for field in descriptor.fields}


def _field_encoder(field: FieldDescriptor) -> _Encoder:
    """What reads the field from its message and gives the JSON value."""
    get: Callable[[Any], Any] = attrgetter(field.name)
    name = field.name
    if is_map(field):
        key = _MAP_KEY_TEXT.get(map_key(field).cpp_type, str)
        value = _value_encoder(map_value(field)) or _same
        return lambda message: {key(k): value(v) for k, v in get(message).items()}
    value_encoder = _value_encoder(field)
    if field.is_repeated:
        if value_encoder is None:
            return lambda message: list(get(message))
        return lambda message: [value_encoder(item) for item in get(message)]
    encode_value = value_encoder or _same
    if field.has_presence:
        return lambda message: encode_value(get(message)) if message.HasField(name) else None
    return get if value_encoder is None else lambda message: encode_value(get(message))


def _value_encoder(field: FieldDescriptor) -> _Encoder | None:
    """What turns one value of the field into JSON; None: it is JSON already."""
    if field.message_type is not None:
        message_type = field.message_type
        if (known := _KNOWN_ENCODERS.get(message_type.full_name)) is not None:
            return known
        # Looked up when used, since a type may contain itself.
        return lambda message: _message_encoder(message_type)(message)
    if field.enum_type is not None:
        names = _enum_names(field.enum_type)
        return lambda number: names.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex
    if field.cpp_type in _FLOATS:
        return _float_json
    return None


def _same(value: Any) -> Any:
    return value


def _float_json(value: float) -> float | int | str:
    if math.isfinite(value):
        # 20, not 20.0; but -0.0 has no integer.
        whole = value.is_integer() and abs(value) < 2**53 and (value != 0 or math.copysign(1, value) > 0)
        return int(value) if whole else value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _timestamp_json(timestamp: Any) -> str:
    return _time_text(timestamp.seconds, timestamp.nanos)


# The same times are written again and again: of one competition, for everybody who looks at it.
@lru_cache(4096)
def _time_text(seconds: int, nanos: int) -> str:
    # Without the zone's "+00:00".
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    return f"{text}{_fraction(nanos)}Z"


def _duration_json(duration: Any) -> str:
    sign = "-" if duration.seconds < 0 or duration.nanos < 0 else ""
    return f"{sign}{abs(duration.seconds)}{_fraction(abs(duration.nanos))}s"


def _fraction(nanos: int) -> str:
    if nanos == 0:
        return ""
    digits = f"{nanos:09}"
    return "." + (
        digits[:3] if digits.endswith("000000") else digits[:6] if digits.endswith("000") else digits
    )


def _struct_json(struct: Any) -> dict[str, Any]:
    return {name: _dynamic_json(value) for name, value in struct.fields.items()}


def _list_json(values: Any) -> list[Any]:
    return [_dynamic_json(value) for value in values.values]


def _dynamic_json(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            return _float_json(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _struct_json(value.struct_value)
        case "list_value":
            return _list_json(value.list_value)
        case _:
            return None


_KNOWN_ENCODERS: dict[str, _Encoder] = {
    "google.protobuf.Timestamp": _timestamp_json,
    "google.protobuf.Duration": _duration_json,
    "google.protobuf.FieldMask": lambda mask: ",".join(mask.paths),
    "google.protobuf.Struct": _struct_json,
    "google.protobuf.Value": _dynamic_json,
    "google.protobuf.ListValue": _list_json,
}
_MAP_KEY_TEXT: dict[int, Callable[[Any], str]] = {
    FieldDescriptor.CPPTYPE_BOOL: lambda key: "true" if key else "false",
}


# --- JSON value to message ---


def decode(value: Any, descriptor: Descriptor) -> Message:
    """The message of a JSON value. InvalidFieldsError names every field that does not fit."""
    message: Message = GetMessageClass(descriptor)()
    decode_into(message, value)
    return message


def decode_into(message: Message, value: Any, path: str = "") -> None:
    """Sets the message's fields from a JSON value; `path` is where the message stands in the whole input.

    InvalidFieldsError names every field that does not fit; the message is then of no use.
    """
    violations: list[FieldViolation] = []
    _fill(message, value, path, violations, 0)
    if violations:
        raise InvalidFieldsError(violations)


def set_field(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    """Sets one field from a JSON value. InvalidFieldsError as for `decode_into`."""
    violations: list[FieldViolation] = []
    _set(message, field, value, path, violations, 0)
    if violations:
        raise InvalidFieldsError(violations)


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {field.name: field for field in descriptor.fields}


def _fill(message: Any, value: Any, path: str, violations: list[FieldViolation], depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    if depth > _MAX_DEPTH:
        violations.append(FieldViolation(path, "nested too deeply"))
        return
    if (read := _KNOWN_DECODERS.get(descriptor.full_name)) is not None:
        try:
            read(message, value)
        except _FieldError as error:
            violations.append(FieldViolation(path, str(error)))
        return
    if descriptor.full_name in _WRAPPERS:
        _set(message, descriptor.fields_by_name["value"], value, path, violations, depth)
        return
    if not isinstance(value, dict):
        violations.append(FieldViolation(path, f"must be an object, not {_kind(value)}"))
        return
    fields = _fields(descriptor)
    chosen: dict[str, str] = {}
    for name, item in value.items():
        item_path = f"{path}.{name}" if path else name
        field = fields.get(name)
        if field is None:
            violations.append(FieldViolation(item_path, "unknown field"))
            continue
        if item is None and not _takes_null(field):
            if not field.has_presence or field.is_repeated:
                violations.append(FieldViolation(item_path, "must not be null; leave it out"))
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, name)
            if other != name:
                violations.append(FieldViolation(item_path, f"cannot be given together with {other}"))
                continue
        _set(message, field, item, item_path, violations, depth)


def _set(
    message: Any, field: FieldDescriptor, value: Any, path: str, violations: list[FieldViolation], depth: int
) -> None:
    try:
        if is_map(field):
            _set_map(message, field, value, path, violations, depth)
        elif field.is_repeated:
            if not isinstance(value, list):
                raise _FieldError(f"must be an array, not {_kind(value)}")
            items = getattr(message, field.name)
            for index, item in enumerate(value):
                _append(items, field, item, f"{path}[{index}]", violations, depth)
        elif field.message_type is not None:
            child = getattr(message, field.name)
            child.SetInParent()
            _fill(child, value, path, violations, depth + 1)
        else:
            setattr(message, field.name, _scalar(field, value))
    except _FieldError as error:
        violations.append(FieldViolation(path, str(error)))


def _append(
    items: Any, field: FieldDescriptor, value: Any, path: str, violations: list[FieldViolation], depth: int
) -> None:
    try:
        if value is None and not _takes_null(field):
            raise _FieldError("must not be null")
        if field.message_type is not None:
            _fill(items.add(), value, path, violations, depth + 1)
        else:
            items.append(_scalar(field, value))
    except _FieldError as error:
        violations.append(FieldViolation(path, str(error)))


def _set_map(
    message: Any, field: FieldDescriptor, value: Any, path: str, violations: list[FieldViolation], depth: int
) -> None:
    if not isinstance(value, dict):
        raise _FieldError(f"must be an object, not {_kind(value)}")
    entries = getattr(message, field.name)
    key_field, value_field = map_key(field), map_value(field)
    for name, item in value.items():
        item_path = f"{path}[{json.dumps(name)}]"
        try:
            if item is None and not _takes_null(value_field):
                raise _FieldError("must not be null")
            key = _scalar(key_field, _KEY_BOOLEANS.get(name, name) if _is_bool(key_field) else name)
            if value_field.message_type is not None:
                _fill(entries[key], item, item_path, violations, depth + 1)
            else:
                entries[key] = _scalar(value_field, item)
        except _FieldError as error:
            violations.append(FieldViolation(item_path, str(error)))


_KEY_BOOLEANS = {"true": True, "false": False}


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    """The Python value that protobuf takes for the field. _FieldError if the JSON value is not one."""
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    if (limits := _INTEGER_RANGES.get(field.cpp_type)) is not None:
        return _integer(value, *limits)
    if field.cpp_type in _FLOATS:
        return _float(value, single=field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT)
    if _is_bool(field):
        if not isinstance(value, bool):
            raise _FieldError(f"must be true or false, not {_kind(value)}")
        return value
    if not isinstance(value, str):
        raise _FieldError(f"must be a string, not {_kind(value)}")
    return _hex(value) if field.type == FieldDescriptor.TYPE_BYTES else _text(value)


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
        value = int(value)
    # 1e3 and 5.0 are integers in JSON; a fraction never is.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _FieldError(f"must be an integer, not {_kind(value)}")
    if not low <= value <= high:
        raise _FieldError(f"must be from {low} to {high}")
    return value


def _float(value: Any, *, single: bool) -> float:
    if isinstance(value, str):
        if value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if _NUMBER_TEXT.fullmatch(value):
            value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _FieldError(f"must be a number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (single and abs(number) > 3.4028234663852886e38):
        raise _FieldError("is too large")
    return number


def _enum(enum: EnumDescriptor, value: Any) -> int:
    numbers = _enum_numbers(enum)
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    raise _FieldError("must be one of " + ", ".join(_enum_names(enum).values()))


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _FieldError("has half of a surrogate pair") from error
    return value


def _hex(value: str) -> bytes:
    try:
        return binascii.unhexlify(value)
    except ValueError as error:
        raise _FieldError("must be hex") from error


def _read_timestamp(timestamp: Any, value: Any) -> None:
    found = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _FieldError("must be a time as of RFC 3339, e.g. 2026-11-24T20:00:00Z")
    day, time, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
        timestamp.seconds = int(moment.timestamp())
    except (ValueError, OverflowError) as error:
        raise _FieldError("is not a time that exists") from error
    if not -62135596800 <= timestamp.seconds <= 253402300799:
        raise _FieldError("must be from year 1 to 9999")
    timestamp.nanos = int((fraction or "0").ljust(9, "0"))


def _read_duration(duration: Any, value: Any) -> None:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2]) > 315576000000:
        raise _FieldError("must be a duration in seconds, e.g. 1.5s")
    sign = -1 if found[1] else 1
    duration.seconds = sign * int(found[2])
    duration.nanos = sign * int((found[3] or "0").ljust(9, "0"))


def _read_mask(mask: Any, value: Any) -> None:
    if not isinstance(value, str):
        raise _FieldError("must be field names, separated by commas")
    mask.paths.extend(_text(path) for path in value.split(",") if path)


def _read_struct(struct: Any, value: Any, depth: int = 0) -> None:
    if not isinstance(value, dict):
        raise _FieldError(f"must be an object, not {_kind(value)}")
    struct.SetInParent()
    for name, item in value.items():
        _read_dynamic(struct.fields[_text(name)], item, depth + 1)


def _read_list(values: Any, value: Any, depth: int = 0) -> None:
    if not isinstance(value, list):
        raise _FieldError(f"must be an array, not {_kind(value)}")
    values.SetInParent()
    for item in value:
        _read_dynamic(values.values.add(), item, depth + 1)


def _read_dynamic(target: Any, value: Any, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise _FieldError("nested too deeply")
    match value:
        case None:
            target.null_value = 0
        case bool():
            target.bool_value = value
        case int() | float():
            target.number_value = _float(value, single=False)
        case str():
            target.string_value = _text(value)
        case dict():
            _read_struct(target.struct_value, value, depth)
        case _:
            _read_list(target.list_value, value, depth)


_KNOWN_DECODERS: dict[str, Callable[[Any, Any], None]] = {
    "google.protobuf.Timestamp": _read_timestamp,
    "google.protobuf.Duration": _read_duration,
    "google.protobuf.FieldMask": _read_mask,
    "google.protobuf.Struct": _read_struct,
    "google.protobuf.Value": _read_dynamic,
    "google.protobuf.ListValue": _read_list,
}


# --- descriptors ---


def is_map(field: FieldDescriptor) -> bool:
    """A map field, not a plain repeated message."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_key(field: FieldDescriptor) -> FieldDescriptor:
    """The key of a map field."""
    entry: Any = field.message_type
    found: FieldDescriptor = entry.fields_by_name["key"]
    return found


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    """The value of a map field."""
    entry: Any = field.message_type
    found: FieldDescriptor = entry.fields_by_name["value"]
    return found


def has_text_form(descriptor: Descriptor) -> bool:
    """Whether a message of this type is a plain string, number or boolean in JSON."""
    return descriptor.full_name in _WRAPPERS or descriptor.full_name in (
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "google.protobuf.FieldMask",
    )


def _is_bool(field: FieldDescriptor) -> bool:
    return field.cpp_type == FieldDescriptor.CPPTYPE_BOOL


def _takes_null(field: FieldDescriptor) -> bool:
    return (
        field.message_type is not None
        and field.message_type.full_name == "google.protobuf.Value"
        and not field.is_repeated
    )


def _kind(value: Any) -> str:
    """What a JSON value is, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
