"""The OpenAPI 3.1 document of the REST API, from the descriptors and the proto files' comments.

Comments are not in the descriptors that the stubs carry. `api.binpb` is a descriptor set with source info
that protoc writes from the same files; only its comments are used.
"""

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
from coordinator_gateway.middleware import HEALTH_PATH

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
            "responses": {
                "Problem": {
                    "description": (
                        "The request failed. 400: it is wrong, errors says where. 401: it needs "
                        "authorization. 403: not for this caller. 404: there is no such thing. 409: not "
                        "possible in the present state (FAILED_PRECONDITION), or in conflict with another "
                        "request. 413: too large. 429: too many or full. 503, 504: try again later."
                    ),
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
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
            "200": _answer(binding, schemas),
            "default": {"$ref": "#/components/responses/Problem"},
        },
        # What a call needs is in its description; the core decides. {}: none may do.
        "security": [{"nostr": []}, {"session": []}, {"cookie": []}, {}],
    }
    if binding.body:
        operation["requestBody"] = _body(binding, schemas)
    return operation


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
            "schema": {"type": "string", "maxLength": 128},
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
        item = output.fields_by_name
        for name in ("event", "snapshot"):
            _message_ref(item[name].message_type, schemas)
        return {
            "description": (
                "Server-sent events. First, unless the stream is resumed, `event: snapshot` with a Snapshot "
                "as data and no id. Then one frame per event: `id` is its sequence, `event` its kind, `data` "
                "an Event. A comment at least every 15 seconds."
            ),
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    if binding.response_body:
        schema = _field_type(output.fields_by_name[binding.response_body], schemas)
    else:
        schema = _message_ref(output, schemas)
    return {"description": comments().get(output.full_name, "OK"), "content": _json(schema)}


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
            "200": {"description": "It can.", "content": body},
            "503": {"description": "It cannot.", "content": body},
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
        if field.has_presence and not field.is_repeated:
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
    return dict(_SCALARS[field.cpp_type])


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
