"""One enclave: it alone can read the keys entrusted to it, and signs both MuSig2 rounds with them.

It runs in a process of its own (`enclave_process`). What it hands out to be stored is sealed with its own
key. The secret nonces of a signing round live in its memory only, belong to one round id, and are consumed
by the first request for partial signatures: after a crash a round is never continued, only begun anew with
fresh nonces.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coincurve import PrivateKey

from coordinator.contract import adaptor, schnorr
from coordinator.contract.errors import ContractError
from coordinator.contract.musig2 import (
    KeyAggContext,
    SecNonce,
    Session,
    SigningKey,
    key_agg,
    nonce_agg,
    nonce_gen,
    partial_sig_agg,
    sign,
)
from coordinator_client.keymeld.crypto import (
    ADAPTOR_CONFIGS,
    ADAPTOR_SIGNATURES,
    AGGREGATE_PUBLIC_KEY,
    KEYGEN_PARTICIPANT_SESSION,
    KEYGEN_SESSION,
    SESSION_DATA,
    SIGNATURE,
    SUBSET_AGGREGATE,
    TAPROOT_TWEAK,
    SessionCredentials,
    UserCredentials,
    ecies_decrypt,
    ecies_encrypt,
    verify_user_signature,
)
from coordinator_client.keymeld.errors import KeymeldCryptoError
from coordinator_client.keymeld.protocol import (
    AdaptorConfig,
    AdaptorSignature,
    BatchItem,
    BatchResult,
    Fields,
    ProtocolError,
    byte_array,
)

from .sealing import Sealer, SealingError
from .tweaks import apply_tweak

_PUBNONCE_BYTES: Final = 66
_PARTIAL_BYTES: Final = 32


class EnclaveRefused(Exception):
    """The enclave does not do it. `kind`: `auth`, `invalid`, `unknown_session` or `unknown_round`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Group:
    """A group that signs together."""

    context: KeyAggContext
    signers: tuple[str, ...]
    """User ids in the order of their sorted keys."""
    own: tuple[str, ...]
    """Those of them whose keys are here."""


@dataclass(slots=True)
class _Keygen:
    """A keygen session as this enclave knows it."""

    session_id: str
    credentials: SessionCredentials
    public_keys: dict[str, bytes]
    secrets: dict[str, bytes] = field(repr=False)
    need_approval: frozenset[str]
    subsets: dict[str, tuple[str, ...]]
    groups: dict[str | None, _Group] = field(default_factory=dict)
    signing_keys: dict[str, SigningKey] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.signing_keys = {user: SigningKey(secret) for user, secret in self.secrets.items()}

    def group(self, subset_id: str | None) -> _Group:
        found = self.groups.get(subset_id)
        if found is None:
            users: Iterable[str] = self.public_keys
            if subset_id is not None:
                if subset_id not in self.subsets:
                    raise EnclaveRefused("invalid", f"subset {subset_id} is not of this keygen session")
                users = self.subsets[subset_id]
            signers = tuple(sorted(users, key=lambda user: (self.public_keys[user], user)))
            context = key_agg([self.public_keys[user] for user in signers])
            found = _Group(context, signers, tuple([user for user in signers if user in self.secrets]))
            self.groups[subset_id] = found
        return found


@dataclass(slots=True)
class _RoundItem:
    item_id: str
    message: bytes
    context: KeyAggContext
    group: _Group
    adaptor: AdaptorConfig | None
    nonces: list[tuple[str, SecNonce]] = field(repr=False)
    session: Session | None = None


@dataclass(slots=True)
class _Round:
    keygen: _Keygen
    items: list[_RoundItem]


class Enclave:
    """The enclave's operations, taking and giving JSON values. Not thread safe: one request at a time."""

    def __init__(self, enclave_id: int, sealing_key: bytes, sealed_keys: Mapping[int, str]) -> None:
        """
        Args:
            enclave_id: which one it is.
            sealing_key: 32 bytes, its own.
            sealed_keys: key epoch -> its private key of that epoch, sealed.
        """
        self.enclave_id = enclave_id
        self._sealer = Sealer(sealing_key)
        self._keys = {
            epoch: self._sealer.open(sealed, "enclave key", str(epoch))
            for epoch, sealed in sealed_keys.items()
        }
        self._keygens: dict[str, _Keygen] = {}
        self._rounds: dict[str, _Round] = {}

    def generate_key(self, epoch: int) -> dict[str, Any]:
        """A fresh key of that epoch, and the same sealed."""
        key = PrivateKey()
        self._keys[epoch] = key.secret
        return {
            "public_key": key.public_key.format().hex(),
            "sealed": self._sealer.seal(key.secret, "enclave key", str(epoch)),
        }

    def _ecies(self, epoch: int, sealed_hex: str, what: str) -> bytes:
        key = self._keys.get(epoch)
        if key is None:
            raise EnclaveRefused("invalid", f"enclave {self.enclave_id} has no key of epoch {epoch}")
        try:
            return ecies_decrypt(key, bytes.fromhex(sealed_hex))
        except (KeymeldCryptoError, ValueError):
            raise EnclaveRefused("invalid", f"{what} is not encrypted to enclave {self.enclave_id}") from None

    # Keygen.

    def open_session(
        self,
        session_id: str,
        epoch: int,
        request: Mapping[str, Any],
        encrypted_taproot_tweak: str,
        peers: Mapping[str, str],
    ) -> dict[str, Any]:
        """Take a session's secret as the coordinator's enclave, and pass it on.

        Args:
            session_id: the keygen session.
            epoch: of the key it is encrypted to.
            request: the initialize request's encrypted fields and public keys (hex).
            encrypted_taproot_tweak: as reserved; only who made the reservation knows the secret it opens
                with.
            peers: other enclaves' ids -> public keys.

        Returns:
            `sealed`: the secret for this enclave's store; `peers`: for the others, ECIES-encrypted.
        """
        credentials = self._session_secret(
            self._ecies(epoch, request["encrypted_session_secret"], "the secret")
        )
        if credentials.public_key.hex() != request["session_public_key"]:
            raise EnclaveRefused("auth", "the session public key does not belong to the session secret")
        coordinator_secret = self._ecies(
            epoch, request["coordinator_encrypted_private_key"], "the coordinator's key"
        )
        inner = _json(
            self._ecies(epoch, request["encrypted_enclave_data"], "the enclave data"), "enclave data"
        )
        inner_key = self._ecies(epoch, inner.text("coordinator_private_key"), "the coordinator's key")
        if inner.text("session_secret") != credentials.seed.hex() or inner_key != coordinator_secret:
            raise EnclaveRefused("auth", "the enclave data does not repeat the session secret and key")
        try:
            session = _json(
                credentials.decrypt(request["encrypted_session_data"], KEYGEN_SESSION), "session data"
            )
            if encrypted_taproot_tweak:
                credentials.decrypt(encrypted_taproot_tweak, TAPROOT_TWEAK)
            coordinator = UserCredentials(coordinator_secret)
        except KeymeldCryptoError as error:
            raise EnclaveRefused("auth", str(error)) from None
        pubkey = bytes.fromhex(request["coordinator_pubkey"])
        if not coordinator.public_key == session.data("coordinator_pubkey", 33) == pubkey:
            raise EnclaveRefused("invalid", "the coordinator's public key does not belong to its private key")
        return {
            "sealed": self._sealer.seal(credentials.seed, "session secret", session_id),
            "peers": {
                peer: ecies_encrypt(bytes.fromhex(key), credentials.seed).hex() for peer, key in peers.items()
            },
        }

    def adopt_session(self, session_id: str, epoch: int, encrypted_secret: str) -> dict[str, Any]:
        """Take a session's secret from the coordinator's enclave."""
        seed = self._session_secret(self._ecies(epoch, encrypted_secret, "the secret")).seed
        return {"sealed": self._sealer.seal(seed, "session secret", session_id)}

    def register(
        self, session_id: str, sealed_secret: str, epoch: int, request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Check a participant's key and seal it for the store.

        The key that authenticates him is derived from his private key here, too: whoever registers him
        cannot slip in another one and approve in his name.
        """
        credentials = self._credentials(session_id, sealed_secret)
        user_id: str = request["user_id"]
        secret = self._ecies(epoch, request["encrypted_private_key"], "the private key")
        try:
            user = UserCredentials(secret)
            data = _json(
                credentials.decrypt(request["encrypted_session_data"], KEYGEN_PARTICIPANT_SESSION),
                "session data",
            )
        except KeymeldCryptoError as error:
            raise EnclaveRefused("invalid", str(error)) from None
        public_key = bytes.fromhex(request["public_key"])
        named = Fields(data.raw("participant_public_keys"), "participant public keys").raw(user_id)
        if not user.public_key == public_key == byte_array(named, 33, f"the public key of {user_id}"):
            raise EnclaveRefused("invalid", "the public key does not belong to the private key")
        if user.auth_pubkey(session_id).hex() != request["auth_pubkey"]:
            raise EnclaveRefused("invalid", "the auth public key is not the one of this key and session")
        return {"sealed": self._sealer.seal(secret, "private key", session_id, user_id)}

    def load(
        self,
        session_id: str,
        sealed_secret: str,
        public_keys: Mapping[str, str],
        sealed_keys: Mapping[str, str],
        need_approval: Iterable[str],
        subsets: Mapping[str, Iterable[str]],
    ) -> dict[str, Any]:
        """Take a complete session into memory."""
        self._keygens[session_id] = _Keygen(
            session_id=session_id,
            credentials=self._credentials(session_id, sealed_secret),
            public_keys={user: bytes.fromhex(key) for user, key in public_keys.items()},
            secrets={
                user: self._sealer.open(sealed, "private key", session_id, user)
                for user, sealed in sealed_keys.items()
            },
            need_approval=frozenset(need_approval),
            subsets={subset: tuple(users) for subset, users in subsets.items()},
        )
        return {}

    def aggregate(self, session_id: str, encrypted_taproot_tweak: str) -> dict[str, Any]:
        """The session's aggregate keys, encrypted with its secret."""
        keygen = self._keygen(session_id)
        context = keygen.group(None).context
        if encrypted_taproot_tweak:
            tweak = self._decrypt(keygen.credentials, encrypted_taproot_tweak, TAPROOT_TWEAK)
            context = apply_tweak(context, tweak)
        return {
            "aggregate_public_key": keygen.credentials.encrypt(context.point, AGGREGATE_PUBLIC_KEY),
            "encrypted_subset_aggregates": {
                subset: keygen.credentials.encrypt(keygen.group(subset).context.point, SUBSET_AGGREGATE)
                for subset in keygen.subsets
            },
        }

    # Signing.

    def nonces(
        self,
        round_id: str,
        session_id: str,
        signing_id: str,
        items: Iterable[Any],
        approvals: Mapping[str, str],
    ) -> dict[str, Any]:
        """Round 1: fresh nonces for every item and own signer.

        Args:
            round_id: never used before.
            session_id: the keygen session, loaded.
            signing_id: the signing session the approvals are for.
            items: batch items as requested.
            approvals: user id -> his `X-User-Signature` header.

        Returns:
            `nonces`: for each item the own signers' public nonces, 66 bytes each, as one hex string.
        """
        if round_id in self._rounds:
            raise EnclaveRefused("invalid", "a signing round's id is used once")
        keygen = self._keygen(session_id)
        opened = [self._open_item(keygen, BatchItem.from_json(item)) for item in items]
        self._check_approvals(
            keygen, signing_id, {user for item in opened for user in item.group.own}, approvals
        )
        out = []
        for item in opened:
            public = []
            for user in item.group.own:
                secnonce, pubnonce = nonce_gen(
                    keygen.public_keys[user],
                    secret=keygen.secrets[user],
                    aggregate_key=item.context.xonly,
                    message=item.message,
                )
                item.nonces.append((user, secnonce))
                public.append(pubnonce)
            out.append(b"".join(public).hex())
        self._rounds[round_id] = _Round(keygen, opened)
        return {"nonces": out}

    def aggregate_nonces(self, round_id: str, nonces: list[list[str]]) -> dict[str, Any]:
        """The aggregate nonce of every item, from all enclaves' public nonces (enclave -> item -> hex)."""
        aggregated = []
        for index, item in enumerate(self._round(round_id).items):
            public = _chunks("".join([of_enclave[index] for of_enclave in nonces]), _PUBNONCE_BYTES)
            if len(public) != len(item.group.signers):
                raise EnclaveRefused("invalid", f"item {item.item_id} has nonces of {len(public)} signers")
            aggregated.append(nonce_agg(public).hex())
        return {"aggregate_nonces": aggregated}

    def partials(self, round_id: str, aggregate_nonces: list[str]) -> dict[str, Any]:
        """Round 2: partial signatures of the own signers (32 bytes each, one hex string an item), once."""
        current = self._round(round_id)
        out = []
        for item, aggregate_nonce in zip(current.items, aggregate_nonces, strict=True):
            if item.session is not None:
                raise EnclaveRefused("invalid", "this round has been signed")
            point = None if item.adaptor is None else item.adaptor.adaptor_points[0]
            item.session = Session(bytes.fromhex(aggregate_nonce), item.context, item.message, point)
            out.append(
                b"".join(
                    [
                        sign(secnonce, current.keygen.signing_keys[user], item.session)
                        for user, secnonce in item.nonces
                    ]
                ).hex()
            )
            item.nonces.clear()
        return {"partials": out}

    def finish(self, round_id: str, partials: list[list[str]], corrupt: bool = False) -> dict[str, Any]:
        """Aggregate, verify and encrypt every item's signature, and forget the round.

        Args:
            round_id: the round.
            partials: all enclaves' partial signatures (enclave -> item -> hex).
            corrupt: devnet's fault: spoil the signatures after they were verified.
        """
        current = self._round(round_id)
        credentials = current.keygen.credentials
        results = [
            self._result(credentials, item, "".join([of_enclave[index] for of_enclave in partials]), corrupt)
            for index, item in enumerate(current.items)
        ]
        self.forget(round_id)
        return {"results": [result.to_json() for result in results]}

    def forget(self, round_id: str) -> dict[str, Any]:
        """Drop a round with its nonces, finished or not."""
        self._rounds.pop(round_id, None)
        return {}

    def _open_item(self, keygen: _Keygen, item: BatchItem) -> _RoundItem:
        credentials = keygen.credentials
        message = self._decrypt(credentials, item.encrypted_message, SESSION_DATA)
        if message != item.message_hash.hex().encode():
            raise EnclaveRefused("invalid", f"item {item.batch_item_id}: the message is not the one hashed")
        config = None
        if item.encrypted_adaptor_configs is not None:
            plain = self._decrypt(credentials, item.encrypted_adaptor_configs, ADAPTOR_CONFIGS)
            config = _single_adaptor(item.batch_item_id, plain)
        group = keygen.group(item.subset_id)
        tweak = self._decrypt(credentials, item.encrypted_taproot_tweak, SESSION_DATA)
        context = apply_tweak(group.context, tweak)
        return _RoundItem(item.batch_item_id, item.message_hash, context, group, config, [])

    def _check_approvals(
        self, keygen: _Keygen, signing_id: str, signers: set[str], approvals: Mapping[str, str]
    ) -> None:
        for user in sorted(signers & keygen.need_approval):
            auth_pubkey = UserCredentials(keygen.secrets[user]).auth_pubkey(keygen.session_id)
            if verify_user_signature(approvals.get(user, ""), signing_id, user, auth_pubkey) is None:
                raise EnclaveRefused("auth", f"participant {user} has not approved")

    def _result(
        self, credentials: SessionCredentials, item: _RoundItem, partials: str, corrupt: bool
    ) -> BatchResult:
        signatures = _chunks(partials, _PARTIAL_BYTES)
        if item.session is None or len(signatures) != len(item.group.signers):
            return BatchResult(item.item_id, error=f"{len(signatures)} of {len(item.group.signers)} signed")
        key_x = item.context.xonly
        if item.adaptor is None:
            signature = partial_sig_agg(signatures, item.session)
            if not schnorr.verify(key_x, item.message, signature):
                return BatchResult(item.item_id, error="the aggregated signature does not verify")
            return BatchResult(
                item.item_id, signature=credentials.encrypt(_spoil(signature, corrupt), SIGNATURE)
            )
        point = item.adaptor.adaptor_points[0]
        signature = adaptor.aggregate(signatures, item.session)
        if not adaptor.verify_adaptor(key_x, item.message, point, signature):
            return BatchResult(item.item_id, error="the aggregated adaptor signature does not verify")
        result = AdaptorSignature(_spoil(signature, corrupt), signature[:33], (point,), point)
        adaptor_id = item.adaptor.adaptor_id
        plain = json.dumps({adaptor_id: result.to_json(adaptor_id)}).encode()
        return BatchResult(item.item_id, adaptor_signatures=credentials.encrypt(plain, ADAPTOR_SIGNATURES))

    # What is shared.

    def _keygen(self, session_id: str) -> _Keygen:
        if session_id not in self._keygens:
            raise EnclaveRefused("unknown_session", f"keygen session {session_id} is not loaded")
        return self._keygens[session_id]

    def _round(self, round_id: str) -> _Round:
        if round_id not in self._rounds:
            raise EnclaveRefused("unknown_round", "the signing round is not known here")
        return self._rounds[round_id]

    def _credentials(self, session_id: str, sealed: str) -> SessionCredentials:
        return SessionCredentials(self._sealer.open(sealed, "session secret", session_id))

    def _session_secret(self, seed: bytes) -> SessionCredentials:
        try:
            return SessionCredentials(seed)
        except KeymeldCryptoError as error:
            raise EnclaveRefused("invalid", str(error)) from None

    def _decrypt(self, credentials: SessionCredentials, blob: str, context: str) -> bytes:
        try:
            return credentials.decrypt(blob, context)
        except KeymeldCryptoError as error:
            raise EnclaveRefused("invalid", str(error)) from None


def perform(enclave: Enclave, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run one of the enclave's public methods and give its answer, or what it refused, as JSON."""
    try:
        return {"ok": getattr(enclave, method)(**arguments)}
    except EnclaveRefused as error:
        return {"refused": {"kind": error.kind, "text": str(error)}}
    except (ProtocolError, ContractError, SealingError) as error:
        # None of these carries a secret in its text.
        return {"refused": {"kind": "invalid", "text": str(error)}}


def _json(data: bytes, what: str) -> Fields:
    try:
        return Fields(json.loads(data), what)
    except ValueError:
        raise ProtocolError(f"{what} is not JSON") from None


def _single_adaptor(item_id: str, plain: bytes) -> AdaptorConfig:
    try:
        configs = json.loads(plain)
    except ValueError:
        raise ProtocolError(f"item {item_id}: the adaptor configs are not JSON") from None
    if not isinstance(configs, list) or len(configs) != 1:
        raise ProtocolError(f"item {item_id}: one adaptor config is supported")
    config = AdaptorConfig.from_json(configs[0])
    if config.adaptor_type != "Single" or len(config.adaptor_points) != 1:
        raise ProtocolError(f"item {item_id}: only adaptors of a single point are supported")
    return config


def _chunks(data_hex: str, size: int) -> list[bytes]:
    data = bytes.fromhex(data_hex)
    return [data[start : start + size] for start in range(0, len(data), size)]


def _spoil(signature: bytes, corrupt: bool) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1]) if corrupt else signature
