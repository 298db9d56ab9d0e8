"""The OpenAPI 3.1 document of the REST API, from the descriptors and the proto files' comments.

Comments are not in the descriptors that the stubs carry. `api.binpb` is a descriptor set with source info
that protoc writes from the same files; only its comments are used.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata, resources
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from coordinator_gateway import jsoncodec
from coordinator_gateway.core import SESSION_COOKIE
from coordinator_gateway.httprule import Binding, resolve
from coordinator_gateway.limits import HEALTH_PATH

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
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
}
_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Names the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What went wrong this time."},
        "instance": {"type": "string", "description": "The request's path."},
        "reason": {"type": "string", "description": "For programs, e.g. COMPETITION_FULL."},
        "domain": {"type": "string", "description": "Where the reason is defined."},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "errors": {
            "type": "array",
            "description": "Every field that is wrong.",
            "items": {
                "type": "object",
                "required": ["field", "description"],
                "properties": {
                    "field": {"type": "string", "description": "E.g. terms.locations[2]."},
                    "description": {"type": "string"},
                },
            },
        },
        "retry_after_seconds": {"type": "number"},
    },
}


# Every answer that is no success, by status: its name, what it says, and the header it has besides.
_ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("InvalidRequest", "The request is wrong; errors says where.", ""),
    401: ("Unauthorized", "It needs authorization, or what was given is not valid.", "WWW-Authenticate"),
    403: ("NotAllowed", "It is not for this caller.", ""),
    404: ("NotFound", "There is no such thing.", ""),
    408: ("TooSlow", "The body took too long to arrive.", ""),
    409: ("Conflict", "Not possible in the present state, or in conflict with another request.", ""),
    413: ("BodyTooLarge", "The body is too large.", ""),
    415: ("UnsupportedMediaType", "The body is no JSON by its media type.", ""),
    429: ("LimitReached", "Too many requests, or no room left.", "Retry-After"),
    500: ("InternalError", "The server failed; its log has the request's id.", ""),
    503: ("NotAvailable", "Not available at the moment; try again.", "Retry-After"),
    504: ("TimedOut", "The coordinator did not answer in time.", ""),
}
_STREAM_ERRORS = (400, 401, 404, 429, 500, 503, 504)
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Names the request in the logs; the one that was sent, if it was a sane one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Retry-After": {
        "description": "After how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The scheme to authorize by.",
        "required": True,
        "schema": {"type": "string", "const": "Nostr"},
    },
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
# Printable ASCII; spaces around a header's value are no part of it.
_IDEMPOTENCY_KEY = "^[!-~]([ -~]*[!-~])?$"
# RFC 9562, section 5.7, as the core takes it.
_UUID7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


def document(bindings: Iterable[Binding], *, server: str = "/") -> dict[str, Any]:
    """The document for these bindings."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    operations: set[str] = set()
    tags: dict[str, str] = {}
    for binding in bindings:
        service = binding.method.containing_service
        tags.setdefault(service.name, comments().get(service.full_name, ""))
        operation = _operation(binding, schemas)
        # A method with more than one binding has more than one operation; ids are unique.
        while operation["operationId"] in operations:
            operation["operationId"] += "_"
        operations.add(operation["operationId"])
        paths.setdefault(_path(binding), {})[binding.verb.lower()] = operation
    paths[HEALTH_PATH] = {"get": _health()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Coordinator",
            "version": metadata.version("coordinator"),
            "description": (
                "Prediction competitions with real bitcoin. Names and values are those of the gRPC API; "
                "64-bit integers are JSON numbers, enum values lower-case, bytes hex, unset objects null."
            ),
        },
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "headers": _HEADERS,
            "responses": {
                name: {
                    "description": text,
                    "headers": _headers(*([header] if header else [])),
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
                for name, text, header in _ERRORS.values()
            },
            "securitySchemes": {
                "nostr": {
                    "type": "http",
                    "scheme": "Nostr",
                    "description": (
                        "NIP-98: base64 of a signed event of kind 27235 with the request's full URL (u), "
                        "method and, for a body, its SHA256 (payload). Each event is accepted once, for 60 "
                        "seconds."
                    ),
                },
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The session token that login gives.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": SESSION_COOKIE,
                    "description": "The same token; login sets it.",
                },
            },
        },
    }


def _path(binding: Binding) -> str:
    return binding.path.expand({name: f"{{{name}}}" for name in binding.path.fields})


def _operation(binding: Binding, schemas: dict[str, Any]) -> dict[str, Any]:
    method = binding.method
    text = comments().get(method.full_name, "")
    operation: dict[str, Any] = {
        "operationId": f"{method.containing_service.name}_{method.name}",
        "tags": [method.containing_service.name],
        "summary": _first_sentence(text),
        "description": text,
        "parameters": list(_parameters(binding, schemas)),
        "responses": {
            "200": {"headers": _headers(), **_answer(binding, schemas)},
            **_errors(_STREAM_ERRORS if method.server_streaming else _ERRORS),
        },
        # What a call needs is in its description; the core decides. {}: none may do.
        "security": [{"nostr": []}, {"session": []}, {"cookie": []}, {}],
    }
    if binding.body:
        operation["requestBody"] = _body(binding, schemas)
    return operation


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in statuses}


def _parameters(binding: Binding, schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in binding.path.fields:
        field = resolve(binding.method.input_type, name)[-1]
        yield {"name": name, "in": "path", "required": True, **_described(field, schemas)}
    for field in binding.query_fields():
        yield from _query_parameters(field, field.name, schemas, ())
    if binding.method.server_streaming:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "Resumes after this sequence; goes before after_sequence.",
            "schema": {"type": "string"},
        }
    elif binding.verb == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same key with the same content does it once.",
            "schema": {"type": "string", "pattern": _IDEMPOTENCY_KEY, "maxLength": 128},
        }


def _query_parameters(
    field: FieldDescriptor, name: str, schemas: dict[str, Any], above: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    inner: Any = field.message_type
    if inner is not None and not jsoncodec.has_text_form(inner):
        # A repeated or dynamic message has no form in a query string.
        if not field.is_repeated and inner.full_name not in _WELL_KNOWN and inner.full_name not in above:
            for child in inner.fields:
                yield from _query_parameters(
                    child, f"{name}.{child.name}", schemas, (*above, inner.full_name)
                )
        return
    yield {"name": name, "in": "query", **_described(field, schemas)}


def _described(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    return {"description": comments().get(field.full_name, ""), "schema": _field_type(field, schemas)}


def _body(binding: Binding, schemas: dict[str, Any]) -> dict[str, Any]:
    if binding.body != "*":
        schema = _field_type(resolve(binding.method.input_type, binding.body)[-1], schemas)
    else:
        in_path = {name for name in binding.path.fields if "." not in name}
        schema = _message_schema(binding.method.input_type, schemas, without=in_path)
    return {"required": bool(schema.get("required")) or "$ref" in schema, "content": _json(schema)}


def _answer(binding: Binding, schemas: dict[str, Any]) -> dict[str, Any]:
    method = binding.method
    output: Any = method.output_type
    if method.server_streaming:
        return {
            "description": (
                "Server-sent events. First, unless the stream is resumed, `event: snapshot` with a Snapshot "
                "as data and no id. Then one frame per event: `id` is its sequence, `event` its kind, `data` "
                "an Event. A comment at least every 15 seconds."
            ),
            # Of each frame, not of the whole stream.
            "content": {
                "text/event-stream": {
                    "schema": {
                        "oneOf": [
                            _frame(output.fields_by_name["snapshot"], schemas, {"const": "snapshot"}),
                            _frame(
                                output.fields_by_name["event"],
                                schemas,
                                {"not": {"const": "snapshot"}},
                                id_=True,
                            ),
                        ]
                    }
                }
            },
        }
    if binding.response_body:
        schema = _field_type(output.fields_by_name[binding.response_body], schemas)
    else:
        schema = _message_ref(output, schemas)
    return {"description": comments().get(output.full_name, "OK"), "content": _json(schema)}


def _frame(
    field: FieldDescriptor, schemas: dict[str, Any], kind: dict[str, Any], *, id_: bool = False
) -> dict[str, Any]:
    """A frame of an event stream, whose data is a message as JSON."""
    message: Any = field.message_type
    properties: dict[str, Any] = {
        "event": {"type": "string", **kind},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": _message_ref(message, schemas),
        },
    }
    if id_:
        properties["id"] = {"type": "string", "pattern": "^[1-9][0-9]*$"}
    return {
        "type": "object",
        "description": comments().get(field.full_name, ""),
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _health() -> dict[str, Any]:
    body = _json(
        {
            "type": "object",
            "properties": {
                "status": {"enum": ["serving", "not_serving"]},
                "core": {
                    "type": "string",
                    "description": "What the core says of itself, or why it does not.",
                },
                "events": {"enum": ["connected", "reconnecting"]},
            },
        }
    )
    return {
        "operationId": "health_check",
        "tags": ["Health"],
        "summary": "Whether the coordinator can serve.",
        "responses": {
            "200": {"description": "It can.", "headers": _headers(), "content": body},
            "503": {"description": "It cannot.", "headers": _headers(), "content": body},
        },
        "security": [{}],
    }


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _message_ref(message: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if message.full_name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[message.full_name])
    if message.name not in schemas:
        # Entered before it is complete, since it may contain itself.
        schemas[message.name] = {}
        schemas[message.name] = _message_schema(message, schemas)
    return _ref(message.name)


def _message_schema(
    message: Descriptor, schemas: dict[str, Any], without: set[str] | frozenset[str] = frozenset()
) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in message.fields:
        if field.name in without:
            continue
        behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        schema = _field_type(field, schemas)
        if field.has_presence and not field.is_repeated and field_behavior_pb2.REQUIRED not in behavior:
            schema = _nullable(schema)
        if text := comments().get(field.full_name):
            schema["description"] = text
        if field_behavior_pb2.OUTPUT_ONLY in behavior:
            schema["readOnly"] = True
        if field_behavior_pb2.REQUIRED in behavior:
            required.append(field.name)
        properties[field.name] = schema
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if text := comments().get(message.full_name):
        schema["description"] = text
    if required:
        schema["required"] = required
    return schema


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _field_type(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if jsoncodec.is_map(field):
        values = _single_type(jsoncodec.map_value(field), schemas)
        return {"type": "object", "additionalProperties": values}
    single = _single_type(field, schemas)
    return {"type": "array", "items": single} if field.is_repeated else single


def _single_type(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    message: Any = field.message_type
    if message is not None:
        return _message_ref(message, schemas)
    if field.enum_type is not None:
        return _enum_ref(field.enum_type, schemas)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
    return _SCALARS[field.cpp_type] | _limits(field)


def _limits(field: FieldDescriptor) -> dict[str, Any]:
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
    limits = {"minimum": 0} if field.name.endswith(_NEVER_NEGATIVE) else {}
    if least := _AT_LEAST.search(text):
        limits["minimum"] = _number(least[1])
    if found := _RANGE.search(text):
        # 0 is what is not set, and stands for a default.
        required = (
            field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        )
        limits |= {"minimum": _number(found[1]) if required else 0, "maximum": _number(found[2])}
    return limits


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _enum_ref(enum: EnumDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if enum.name not in schemas:
        # Values stand beside their enum, not inside it, by C++'s rules.
        scope = enum.full_name.removesuffix(enum.name)
        names = [str(jsoncodec.enum_text(enum, value.number)) for value in enum.values]
        lines = [
            f"- `{name}`: {comments().get(scope + value.name, '')}"
            for name, value in zip(names, enum.values, strict=True)
        ]
        text = "\n".join([comments().get(enum.full_name, ""), "", *lines])
        schemas[enum.name] = {"type": "string", "enum": names, "description": text.strip()}
    return _ref(enum.name)


def _first_sentence(text: str) -> str:
    end = text.find(". ")
    return (text if end < 0 else text[:end]).rstrip(".")


# --- comments ---


@cache
def comments() -> Mapping[str, str]:
    """Leading comments of the proto files by full name of what they describe, as one paragraph each."""
    packed = resources.files("coordinator_gateway").joinpath("api.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        named = _named(file)
        for location in file.source_code_info.location:
            if (name := named.get(tuple(location.path))) is not None and location.leading_comments:
                found[name] = " ".join(location.leading_comments.split())
    return found


def _named(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Full names by path in the file descriptor (descriptor.proto, SourceCodeInfo.Location)."""
    named: dict[tuple[int, ...], str] = {}

    def message(item: descriptor_pb2.DescriptorProto, path: tuple[int, ...], scope: str) -> None:
        name = f"{scope}.{item.name}"
        named[path] = name
        for index, field in enumerate(item.field):
            named[(*path, 2, index)] = f"{name}.{field.name}"
        for index, nested in enumerate(item.nested_type):
            message(nested, (*path, 3, index), name)
        for index, inner in enumerate(item.enum_type):
            enum(inner, (*path, 4, index), name)

    def enum(item: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], scope: str) -> None:
        named[path] = f"{scope}.{item.name}"
        for index, value in enumerate(item.value):
            # Values stand beside their enum, not inside it, by C++'s rules.
            named[(*path, 2, index)] = f"{scope}.{value.name}"

    for index, item in enumerate(file.message_type):
        message(item, (4, index), file.package)
    for index, kind in enumerate(file.enum_type):
        enum(kind, (5, index), file.package)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        named[(6, index)] = name
        for number, method in enumerate(service.method):
            named[(6, index, 2, number)] = f"{name}.{method.name}"
    return named
