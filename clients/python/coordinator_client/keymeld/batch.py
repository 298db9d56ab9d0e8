"""A batch's items, sealed for the enclaves, and its results, opened."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .crypto import ADAPTOR_CONFIGS, ADAPTOR_SIGNATURES, SESSION_DATA, SIGNATURE, SessionCredentials
from .errors import KeymeldBadResponse, KeymeldCryptoError
from .protocol import (
    AdaptorConfig,
    AdaptorSignature,
    BatchItem,
    BatchResult,
    ProtocolError,
    SigningRequest,
)

NO_TWEAK: Final = b'"None"'
"""The tweak that leaves the aggregate key as it is, as the protocol's description writes it."""
NO_TWEAK_TAGGED: Final = b'{"type":"none"}'
"""The same as published versions of the service write it (an internally tagged enum)."""
_NO_TWEAKS: Final = (json.loads(NO_TWEAK), json.loads(NO_TWEAK_TAGGED))


@dataclass(frozen=True, slots=True)
class SigningItem:
    """What a batch item says, in the clear."""

    batch_item_id: str
    message: bytes
    """32 bytes: the sighash."""
    subset_id: str | None
    """`None`: the whole group signs."""
    adaptor_id: str | None = None
    adaptor_point: bytes | None = None


def seal_item(credentials: SessionCredentials, item: SigningItem, *, tweak: bytes = NO_TWEAK) -> BatchItem:
    """The item as it is sent: message, tweak and adaptor point encrypted with the session secret."""
    configs = None
    if item.adaptor_point is not None and item.adaptor_id is not None:
        config = AdaptorConfig(item.adaptor_id, (item.adaptor_point,))
        configs = credentials.encrypt(json.dumps([config.to_json()]).encode(), ADAPTOR_CONFIGS)
    return BatchItem(
        batch_item_id=item.batch_item_id,
        message_hash=item.message,
        # The enclave expects the hash as text, not as bytes.
        encrypted_message=credentials.encrypt(item.message.hex().encode(), SESSION_DATA),
        encrypted_taproot_tweak=credentials.encrypt(tweak, SESSION_DATA),
        encrypted_adaptor_configs=configs,
        subset_id=item.subset_id,
    )


def open_item(credentials: SessionCredentials, item: BatchItem) -> SigningItem:
    """What a sealed item says: the inverse of `seal_item`, for who is to approve it.

    Raises:
        KeymeldBadResponse: it does not decrypt, contradicts itself, or asks for more than one untweaked
            signature with at most one adaptor point.
    """
    what = f"item {item.batch_item_id}"
    try:
        message = credentials.decrypt(item.encrypted_message, SESSION_DATA)
        tweak = credentials.decrypt(item.encrypted_taproot_tweak, SESSION_DATA)
        configs: list[AdaptorConfig] = []
        if item.encrypted_adaptor_configs is not None:
            plain = json.loads(credentials.decrypt(item.encrypted_adaptor_configs, ADAPTOR_CONFIGS))
            if not isinstance(plain, list):
                raise KeymeldBadResponse(f"{what}: its adaptor configs are not a list")
            configs = [AdaptorConfig.from_json(config) for config in plain]
        tweaked = json.loads(tweak) not in _NO_TWEAKS
    except (KeymeldCryptoError, ProtocolError, ValueError) as error:
        raise KeymeldBadResponse(f"{what}: {error}") from None
    # The enclave signs what is encrypted; the hash beside it is only what the gateway sees.
    if message != item.message_hash.hex().encode():
        raise KeymeldBadResponse(f"{what}: the encrypted message is not the one hashed")
    if tweaked:
        raise KeymeldBadResponse(f"{what}: its key is tweaked")
    if item.encrypted_adaptor_configs is None:
        return SigningItem(item.batch_item_id, item.message_hash, item.subset_id)
    if len(configs) != 1 or configs[0].adaptor_type != "Single" or len(configs[0].adaptor_points) != 1:
        raise KeymeldBadResponse(f"{what}: it has not exactly one adaptor point")
    return SigningItem(
        item.batch_item_id,
        item.message_hash,
        item.subset_id,
        configs[0].adaptor_id,
        configs[0].adaptor_points[0],
    )


def seal_request(
    credentials: SessionCredentials,
    items: Iterable[SigningItem],
    *,
    signing_session_id: str,
    keygen_session_id: str,
    timeout_secs: int,
    tweak: bytes = NO_TWEAK,
) -> bytes:
    """The body of the request that starts a signing session of one batch."""
    request = SigningRequest(
        signing_session_id=signing_session_id,
        keygen_session_id=keygen_session_id,
        timeout_secs=timeout_secs,
        batch_items=tuple([seal_item(credentials, item, tweak=tweak) for item in items]),
    )
    return json.dumps(request.to_json(), separators=(",", ":")).encode()


def open_result(credentials: SessionCredentials, result: BatchResult, item: SigningItem) -> bytes:
    """The signature in `result`: 64 bytes, or 65 for an adaptor item. It is not verified here.

    Raises:
        KeymeldBadResponse: the service reports an error for the item, or the result lacks its signature.
    """
    if result.error is not None:
        raise KeymeldBadResponse(f"item {result.batch_item_id}: {result.error}")
    try:
        if item.adaptor_id is not None:
            if result.adaptor_signatures is None:
                raise KeymeldBadResponse(f"item {result.batch_item_id} has no adaptor signature")
            plain = json.loads(credentials.decrypt(result.adaptor_signatures, ADAPTOR_SIGNATURES))
            if not isinstance(plain, dict) or item.adaptor_id not in plain:
                raise KeymeldBadResponse(f"item {result.batch_item_id} lacks its adaptor's signature")
            return AdaptorSignature.from_json(plain[item.adaptor_id]).signature
        if result.signature is None:
            raise KeymeldBadResponse(f"item {result.batch_item_id} has no signature")
        signature = credentials.decrypt(result.signature, SIGNATURE)
    except (KeymeldCryptoError, ProtocolError, ValueError) as error:
        raise KeymeldBadResponse(f"item {result.batch_item_id}: {error}") from None
    if len(signature) != 64:
        raise KeymeldBadResponse(f"item {result.batch_item_id}: {len(signature)} bytes are not a signature")
    return signature
