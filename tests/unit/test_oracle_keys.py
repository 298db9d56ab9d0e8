"""The devnet oracle's key and nonces: attestations open locking points, whatever the parities."""

import hashlib

from coordinator.contract.attestation import locking_point
from coordinator.contract.secp import mul_base
from coordinator_devnet.oracle.keys import OracleKeys


def test_attestations_open_locking_points_under_keys_and_nonces_of_both_parities():
    parities = set()
    for number in range(24):
        keys = OracleKeys(hashlib.sha256(bytes([number])).digest())
        digest = hashlib.sha256(b"event %d" % number).digest()
        nonce_point = keys.nonce_point(digest)
        parities.add((keys.public_key[0], nonce_point[0]))
        attestation = int.from_bytes(keys.attest(digest, b"message"), "big")
        assert mul_base(attestation) == locking_point(keys.public_key, nonce_point, b"message")
        assert mul_base(attestation) != locking_point(keys.public_key, nonce_point, b"another message")
    assert parities == {(2, 2), (2, 3), (3, 2), (3, 3)}


def test_secrets_follow_from_the_seed_and_the_event():
    keys, digest = OracleKeys(b"\x01" * 32), b"\x05" * 32
    assert OracleKeys(b"\x01" * 32).nonce_point(digest) == keys.nonce_point(digest)
    assert OracleKeys(b"\x02" * 32).public_key != keys.public_key
    assert keys.nonce_point(b"\x06" * 32) != keys.nonce_point(digest)
    assert keys.nonce_point(digest) != keys.public_key
