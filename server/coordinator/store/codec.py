"""Frozen dataclasses to plain JSON values and back, driven by their type annotations.

bytes become hex, tuples lists; a union of None and one other type is supported. Decoding is strict: a missing
or unknown field raises, so a stored state is never half understood.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class CodecError(ValueError):
    """A stored value does not fit its type."""


def to_plain(value: Any) -> Any:
    """JSON-ready form of a dataclass instance, tuple, bytes or scalar."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


def from_plain(kind: type[T], plain: Any) -> T:
    """An instance of `kind` from its plain form.

    Raises:
        CodecError: it does not fit.
    """
    return typing.cast(T, _decode(kind, plain))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if not _is_class_var(hint)}


def _is_class_var(hint: Any) -> bool:
    return hint is typing.ClassVar or typing.get_origin(hint) is typing.ClassVar


def _decode(hint: Any, plain: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if plain is None:
            return None
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(options) != 1:
            raise CodecError(f"cannot decode {hint}")
        return _decode(options[0], plain)
    if origin is tuple:
        inner, *rest = typing.get_args(hint)
        if rest != [Ellipsis] or not isinstance(plain, list):
            raise CodecError(f"expected a list for {hint}")
        return tuple(_decode(inner, item) for item in plain)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _decode_dataclass(hint, plain)
    if hint is bytes:
        if not isinstance(plain, str):
            raise CodecError("expected hex")
        return bytes.fromhex(plain)
    if hint is int and isinstance(plain, bool):
        raise CodecError("expected int")
    if isinstance(hint, type) and isinstance(plain, hint):
        return plain
    raise CodecError(f"expected {hint}, found {type(plain).__name__}")


def _decode_dataclass(kind: type, plain: Any) -> Any:
    if not isinstance(plain, dict):
        raise CodecError(f"expected an object for {kind.__name__}")
    hints = _hints(kind)
    if unknown := plain.keys() - hints.keys():
        raise CodecError(f"{kind.__name__} has no {sorted(unknown)}")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name not in plain:
            if field.default is dataclasses.MISSING:
                raise CodecError(f"{kind.__name__} lacks {field.name}")
            continue
        values[field.name] = _decode(hints[field.name], plain[field.name])
    return kind(**values)
