"""Messages of any type, filled from their descriptors."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from coordinator_gateway import jsoncodec

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def filled(descriptor: Descriptor, seed: int = 1) -> Message:
    """A message with every field set (of a oneof, the first), the same for the same seed."""
    message: Any = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds, message.nanos = 1_800_000_000 + seed, 250_000_000
        return message
    if descriptor.full_name == "google.protobuf.Struct":
        message.update({"text": f"é{seed}", "number": seed, "list": [True, None, {"a": 0.5}]})
        return message
    for number, field in enumerate(descriptor.fields, seed):
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        if jsoncodec.is_map(field):
            key = _value(jsoncodec.map_key(field), number)
            getattr(message, field.name)[key] = _value(jsoncodec.map_value(field), number)
        elif field.is_repeated:
            getattr(message, field.name).extend([_value(field, number), _value(field, number + 1)])
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(filled(field.message_type, number))
        else:
            setattr(message, field.name, _value(field, number))
    return message


def _value(field: FieldDescriptor, number: int) -> Any:
    if field.message_type is not None:
        return filled(field.message_type, number)
    if field.enum_type is not None:
        return field.enum_type.values[1 + number % (len(field.enum_type.values) - 1)].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes([number % 256, 255])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f"{field.name} {number} ü&=?"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    return number


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Any message of the type: fields set and unset, values from end to end of their ranges."""
    message: Any = GetMessageClass(descriptor)()
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(-62135596800, 253402300799))
        message.nanos = draw(st.integers(0, 999_999_999))
        return message
    if descriptor.full_name == "google.protobuf.Struct":
        message.update(draw(st.dictionaries(st.text(max_size=5), _JSON, max_size=3)))
        return message
    for field in descriptor.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        if not draw(st.booleans()) or depth > 4:
            continue
        if jsoncodec.is_map(field):
            keys, values = (
                _values(jsoncodec.map_key(field), depth),
                _values(jsoncodec.map_value(field), depth),
            )
            getattr(message, field.name).update(draw(st.dictionaries(keys, values, max_size=3)))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_values(field, depth), max_size=3)))
        elif field.message_type is not None:
            child = getattr(message, field.name)
            child.CopyFrom(draw(messages(field.message_type, depth + 1)))
            child.SetInParent()
        else:
            setattr(message, field.name, draw(_values(field, depth)))
    return message


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type in _INTEGERS:
        return _INTEGERS[field.cpp_type]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.text(max_size=8)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    return st.floats(allow_nan=False)
