"""What a player makes at entry time so that he can be registered later, without being there.

Which enclave will hold his key is known only when the keygen session is reserved, long after he entered. So
he encrypts his (ephemeral) private key to *every* enclave of the service, and derives the key he will
authenticate with in each of the keygen sessions, whose ids are fixed when the competition is created.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .crypto import UserCredentials
from .errors import KeymeldUnavailable
from .protocol import Enclave, Fields, Json, ProtocolError, byte_array


@dataclass(frozen=True, slots=True)
class PlayerRegistration:
    """A player's part of every keygen session, safe to hand over: no secret in it is readable."""

    user_id: str
    """UUIDv7: the ticket id."""
    public_key: bytes
    """33 bytes, compressed: his key in the contract."""
    auth_pubkeys: Mapping[str, bytes]
    """Keygen session id -> 33-byte key his approvals are signed with."""
    encrypted_private_keys: Mapping[str, str]
    """Enclave id -> his private key, ECIES-encrypted to that enclave, as hex."""
    enclave_key_epochs: Mapping[str, int]
    """Enclave id -> epoch of the enclave key used."""
    require_signing_approval: bool = False

    def to_json(self) -> Json:
        """A JSON object; `from_json` reads it back."""
        return {
            "user_id": self.user_id,
            "public_key": self.public_key.hex(),
            "auth_pubkeys": {session_id: key.hex() for session_id, key in self.auth_pubkeys.items()},
            "encrypted_private_keys": dict(self.encrypted_private_keys),
            "enclave_key_epochs": dict(self.enclave_key_epochs),
            "require_signing_approval": self.require_signing_approval,
        }

    @classmethod
    def from_json(cls, value: object) -> "PlayerRegistration":
        """
        Raises:
            ProtocolError: a field is missing or malformed.
        """
        fields = Fields(value, "player registration")
        epochs: Any = fields.raw("enclave_key_epochs")
        ciphertexts = fields.text_map("encrypted_private_keys")
        if not isinstance(epochs, dict) or set(epochs) != set(ciphertexts):
            raise ProtocolError("player registration: every ciphertext needs its enclave's key epoch")
        if any(isinstance(epoch, bool) or not isinstance(epoch, int) for epoch in epochs.values()):
            raise ProtocolError("player registration: an enclave key epoch is not a number")
        return cls(
            user_id=fields.text("user_id"),
            public_key=byte_array(fields.text("public_key"), 33, "player registration: public_key"),
            auth_pubkeys={
                session_id: byte_array(key, 33, "player registration: auth_pubkeys")
                for session_id, key in fields.text_map("auth_pubkeys").items()
            },
            encrypted_private_keys=ciphertexts,
            enclave_key_epochs=epochs,
            require_signing_approval=fields.flag("require_signing_approval", False),
        )


def register_player(
    user_id: str,
    private_key: bytes,
    *,
    keygen_session_ids: Sequence[str],
    enclaves: Sequence[Enclave],
    require_signing_approval: bool = False,
) -> PlayerRegistration:
    """Make a player's registration for all keygen sessions of a competition.

    Args:
        user_id: his ticket id.
        private_key: his 32-byte ephemeral private key; it leaves only encrypted.
        keygen_session_ids: the competition's, all of them.
        enclaves: all of `KeymeldClient.enclaves()`.
        require_signing_approval: his key signs only after he approved the signing session.

    Raises:
        KeymeldUnavailable: the service has no enclave.
        KeymeldCryptoError: the private key is not a valid scalar.
    """
    if not enclaves:
        raise KeymeldUnavailable("the keymeld service has no enclave to encrypt to")
    user = UserCredentials(private_key)
    return PlayerRegistration(
        user_id=user_id,
        public_key=user.public_key,
        auth_pubkeys={session_id: user.auth_pubkey(session_id) for session_id in keygen_session_ids},
        encrypted_private_keys={
            enclave.enclave_id: user.encrypt_to_enclave(enclave.public_key) for enclave in enclaves
        },
        enclave_key_epochs={enclave.enclave_id: enclave.key_epoch for enclave in enclaves},
        require_signing_approval=require_signing_approval,
    )
