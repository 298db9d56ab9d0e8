"""Schnorr signatures against the published BIP340 vectors, and what adaptor signatures refuse."""

import pytest

from coordinator.contract import adaptor, schnorr
from coordinator.contract.errors import (
    InvalidAttestation,
    InvalidPoint,
    InvalidScalar,
    InvalidSignature,
)
from coordinator.contract.secp import N, negate, public_key, scalar_bytes
from support.vectors import load

SECRET, OTHER = bytes((7,)) * 32, bytes((8,)) * 32
MESSAGE = bytes((9,)) * 32


def test_bip340_vectors() -> None:
    rows = load("bip340.csv")
    assert len(rows) >= 19
    for row in rows:
        message, signature = bytes.fromhex(row["message"]), bytes.fromhex(row["signature"])
        key = bytes.fromhex(row["public key"])
        expected = row["verification result"] == "TRUE"
        assert schnorr.verify(key, message, signature) is expected, row["comment"]
        if row["secret key"]:
            secret, aux = bytes.fromhex(row["secret key"]), bytes.fromhex(row["aux_rand"])
            assert public_key(secret)[1:] == key
            if len(message) == 32:
                assert schnorr.sign(secret, message, aux) == signature
            else:
                with pytest.raises(InvalidSignature):
                    schnorr.sign(secret, message, aux)


@pytest.mark.parametrize("secret", [bytes(32), scalar_bytes(-1)[:-1], N.to_bytes(32, "big")])
def test_what_is_no_secret_key_does_not_sign(secret: bytes) -> None:
    with pytest.raises(InvalidScalar):
        schnorr.sign(secret, MESSAGE)
    with pytest.raises(InvalidScalar):
        adaptor.sign(secret, MESSAGE, public_key(OTHER))


def test_signatures_of_the_wrong_length_are_invalid() -> None:
    signature = schnorr.sign(SECRET, MESSAGE)
    assert schnorr.verify(public_key(SECRET)[1:], MESSAGE, signature)
    assert not schnorr.verify(public_key(SECRET)[1:], MESSAGE, signature + b"\x01")
    assert not adaptor.verify_adaptor(public_key(SECRET)[1:], MESSAGE, public_key(OTHER), signature)


def test_malformed_adaptor_signatures_are_refused() -> None:
    point = public_key(OTHER)
    presignature = adaptor.sign(SECRET, MESSAGE, point)
    key_x = public_key(SECRET)[1:]
    bad_nonce = b"\x04" + presignature[1:]
    big_s = presignature[:33] + N.to_bytes(32, "big")
    for malformed in (presignature[:-1], bad_nonce, big_s):
        assert not adaptor.verify_adaptor(key_x, MESSAGE, point, malformed)
        with pytest.raises(InvalidSignature):
            adaptor.adapt(malformed, OTHER)
    assert not adaptor.verify_adaptor(key_x, MESSAGE, bytes(33), presignature)
    # T = -R: the nonce of the final signature would be infinity.
    assert not adaptor.verify_adaptor(key_x, MESSAGE, negate(presignature[:33]), presignature)
    with pytest.raises(InvalidPoint):
        adaptor.sign(SECRET, MESSAGE, b"\x02" + bytes(32))


def test_extraction_needs_the_two_signatures_to_belong_together() -> None:
    point = public_key(OTHER)
    presignature = adaptor.sign(SECRET, MESSAGE, point)
    assert adaptor.extract(presignature, adaptor.adapt(presignature, OTHER), point) == OTHER
    with pytest.raises(InvalidAttestation):
        adaptor.extract(presignature, schnorr.sign(SECRET, MESSAGE), point)
    with pytest.raises(InvalidAttestation):
        adaptor.extract(presignature, adaptor.adapt(presignature, SECRET), point)
