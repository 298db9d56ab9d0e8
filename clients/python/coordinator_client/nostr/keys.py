"""Nostr keys: 32-byte secrets, x-only public keys, and their npub/nsec forms (NIP-19, BIP-340)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from coincurve import PrivateKey, PublicKeyXOnly
from pynostr import bech32 as _untyped_bech32

from coordinator_client.nostr.errors import InvalidKey
from coordinator_client.nostr.events import NostrEvent, sign

_KEY_BYTES: Final = 32
_bech32: Any = _untyped_bech32


class NostrKey:
    """A secret key and what it can do. The secret shows in neither `repr` nor errors."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        """Takes the 32-byte secret; raises `InvalidKey` unless 0 < secret < the order of secp256k1."""
        if not isinstance(secret, bytes) or len(secret) != _KEY_BYTES:
            raise InvalidKey("a secret key is 32 bytes")
        try:
            self._key = PrivateKey(secret)
        except ValueError:
            # from None: the library's message and traceback would carry the secret along.
            raise InvalidKey("a secret key lies between 0 and the order of the curve") from None

    @classmethod
    def generate(cls) -> NostrKey:
        """A fresh random key."""
        while True:
            try:
                return cls(secrets.token_bytes(_KEY_BYTES))
            except InvalidKey:  # once in 2^128
                continue

    @classmethod
    def from_hex(cls, secret_hex: str) -> NostrKey:
        """From 64 hexadecimal digits; raises `InvalidKey`."""
        return cls(_hex_bytes(secret_hex, "a secret key"))

    @classmethod
    def from_nsec(cls, nsec: str) -> NostrKey:
        """From `nsec1…` (NIP-19); raises `InvalidKey`."""
        return cls(_from_bech32(nsec, "nsec"))

    @property
    def secret_bytes(self) -> bytes:
        """The 32-byte secret."""
        return self._key.secret

    @property
    def public_hex(self) -> str:
        """The x-only public key, 64 lower-case hexadecimal digits."""
        return self._key.public_key_xonly.format().hex()

    @property
    def npub(self) -> str:
        """The public key as `npub1…`."""
        return hex_to_npub(self.public_hex)

    @property
    def nsec(self) -> str:
        """The secret as `nsec1…`: as secret as the secret itself."""
        return _to_bech32(self._key.secret, "nsec")

    def sign_event(
        self, *, kind: int, created_at: int, tags: Sequence[Sequence[str]] = (), content: str = ""
    ) -> NostrEvent:
        """A NIP-01 event by this key with its id and Schnorr signature; raises `InvalidEvent`.

        `created_at` is in unix seconds.
        """
        return sign(self._key, kind=kind, created_at=created_at, tags=tags, content=content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NostrKey) and self.public_hex == other.public_hex

    def __hash__(self) -> int:
        return hash(self.public_hex)

    def __repr__(self) -> str:
        return f"NostrKey({self.npub})"


def check_public_key(public_hex: str) -> str:
    """Return the x-only key in lower case; raises `InvalidKey` if it is not hex or not on the curve."""
    raw = _hex_bytes(public_hex, "a public key")
    try:
        PublicKeyXOnly(raw)
    except ValueError:
        raise InvalidKey("not the x coordinate of a point on the curve") from None
    return raw.hex()


def npub_to_hex(npub: str) -> str:
    """`npub1…` to 64 hexadecimal digits; raises `InvalidKey` (checksum, prefix, length, curve)."""
    return check_public_key(_from_bech32(npub, "npub").hex())


def hex_to_npub(public_hex: str) -> str:
    """64 hexadecimal digits to `npub1…`; raises `InvalidKey`."""
    return _to_bech32(bytes.fromhex(check_public_key(public_hex)), "npub")


def _hex_bytes(text: str, what: str) -> bytes:
    # bytes.fromhex lets white space through, so the length check alone does not do.
    if not isinstance(text, str) or len(text) != 2 * _KEY_BYTES or not text.isalnum():
        raise InvalidKey(f"{what} is 64 hexadecimal digits")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidKey(f"{what} is 64 hexadecimal digits") from None


def _to_bech32(data: bytes, prefix: str) -> str:
    return str(_bech32.bech32_encode(prefix, _bech32.convertbits(data, 8, 5), _bech32.Encoding.BECH32))


def _from_bech32(text: str, prefix: str) -> bytes:
    """Decode strictly: NIP-19 uses BIP-173 bech32, never bech32m, and no stray padding bits."""
    if not isinstance(text, str) or len(text) > 90:
        raise InvalidKey(f"not an {prefix}")
    found_prefix, words, encoding = _bech32.bech32_decode(text)
    if found_prefix != prefix or encoding is not _bech32.Encoding.BECH32:
        raise InvalidKey(f"not an {prefix}: wrong prefix or checksum")
    data = _bech32.convertbits(words, 5, 8, pad=False)
    if data is None or len(data) != _KEY_BYTES:
        raise InvalidKey(f"not an {prefix}: it must hold 32 bytes")
    return bytes(data)
