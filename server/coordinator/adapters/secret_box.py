"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under one key from file or environment."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class SecretBoxError(Exception):
    """A ciphertext was not made with this key and context, or was changed."""


class SecretBox:
    """Seals byte strings for the database.

    The context (what and whose) is authenticated: a ciphertext moved to another row does not open.
    """

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes."""
        if len(key) != 32:
            raise ValueError("the secret box key must have 32 bytes")
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, b"coordinator/secret-box/v1").derive(key))

    def seal(self, context: str, plaintext: bytes) -> bytes:
        """nonce (12 bytes) ‖ ciphertext ‖ tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, context.encode())

    def open(self, context: str, sealed: bytes) -> bytes:
        """The plaintext.

        Raises:
            SecretBoxError: wrong key, wrong context or changed bytes.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise SecretBoxError(f"cannot open the secret {context!r}") from error
