"""Adaptor signatures under an adaptor point T = t*G, for MuSig2 groups and single signers.

A pre-signature is ``R (33 bytes, without T) || s' (32 bytes)``. The challenge and the sign of the nonce use
``R + T``. Whoever knows t completes it to a BIP340 signature (`adapt`); whoever sees both learns t
(`extract`). Byte-compatible with the `AdaptorSignature` of the Rust crate `musig2` 0.2.
"""

import secrets
from collections.abc import Sequence

from coincurve import PublicKey

from coordinator.contract.errors import InvalidAttestation, InvalidPoint, InvalidScalar, InvalidSignature
from coordinator.contract.musig2 import Session, partial_sig_sum
from coordinator.contract.schnorr import challenge
from coordinator.contract.secp import (
    INFINITY,
    N,
    add,
    has_even_y,
    lift_x,
    mul_base,
    negate,
    parse_point,
    parse_scalar,
    parse_secret,
    scalar_bytes,
    tagged_hash,
)


def aggregate(psigs: Sequence[bytes], session: Session) -> bytes:
    """Aggregate a group's partial signatures to a 65-byte pre-signature.

    Raises:
        InvalidContribution: A partial signature is not a scalar; names the signer.
        InvalidSignature: The session has no adaptor point.
    """
    if session.adaptor_point is None:
        raise InvalidSignature("the session has no adaptor point")
    return session.nonce + scalar_bytes(partial_sig_sum(psigs, session))


def sign(secret: bytes, message: bytes, adaptor_point: bytes, aux: bytes | None = None) -> bytes:
    """A single signer's 65-byte pre-signature; nonces as in BIP340's default signing, bound to T too.

    Raises:
        InvalidScalar: Not a secret key.
        InvalidPoint: T is not a point.
    """
    d = parse_secret(secret)
    key = mul_base(d)
    if not has_even_y(key):
        d = N - d
    aux = secrets.token_bytes(32) if aux is None else aux
    mask = tagged_hash("BIP0340/aux", aux)
    seed = bytes(a ^ b for a, b in zip(scalar_bytes(d), mask, strict=True))
    digest = tagged_hash("DLC/adaptor/nonce", seed, key[1:], adaptor_point, message)
    k = int.from_bytes(digest, "big") % N
    if k == 0:  # happens with negligible probability only
        raise InvalidSignature("nonce is zero")
    nonce = mul_base(k)
    final = add(nonce, adaptor_point)
    if not has_even_y(final):
        k = N - k
    return nonce + scalar_bytes(k + challenge(final[1:], key[1:], message) * d)


def verify_adaptor(key_x: bytes, message: bytes, adaptor_point: bytes, signature: bytes) -> bool:
    """Whether completing a pre-signature with T's secret gives a valid signature.

    Checks ``s'*G - e*P == ±R``, the sign being that which makes ``R + T`` even.

    Args:
        key_x: The signers' x-only key.
        message: The message.
        adaptor_point: T, 33 bytes.
        signature: The pre-signature, 65 bytes.
    """
    if len(signature) != 65:
        return False
    nonce, s = signature[:33], signature[33:]
    try:
        key = lift_x(key_x)
        parse_scalar(s)
        final = PublicKey.combine_keys([parse_point(nonce), parse_point(adaptor_point)]).format()
        e = challenge(final[1:], key_x, message)
        point = key.multiply((N - e).to_bytes(32, "big")).add(s).format()
    except (InvalidPoint, InvalidScalar, ValueError):
        # ValueError: an intermediate point is infinity, or the challenge is zero.
        return False
    return point == (nonce if final[0] == 2 else negate(nonce))


def adapt(signature: bytes, secret: bytes) -> bytes:
    """Complete a pre-signature with the adaptor secret t.

    Returns:
        A 64-byte signature; valid if the pre-signature was valid under t*G.

    Raises:
        InvalidSignature: The pre-signature is malformed.
        InvalidScalar: t is not a scalar.
    """
    nonce, s = _parse(signature)
    t = parse_scalar(secret)
    final = add(nonce, mul_base(t))
    if final == INFINITY:
        raise InvalidSignature("nonce and adaptor point cancel out")
    return final[1:] + scalar_bytes(s + t if has_even_y(final) else s - t)


def extract(signature: bytes, final_signature: bytes, adaptor_point: bytes) -> bytes:
    """The adaptor secret t, from a pre-signature and the signature it was completed to.

    Raises:
        InvalidSignature: A signature is malformed.
        InvalidAttestation: The signatures do not reveal the secret of this adaptor point.
    """
    nonce, s = _parse(signature)
    if len(final_signature) != 64:
        raise InvalidSignature("a signature has 64 bytes")
    final = add(nonce, adaptor_point)
    t = (parse_scalar(final_signature[32:]) - s) % N
    if not has_even_y(final):
        t = -t % N
    if final[1:] != final_signature[:32] or mul_base(t) != adaptor_point:
        raise InvalidAttestation("the signature was not completed with this adaptor point's secret")
    return scalar_bytes(t)


def _parse(signature: bytes) -> tuple[bytes, int]:
    if len(signature) != 65:
        raise InvalidSignature("an adaptor signature has 65 bytes")
    try:
        parse_point(signature[:33])
        return signature[:33], parse_scalar(signature[33:])
    except (InvalidPoint, InvalidScalar) as error:
        raise InvalidSignature(f"malformed adaptor signature: {error}") from None
