"""Keymeld's cryptography against its description, with HKDF, ECDH and ECDSA written out a second time."""

import hashlib
import hmac

import pytest
from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator_client.keymeld import KeymeldCryptoError, SessionCredentials, UserCredentials
from coordinator_client.keymeld.crypto import (
    ecies_decrypt,
    ecies_encrypt,
    verify_session_signature,
    verify_user_signature,
)

SEED = bytes(range(32))
SECRET = hashlib.sha256(b"a player").digest()
SESSION = "0192d3a0-0000-7000-8000-000000000001"
SIGNING = "0192d3a0-0000-7000-8000-000000000002"
USER = "0192d3a0-0000-7000-8000-000000000003"


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for 32 bytes: extract, then one block of expand."""
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def verifies(public_key: bytes, compact: bytes, digest: bytes) -> bool:
    der = cdata_to_der(recoverable_convert(deserialize_recoverable(compact + b"\x00")))
    return PublicKey(public_key).verify(der, digest, hasher=None)


def test_the_session_auth_key_is_derived_from_the_seed() -> None:
    expected = PrivateKey(hkdf(SEED, b"keymeld-session-auth-v1", b"session-auth-key")).public_key.format()
    assert SessionCredentials(SEED).public_key == expected


def test_a_session_signature_is_over_the_session_and_the_nonces_hex() -> None:
    credentials = SessionCredentials(SEED)
    header = credentials.sign(SESSION)
    nonce, signature = header.split(":")
    assert len(bytes.fromhex(nonce)) == 16
    digest = hashlib.sha256(f"{SESSION}:{nonce}".encode()).digest()
    assert verifies(credentials.public_key, bytes.fromhex(signature), digest)
    assert verify_session_signature(header, SESSION, credentials.public_key) == nonce
    assert credentials.sign(SESSION) != header


def test_the_user_auth_key_depends_on_the_keygen_session() -> None:
    user = UserCredentials(SECRET)
    info = f"keymeld-session-auth-v1:{SESSION}".encode()
    assert user.auth_pubkey(SESSION) == PrivateKey(hkdf(SECRET, b"", info)).public_key.format()
    assert user.auth_pubkey(SESSION) != user.auth_pubkey(SIGNING)


def test_a_user_signature_is_over_session_user_and_the_nonces_bytes() -> None:
    user = UserCredentials(SECRET)
    header = user.sign(SESSION, SIGNING, USER)
    nonce, signature = header.split(":")
    digest = hashlib.sha256(SIGNING.encode() + USER.encode() + bytes.fromhex(nonce)).digest()
    assert verifies(user.auth_pubkey(SESSION), bytes.fromhex(signature), digest)
    assert verify_user_signature(header, SIGNING, USER, user.auth_pubkey(SESSION)) == nonce


@pytest.mark.parametrize(
    "spoil",
    [
        lambda nonce, signature: "",
        lambda nonce, signature: nonce,
        lambda nonce, signature: f"{nonce}{signature}",
        lambda nonce, signature: f"{nonce}:{signature}00",
        lambda nonce, signature: f"{nonce[2:]}:{signature}",
        lambda nonce, signature: f"{nonce.upper()}:{signature}",
        lambda nonce, signature: f" {nonce}:{signature}",
        lambda nonce, signature: f"{nonce}:{'00' * 64}",
        lambda nonce, signature: f"{nonce}:{'ff' * 64}",
        lambda nonce, signature: f"{nonce}:{signature[64:]}{signature[:64]}",
        lambda nonce, signature: f"zz:{signature}",
    ],
)
def test_malformed_or_wrong_headers_do_not_verify(spoil: object) -> None:
    # A nonce with a letter, so that upper case is another spelling of it.
    credentials = SessionCredentials(SEED)
    header = credentials.sign(SESSION)
    while header.split(":")[0].isdecimal():
        header = credentials.sign(SESSION)
    nonce, signature = header.split(":")
    spoiled = spoil(nonce, signature)  # type: ignore[operator]
    assert verify_session_signature(spoiled, SESSION, credentials.public_key) is None
    user = UserCredentials(SECRET)
    assert verify_user_signature(spoiled, SIGNING, USER, user.auth_pubkey(SESSION)) is None


def test_a_signature_is_of_one_session_user_and_key() -> None:
    credentials, user = SessionCredentials(SEED), UserCredentials(SECRET)
    auth = user.auth_pubkey(SESSION)
    assert verify_session_signature(credentials.sign(SIGNING), SESSION, credentials.public_key) is None
    other = SessionCredentials(bytes(32)).sign(SESSION)
    assert verify_session_signature(other, SESSION, credentials.public_key) is None
    assert verify_user_signature(user.sign(SESSION, SIGNING, SESSION), SIGNING, USER, auth) is None
    assert verify_user_signature(user.sign(SESSION, SESSION, USER), SIGNING, USER, auth) is None
    assert verify_user_signature(user.sign(SIGNING, SIGNING, USER), SIGNING, USER, auth) is None


def test_session_encryption_has_the_described_layout() -> None:
    credentials = SessionCredentials(SEED)
    blob = bytes.fromhex(credentials.encrypt(b"hello", "session_data"))
    name = b"session_data"
    assert blob[: 1 + len(name)] == bytes([len(name)]) + name
    nonce, sealed = blob[1 + len(name) :][:12], blob[1 + len(name) + 12 :]
    assert AESGCM(hkdf(SEED, b"", name)).decrypt(nonce, sealed, None) == b"hello"


def test_decryption_names_what_is_wrong() -> None:
    credentials = SessionCredentials(SEED)
    blob = credentials.encrypt(b"hello", "signature")
    assert credentials.decrypt(blob, "message", "signature") == b"hello"
    with pytest.raises(KeymeldCryptoError, match="context 'signature', not message"):
        credentials.decrypt(blob, "message")
    with pytest.raises(KeymeldCryptoError, match="not made with this session secret"):
        SessionCredentials(bytes(32)).decrypt(blob, "signature")
    with pytest.raises(KeymeldCryptoError, match="not made with this session secret"):
        credentials.decrypt(blob[:-2] + ("00" if blob[-2:] != "00" else "01"), "signature")
    with pytest.raises(KeymeldCryptoError, match="too short"):
        credentials.decrypt("", "signature")
    with pytest.raises(KeymeldCryptoError, match="not hex"):
        credentials.decrypt("xy", "signature")


def test_ecies_has_the_described_layout() -> None:
    enclave = PrivateKey(hashlib.sha256(b"enclave").digest())
    sealed = ecies_encrypt(enclave.public_key.format(), SECRET)
    ephemeral, nonce, body = sealed[:33], sealed[33:45], sealed[45:]
    shared = hashlib.sha256(PublicKey(ephemeral).multiply(enclave.secret).format()).digest()
    assert AESGCM(hkdf(shared, b"", b"keymeld-ecies-encrypt")).decrypt(nonce, body, None) == SECRET
    assert ecies_decrypt(enclave.secret, sealed) == SECRET
    assert bytes.fromhex(UserCredentials(SECRET).encrypt_to_enclave(enclave.public_key.format())) != sealed


def test_ecies_refuses_what_is_not_for_it() -> None:
    enclave = PrivateKey(hashlib.sha256(b"enclave").digest())
    sealed = ecies_encrypt(enclave.public_key.format(), SECRET)
    with pytest.raises(KeymeldCryptoError, match="another key"):
        ecies_decrypt(hashlib.sha256(b"other").digest(), sealed)
    with pytest.raises(KeymeldCryptoError, match="another key"):
        ecies_decrypt(enclave.secret, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(KeymeldCryptoError, match="too short"):
        ecies_decrypt(enclave.secret, sealed[:60])
    with pytest.raises(KeymeldCryptoError, match="not a point"):
        ecies_decrypt(enclave.secret, b"\x02" + b"\xff" * 32 + sealed[33:])
    with pytest.raises(KeymeldCryptoError, match="33-byte"):
        ecies_encrypt(bytes(32), SECRET)


def test_bad_secrets_are_refused_and_good_ones_not_shown() -> None:
    with pytest.raises(KeymeldCryptoError, match="32 bytes"):
        SessionCredentials(bytes(31))
    with pytest.raises(KeymeldCryptoError, match="not a valid"):
        UserCredentials(bytes(32))
    for shown in (repr(SessionCredentials(SEED)), repr(UserCredentials(SECRET))):
        assert SEED.hex() not in shown
        assert SECRET.hex() not in shown
