"""Secrets at rest: what is secret in the database is AES-256-GCM under a key that is not in it."""

import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator_client.keymeld.crypto import hkdf_sha256

MASTER_KEY_VARIABLE: Final = "COORDINATOR_DEVNET_KEYMELD_KEY"
_NONCE_BYTES: Final = 12


class SealingError(Exception):
    """A sealed secret cannot be opened: another key, another place, or damaged."""


def master_key(data_dir: Path) -> bytes:
    """The 32-byte master key, from the environment (hex) or else from `master.key`, made on first use.

    Raises:
        SealingError: it is not 32 bytes.
    """
    path = data_dir / "master.key"
    text = os.environ.get(MASTER_KEY_VARIABLE)
    if text is None:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
        text = path.read_text()
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SealingError("the keymeld master key must be 32 bytes in hex")
    return key


def enclave_sealing_key(master: bytes, enclave_id: int) -> bytes:
    """What one enclave seals with, so that none can open another's secrets."""
    return hkdf_sha256(master, salt=None, info=f"keymeld-devnet-enclave:{enclave_id}".encode())


class Sealer:
    """Seals secrets to a place (what and whose they are): moved elsewhere they do not open."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *place: str) -> str:
        """Hex of nonce ‖ ciphertext+tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return (nonce + self._cipher.encrypt(nonce, secret, _associated(place))).hex()

    def open(self, sealed: str, *place: str) -> bytes:
        """
        Raises:
            SealingError: it was not sealed by this key to this place.
        """
        try:
            data = bytes.fromhex(sealed)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _associated(place))
        except (ValueError, InvalidTag):
            raise SealingError(f"the sealed {place[0]} does not open") from None


def _associated(place: tuple[str, ...]) -> bytes:
    return b"".join([len(part.encode()).to_bytes(2, "big") + part.encode() for part in place])
