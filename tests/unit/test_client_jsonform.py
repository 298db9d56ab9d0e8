"""The client reads every answer as the gateway writes it, and writes what the gateway reads."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from coordinator.v1 import competition_pb2, entry_pb2
from coordinator_client.errors import MalformedAnswer
from coordinator_client.jsonform import from_json, to_json
from coordinator_client.proto.coordinator import v1
from coordinator_gateway import api, jsoncodec
from support.messages import filled

DESCRIPTORS = [descriptor for file in api.files() for descriptor in file.message_types_by_name.values()]


def test_all_messages_are_covered() -> None:
    assert len(DESCRIPTORS) > 75
    assert "Event" in {descriptor.name for descriptor in DESCRIPTORS}


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda descriptor: descriptor.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_message_comes_through_unchanged(descriptor: Descriptor, seed: int) -> None:
    message = filled(descriptor, seed)
    parsed = from_json(getattr(v1, descriptor.name), jsoncodec.encode(message))
    assert type(message).FromString(bytes(parsed)) == message
    assert jsoncodec.decode(to_json(parsed), descriptor) == message


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda descriptor: descriptor.name)
def test_what_is_empty_comes_through_too(descriptor: Descriptor) -> None:
    message = filled(descriptor)
    message.Clear()
    parsed = from_json(getattr(v1, descriptor.name), jsoncodec.encode(message))
    assert bytes(parsed) == b""
    assert to_json(parsed) == {}


def test_members_of_later_versions_are_left_out() -> None:
    assert from_json(v1.Ticket, {"id": "a", "colour": {"of": "paper"}}).id == "a"


def test_a_state_of_a_later_version_stays_a_number() -> None:
    assert from_json(v1.Competition, {"state": 99}).state == 99


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([], "Competition"),
        ({"id": 5}, "id"),
        ({"entries": "5"}, "entries"),
        ({"entries": True}, "entries"),
        ({"entries": 1.5}, "entries"),
        ({"paused": 1}, "paused"),
        ({"winners": 3}, "winners"),
        ({"winners": [1, "2"]}, r"winners\[1\]"),
        ({"state": "asleep"}, "state"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at"),
        ({"created_at": 5}, "created_at"),
        ({"terms": {"entry_fee_sats": "many"}}, r"terms\.entry_fee_sats"),
        ({"transactions": "none"}, "transactions"),
    ],
)
def test_an_answer_of_another_form_is_refused_by_name(value: Any, where: str) -> None:
    with pytest.raises(MalformedAnswer, match=where):
        from_json(v1.Competition, value)


def test_maps_and_bytes_of_another_form_are_refused() -> None:
    with pytest.raises(MalformedAnswer, match="auth_pubkeys"):
        from_json(v1.KeymeldRegistration, {"auth_pubkeys": ["a"]})
    with pytest.raises(MalformedAnswer, match="signature"):
        from_json(v1.ContractSignature, {"signature": "xyz"})
    with pytest.raises(MalformedAnswer, match="must have numbers as keys"):
        from_json(v1.GetEstimatedFeesResponse, {"sats_per_vb_by_target_blocks": {"soon": 1.0}})


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a": None, "b": [None, True, False, 0, "", [], {}], "c": {"d": {"e": [1, -2, 0.5]}}},
        {"largest": 2**53 - 1, "larger": 1e300, "name": "ü\u2028"},
    ],
)
def test_free_form_data_is_the_object_that_it_stands_for(data: dict[str, Any]) -> None:
    event = from_json(v1.Event, {"sequence": 3, "data": data})
    assert to_json(v1.Event().parse(bytes(event))) == {"sequence": 3, "data": data}


def test_free_form_data_of_another_form_is_refused() -> None:
    with pytest.raises(MalformedAnswer, match="data must be an object"):
        from_json(v1.Event, {"data": [1]})


def test_a_field_that_is_present_though_zero_is_kept() -> None:
    assert to_json(v1.WatchRequest(after_sequence=0)) == {"after_sequence": 0}
    assert to_json(v1.WatchRequest()) == {}


def test_the_descriptors_are_those_of_the_server() -> None:
    for module in (competition_pb2, entry_pb2):
        for name in module.DESCRIPTOR.message_types_by_name:
            assert hasattr(v1, name)
