"""Protobuf messages as JSON and back."""

import json
from typing import Any

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.v1 import competition_pb2, entry_pb2, event_pb2, user_pb2, wallet_pb2
from coordinator_gateway import api, jsoncodec
from coordinator_gateway.jsoncodec import FieldViolation, InvalidFieldsError, InvalidJsonError
from support.messages import messages

MESSAGE_TYPES = [message for file in api.files() for message in file.message_types_by_name.values()]


def violations(value: Any, message_type: Any) -> list[FieldViolation]:
    with pytest.raises(InvalidFieldsError) as caught:
        jsoncodec.decode(value, message_type.DESCRIPTOR)
    return list(caught.value.violations)


@pytest.fixture(scope="module")
def everything() -> Any:
    """A message type with what the API itself does not use: itself, wrappers, odd map keys, all integers."""
    proto = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    pool = descriptor_pool.DescriptorPool()
    for module in (duration_pb2, field_mask_pb2, wrappers_pb2, struct_pb2, timestamp_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        proto.dependency.append(module.DESCRIPTOR.name)
    message = proto.message_type.add(name="Everything")
    field_type = descriptor_pb2.FieldDescriptorProto
    entry = message.nested_type.add(name="FlagsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field_type.TYPE_BOOL, label=1)
    entry.field.add(name="value", number=2, type=field_type.TYPE_MESSAGE, type_name=".t.Everything", label=1)
    wide = {"u32": field_type.TYPE_UINT32, "u64": field_type.TYPE_FIXED64, "s64": field_type.TYPE_SINT64}
    for number, (name, kind) in enumerate(wide.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=1)
    message.field.add(name="single", number=4, type=field_type.TYPE_FLOAT, label=1)
    message.field.add(name="real", number=5, type=field_type.TYPE_DOUBLE, label=1)
    for number, (name, kind) in enumerate(
        {
            "child": "t.Everything",
            "wait": "google.protobuf.Duration",
            "mask": "google.protobuf.FieldMask",
            "maybe": "google.protobuf.Int64Value",
            "any": "google.protobuf.Value",
            "some": "google.protobuf.ListValue",
        }.items(),
        10,
    ):
        message.field.add(
            name=name, number=number, type=field_type.TYPE_MESSAGE, type_name=f".{kind}", label=1
        )
    message.field.add(
        name="flags", number=20, type=field_type.TYPE_MESSAGE, type_name=".t.Everything.FlagsEntry", label=3
    )
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Everything"))


class TestEncoding:
    def test_names_defaults_enums_and_unset_messages(self) -> None:
        competition = competition_pb2.Competition(
            id="x", state=competition_pb2.COMPETITION_STATE_COLLECTING_ENTRIES, winners=[2, 0]
        )
        value = jsoncodec.encode(competition)
        assert list(value) == [field.name for field in competition.DESCRIPTOR.fields]
        assert value["state"] == "collecting_entries"
        assert value["terms"] is None
        assert value["created_at"] is None
        assert (value["paused"], value["entries"], value["outcome"]) == (False, 0, "")
        assert (value["winners"], value["keygen_session_ids"]) == ([2, 0], [])

    def test_sixty_four_bit_integers_are_numbers(self) -> None:
        text = jsoncodec.dumps(jsoncodec.encode(wallet_pb2.SendResponse(fee_sats=2_100_000_000_000_000)))
        assert text == b'{"txid":"","fee_sats":2100000000000000}'

    def test_an_enum_number_from_a_newer_core_stays_a_number(self) -> None:
        competition = competition_pb2.Competition(state=99)  # type: ignore[arg-type]
        assert jsoncodec.encode(competition)["state"] == 99

    def test_optional_scalars_are_null_until_set(self) -> None:
        assert jsoncodec.encode(event_pb2.WatchRequest())["after_sequence"] is None
        assert jsoncodec.encode(event_pb2.WatchRequest(after_sequence=0))["after_sequence"] == 0

    def test_bytes_are_lower_case_hex(self) -> None:
        assert (
            jsoncodec.encode(competition_pb2.ContractSignature(signature=b"\xab\x01"))["signature"] == "ab01"
        )

    def test_maps(self) -> None:
        fees = wallet_pb2.GetEstimatedFeesResponse(sats_per_vb_by_target_blocks={6: 1.5, 1: 20.0})
        assert jsoncodec.encode(fees) == {"sats_per_vb_by_target_blocks": {"6": 1.5, "1": 20}}

    @pytest.mark.parametrize(
        ("nanos", "text"),
        [
            (0, "2027-01-15T08:00:00Z"),
            (500_000_000, "2027-01-15T08:00:00.500Z"),
            (1_000, "2027-01-15T08:00:00.000001Z"),
            (1, "2027-01-15T08:00:00.000000001Z"),
        ],
    )
    def test_timestamps(self, nanos: int, text: str) -> None:
        event = event_pb2.Event(occurred_at=timestamp_pb2.Timestamp(seconds=1_800_000_000, nanos=nanos))
        assert jsoncodec.encode(event)["occurred_at"] == text
        assert event.occurred_at.ToJsonString() == text

    def test_structs_are_plain_json(self) -> None:
        data = {"a": 1000, "b": 0.25, "c": [None, True, "x", {}], "d": {"e": []}}
        event = event_pb2.Event()
        event.data.update(data)
        assert jsoncodec.dumps(jsoncodec.encode(event)["data"]) == jsoncodec.dumps(
            {name: data[name] for name in event.data.fields}
        )

    def test_numbers_that_json_does_not_have(self) -> None:
        fees = wallet_pb2.GetEstimatedFeesResponse(
            sats_per_vb_by_target_blocks={1: float("nan"), 2: float("inf"), 3: float("-inf")}
        )
        values = jsoncodec.encode(fees)["sats_per_vb_by_target_blocks"]
        assert values == {"1": "NaN", "2": "Infinity", "3": "-Infinity"}

    def test_everything_else(self, everything: Any) -> None:
        message = everything(u64=2**64 - 1, s64=-(2**63), single=0.5, real=1e300)
        message.child.u32 = 7
        message.wait.FromJsonString("-1.5s")
        message.mask.paths.extend(["a.b", "c"])
        message.maybe.value = 0
        message.any.string_value = "x"
        message.some.extend([1, None])
        message.flags[True].u32 = 1
        # A Value that is not set and one that is null are both null in JSON; null reads as the latter.
        message.child.any.null_value = message.flags[True].any.null_value = 0
        value = jsoncodec.encode(message)
        assert value["u64"] == 2**64 - 1
        assert value["s64"] == -(2**63)
        assert value["real"] == 1e300
        assert value["child"]["u32"] == 7
        assert value["child"]["child"] is None
        assert value["wait"] == "-1.500s"
        assert value["mask"] == "a.b,c"
        assert value["maybe"] == 0
        assert value["child"]["maybe"] is None
        assert value["any"] == "x"
        assert value["some"] == [1, None]
        assert value["flags"]["true"]["u32"] == 1
        assert jsoncodec.decode(jsoncodec.loads(jsoncodec.dumps(value)), everything.DESCRIPTOR) == message


class TestDecoding:
    def test_every_misfit_is_named_by_its_path(self) -> None:
        found = violations(
            {
                "id": 5,
                "terms": {
                    "locations": ["KDEN", 3, None],
                    "entry_fee_sats": "many",
                    "surprise": 1,
                    "start_observation_at": "tomorrow",
                },
                "paused": 1,
            },
            competition_pb2.Competition,
        )
        assert [violation.field for violation in found] == [
            "id",
            "terms.locations[1]",
            "terms.locations[2]",
            "terms.entry_fee_sats",
            "terms.surprise",
            "terms.start_observation_at",
            "paused",
        ]
        assert found[4].description == "unknown field"

    def test_names_are_the_proto_names_only(self) -> None:
        assert violations({"entryFeeSats": 1}, competition_pb2.CompetitionTerms)[0].field == "entryFeeSats"

    @pytest.mark.parametrize("given", ["collecting_entries", "COMPETITION_STATE_COLLECTING_ENTRIES"])
    def test_enums_by_short_and_full_name(self, given: str) -> None:
        message: Any = jsoncodec.decode({"state": given}, competition_pb2.Competition.DESCRIPTOR)
        assert message.state == competition_pb2.COMPETITION_STATE_COLLECTING_ENTRIES

    @pytest.mark.parametrize("given", ["Created", "COLLECTING_ENTRIES", 1, "", True])
    def test_other_enum_values_are_refused(self, given: Any) -> None:
        assert "one of" in violations({"state": given}, competition_pb2.Competition)[0].description

    @pytest.mark.parametrize("given", [5, "5", 5.0])
    def test_integers(self, given: Any) -> None:
        message: Any = jsoncodec.decode({"amount_sats": given}, wallet_pb2.SendRequest.DESCRIPTOR)
        assert message.amount_sats == 5

    @pytest.mark.parametrize(
        "given", [5.5, "5.0", " 5", "0x5", "", "05", True, [], {}, 2**63, -(2**63) - 1, 1e17, "٥", "9" * 30]
    )
    def test_what_is_no_integer_of_this_size(self, given: Any) -> None:
        assert violations({"amount_sats": given}, wallet_pb2.SendRequest)[0].field == "amount_sats"

    @pytest.mark.parametrize("given", [2**31, -(2**31) - 1])
    def test_thirty_two_bits(self, given: int) -> None:
        assert (
            "from -2147483648"
            in violations({"page_size": given}, entry_pb2.ListEntriesRequest)[0].description
        )

    @pytest.mark.parametrize("given", ["abc", "zz", "0x00", "ab cd", "é"])
    def test_what_is_no_hex(self, given: str) -> None:
        assert violations({"signature": given}, competition_pb2.ContractSignature)[0].field == "signature"

    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("2027-01-15t09:30:00.0+01:30", 1_800_000_000),
            ("0001-01-01T00:00:00Z", -62135596800),
            ("9999-12-31T23:59:59.999999999Z", 253402300799),
        ],
    )
    def test_times(self, given: str, seconds: int) -> None:
        message: Any = jsoncodec.decode({"occurred_at": given}, event_pb2.Event.DESCRIPTOR)
        assert message.occurred_at.seconds == seconds

    @pytest.mark.parametrize(
        "given",
        [
            "2027-01-15 08:00:00Z",
            "2027-01-15T08:00:00",
            "2027-02-30T08:00:00Z",
            "2027-01-15T08:00:00.1234567891Z",
            "0001-01-01T00:00:00+01:00",
            1_800_000_000,
            "",
        ],
    )
    def test_what_is_no_time(self, given: Any) -> None:
        assert violations({"occurred_at": given}, event_pb2.Event)[0].field == "occurred_at"

    def test_null_leaves_what_may_be_absent_unset(self) -> None:
        message = jsoncodec.decode({"after_sequence": None}, event_pb2.WatchRequest.DESCRIPTOR)
        assert message == event_pb2.WatchRequest()
        create = jsoncodec.decode({"terms": None}, competition_pb2.CreateCompetitionRequest.DESCRIPTOR)
        assert not create.HasField("terms")

    def test_null_is_no_value_of_a_scalar_or_a_list(self) -> None:
        found = violations({"kinds": None, "competition_id": None}, event_pb2.WatchRequest)
        assert [violation.field for violation in found] == ["kinds", "competition_id"]

    def test_an_empty_object_sets_a_message(self) -> None:
        message = jsoncodec.decode({"terms": {}}, competition_pb2.CreateCompetitionRequest.DESCRIPTOR)
        assert message.HasField("terms")

    def test_only_one_of_a_oneof(self) -> None:
        found = violations({"event": {}, "heartbeat": {}}, event_pb2.WatchResponse)
        assert found == [FieldViolation("heartbeat", "cannot be given together with event")]

    def test_half_a_surrogate_pair(self) -> None:
        found = violations(jsoncodec.loads(b'{"npub": "\\ud800"}'), user_pb2.User)
        assert found[0].field == "npub"

    def test_map_entries(self) -> None:
        found = violations(
            {"sats_per_vb_by_target_blocks": {"6": 1, "x": 2, "7": "much", "8": None}},
            wallet_pb2.GetEstimatedFeesResponse,
        )
        assert [violation.field for violation in found] == [
            f'sats_per_vb_by_target_blocks["{key}"]' for key in ("x", "7", "8")
        ]

    def test_endless_nesting(self, everything: Any) -> None:
        value: Any = {}
        for _ in range(200):
            value = {"child": value}
        assert "nested too deeply" in violations(value, everything)[0].description
        for _ in range(500):
            value = [value]
        assert "nested too deeply" in violations({"any": value}, everything)[0].description

    @pytest.mark.parametrize("value", [[], "x", 1, None, True])
    def test_a_message_is_an_object(self, value: Any) -> None:
        assert violations(value, user_pb2.User)[0].description.startswith("must be an object")


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"{'a':1}",
            b'{"a":1,"a":2}',
            b'{"a":NaN}',
            b"\xff",
            b"[" * 100_000,
            b"1" * 5000,
            b"{} {}",
        ],
    )
    def test_what_is_no_json(self, text: bytes) -> None:
        with pytest.raises(InvalidJsonError):
            jsoncodec.loads(text)

    def test_one_line(self) -> None:
        assert jsoncodec.dumps({"a": "x\ny\r"}) == b'{"a":"x\\ny\\r"}'


@pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda message_type: message_type.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_message_comes_back_as_it_was(message_type: Any, data: st.DataObject) -> None:
    message = data.draw(messages(message_type))
    text = jsoncodec.dumps(jsoncodec.encode(message))
    assert json.loads(text) == jsoncodec.encode(message)
    assert b"\n" not in text
    assert jsoncodec.decode(jsoncodec.loads(text), message_type) == message


@settings(max_examples=300, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "terms", "state", "winners", "created_at", "transactions", "locations", "?"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_decoded_or_refused_with_reasons(value: Any) -> None:
    reasons: tuple[FieldViolation, ...] | None = None
    try:
        jsoncodec.decode(value, competition_pb2.Competition.DESCRIPTOR)
    except InvalidFieldsError as error:
        reasons = error.violations
    assert reasons is None or all(reason.description for reason in reasons)
    assert isinstance(value, dict) or reasons
