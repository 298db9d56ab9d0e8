"""secp256k1 on libsecp256k1 (through coincurve), with points and scalars as plain bytes and ints.

Points are 33-byte compressed encodings; the point at infinity, where it may occur, is 33 zero bytes
(BIP327 ``cbytes_ext``). X-only keys are 32 bytes (BIP340). Scalars are ints modulo `N`, or 32 bytes
big-endian.

Point arithmetic is libsecp256k1's. Scalar arithmetic on Python ints is not constant time: it is used by
local signers, which run on the key owner's own machine.
"""

import hashlib
from functools import cache, lru_cache

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

from coordinator.contract.errors import InvalidPoint, InvalidScalar

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of the group."""

INFINITY = bytes(33)
GENERATOR = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


def parse_point(point: bytes) -> PublicKey:
    """A compressed point, parsed.

    Raises:
        InvalidPoint: Not 33 bytes, or not on the curve.
    """
    if len(point) != 33:
        raise InvalidPoint(f"a compressed point has 33 bytes, not {len(point)}")
    try:
        return PublicKey(point)
    except ValueError:
        raise InvalidPoint("not a point of secp256k1") from None


def is_point(point: bytes) -> bool:
    """Whether the bytes are a compressed point (not infinity)."""
    try:
        parse_point(point)
    except InvalidPoint:
        return False
    return True


@lru_cache(maxsize=8192)
def lift_x(xonly: bytes) -> PublicKey:
    """The point with this x coordinate and an even y (BIP340 ``lift_x``), parsed. Cached: keys recur.

    Raises:
        InvalidPoint: Not 32 bytes, or no such point.
    """
    if len(xonly) != 32:
        raise InvalidPoint(f"an x-only key has 32 bytes, not {len(xonly)}")
    return parse_point(b"\x02" + xonly)


@lru_cache(maxsize=8192)
def parse_xonly(xonly: bytes) -> PublicKeyXOnly:
    """An x-only key, parsed for signature verification. Cached: keys recur.

    Raises:
        InvalidPoint: Not 32 bytes, or no such point.
    """
    if len(xonly) != 32:
        raise InvalidPoint(f"an x-only key has 32 bytes, not {len(xonly)}")
    try:
        return PublicKeyXOnly(xonly)
    except ValueError:
        raise InvalidPoint("no point of secp256k1 has this x coordinate") from None


def has_even_y(point: bytes) -> bool:
    return point[0] == 2


def even_y(point: bytes) -> bytes:
    """The point or its negation, whichever has an even y."""
    return b"\x02" + point[1:]


def negate(point: bytes) -> bytes:
    return point if point == INFINITY else bytes((point[0] ^ 1,)) + point[1:]


def add(*points: bytes) -> bytes:
    """The sum of points, any of which, and the result too, may be infinity.

    Raises:
        InvalidPoint: One of them is not a point.
    """
    parsed = [parse_point(point) for point in points if point != INFINITY]
    if not parsed:
        return INFINITY
    try:
        return PublicKey.combine_keys(parsed).format()
    except ValueError:
        return INFINITY


def mul(point: bytes, scalar: int) -> bytes:
    """``scalar * point``; the point may be infinity.

    Raises:
        InvalidPoint: Not a point.
    """
    scalar %= N
    if scalar == 0 or point == INFINITY:
        return INFINITY
    return parse_point(point).multiply(scalar.to_bytes(32, "big")).format()


def mul_base(scalar: int) -> bytes:
    """``scalar * G``."""
    scalar %= N
    if scalar == 0:
        return INFINITY
    return PublicKey.from_valid_secret(scalar.to_bytes(32, "big")).format()


def tweak_add(point: bytes, scalar: int) -> bytes:
    """``point + scalar * G``."""
    return add(point, mul_base(scalar))


def scalar_bytes(scalar: int) -> bytes:
    return (scalar % N).to_bytes(32, "big")


def parse_scalar(scalar: bytes) -> int:
    """32 bytes as an int in 0..N-1.

    Raises:
        InvalidScalar: Not 32 bytes, or not less than N.
    """
    if len(scalar) != 32:
        raise InvalidScalar(f"a scalar has 32 bytes, not {len(scalar)}")
    value = int.from_bytes(scalar, "big")
    if value >= N:
        raise InvalidScalar("scalar is not less than the group order")
    return value


def parse_secret(secret: bytes) -> int:
    """A secret key as an int in 1..N-1.

    Raises:
        InvalidScalar: Not 32 bytes, zero, or not less than N.
    """
    value = parse_scalar(secret)
    if value == 0:
        raise InvalidScalar("a secret key is not zero")
    return value


def public_key(secret: bytes) -> bytes:
    """The compressed public key of a secret key.

    Raises:
        InvalidScalar: Not a secret key.
    """
    return mul_base(parse_secret(secret))


def private_key(secret: bytes) -> PrivateKey:
    """A secret key for libsecp256k1's signer.

    Raises:
        InvalidScalar: Not a secret key.
    """
    parse_secret(secret)
    return PrivateKey(secret)


@cache
def tag_midstate(tag: str) -> "hashlib._Hash":
    """SHA256 state after the tag's prefix. Copy before updating."""
    digest = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(digest + digest)


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """BIP340 tagged hash of the concatenated parts."""
    state = tag_midstate(tag).copy()
    state.update(b"".join(parts))
    return state.digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hash256(data: bytes) -> bytes:
    """Double SHA256, for transaction ids."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
