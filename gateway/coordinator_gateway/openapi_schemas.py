"""JSON Schemas of protobuf messages, as `jsoncodec` writes and reads them.

A message has two: of an answer, in which every field is there, and, with `Input` after its name, of a
request, which must have the required ones only.
"""

import re
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from coordinator_gateway import jsoncodec
from coordinator_gateway.protocomments import comments

_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "integer", "format": "uint64", "minimum": 0},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
}
_INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)
_NEVER_NEGATIVE = ("sequence", "_sats", "_blocks", "_vb")
# How comments state limits: "1,000 to 100,000,000", "at least 330", "1 to 100 characters",
# "up to 128 characters".
_RANGE = re.compile(r"\b([0-9][0-9,]*) to ([0-9][0-9,]*[0-9]|[0-9])\b")
_AT_LEAST = re.compile(r"\bat least ([0-9][0-9,]*)\b")
_LENGTH = re.compile(r"\b(?:([0-9]+)|up) to ([0-9]+) characters\b")
# RFC 9562, section 5.7, as the core takes it.
_UUID7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


class Schemas:
    """Of answers, or of requests; both keep what they have described in `named`."""

    def __init__(self, named: dict[str, Any], *, of_requests: bool) -> None:
        self._named = named
        self._of_requests = of_requests

    def message(self, message: Descriptor) -> dict[str, Any]:
        """A reference to a message's schema."""
        if message.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[message.full_name])
        name = f"{message.name}Input" if self._of_requests else message.name
        if name not in self._named:
            # Entered before it is complete, since it may contain itself.
            self._named[name] = {}
            self._named[name] = self.inline(message)
        return reference(name)

    def inline(self, message: Descriptor, without: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
        """A message's schema itself, but for some fields."""
        properties: dict[str, Any] = {}
        required: list[str] = []
        for field in message.fields:
            if field.name in without:
                continue
            schema = self.field(field)
            if field.has_presence and not field.is_repeated and not _is_required(field):
                schema = _nullable(schema)
            if text := comments().get(field.full_name):
                schema["description"] = text
            if _behaves(field, field_behavior_pb2.OUTPUT_ONLY):
                schema["readOnly"] = True
            if _is_required(field) or not (self._of_requests or field.containing_oneof):
                required.append(field.name)
            properties[field.name] = schema
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if text := comments().get(message.full_name):
            schema["description"] = text
        if required:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor) -> dict[str, Any]:
        """A field's schema."""
        if jsoncodec.is_map(field):
            return {"type": "object", "additionalProperties": self._single(jsoncodec.map_value(field))}
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _single(self, field: FieldDescriptor) -> dict[str, Any]:
        message: Any = field.message_type
        if message is not None:
            return self.message(message)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
        return _SCALARS[field.cpp_type] | limits(field)

    def _enum(self, enum: EnumDescriptor) -> dict[str, Any]:
        if enum.name not in self._named:
            # Values stand beside their enum, not inside it, by C++'s rules.
            scope = enum.full_name.removesuffix(enum.name)
            names = [str(jsoncodec.enum_text(enum, value.number)) for value in enum.values]
            lines = [
                f"- `{name}`: {comments().get(scope + value.name, '')}"
                for name, value in zip(names, enum.values, strict=True)
            ]
            text = "\n".join([comments().get(enum.full_name, ""), "", *lines])
            self._named[enum.name] = {"type": "string", "enum": names, "description": text.strip()}
        return reference(enum.name)


def reference(name: str) -> dict[str, Any]:
    """A reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _is_required(field: FieldDescriptor) -> bool:
    return _behaves(field, field_behavior_pb2.REQUIRED)


def _behaves(field: FieldDescriptor, behavior: int) -> bool:
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def limits(field: FieldDescriptor) -> dict[str, Any]:
    """What the field's comment says of its values: that it is an id, from where to where, how long."""
    text = comments().get(field.full_name, "")
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if text.startswith("UUIDv7"):
            return {} if "empty" in text else {"pattern": _UUID7}
        length = _LENGTH.search(text)
        return {"minLength": int(length[1] or 0), "maxLength": int(length[2])} if length else {}
    if field.cpp_type not in _INTEGERS:
        return {}
    # More than the largest page is the largest page (AIP-158).
    if field.name == "page_size":
        return {"minimum": 0}
    found = {"minimum": 0} if field.name.endswith(_NEVER_NEGATIVE) else {}
    if least := _AT_LEAST.search(text):
        found["minimum"] = _number(least[1])
    if range_ := _RANGE.search(text):
        # 0 is what is not set, and stands for a default.
        found |= {"minimum": _number(range_[1]) if _is_required(field) else 0, "maximum": _number(range_[2])}
    return found


def _number(text: str) -> int:
    return int(text.replace(",", ""))
