"""google.api.http annotations: which HTTP requests a method answers, and how its request message is built.

Follows the rules in google/api/http.proto (https://google.aip.dev/127): fields bound by the path, the body
(`*`: all other fields, a name: that field, none), every remaining field by the query string; repeated and
nested fields as `kinds=a&kinds=b` and `terms.name=x`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordinator_gateway import jsoncodec
from coordinator_gateway.jsoncodec import FieldViolation, InvalidFieldsError

_VARIABLE = re.compile(r"\{([A-Za-z_][\w.]*)(?:=([^{}]+))?\}")
_MAX_QUERY_FIELDS = 1000


class HttpRuleError(ValueError):
    """An annotation that does not fit its method; a mistake in the proto files."""


@dataclass(frozen=True)
class PathTemplate:
    """A path with variables, e.g. `/api/v1/entries/{entry_id}`."""

    text: str
    fields: tuple[str, ...] = field(init=False)
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.text.startswith("/"):
            raise HttpRuleError(f"path {self.text!r} does not start with /")
        fields: list[str] = []
        pattern, end = "", 0
        for variable in _VARIABLE.finditer(self.text):
            pattern += _segments(self.text[end : variable.start()])
            pattern += f"({_segments(variable[2] or '*')})"
            fields.append(variable[1])
            end = variable.end()
        pattern += _segments(self.text[end:])
        if "{" in _VARIABLE.sub("", self.text) or len(set(fields)) != len(fields):
            raise HttpRuleError(f"path {self.text!r} has a malformed or repeated variable")
        object.__setattr__(self, "fields", tuple(fields))
        object.__setattr__(self, "pattern", re.compile(pattern))

    def match(self, path: str) -> dict[str, str] | None:
        """Values of the variables if the (percent-decoded) path fits, else None."""
        found = self.pattern.fullmatch(path)
        return None if found is None else dict(zip(self.fields, found.groups(), strict=True))

    def expand(self, values: Mapping[str, str]) -> str:
        """The path with the variables replaced."""
        return _VARIABLE.sub(lambda variable: values[variable[1]], self.text)


def _segments(text: str) -> str:
    """A regular expression for literal segments, `*` (one segment) and `**` (the rest)."""
    parts = re.split(r"(\*\*|\*)", text)
    return "".join({"*": "[^/]+", "**": ".+"}.get(part) or re.escape(part) for part in parts)


@dataclass(frozen=True)
class Binding:
    """One HTTP request shape of one method."""

    method: MethodDescriptor
    verb: str
    path: PathTemplate
    body: str
    response_body: str

    def __post_init__(self) -> None:
        for name in (*self.path.fields, *([self.body] if self.body not in ("", "*") else [])):
            resolve(self.method.input_type, name)
        if self.response_body:
            resolve(self.method.output_type, self.response_body)

    @property
    def full_method(self) -> str:
        """As gRPC calls it: `/package.Service/Method`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    def request(self, path_values: Mapping[str, str], query: str, body: bytes) -> Message:
        """The request message. InvalidJsonError or InvalidFieldsError if the parts do not make one."""
        message: Message = GetMessageClass(self.method.input_type)()
        violations: list[FieldViolation] = []
        if body:
            self._read_body(message, body, violations)
        if query:
            self._read_query(message, query, violations)
        for name, text in path_values.items():
            self._read_path(message, name, text, violations)
        if violations:
            raise InvalidFieldsError(violations)
        return message

    def response_json(self, response: Message) -> Any:
        """The JSON value that answers: the whole response or its `response_body` field."""
        if self.response_body:
            return jsoncodec.encode_field(response, self.response_body)
        return jsoncodec.encode(response)

    def query_fields(self) -> list[FieldDescriptor]:
        """Fields of the request that the query string may set, at the top level."""
        if self.body == "*":
            return []
        bound = {name.split(".")[0] for name in self.path.fields if "." not in name} | {self.body}
        return [f for f in self.method.input_type.fields if f.name not in bound]

    def _read_body(self, message: Message, body: bytes, violations: list[FieldViolation]) -> None:
        if not self.body:
            violations.append(FieldViolation("", "this request takes no body"))
            return
        value = jsoncodec.loads(body)
        try:
            if self.body == "*":
                jsoncodec.decode_into(message, value)
            else:
                jsoncodec.set_field(message, resolve(self.method.input_type, self.body)[-1], value, self.body)
        except InvalidFieldsError as error:
            # As the client sees it: the body itself is the field, so its name is no part of the path.
            prefix = "" if self.body == "*" else self.body
            violations.extend(
                FieldViolation(v.field.removeprefix(prefix).removeprefix("."), v.description)
                for v in error.violations
            )

    def _read_query(self, message: Message, query: str, violations: list[FieldViolation]) -> None:
        try:
            pairs = parse_qsl(
                query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
            )
        except ValueError:
            violations.append(FieldViolation("", "the query string cannot be read"))
            return
        values: dict[str, list[str]] = {}
        for name, text in pairs:
            values.setdefault(name, []).append(text)
        for name, texts in values.items():
            top = name.split(".")[0]
            if self.body == "*" or top == self.body or name in self.path.fields:
                violations.append(FieldViolation(name, "cannot be given in the query string"))
                continue
            _set_text(message, name, texts, violations)

    def _read_path(self, message: Message, name: str, text: str, violations: list[FieldViolation]) -> None:
        *parents, last = resolve(self.method.input_type, name)
        owner: Any = message
        for parent in parents:
            owner = getattr(owner, parent.name)
        given = getattr(owner, last.name) if self.body == "*" else None
        _set_text(message, name, [text], violations)
        # A body that repeats the path's value is fine, one that contradicts it is a mistake.
        if given and getattr(owner, last.name) != given:
            violations.append(FieldViolation(name, "differs from the path"))


def resolve(descriptor: Descriptor, path: str) -> list[FieldDescriptor]:
    """The fields along a dotted path. HttpRuleError if there is no such field."""
    fields: list[FieldDescriptor] = []
    current: Descriptor | None = descriptor
    for name in path.split("."):
        found = None if current is None else current.fields_by_name.get(name)
        if found is None:
            raise HttpRuleError(f"{descriptor.full_name} has no field {path!r}")
        fields.append(found)
        current = None if found.is_repeated else found.message_type
    return fields


def _set_text(message: Any, path: str, texts: list[str], violations: list[FieldViolation]) -> None:
    """Sets a field, named by its dotted path, from text."""
    try:
        *parents, last = resolve(message.DESCRIPTOR, path)
    except HttpRuleError:
        violations.append(FieldViolation(path, "unknown field"))
        return
    if jsoncodec.is_map(last) or (
        last.message_type is not None and not jsoncodec.has_text_form(last.message_type)
    ):
        violations.append(FieldViolation(path, "has no form as text; name one of its fields"))
        return
    if not last.is_repeated and len(texts) > 1:
        violations.append(FieldViolation(path, "is given more than once"))
        return
    for parent in parents:
        message = getattr(message, parent.name)
        message.SetInParent()
    values = [_typed(last, text) for text in texts]
    try:
        jsoncodec.set_field(message, last, values if last.is_repeated else values[0], path)
    except InvalidFieldsError as error:
        violations.extend(error.violations)


def _typed(target: FieldDescriptor, text: str) -> Any:
    """Text as the JSON value that the field takes: only booleans differ, all else is accepted as a string."""
    while target.message_type is not None and "value" in target.message_type.fields_by_name:
        target = target.message_type.fields_by_name["value"]
    if target.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    return text


def bindings(service: ServiceDescriptor) -> Iterator[Binding]:
    """Every HTTP binding of a service's methods, additional ones too. HttpRuleError if one is malformed."""
    for method in service.methods:
        rule: http_pb2.HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
        for one in _rules(rule):
            verb, path = _pattern(one)
            if path:
                yield Binding(
                    method, verb, PathTemplate(path), one.body, one.response_body or rule.response_body
                )


def _rules(rule: http_pb2.HttpRule) -> Iterable[http_pb2.HttpRule]:
    return (rule, *rule.additional_bindings)


def _pattern(rule: http_pb2.HttpRule) -> tuple[str, str]:
    match rule.WhichOneof("pattern"):
        case None:
            return "", ""
        case "custom":
            return rule.custom.kind.upper(), rule.custom.path
        case verb:
            return verb.upper(), getattr(rule, verb)
