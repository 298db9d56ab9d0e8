"""Single-key taproot outputs (BIP86) and their key-path spending (BIP341)."""

from coordinator.contract import schnorr
from coordinator.contract.errors import SigningError
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import N, has_even_y, parse_scalar, parse_secret, public_key, scalar_bytes
from coordinator.contract.taproot import output_key, tap_tweak
from coordinator.contract.tx import SighashCache


def bip86_script_pubkey(internal_key: bytes) -> bytes:
    """P2TR script of a key without scripts: output key = P + hash_TapTweak(P) G (BIP86, BIP341).

    Args:
        internal_key: x-only key, 32 bytes.

    Raises:
        InvalidPoint: Not an x-only key.
    """
    key, _ = output_key(internal_key, tap_tweak(internal_key, None))
    return p2tr_script(key)


def sign_bip86_input(sighashes: SighashCache, index: int, secret: bytes, aux: bytes | None = b"") -> bytes:
    """64-byte signature (SIGHASH_DEFAULT) of a BIP86 coin's input.

    Args:
        sighashes: Of the transaction, with the outputs that all its inputs spend.
        index: Which input.
        secret: Untweaked secret key, 32 bytes.
        aux: BIP340 auxiliary randomness, as in `schnorr.sign`.

    Raises:
        InvalidScalar: Not a secret key.
        SigningError: The key is not the one of the output.
    """
    key = public_key(secret)
    if bip86_script_pubkey(key[1:]) != sighashes.prevouts[index].script_pubkey:
        raise SigningError(f"the key does not belong to the output that input {index} spends")
    scalar = parse_secret(secret) if has_even_y(key) else N - parse_secret(secret)
    tweaked = scalar_bytes(scalar + parse_scalar(tap_tweak(key[1:], None)))
    return schnorr.sign(tweaked, sighashes.key_path(index), aux)
