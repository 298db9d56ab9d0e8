"""The OpenAPI 3.1 document of the REST API, from the descriptors and the proto files' comments."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from coordinator_gateway import jsoncodec
from coordinator_gateway.core import SESSION_COOKIE
from coordinator_gateway.httprule import Binding, resolve
from coordinator_gateway.jsoncodec import FieldViolation
from coordinator_gateway.limits import HEALTH_PATH
from coordinator_gateway.openapi_examples import example_of, example_of_field
from coordinator_gateway.openapi_schemas import WELL_KNOWN, Schemas, reference
from coordinator_gateway.problems import Problem
from coordinator_gateway.protocomments import comments

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
# Printable ASCII; spaces around a header's value are no part of it.
_IDEMPOTENCY_KEY = "^[!-~]([ -~]*[!-~])?$"


def document(bindings: Iterable[Binding], *, server: str = "/") -> dict[str, Any]:
    """The document for these bindings."""
    named: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    operations: set[str] = set()
    tags: dict[str, str] = {}
    for binding in bindings:
        service = binding.method.containing_service
        tags.setdefault(service.name, comments().get(service.full_name, ""))
        operation = _operation(binding, named)
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
            "schemas": dict(sorted(named.items())),
            "headers": _HEADERS,
            "responses": {
                name: {
                    "description": text,
                    "headers": _headers(*([header] if header else [])),
                    "content": {
                        "application/problem+json": {
                            "schema": reference("Problem"),
                            "example": _problem_example(status, text),
                        }
                    },
                }
                for status, (name, text, header) in _ERRORS.items()
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


def _operation(binding: Binding, named: dict[str, Any]) -> dict[str, Any]:
    method = binding.method
    requests, answers = Schemas(named, of_requests=True), Schemas(named, of_requests=False)
    text = comments().get(method.full_name, "")
    operation: dict[str, Any] = {
        "operationId": f"{method.containing_service.name}_{method.name}",
        "tags": [method.containing_service.name],
        "summary": _first_sentence(text),
        "description": text,
        "parameters": list(_parameters(binding, requests)),
        "responses": {
            "200": {"headers": _headers(), **_answer(binding, answers)},
            **_errors(_STREAM_ERRORS if method.server_streaming else _ERRORS),
        },
        # What a call needs is in its description; the core decides. {}: none may do.
        "security": [{"nostr": []}, {"session": []}, {"cookie": []}, {}],
    }
    if binding.body:
        operation["requestBody"] = _body(binding, requests)
    return operation


def _problem_example(status: int, text: str) -> dict[str, Any]:
    reason = "NOT_AVAILABLE" if status >= 500 else "INVALID_ARGUMENT" if status == 400 else "REFUSED"
    errors = [FieldViolation("terms.name", "is missing")] if status == 400 else []
    return Problem(status, text, reason=reason, errors=errors).document("/api/v1/competitions")


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in statuses}


def _parameters(binding: Binding, schemas: Schemas) -> Iterator[dict[str, Any]]:
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
    field: FieldDescriptor, name: str, schemas: Schemas, above: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    inner: Any = field.message_type
    if inner is not None and not jsoncodec.has_text_form(inner):
        # A repeated or dynamic message has no form in a query string.
        if not field.is_repeated and inner.full_name not in WELL_KNOWN and inner.full_name not in above:
            for child in inner.fields:
                yield from _query_parameters(
                    child, f"{name}.{child.name}", schemas, (*above, inner.full_name)
                )
        return
    yield {"name": name, "in": "query", **_described(field, schemas)}


def _described(field: FieldDescriptor, schemas: Schemas) -> dict[str, Any]:
    described = {"description": comments().get(field.full_name, ""), "schema": schemas.field(field)}
    example = example_of_field(field, of_request=True)
    return described if example is None else described | {"example": example}


def _body(binding: Binding, schemas: Schemas) -> dict[str, Any]:
    example: Any
    if binding.body != "*":
        field = resolve(binding.method.input_type, binding.body)[-1]
        schema, example = schemas.field(field), example_of_field(field, of_request=True)
    else:
        in_path = frozenset(name for name in binding.path.fields if "." not in name)
        schema = schemas.inline(binding.method.input_type, without=in_path)
        example = example_of(binding.method.input_type, of_request=True, without=in_path)
    return {"required": bool(schema.get("required")) or "$ref" in schema, "content": _json(schema, example)}


def _answer(binding: Binding, schemas: Schemas) -> dict[str, Any]:
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
    example: Any
    if binding.response_body:
        field = output.fields_by_name[binding.response_body]
        schema, example = schemas.field(field), example_of_field(field, of_request=False)
    else:
        schema, example = schemas.message(output), example_of(output, of_request=False)
    return {"description": comments().get(output.full_name, "OK"), "content": _json(schema, example)}


def _frame(
    field: FieldDescriptor, schemas: Schemas, kind: dict[str, Any], *, id_: bool = False
) -> dict[str, Any]:
    """A frame of an event stream, whose data is a message as JSON."""
    message: Any = field.message_type
    properties: dict[str, Any] = {
        "event": {"type": "string", **kind},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": schemas.message(message),
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
        },
        {"status": "serving", "core": "serving", "events": "connected"},
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


def _json(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _first_sentence(text: str) -> str:
    end = text.find(". ")
    return (text if end < 0 else text[:end]).rstrip(".")
