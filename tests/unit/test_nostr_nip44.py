"""Encrypted payloads (NIP-44 v2): the published vectors, valid and invalid."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator_client.nostr import InvalidKey, Nip44Error, NostrError, NostrKey, nip44
from support.vectors import load


def vectors() -> dict:
    return load("nip44.json")["v2"]


def test_conversation_keys():
    for case in vectors()["valid"]["get_conversation_key"]:
        key = nip44.conversation_key(bytes.fromhex(case["sec1"]), case["pub2"])
        assert key.hex() == case["conversation_key"]


def test_message_keys():
    cases = vectors()["valid"]["get_message_keys"]
    for case in cases["keys"]:
        keys = nip44.message_keys(bytes.fromhex(cases["conversation_key"]), bytes.fromhex(case["nonce"]))
        assert keys.chacha_key.hex() == case["chacha_key"]
        assert keys.chacha_nonce.hex() == case["chacha_nonce"]
        assert keys.hmac_key.hex() == case["hmac_key"]


def test_padded_lengths():
    for length, padded in vectors()["valid"]["calc_padded_len"]:
        assert nip44.padded_length(length) == padded


def test_encrypting_and_decrypting():
    for case in vectors()["valid"]["encrypt_decrypt"]:
        first, second = NostrKey.from_hex(case["sec1"]), NostrKey.from_hex(case["sec2"])
        assert nip44.conversation_key(first, second.public_hex).hex() == case["conversation_key"]
        nonce = bytes.fromhex(case["nonce"])
        assert nip44.encrypt(first, second.public_hex, case["plaintext"], nonce) == case["payload"]
        assert nip44.decrypt(second, first.public_hex, case["payload"]) == case["plaintext"]


def test_long_messages():
    for case in vectors()["valid"]["encrypt_decrypt_long_msg"]:
        key, nonce = bytes.fromhex(case["conversation_key"]), bytes.fromhex(case["nonce"])
        plaintext = case["pattern"] * case["repeat"]
        assert hashlib.sha256(plaintext.encode()).hexdigest() == case["plaintext_sha256"]
        payload = nip44.encrypt_with(key, plaintext, nonce)
        assert hashlib.sha256(payload.encode()).hexdigest() == case["payload_sha256"]
        assert nip44.decrypt_with(key, payload) == plaintext


def test_plaintexts_too_short_or_long_are_refused():
    for length in vectors()["invalid"]["encrypt_msg_lengths"]:
        with pytest.raises(Nip44Error):
            nip44.encrypt_with(b"\x01" * 32, "x" * length)


def test_bad_keys_are_refused():
    for case in vectors()["invalid"]["get_conversation_key"]:
        with pytest.raises(InvalidKey):
            nip44.conversation_key(bytes.fromhex(case["sec1"]), case["pub2"])


def test_bad_payloads_are_refused_for_the_published_reason():
    for case in vectors()["invalid"]["decrypt"]:
        reason = case["note"].split(":")[0].removesuffix(" 0")
        with pytest.raises(Nip44Error, match=reason):
            nip44.decrypt_with(bytes.fromhex(case["conversation_key"]), case["payload"])


ALICE, BOB = NostrKey(b"\x07" * 32), NostrKey(b"\x08" * 32)


@given(st.text(min_size=1, max_size=300))
def test_what_one_encrypts_the_other_reads(plaintext: str):
    payload = nip44.encrypt(ALICE, BOB.public_hex, plaintext)
    assert nip44.decrypt(BOB, ALICE.public_hex, payload) == plaintext


@given(st.integers(0, 98), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, flip: int):
    data = bytearray(base64.b64decode(nip44.encrypt(ALICE, BOB.public_hex, "three satoshis")))
    data[position] ^= flip
    with pytest.raises(Nip44Error):
        nip44.decrypt(BOB, ALICE.public_hex, base64.b64encode(data).decode())


def test_nonces_do_not_repeat():
    assert nip44.encrypt(ALICE, BOB.public_hex, "x") != nip44.encrypt(ALICE, BOB.public_hex, "x")


def test_a_third_party_cannot_read():
    with pytest.raises(Nip44Error, match="MAC"):
        nip44.decrypt(NostrKey(b"\x09" * 32), ALICE.public_hex, nip44.encrypt(ALICE, BOB.public_hex, "x"))


@given(st.text(max_size=200))
def test_no_payload_crashes_the_decryption(payload: str):
    with pytest.raises(NostrError):
        nip44.decrypt(ALICE, BOB.public_hex, payload)
