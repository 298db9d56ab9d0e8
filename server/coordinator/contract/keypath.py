# mypy: disable-error-code="no-untyped-call"
"""Single-key taproot outputs (BIP86) and their key-path spending (BIP341)."""

from collections.abc import Sequence

from embit.ec import PrivateKey, PublicKey
from embit.script import Script
from embit.transaction import SIGHASH, Transaction

from coordinator.contract import schnorr
from coordinator.contract.errors import SigningError
from coordinator.contract.secp import lift_x, parse_secret, public_key
from coordinator.contract.utxo import Output


def bip86_script_pubkey(internal_key: bytes) -> bytes:
    """P2TR script of a key without scripts: output key = P + hash_TapTweak(P) G (BIP86, BIP341).

    Args:
        internal_key: x-only key, 32 bytes.

    Raises:
        InvalidPoint: Not an x-only key.
    """
    lift_x(internal_key)
    return b"\x51\x20" + bytes(PublicKey.from_xonly(internal_key).taproot_tweak().xonly())


def keypath_sighash(
    transaction: Transaction, index: int, prevouts: Sequence[Output], sighash_type: int = SIGHASH.DEFAULT
) -> bytes:
    """BIP341 signature hash of a key-path input. `prevouts`: the outputs that all inputs spend, in order."""
    transaction.clear_cache()  # embit would reuse the hashes of other prevouts
    digest: bytes = transaction.sighash_taproot(
        index,
        script_pubkeys=[Script(output.script_pubkey) for output in prevouts],
        values=[output.value_sats for output in prevouts],
        sighash=sighash_type,
    )
    return digest


def sign_bip86_input(
    transaction: Transaction,
    index: int,
    prevouts: Sequence[Output],
    secret: bytes,
    aux: bytes | None = b"",
) -> bytes:
    """64-byte signature (SIGHASH_DEFAULT) of a BIP86 coin's input.

    Args:
        prevouts: The outputs that all inputs spend, in order: taproot signatures commit to them.
        secret: Untweaked secret key, 32 bytes.
        aux: BIP340 auxiliary randomness, as in `schnorr.sign`.

    Raises:
        InvalidScalar: Not a secret key.
        SigningError: The key is not the one of the output.
    """
    parse_secret(secret)
    if bip86_script_pubkey(public_key(secret)[1:]) != prevouts[index].script_pubkey:
        raise SigningError(f"the key does not belong to the output that input {index} spends")
    tweaked: bytes = PrivateKey(secret).taproot_tweak().secret
    return schnorr.sign(tweaked, keypath_sighash(transaction, index, prevouts), aux)
