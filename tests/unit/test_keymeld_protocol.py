"""Keymeld's messages: their JSON, and what is refused."""

from typing import Any

import pytest

from coordinator_client.keymeld import SessionCredentials, SigningItem, seal_item
from coordinator_client.keymeld.batch import open_result
from coordinator_client.keymeld.errors import KeymeldBadResponse
from coordinator_client.keymeld.ids import derived_uuid7, is_uuid7, new_uuid7, uuid7_ms
from coordinator_client.keymeld.protocol import (
    AdaptorConfig,
    AdaptorSignature,
    BatchItem,
    BatchResult,
    Enclave,
    InitializeRequest,
    KeygenState,
    ProtocolError,
    RegisterRequest,
    ReserveRequest,
    SigningRequest,
    SigningState,
    Slot,
    SubsetDefinition,
)

KEY = bytes([2]) + bytes(range(32))
ITEM = BatchItem("item", bytes(32), "aa", "bb", encrypted_adaptor_configs="cc", subset_id="subset")
SUBSET = SubsetDefinition("subset", ("a", "b"))
MESSAGES: list[Any] = [
    SUBSET,
    ReserveRequest("k", "c", ("c", "p"), 60, "aa", None, (SUBSET,)),
    InitializeRequest(KEY, "aa", KEY, "bb", "cc", "dd", 1),
    RegisterRequest("k", "p", "aa", KEY, "bb", KEY, 1, True, KEY),
    Slot("p", "2", 1, False),
    ITEM,
    BatchItem("item", bytes(32), "aa", "bb"),
    SigningRequest("s", "k", 60, (ITEM,)),
    AdaptorConfig("a", (KEY,)),
    BatchResult("item", "aa", None, None),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_survive_json(message: Any) -> None:
    assert type(message).from_json(message.to_json()) == message


def test_bytes_travel_as_numbers_where_the_protocol_says_so() -> None:
    sent = RegisterRequest("k", "p", "aa", KEY, "bb", KEY, 1, True, KEY).to_json()
    assert sent["public_key"] == list(KEY)
    assert sent["auth_pubkey"] == list(KEY)
    assert sent["enclave_public_key"] == KEY.hex()
    item = ITEM.to_json()
    assert item["message_hash"] == [0] * 32
    assert item["signing_mode"] == {
        "type": "adaptor",
        "encrypted_message": "aa",
        "encrypted_adaptor_configs": "cc",
    }
    regular = BatchItem("item", bytes(32), "aa", "bb").to_json()
    assert regular["signing_mode"] == {"type": "regular", "encrypted_message": "aa"}
    assert AdaptorConfig("a", (KEY,)).to_json() == {
        "adaptor_id": "a",
        "adaptor_type": "Single",
        "adaptor_points": [KEY.hex()],
        "hints": None,
    }


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (Slot.from_json, None),
        (Slot.from_json, {"user_id": "p", "enclave_id": 1, "signer_index": True, "claimed": False}),
        (Slot.from_json, {"user_id": "p", "enclave_id": None, "signer_index": 1, "claimed": False}),
        (Enclave.from_json, {"enclave_id": 1, "public_key": "02", "key_epoch": 1, "healthy": True}),
        (KeygenState.from_json, {"status": "elsewhere"}),
        (SigningState.from_json, {"signing_session_id": "s", "keygen_session_id": "k", "status": "x"}),
        (SubsetDefinition.from_json, {"subset_id": "s", "participants": [1]}),
        (BatchItem.from_json, ITEM.to_json() | {"message_hash": [0] * 31}),
        (BatchItem.from_json, ITEM.to_json() | {"message_hash": [256] * 32}),
        (BatchItem.from_json, ITEM.to_json() | {"message_hash": [True] * 32}),
        (BatchItem.from_json, ITEM.to_json() | {"signing_mode": {"type": "other", "encrypted_message": ""}}),
        (
            BatchItem.from_json,
            ITEM.to_json() | {"signing_mode": {"type": "adaptor", "encrypted_message": ""}},
        ),
        (KeygenState.from_json, {"status": "completed", "encrypted_subset_aggregates": {"a": 1}}),
    ],
)
def test_malformed_messages_are_refused(parse: Any, value: Any) -> None:
    with pytest.raises(ProtocolError):
        parse(value)


def test_an_adaptor_signature_is_65_bytes_whatever_its_name() -> None:
    signature = AdaptorSignature(KEY + bytes(32), KEY, (KEY,), KEY)
    sent = signature.to_json("a")
    assert sent["signature_scalar"] == list(KEY + bytes(32))
    assert AdaptorSignature.from_json(sent) == signature


def test_results_are_opened_or_say_what_is_missing() -> None:
    credentials = SessionCredentials(bytes(32))
    plain = SigningItem("item", bytes(32), None)
    adaptor = SigningItem("item", bytes(32), None, adaptor_id="a", adaptor_point=KEY)
    sealed = BatchResult("item", signature=credentials.encrypt(bytes(64), "signature"))
    assert open_result(credentials, sealed, plain) == bytes(64)
    for item, result, text in [
        (plain, BatchResult("item", error="no"), "no"),
        (plain, BatchResult("item"), "no signature"),
        (plain, BatchResult("item", signature=credentials.encrypt(bytes(63), "signature")), "63 bytes"),
        (plain, BatchResult("item", signature=credentials.encrypt(bytes(64), "message")), "context"),
        (adaptor, sealed, "no adaptor signature"),
        (
            adaptor,
            BatchResult("item", adaptor_signatures=credentials.encrypt(b"{}", "adaptor_signatures")),
            "lacks",
        ),
        (
            adaptor,
            BatchResult("item", adaptor_signatures=credentials.encrypt(b"?", "adaptor_signatures")),
            "item item",
        ),
    ]:
        with pytest.raises(KeymeldBadResponse, match=text):
            open_result(credentials, result, item)


def test_items_say_the_hash_as_text_and_leave_the_key_untweaked() -> None:
    credentials = SessionCredentials(bytes(32))
    sealed = seal_item(credentials, SigningItem("item", bytes(range(32)), "subset"))
    assert credentials.decrypt(sealed.encrypted_message, "session_data") == bytes(range(32)).hex().encode()
    assert credentials.decrypt(sealed.encrypted_taproot_tweak, "session_data") == b'"None"'
    assert sealed.encrypted_adaptor_configs is None


def test_derived_ids_are_uuid7_and_depend_on_every_part() -> None:
    made = derived_uuid7(("a", "bc"), 1_700_000_000_000)
    assert is_uuid7(made)
    assert uuid7_ms(made) == 1_700_000_000_000
    assert made == derived_uuid7(("a", "bc"), 1_700_000_000_000)
    assert len({made, derived_uuid7(("ab", "c"), 1_700_000_000_000), derived_uuid7(("a", "bc"), 1)}) == 3
    assert is_uuid7(new_uuid7())
    assert not is_uuid7("0192d3a0-0000-4000-8000-000000000001")
    assert not is_uuid7(made.upper())
    with pytest.raises(ValueError, match="version 7"):
        uuid7_ms("0192d3a0-0000-4000-8000-000000000001")
