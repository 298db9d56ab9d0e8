"""A client of keymeld, the remote MuSig2 service: keys in enclaves, signatures by protocol.

From high to low: `dlc` (a contract's subsets and batches), `registration` (what a player makes at entry),
`client` (the calls), `batch` (sealing items, opening results), `protocol` (messages), `crypto` (keys and
ciphertexts). Every layer can be used without those above it.
"""

from .batch import SigningItem, open_result, seal_item
from .client import KeymeldClient, backoff, decrypt_aggregate_key
from .crypto import SessionCredentials, UserCredentials
from .errors import (
    KeymeldAuthError,
    KeymeldBadResponse,
    KeymeldConflict,
    KeymeldCryptoError,
    KeymeldError,
    KeymeldExpired,
    KeymeldLimitError,
    KeymeldRejected,
    KeymeldUnavailable,
    KeymeldUnknownSession,
    KeymeldUnreadable,
)
from .ids import derived_uuid7, new_uuid7
from .protocol import Enclave, KeygenStatus, SigningStatus, SubsetDefinition
from .registration import PlayerRegistration, register_player

__all__ = [
    "Enclave",
    "KeygenStatus",
    "KeymeldAuthError",
    "KeymeldBadResponse",
    "KeymeldClient",
    "KeymeldConflict",
    "KeymeldCryptoError",
    "KeymeldError",
    "KeymeldExpired",
    "KeymeldLimitError",
    "KeymeldRejected",
    "KeymeldUnavailable",
    "KeymeldUnknownSession",
    "KeymeldUnreadable",
    "PlayerRegistration",
    "SessionCredentials",
    "SigningItem",
    "SigningStatus",
    "SubsetDefinition",
    "UserCredentials",
    "backoff",
    "decrypt_aggregate_key",
    "derived_uuid7",
    "new_uuid7",
    "open_result",
    "register_player",
    "seal_item",
]
