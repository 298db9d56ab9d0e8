"""The JSON text of a large message in pieces: none takes long to write, so others have their turn in between.

The C code that writes JSON lets no other thread run meanwhile, so that a thread alone would not be enough.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from coordinator_gateway import jsoncodec

_ITEMS = 1024
_CHARACTERS = 256 * 1024


def pieces(message: Message) -> Iterator[bytes]:
    """In order, what `jsoncodec.dumps(jsoncodec.encode(message))` writes at once."""
    opening = b"{"
    fields: Any = message.DESCRIPTOR.fields
    for field in fields:
        yield opening + jsoncodec.dumps(field.name) + b":"
        opening = b","
        if field.is_repeated and not jsoncodec.is_map(field):
            yield from _array(field, getattr(message, field.name))
        elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and not field.has_presence:
            yield from _string(getattr(message, field.name))
        else:
            yield jsoncodec.dumps(jsoncodec.encode_field(message, field.name))
    yield b"}" if fields else b"{}"


def _array(field: FieldDescriptor, items: Any) -> Iterator[bytes]:
    opening = b"["
    left = iter(items)
    while slice_ := jsoncodec.encode_items(field, islice(left, _ITEMS)):
        yield opening + jsoncodec.dumps(slice_)[1:-1]
        opening = b","
    yield b"]" if items else b"[]"


def _string(text: str) -> Iterator[bytes]:
    yield b'"'
    for start in range(0, len(text), _CHARACTERS):
        yield jsoncodec.dumps(text[start : start + _CHARACTERS])[1:-1]
    yield b'"'
