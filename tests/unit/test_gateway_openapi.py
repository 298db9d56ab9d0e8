"""The OpenAPI document."""

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema_rs
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass

from coordinator_gateway import api, httprule, jsoncodec, openapi

BINDINGS = [binding for service in api.services() for binding in httprule.bindings(service)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(jsoncodec.dumps(openapi.document(BINDINGS)))
    return value


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def clear_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """protoc writes these into descriptor sets and not into stubs."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        clear_json_names(nested)


def test_the_comments_are_of_the_protos_that_the_stubs_are_of() -> None:
    packed = resources.files("coordinator_gateway").joinpath("api.binpb").read_bytes()
    described = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(packed).file:
        file.ClearField("source_code_info")
        described[file.name] = file
    for file_descriptor in api.files():
        proto = descriptor_pb2.FileDescriptorProto()
        file_descriptor.CopyToProto(proto)
        for message in (*proto.message_type, *described[file_descriptor.name].message_type):
            clear_json_names(message)
        assert described[file_descriptor.name] == proto, f"{proto.name}: run make generate"


def test_every_binding_is_described(document: dict[str, Any]) -> None:
    for binding in BINDINGS:
        operation = document["paths"][binding.path.text][binding.verb.lower()]
        assert operation["description"], binding.path.text
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(binding.path.fields)
        assert ("requestBody" in operation) is bool(binding.body)
    assert "/api/v1/health_check" in document["paths"]


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = {item["$ref"] for item in walk(document) if isinstance(item.get("$ref"), str)}
    assert len(references) > 20
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


def test_every_message_field_and_value_is_described(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name
        if name != "Problem":
            for field, inner in schema.get("properties", {}).items():
                assert inner.get("description"), f"{name}.{field}"


def test_schemas_say_what_the_codec_does(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    terms = schemas["CompetitionTerms"]
    assert terms["properties"]["entry_fee_sats"]["type"] == "integer"
    # Required: not null; one that need not be there may be.
    assert terms["properties"]["start_observation_at"]["type"] == "string"
    assert schemas["Competition"]["properties"]["created_at"]["type"] == ["string", "null"]
    assert "entry_fee_sats" in terms["required"]
    assert "created" in schemas["CompetitionState"]["enum"]
    assert "`created`: Announced" in schemas["CompetitionState"]["description"]
    assert schemas["Entry"]["properties"]["owner_pubkey"]["readOnly"] is True
    fees = schemas["GetEstimatedFeesResponse"]["properties"]["sats_per_vb_by_target_blocks"]
    assert fees["additionalProperties"]["type"] == "number"


def test_bodies_leave_out_what_the_path_has(document: dict[str, Any]) -> None:
    payout = document["paths"]["/api/v1/competitions/{competition_id}/entries/{entry_id}/payout"]["post"]
    schema = payout["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"payment_request", "payout_preimage", "ephemeral_private_key"}


def test_security_and_errors(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["nostr"]["scheme"] == "Nostr"
    assert schemes["cookie"]["name"] == "coordinator_session"
    for path in document["paths"].values():
        for operation in path.values():
            for requirement in operation["security"]:
                assert set(requirement) <= set(schemes)
    for response in document["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]
        assert "X-Request-Id" in response["headers"]


def test_every_status_is_named(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            assert "default" not in operation["responses"], f"{verb} {path}"
            assert {"200", "503"} <= set(operation["responses"])
    send = document["paths"]["/api/v1/wallet/send"]["post"]["responses"]
    assert {int(status) for status in send} == {
        200,
        400,
        401,
        403,
        404,
        408,
        409,
        413,
        415,
        429,
        500,
        503,
        504,
    }


def test_limits_are_those_of_the_comments(document: dict[str, Any]) -> None:
    def limits(schema: dict[str, Any]) -> dict[str, Any]:
        names = ("pattern", "minimum", "maximum", "minLength", "maxLength")
        return {name: schema[name] for name in names if name in schema}

    schemas = document["components"]["schemas"]
    terms = schemas["CompetitionTerms"]["properties"]
    assert limits(terms["name"]) == {"minLength": 1, "maxLength": 100}
    assert limits(terms["entry_fee_sats"]) == {"minimum": 1000, "maximum": 100_000_000}
    # Not required: 0 stands for a default.
    assert limits(terms["relative_locktime_blocks"]) == {"minimum": 0, "maximum": 32767}
    assert limits(terms["signing_at"]) == {}
    competition_id = schemas["Ticket"]["properties"]["competition_id"]
    assert re.fullmatch(competition_id["pattern"], "0190e3a0-0000-7000-8000-000000000000")
    assert not re.fullmatch(competition_id["pattern"], "0190e3a0-0000-4000-8000-000000000000")
    # May be empty.
    assert limits(schemas["Entry"]["properties"]["id"]) == {}
    (page_size,) = [
        parameter["schema"]
        for parameter in document["paths"]["/api/v1/entries"]["get"]["parameters"]
        if parameter["name"] == "page_size"
    ]
    assert limits(page_size) == {"minimum": 0}


def test_frames_of_event_streams(document: dict[str, Any]) -> None:
    content = document["paths"]["/api/v1/events"]["get"]["responses"]["200"]["content"]
    snapshot, event = content["text/event-stream"]["schema"]["oneOf"]
    assert snapshot["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/Snapshot"}
    assert "id" not in snapshot["properties"]
    assert event["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/Event"}
    assert "id" in event["required"]


def test_answers_have_every_field_and_requests_what_they_must(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Entry"]["required"]) == set(schemas["Entry"]["properties"])
    assert schemas["EntryInput"]["required"] == ["ticket_id", "ephemeral_pubkey", "payout_hash"]
    body = document["paths"]["/api/v1/entries"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/EntryInput"}


def validator(document: dict[str, Any], schema: Any) -> Any:
    # Beside the schema, so that its references lead somewhere.
    return jsonschema_rs.Draft202012Validator(
        {"allOf": [schema], "components": document["components"]}, validate_formats=True
    )


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda b: f"{b.verb} {b.path.text}")
def test_examples_are_what_they_are_examples_of(document: dict[str, Any], binding: httprule.Binding) -> None:
    operation = document["paths"][binding.path.text][binding.verb.lower()]
    for parameter in operation["parameters"]:
        if "example" in parameter:
            validator(document, parameter["schema"]).validate(parameter["example"])
    assert all("example" in parameter for parameter in operation["parameters"] if parameter["in"] == "path")
    if binding.body:
        body = operation["requestBody"]["content"]["application/json"]
        validator(document, body["schema"]).validate(body["example"])
        values = dict.fromkeys(binding.path.fields, "x")
        request = binding.request(values, "", jsoncodec.dumps(body["example"]))
        assert isinstance(request, GetMessageClass(binding.method.input_type))
    if not binding.method.server_streaming:
        answer = operation["responses"]["200"]["content"]["application/json"]
        validator(document, answer["schema"]).validate(answer["example"])
        value = {binding.response_body: answer["example"]} if binding.response_body else answer["example"]
        message = jsoncodec.decode(value, binding.method.output_type)
        assert jsoncodec.encode(message) == value


def test_examples_of_problems(document: dict[str, Any]) -> None:
    for response in document["components"]["responses"].values():
        problem = response["content"]["application/problem+json"]
        validator(document, problem["schema"]).validate(problem["example"])
