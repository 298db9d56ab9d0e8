"""Encrypted payloads between two keys (NIP-44, version 2): ECDH, HKDF, ChaCha20, HMAC-SHA256."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from coincurve import PublicKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from coordinator_client.nostr.errors import Nip44Error
from coordinator_client.nostr.keys import NostrKey, check_public_key

VERSION: Final = 2
MAX_PLAINTEXT_BYTES: Final = 65535

_SALT: Final = b"nip44-v2"
_NONCE_BYTES: Final = 32
_MAC_BYTES: Final = 32
# version ‖ nonce ‖ padded plaintext (2-byte length, at least 32 bytes) ‖ MAC, and the same in base64
_PAYLOAD_CHARACTERS: Final = range(132, 87472 + 1)
_PAYLOAD_BYTES: Final = range(99, 65603 + 1)


@dataclass(frozen=True, slots=True, repr=False)
class MessageKeys:
    """The keys of one message: ChaCha20 key (32 bytes) and nonce (12), HMAC key (32)."""

    chacha_key: bytes
    chacha_nonce: bytes
    hmac_key: bytes


def conversation_key(secret: NostrKey | bytes, pubkey: str) -> bytes:
    """The 32-byte key two parties share: HKDF-extract of their ECDH point's x coordinate.

    Args:
        secret: own secret key.
        pubkey: the other's x-only public key, hex.

    Raises:
        InvalidKey: either key is not a valid one.
    """
    own = secret if isinstance(secret, NostrKey) else NostrKey(secret)
    other = PublicKey(b"\x02" + bytes.fromhex(check_public_key(pubkey)))
    # NIP-44 takes the bare x coordinate; libsecp256k1's own ECDH would hash it.
    shared_x = other.multiply(own.secret_bytes).format(compressed=True)[1:]
    return hmac.digest(_SALT, shared_x, hashlib.sha256)


def message_keys(key: bytes, nonce: bytes) -> MessageKeys:
    """Derive a message's keys from the conversation key and its 32-byte nonce (HKDF-expand, 76 bytes)."""
    if len(key) != 32 or len(nonce) != _NONCE_BYTES:
        raise Nip44Error("conversation key and nonce are 32 bytes each")
    okm = HKDFExpand(algorithm=hashes.SHA256(), length=76, info=nonce).derive(key)
    return MessageKeys(chacha_key=okm[:32], chacha_nonce=okm[32:44], hmac_key=okm[44:])


def padded_length(plaintext_bytes: int) -> int:
    """Length a plaintext of at least one byte is padded to: at most an eighth more, once above 256."""
    if plaintext_bytes <= 32:
        return 32
    next_power = 1 << (plaintext_bytes - 1).bit_length()
    chunk = 32 if next_power <= 256 else next_power // 8
    return chunk * ((plaintext_bytes - 1) // chunk + 1)


def encrypt(secret: NostrKey | bytes, pubkey: str, plaintext: str, nonce: bytes | None = None) -> str:
    """Encrypt text from the owner of `secret` to `pubkey` (x-only hex); returns base64.

    `nonce` (32 bytes) is for test vectors: it must never repeat, so leave it out elsewhere.
    Raises `InvalidKey` and `Nip44Error`.
    """
    return encrypt_with(conversation_key(secret, pubkey), plaintext, nonce)


def decrypt(secret: NostrKey | bytes, pubkey: str, payload: str) -> str:
    """Decrypt what `encrypt` made between the two keys. Raises `InvalidKey` and `Nip44Error`."""
    return decrypt_with(conversation_key(secret, pubkey), payload)


def encrypt_with(key: bytes, plaintext: str, nonce: bytes | None = None) -> str:
    """As `encrypt`, by conversation key."""
    nonce = secrets.token_bytes(_NONCE_BYTES) if nonce is None else nonce
    keys = message_keys(key, nonce)
    try:
        plain = plaintext.encode()
    except UnicodeEncodeError:
        raise Nip44Error("a plaintext must be valid Unicode") from None
    if not 1 <= len(plain) <= MAX_PLAINTEXT_BYTES:
        raise Nip44Error(f"a plaintext has 1 to {MAX_PLAINTEXT_BYTES} bytes")
    padding = bytes(padded_length(len(plain)) - len(plain))
    ciphertext = _chacha20(keys, len(plain).to_bytes(2, "big") + plain + padding)
    mac = hmac.digest(keys.hmac_key, nonce + ciphertext, hashlib.sha256)
    return base64.b64encode(bytes([VERSION]) + nonce + ciphertext + mac).decode()


def decrypt_with(key: bytes, payload: str) -> str:
    """As `decrypt`, by conversation key."""
    nonce, ciphertext, mac = _split(payload)
    keys = message_keys(key, nonce)
    expected = hmac.digest(keys.hmac_key, nonce + ciphertext, hashlib.sha256)
    if not hmac.compare_digest(mac, expected):
        raise Nip44Error("invalid MAC")
    padded = _chacha20(keys, ciphertext)
    length = int.from_bytes(padded[:2], "big")
    if length == 0 or len(padded) != 2 + padded_length(length):
        raise Nip44Error("invalid padding")
    if any(padded[2 + length :]):
        raise Nip44Error("invalid padding")
    try:
        return padded[2 : 2 + length].decode()
    except UnicodeDecodeError:
        raise Nip44Error("the plaintext is not UTF-8") from None


def _split(payload: str) -> tuple[bytes, bytes, bytes]:
    # NIP-44 keeps "#" for future versions that are not base64.
    if payload.startswith("#"):
        raise Nip44Error("unknown encryption version")
    if len(payload) not in _PAYLOAD_CHARACTERS:
        raise Nip44Error("invalid payload length")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise Nip44Error("invalid base64") from None
    if data[0] != VERSION:
        raise Nip44Error("unknown encryption version")
    if len(data) not in _PAYLOAD_BYTES:
        raise Nip44Error("invalid payload length")
    return data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES : -_MAC_BYTES], data[-_MAC_BYTES:]


def _chacha20(keys: MessageKeys, data: bytes) -> bytes:
    # The library takes a 16-byte nonce: the 32-bit little-endian block counter, 0 here, then RFC 8439's 12.
    cipher = Cipher(algorithms.ChaCha20(keys.chacha_key, bytes(4) + keys.chacha_nonce), mode=None)
    return cipher.encryptor().update(data)
