"""Keys and their bech32 forms (NIP-19)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynostr import bech32

from coordinator_client.nostr import InvalidKey, NostrKey, hex_to_npub, npub_to_hex

# The example of NIP-19.
NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
PUBLIC_HEX = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
SECRET_HEX = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def bech32_of(data: bytes, prefix: str, encoding: bech32.Encoding = bech32.Encoding.BECH32) -> str:
    return bech32.bech32_encode(prefix, bech32.convertbits(data, 8, 5), encoding)


def test_the_published_examples_convert_both_ways():
    assert npub_to_hex(NPUB) == PUBLIC_HEX
    assert hex_to_npub(PUBLIC_HEX) == NPUB
    key = NostrKey.from_nsec(NSEC)
    assert key.secret_bytes.hex() == SECRET_HEX
    assert key.nsec == NSEC
    assert key.public_hex == PUBLIC_HEX
    assert key.npub == NPUB
    assert NostrKey.from_hex(SECRET_HEX) == key


def test_an_upper_case_npub_is_the_same_key():
    assert npub_to_hex(NPUB.upper()) == PUBLIC_HEX
    assert hex_to_npub(PUBLIC_HEX.upper()) == NPUB


@given(st.integers(1, ORDER - 1))
def test_every_secret_survives_its_text_forms(secret: int):
    key = NostrKey(secret.to_bytes(32, "big"))
    assert NostrKey.from_nsec(key.nsec).secret_bytes == key.secret_bytes
    assert npub_to_hex(key.npub) == key.public_hex


def test_generated_keys_differ():
    assert NostrKey.generate() != NostrKey.generate()


@pytest.mark.parametrize(
    "npub",
    [
        "",
        "npub1",
        NSEC,
        NPUB[:-1] + "q",
        NPUB + " ",
        "Npub" + NPUB[4:],
        bech32_of(bytes.fromhex(PUBLIC_HEX), "npub", bech32.Encoding.BECH32M),
        bech32_of(bytes.fromhex(PUBLIC_HEX)[:-1], "npub"),
        bech32_of(bytes.fromhex(PUBLIC_HEX) + b"\0", "npub"),
        bech32_of(bytes(32), "npub"),
        bech32_of(b"\xff" * 32, "npub"),
        "é" * 63,
    ],
)
def test_a_bad_npub_is_refused(npub: str):
    with pytest.raises(InvalidKey):
        npub_to_hex(npub)


@pytest.mark.parametrize(
    "public_hex",
    ["", "00" * 32, "ff" * 32, PUBLIC_HEX[:-2], PUBLIC_HEX + "00", " " + PUBLIC_HEX[1:], "zz" * 32],
)
def test_a_bad_public_key_is_refused(public_hex: str):
    with pytest.raises(InvalidKey):
        hex_to_npub(public_hex)


@pytest.mark.parametrize(
    "secret", [b"", bytes(32), b"\x01" * 31, b"\x01" * 33, ORDER.to_bytes(32, "big"), b"\xff" * 32]
)
def test_a_bad_secret_is_refused_without_being_told(secret: bytes):
    with pytest.raises(InvalidKey) as refusal:
        NostrKey(secret)
    assert refusal.value.__cause__ is None
    assert not secret.hex() or secret.hex() not in str(refusal.value)


def test_the_secret_shows_in_no_repr():
    key = NostrKey.from_hex(SECRET_HEX)
    assert SECRET_HEX not in repr(key)
    assert SECRET_HEX not in str(key)
    assert "nsec" not in repr(key)
