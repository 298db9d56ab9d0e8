"""Keymeld's cryptography: who may speak, and who may read.

A *session secret* (32 bytes, the seed) gives a session its signing key and its encryption keys. A user's
private key gives him a key of his own for every keygen session; private keys travel to an enclave by ECIES.
"""

import hashlib
import secrets
from typing import Final

from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import KeymeldCryptoError

SESSION_AUTH_SALT: Final = b"keymeld-session-auth-v1"
SESSION_AUTH_INFO: Final = b"session-auth-key"
USER_AUTH_INFO: Final = "keymeld-session-auth-v1:"
ECIES_INFO: Final = b"keymeld-ecies-encrypt"

TAPROOT_TWEAK: Final = "taproot_tweak"
KEYGEN_SESSION: Final = "keygen_session"
KEYGEN_PARTICIPANT_SESSION: Final = "keygen_participant_session"
SESSION_DATA: Final = "session_data"
ADAPTOR_CONFIGS: Final = "adaptor_configs"
ADAPTOR_SIGNATURES: Final = "adaptor_signatures"
SIGNATURE: Final = "signature"
MESSAGE: Final = "message"
AGGREGATE_PUBLIC_KEY: Final = "aggregate_public_key"
SUBSET_AGGREGATE: Final = "subset_aggregate"

_HEADER_NONCE_BYTES: Final = 16
_GCM_NONCE_BYTES: Final = 12
_GCM_TAG_BYTES: Final = 16


def hkdf_sha256(key_material: bytes, *, salt: bytes | None, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 (RFC 5869); `salt=None` is the all-zero salt of its section 2.2."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key_material)


def _private_key(secret: bytes, what: str) -> PrivateKey:
    if len(secret) != 32:
        raise KeymeldCryptoError(f"{what} must be 32 bytes, not {len(secret)}")
    try:
        return PrivateKey(secret)
    except ValueError:
        raise KeymeldCryptoError(f"{what} is not a valid secp256k1 scalar") from None


def _public_key(data: bytes, what: str) -> PublicKey:
    if len(data) != 33:
        raise KeymeldCryptoError(f"{what} must be a 33-byte compressed point, not {len(data)} bytes")
    try:
        return PublicKey(data)
    except ValueError:
        raise KeymeldCryptoError(f"{what} is not a point on secp256k1") from None


def from_hex(value: str, what: str) -> bytes:
    """Bytes of a hex string.

    Raises:
        KeymeldCryptoError: it is not hex.
    """
    try:
        return bytes.fromhex(value)
    except (ValueError, TypeError):
        raise KeymeldCryptoError(f"{what} is not hex") from None


def public_key_of(private_key: bytes) -> bytes:
    """The 33-byte compressed public key of a 32-byte private key."""
    return _private_key(private_key, "the private key").public_key.format()


def _sign_compact(key: PrivateKey, digest: bytes) -> bytes:
    """64-byte compact ECDSA signature with low S; a recoverable one is the same with a recovery id behind."""
    return key.sign_recoverable(digest, hasher=None)[:64]


def _verify_compact(public_key: bytes, signature: bytes, digest: bytes) -> bool:
    if len(signature) != 64:
        return False
    try:
        der = cdata_to_der(recoverable_convert(deserialize_recoverable(signature + b"\x00")))
        return PublicKey(public_key).verify(der, digest, hasher=None)
    except ValueError:
        return False


def _split_header(header: str) -> tuple[str, bytes] | None:
    nonce_hex, separator, signature_hex = header.partition(":")
    try:
        nonce, signature = bytes.fromhex(nonce_hex), bytes.fromhex(signature_hex)
    except ValueError:
        return None
    # Only canonical hex: "AB" and "ab" would be two spellings of one nonce, and the second a replay.
    well_formed = len(nonce) == _HEADER_NONCE_BYTES and nonce.hex() == nonce_hex and len(signature) == 64
    return (nonce_hex, signature) if separator and well_formed else None


def _session_digest(session_id: str, nonce_hex: str) -> bytes:
    return hashlib.sha256(f"{session_id}:{nonce_hex}".encode()).digest()


def _user_digest(signing_session_id: str, user_id: str, nonce_hex: str) -> bytes:
    return hashlib.sha256(signing_session_id.encode() + user_id.encode() + bytes.fromhex(nonce_hex)).digest()


class SessionCredentials:
    """A keygen session's secret and everything derived from it."""

    __slots__ = ("_auth_key", "_ciphers", "_seed", "public_key")

    def __init__(self, seed: bytes) -> None:
        """
        Args:
            seed: the 32-byte session secret.

        Raises:
            KeymeldCryptoError: it is not 32 bytes.
        """
        if len(seed) != 32:
            raise KeymeldCryptoError(f"the session secret must be 32 bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._auth_key = _private_key(
            hkdf_sha256(seed, salt=SESSION_AUTH_SALT, info=SESSION_AUTH_INFO), "the session auth key"
        )
        self.public_key: bytes = self._auth_key.public_key.format()
        self._ciphers: dict[str, AESGCM] = {}

    @classmethod
    def generate(cls) -> "SessionCredentials":
        """A fresh session secret."""
        return cls(secrets.token_bytes(32))

    def __repr__(self) -> str:
        return f"SessionCredentials(public_key={self.public_key.hex()})"

    @property
    def seed(self) -> bytes:
        """The session secret itself; only for sealing it to somebody."""
        return self._seed

    def sign(self, session_id: str) -> str:
        """A fresh `X-Session-Signature` header, good for one request."""
        nonce_hex = secrets.token_bytes(_HEADER_NONCE_BYTES).hex()
        signature = _sign_compact(self._auth_key, _session_digest(session_id, nonce_hex))
        return f"{nonce_hex}:{signature.hex()}"

    def _cipher(self, context: str) -> AESGCM:
        cipher = self._ciphers.get(context)
        if cipher is None:
            # HKDF costs more than the encryption itself, and a batch encrypts hundreds under one context.
            cipher = AESGCM(hkdf_sha256(self._seed, salt=None, info=context.encode()))
            self._ciphers[context] = cipher
        return cipher

    def encrypt(self, plaintext: bytes, context: str) -> str:
        """Hex of `len(context) ‖ context ‖ nonce ‖ ciphertext+tag` (AES-256-GCM under the context's key)."""
        name = context.encode()
        nonce = secrets.token_bytes(_GCM_NONCE_BYTES)
        sealed = self._cipher(context).encrypt(nonce, plaintext, None)
        return (bytes([len(name)]) + name + nonce + sealed).hex()

    def decrypt(self, blob_hex: str, *contexts: str) -> bytes:
        """The plaintext of `encrypt`'s result, which must carry one of `contexts`.

        Raises:
            KeymeldCryptoError: not hex, too short, of another context, or not made with this secret.
        """
        blob = from_hex(blob_hex, "the ciphertext")
        name_end = 1 + (blob[0] if blob else 0)
        if len(blob) < name_end + _GCM_NONCE_BYTES + _GCM_TAG_BYTES:
            raise KeymeldCryptoError("the ciphertext is too short")
        context = blob[1:name_end].decode(errors="replace")
        if context not in contexts:
            raise KeymeldCryptoError(f"the ciphertext is of context {context!r}, not {' or '.join(contexts)}")
        nonce_end = name_end + _GCM_NONCE_BYTES
        try:
            return self._cipher(context).decrypt(blob[name_end:nonce_end], blob[nonce_end:], None)
        except InvalidTag:
            raise KeymeldCryptoError("the ciphertext was not made with this session secret") from None


class UserCredentials:
    """A participant: his private key and, for every keygen session, the key that authenticates him there."""

    __slots__ = ("_auth_keys", "_private_key", "public_key")

    def __init__(self, private_key: bytes) -> None:
        """
        Args:
            private_key: the participant's 32-byte (ephemeral) private key.

        Raises:
            KeymeldCryptoError: it is not a valid scalar.
        """
        self.public_key: bytes = _private_key(private_key, "the private key").public_key.format()
        self._private_key = bytes(private_key)
        self._auth_keys: dict[str, PrivateKey] = {}

    def __repr__(self) -> str:
        return f"UserCredentials(public_key={self.public_key.hex()})"

    def _auth_key(self, keygen_session_id: str) -> PrivateKey:
        key = self._auth_keys.get(keygen_session_id)
        if key is None:
            info = (USER_AUTH_INFO + keygen_session_id).encode()
            key = _private_key(hkdf_sha256(self._private_key, salt=None, info=info), "the user auth key")
            self._auth_keys[keygen_session_id] = key
        return key

    def auth_pubkey(self, keygen_session_id: str) -> bytes:
        """The 33-byte public key the service knows this participant by in that keygen session."""
        return self._auth_key(keygen_session_id).public_key.format()

    def sign(self, keygen_session_id: str, signing_session_id: str, user_id: str) -> str:
        """A fresh `X-User-Signature` header for one call about one signing session."""
        nonce_hex = secrets.token_bytes(_HEADER_NONCE_BYTES).hex()
        digest = _user_digest(signing_session_id, user_id, nonce_hex)
        return f"{nonce_hex}:{_sign_compact(self._auth_key(keygen_session_id), digest).hex()}"

    def encrypt_to_enclave(self, enclave_public_key: bytes) -> str:
        """The private key, ECIES-encrypted to an enclave, as hex."""
        return ecies_encrypt(enclave_public_key, self._private_key).hex()


def verify_session_signature(header: str, session_id: str, session_public_key: bytes) -> str | None:
    """The nonce (hex) of a valid `X-Session-Signature`, else `None`. That it is fresh, the caller checks."""
    parts = _split_header(header)
    if parts is None:
        return None
    nonce_hex, signature = parts
    valid = _verify_compact(session_public_key, signature, _session_digest(session_id, nonce_hex))
    return nonce_hex if valid else None


def verify_user_signature(
    header: str, signing_session_id: str, user_id: str, auth_pubkey: bytes
) -> str | None:
    """The nonce (hex) of a valid `X-User-Signature`, else `None`. That it is fresh, the caller checks."""
    parts = _split_header(header)
    if parts is None:
        return None
    nonce_hex, signature = parts
    valid = _verify_compact(auth_pubkey, signature, _user_digest(signing_session_id, user_id, nonce_hex))
    return nonce_hex if valid else None


def ecies_encrypt(public_key: bytes, plaintext: bytes) -> bytes:
    """ECIES: `ephemeral pubkey (33) ‖ nonce (12) ‖ AES-256-GCM ciphertext+tag`.

    Raises:
        KeymeldCryptoError: `public_key` is not a 33-byte compressed point.
    """
    recipient = _public_key(public_key, "the enclave's public key")
    ephemeral = PrivateKey()
    key = hkdf_sha256(ephemeral.ecdh(recipient.format()), salt=None, info=ECIES_INFO)
    nonce = secrets.token_bytes(_GCM_NONCE_BYTES)
    return ephemeral.public_key.format() + nonce + AESGCM(key).encrypt(nonce, plaintext, None)


def ecies_decrypt(private_key: bytes, sealed: bytes) -> bytes:
    """The plaintext `ecies_encrypt` sealed to this key.

    Raises:
        KeymeldCryptoError: it is malformed or was sealed to another key.
    """
    if len(sealed) < 33 + _GCM_NONCE_BYTES + _GCM_TAG_BYTES:
        raise KeymeldCryptoError("the ECIES ciphertext is too short")
    ephemeral = _public_key(sealed[:33], "the ECIES ephemeral key")
    shared = _private_key(private_key, "the private key").ecdh(ephemeral.format())
    key = hkdf_sha256(shared, salt=None, info=ECIES_INFO)
    try:
        return AESGCM(key).decrypt(sealed[33 : 33 + _GCM_NONCE_BYTES], sealed[33 + _GCM_NONCE_BYTES :], None)
    except InvalidTag:
        raise KeymeldCryptoError("the ECIES ciphertext was sealed to another key") from None
