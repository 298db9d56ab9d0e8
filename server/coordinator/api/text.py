"""Text in requests: what no database column takes is refused here, once for all methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from coordinator.domain.errors import FieldViolation, InvalidInput


def check_text(message: Message) -> None:
    """Refuses NUL characters, which PostgreSQL cannot store.

    Raises:
        InvalidInput: names each field that holds one.
    """
    wrong = [FieldViolation(path, "must not contain a NUL character") for path in _with_nul(message, "")]
    if wrong:
        raise InvalidInput(wrong)


def _with_nul(message: Message, prefix: str) -> Iterator[str]:
    for field, value in message.ListFields():
        path = prefix + field.name
        values: Any = value
        if not field.is_repeated:
            yield from _in_value(value, path)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in values:
                yield from _in_value(key, path)
                yield from _in_value(values[key], path)
        else:
            for index, item in enumerate(values):
                yield from _in_value(item, f"{path}[{index}]")


def _in_value(value: object, path: str) -> Iterator[str]:
    if isinstance(value, str) and "\x00" in value:
        yield path
    elif isinstance(value, Message):
        yield from _with_nul(value, f"{path}.")
