"""Schnorr signatures for one signer (BIP340)."""

from coordinator.contract.errors import InvalidPoint, InvalidSignature
from coordinator.contract.secp import N, parse_xonly, private_key, tag_midstate


def challenge(nonce_x: bytes, key_x: bytes, message: bytes) -> int:
    """``int(hash_BIP0340/challenge(R || P || m)) mod n`` (BIP340, "Default Signing")."""
    state = tag_midstate("BIP0340/challenge").copy()
    state.update(nonce_x + key_x + message)
    return int.from_bytes(state.digest(), "big") % N


def sign(secret: bytes, message: bytes, aux: bytes | None = b"") -> bytes:
    """Sign a 32-byte message.

    Args:
        secret: Secret key, 32 bytes.
        message: 32 bytes, e.g. a sighash.
        aux: 32 auxiliary random bytes; the default draws them from the system; None uses none.

    Returns:
        The 64-byte signature.

    Raises:
        InvalidScalar: Not a secret key.
        InvalidSignature: The message is not 32 bytes.
    """
    if len(message) != 32:
        raise InvalidSignature("only 32-byte messages are signed")
    return private_key(secret).sign_schnorr(message, aux)  # type: ignore[arg-type]


def verify(key_x: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a 64-byte signature over a message (of any length) is valid for an x-only key."""
    if len(signature) != 64:
        return False
    try:
        return parse_xonly(key_x).verify(signature, message)
    except InvalidPoint:
        return False
