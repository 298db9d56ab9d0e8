"""The oracle's side of the contract: outcome messages, locking points and attestation secrets.

An oracle with key d*G and nonce k*G attests to a message m by ``s = k + e*d``, e being BIP340's challenge
over ``h(m) = hash_DLC/oracle/attestation/v0(m)``. Anyone can compute ``s*G``, the message's locking point,
in advance. Keys and nonces count by their x coordinate: both are negated where their y is odd.
"""

from collections.abc import Iterable, Sequence

from coordinator.contract.errors import InvalidParameters, InvalidPoint
from coordinator.contract.points import PointList
from coordinator.contract.schnorr import challenge
from coordinator.contract.secp import (
    N,
    has_even_y,
    lift_x,
    mul_base,
    parse_point,
    parse_secret,
    scalar_bytes,
    tag_midstate,
    tagged_hash,
)

_TAG = "DLC/oracle/attestation/v0"


def outcome_message(ranking: Sequence[int]) -> bytes:
    """The message for a ranking: each winner's entry index as an 8-byte big-endian integer, best first.

    Raises:
        InvalidParameters: An index is negative or does not fit.
    """
    try:
        return b"".join(index.to_bytes(8, "big") for index in ranking)
    except OverflowError:
        raise InvalidParameters("an entry index is 0 to 2^64-1", field="ranking") from None


def locking_point(oracle_key: bytes, nonce_point: bytes, message: bytes) -> bytes:
    """The point whose discrete logarithm the oracle reveals by attesting to a message.

    Args:
        oracle_key: The oracle's public key, 33 bytes or x-only.
        nonce_point: The event's nonce, 33 bytes or x-only.
        message: The outcome's message.

    Raises:
        InvalidPoint: Key or nonce is not a point.
    """
    return locking_points(oracle_key, nonce_point, (message,))[0]


def locking_points(oracle_key: bytes, nonce_point: bytes, messages: Iterable[bytes]) -> PointList:
    """Locking points of many messages of one event, in order (about 35 µs each).

    Raises:
        InvalidPoint: Key or nonce is not a point.
    """
    key_x, nonce_x = _xonly(oracle_key, "oracle_key"), _xonly(nonce_point, "nonce_point")
    key, nonce = lift_x(key_x), lift_x(nonce_x)
    tagged, challenged = tag_midstate(_TAG), tag_midstate("BIP0340/challenge").copy()
    challenged.update(nonce_x + key_x)
    points = bytearray()
    for message in messages:
        hashed, state = tagged.copy(), challenged.copy()
        hashed.update(message)
        state.update(hashed.digest())
        e = int.from_bytes(state.digest(), "big") % N
        points += nonce.combine([key.multiply(e.to_bytes(32, "big"))]).format()
    return PointList.from_packed(bytes(points))


def attestation_secret(oracle_secret: bytes, nonce_secret: bytes, message: bytes) -> bytes:
    """The scalar s that attests to a message, 32 bytes; ``s*G`` is the message's locking point.

    Raises:
        InvalidScalar: Not secret keys.
    """
    d, k = parse_secret(oracle_secret), parse_secret(nonce_secret)
    key, nonce = mul_base(d), mul_base(k)
    d = d if has_even_y(key) else N - d
    k = k if has_even_y(nonce) else N - k
    return scalar_bytes(k + challenge(nonce[1:], key[1:], tagged_hash(_TAG, message)) * d)


def _xonly(key: bytes, field: str) -> bytes:
    try:
        if len(key) == 33:
            parse_point(key)
            return key[1:]
        lift_x(key)
    except InvalidPoint as error:
        raise InvalidPoint(str(error), field=field) from None
    return key
