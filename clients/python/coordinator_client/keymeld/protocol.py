"""Keymeld's messages as dataclasses, to and from JSON.

Byte strings travel as JSON arrays of numbers where the service says so (`[bytes]`), else as hex.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

Json = Mapping[str, Any]
T = TypeVar("T")

MAX_SUBSETS_PER_KEYGEN: Final = 200
"""The real service's limit of subset definitions in one keygen session."""
MAX_ITEMS_PER_BATCH: Final = 100
"""The real service's limit of items in one signing session."""


class ProtocolError(ValueError):
    """A message lacks a field or has one of the wrong shape."""


class KeygenStatus(StrEnum):
    """Where a keygen session stands."""

    RESERVED = "reserved"
    COLLECTING_PARTICIPANTS = "collecting_participants"
    COMPLETED = "completed"
    FAILED = "failed"


class SigningStatus(StrEnum):
    """Where a signing session stands."""

    COLLECTING_PARTICIPANTS = "collecting_participants"
    INITIALIZING_SESSION = "initializing_session"
    DISTRIBUTING_NONCES = "distributing_nonces"
    FINALIZING_SIGNATURE = "finalizing_signature"
    COMPLETED = "completed"
    FAILED = "failed"


class Fields:
    """Typed access to a JSON object's fields; anything of another shape is a `ProtocolError`."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise ProtocolError(f"{what} is not a JSON object")
        self._value = value
        self._what = what

    def _get(self, name: str, kind: type[T], default: T | None = None) -> T:
        value = self._value.get(name, default)
        # bool is an int to Python, not to JSON.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"{self._what}: {name} is missing or not a {kind.__name__}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        return self._get(name, str, default)

    def optional_text(self, name: str) -> str | None:
        return None if self._value.get(name) is None else self._get(name, str)

    def integer(self, name: str, default: int | None = None) -> int:
        return self._get(name, int, default)

    def optional_integer(self, name: str) -> int | None:
        return None if self._value.get(name) is None else self._get(name, int)

    def flag(self, name: str, default: bool | None = None) -> bool:
        return self._get(name, bool, default)

    def items(self, name: str, parse: Callable[[Any], T], default: list[Any] | None = None) -> tuple[T, ...]:
        return tuple([parse(item) for item in self._get(name, list, default)])

    def texts(self, name: str, default: list[Any] | None = None) -> tuple[str, ...]:
        values: list[Any] = self._get(name, list, default)
        if not all(isinstance(value, str) for value in values):
            raise ProtocolError(f"{self._what}: {name} is not a list of strings")
        return tuple(values)

    def text_map(self, name: str) -> dict[str, str]:
        values: dict[Any, Any] = self._get(name, dict, {})
        if not all(isinstance(value, str) for value in values.values()):
            raise ProtocolError(f"{self._what}: {name} is not a map of strings")
        return values

    def data(self, name: str, length: int) -> bytes:
        """Exactly `length` bytes, given as an array of numbers."""
        return byte_array(self._value.get(name), length, f"{self._what}: {name}")

    def raw(self, name: str) -> Any:
        return self._value.get(name)


def byte_array(value: object, length: int, what: str) -> bytes:
    """`length` bytes from a JSON array of numbers, or from hex (some versions of the service write hex)."""
    try:
        if isinstance(value, str):
            data = bytes.fromhex(value)
        elif isinstance(value, list) and not any(isinstance(item, bool) for item in value):
            data = bytes(value)
        else:
            raise ProtocolError(f"{what} is missing or not an array of bytes")
    except (ValueError, TypeError):
        raise ProtocolError(f"{what} is not an array of bytes") from None
    if len(data) != length:
        raise ProtocolError(f"{what} has {len(data)} bytes, not {length}")
    return data


def enclave_id_text(value: object) -> str:
    """Enclave ids are numbers on the wire; here they are text, as keys of maps."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ProtocolError("enclave_id is missing or not an id")
    return str(value)


def enclave_id_json(enclave_id: str) -> int | str:
    """The id as the wire has it: a number where it is one."""
    return int(enclave_id) if enclave_id.isdecimal() else enclave_id


@dataclass(frozen=True, slots=True)
class Enclave:
    """An enclave and the key ciphertexts for it are made with."""

    enclave_id: str
    public_key: bytes
    """33 bytes, compressed."""
    key_epoch: int
    healthy: bool

    @classmethod
    def from_json(cls, value: object) -> "Enclave":
        fields = Fields(value, "enclave")
        return cls(
            enclave_id=enclave_id_text(fields.raw("enclave_id")),
            public_key=byte_array(fields.text("public_key"), 33, "enclave: public_key"),
            key_epoch=fields.integer("key_epoch"),
            healthy=fields.flag("healthy"),
        )


@dataclass(frozen=True, slots=True)
class SubsetDefinition:
    """A part of the participants that gets an aggregate key of its own."""

    subset_id: str
    participants: tuple[str, ...]

    def to_json(self) -> Json:
        return {"subset_id": self.subset_id, "participants": list(self.participants)}

    @classmethod
    def from_json(cls, value: object) -> "SubsetDefinition":
        fields = Fields(value, "subset definition")
        return cls(fields.text("subset_id"), fields.texts("participants"))


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """`POST /keygen/reserve`."""

    keygen_session_id: str
    coordinator_user_id: str
    expected_participants: tuple[str, ...]
    timeout_secs: int
    encrypted_taproot_tweak: str
    max_signing_sessions: int | None = None
    subset_definitions: tuple[SubsetDefinition, ...] = ()

    def to_json(self) -> Json:
        return {
            "keygen_session_id": self.keygen_session_id,
            "coordinator_user_id": self.coordinator_user_id,
            "expected_participants": list(self.expected_participants),
            "timeout_secs": self.timeout_secs,
            "max_signing_sessions": self.max_signing_sessions,
            "encrypted_taproot_tweak": self.encrypted_taproot_tweak,
            "subset_definitions": [subset.to_json() for subset in self.subset_definitions],
        }

    @classmethod
    def from_json(cls, value: object) -> "ReserveRequest":
        fields = Fields(value, "reserve request")
        return cls(
            keygen_session_id=fields.text("keygen_session_id"),
            coordinator_user_id=fields.text("coordinator_user_id"),
            expected_participants=fields.texts("expected_participants"),
            timeout_secs=fields.integer("timeout_secs"),
            encrypted_taproot_tweak=fields.text("encrypted_taproot_tweak", ""),
            max_signing_sessions=fields.optional_integer("max_signing_sessions"),
            subset_definitions=fields.items("subset_definitions", SubsetDefinition.from_json, []),
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to `ReserveRequest`: which enclave speaks for the session."""

    coordinator_enclave_id: str
    coordinator_public_key: bytes
    coordinator_key_epoch: int

    @classmethod
    def from_json(cls, value: object) -> "Reservation":
        fields = Fields(value, "reservation")
        return cls(
            coordinator_enclave_id=enclave_id_text(fields.raw("coordinator_enclave_id")),
            coordinator_public_key=byte_array(
                fields.text("coordinator_public_key"), 33, "reservation: coordinator_public_key"
            ),
            coordinator_key_epoch=fields.integer("coordinator_key_epoch"),
        )


@dataclass(frozen=True, slots=True)
class InitializeRequest:
    """`POST /keygen/{id}/initialize`."""

    coordinator_pubkey: bytes
    coordinator_encrypted_private_key: str
    session_public_key: bytes
    encrypted_session_secret: str
    encrypted_session_data: str
    encrypted_enclave_data: str
    enclave_key_epoch: int

    def to_json(self) -> Json:
        return {
            "coordinator_pubkey": list(self.coordinator_pubkey),
            "coordinator_encrypted_private_key": self.coordinator_encrypted_private_key,
            "session_public_key": list(self.session_public_key),
            "encrypted_session_secret": self.encrypted_session_secret,
            "encrypted_session_data": self.encrypted_session_data,
            "encrypted_enclave_data": self.encrypted_enclave_data,
            "enclave_key_epoch": self.enclave_key_epoch,
        }

    @classmethod
    def from_json(cls, value: object) -> "InitializeRequest":
        fields = Fields(value, "initialize request")
        return cls(
            coordinator_pubkey=fields.data("coordinator_pubkey", 33),
            coordinator_encrypted_private_key=fields.text("coordinator_encrypted_private_key"),
            session_public_key=fields.data("session_public_key", 33),
            encrypted_session_secret=fields.text("encrypted_session_secret"),
            encrypted_session_data=fields.text("encrypted_session_data"),
            encrypted_enclave_data=fields.text("encrypted_enclave_data"),
            enclave_key_epoch=fields.integer("enclave_key_epoch"),
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A participant's place in a keygen session."""

    user_id: str
    enclave_id: str
    signer_index: int
    claimed: bool

    def to_json(self) -> Json:
        return {
            "user_id": self.user_id,
            "enclave_id": enclave_id_json(self.enclave_id),
            "signer_index": self.signer_index,
            "claimed": self.claimed,
        }

    @classmethod
    def from_json(cls, value: object) -> "Slot":
        fields = Fields(value, "slot")
        return cls(
            user_id=fields.text("user_id"),
            enclave_id=enclave_id_text(fields.raw("enclave_id")),
            signer_index=fields.integer("signer_index"),
            claimed=fields.flag("claimed"),
        )


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """`POST /keygen/{id}/participants`."""

    keygen_session_id: str
    user_id: str
    encrypted_private_key: str
    public_key: bytes
    encrypted_session_data: str
    enclave_public_key: bytes
    enclave_key_epoch: int
    require_signing_approval: bool
    auth_pubkey: bytes

    def to_json(self) -> Json:
        return {
            "keygen_session_id": self.keygen_session_id,
            "user_id": self.user_id,
            "encrypted_private_key": self.encrypted_private_key,
            "public_key": list(self.public_key),
            "encrypted_session_data": self.encrypted_session_data,
            "enclave_public_key": self.enclave_public_key.hex(),
            "enclave_key_epoch": self.enclave_key_epoch,
            "require_signing_approval": self.require_signing_approval,
            "auth_pubkey": list(self.auth_pubkey),
        }

    @classmethod
    def from_json(cls, value: object) -> "RegisterRequest":
        fields = Fields(value, "register request")
        return cls(
            keygen_session_id=fields.text("keygen_session_id"),
            user_id=fields.text("user_id"),
            encrypted_private_key=fields.text("encrypted_private_key"),
            public_key=fields.data("public_key", 33),
            encrypted_session_data=fields.text("encrypted_session_data"),
            enclave_public_key=byte_array(
                fields.text("enclave_public_key"), 33, "register request: enclave_public_key"
            ),
            enclave_key_epoch=fields.integer("enclave_key_epoch", 0),
            require_signing_approval=fields.flag("require_signing_approval", False),
            auth_pubkey=fields.data("auth_pubkey", 33),
        )


@dataclass(frozen=True, slots=True)
class KeygenState:
    """`GET /keygen/{id}/status`. The keys are encrypted with the session secret."""

    status: KeygenStatus
    expected_participants: int
    registered_participants: int
    expires_at: int
    aggregate_public_key: str | None = None
    encrypted_subset_aggregates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: object) -> "KeygenState":
        fields = Fields(value, "keygen status")
        return cls(
            status=_status(KeygenStatus, fields.text("status")),
            expected_participants=fields.integer("expected_participants", 0),
            registered_participants=fields.integer("registered_participants", 0),
            expires_at=fields.integer("expires_at", 0),
            aggregate_public_key=fields.optional_text("aggregate_public_key"),
            encrypted_subset_aggregates=fields.text_map("encrypted_subset_aggregates"),
        )


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One message to sign. `encrypted_adaptor_configs` makes it an adaptor signature."""

    batch_item_id: str
    message_hash: bytes
    encrypted_message: str
    encrypted_taproot_tweak: str
    encrypted_adaptor_configs: str | None = None
    subset_id: str | None = None

    def to_json(self) -> Json:
        mode: dict[str, str] = {"type": "regular", "encrypted_message": self.encrypted_message}
        if self.encrypted_adaptor_configs is not None:
            mode |= {"type": "adaptor", "encrypted_adaptor_configs": self.encrypted_adaptor_configs}
        return {
            "batch_item_id": self.batch_item_id,
            "message_hash": list(self.message_hash),
            "signing_mode": mode,
            "encrypted_taproot_tweak": self.encrypted_taproot_tweak,
            "subset_id": self.subset_id,
        }

    @classmethod
    def from_json(cls, value: object) -> "BatchItem":
        fields = Fields(value, "batch item")
        mode = Fields(fields.raw("signing_mode"), "batch item: signing_mode")
        kind = mode.text("type")
        if kind not in ("regular", "adaptor"):
            raise ProtocolError(f"batch item: signing_mode {kind!r} is unknown")
        return cls(
            batch_item_id=fields.text("batch_item_id"),
            message_hash=fields.data("message_hash", 32),
            encrypted_message=mode.text("encrypted_message"),
            encrypted_taproot_tweak=fields.text("encrypted_taproot_tweak"),
            encrypted_adaptor_configs=mode.text("encrypted_adaptor_configs") if kind == "adaptor" else None,
            subset_id=fields.optional_text("subset_id"),
        )


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """`POST /signing`."""

    signing_session_id: str
    keygen_session_id: str
    timeout_secs: int
    batch_items: tuple[BatchItem, ...]

    def to_json(self) -> Json:
        return {
            "signing_session_id": self.signing_session_id,
            "keygen_session_id": self.keygen_session_id,
            "timeout_secs": self.timeout_secs,
            "batch_items": [item.to_json() for item in self.batch_items],
        }

    @classmethod
    def from_json(cls, value: object) -> "SigningRequest":
        fields = Fields(value, "signing request")
        return cls(
            signing_session_id=fields.text("signing_session_id"),
            keygen_session_id=fields.text("keygen_session_id"),
            timeout_secs=fields.integer("timeout_secs"),
            batch_items=fields.items("batch_items", BatchItem.from_json),
        )


@dataclass(frozen=True, slots=True)
class AdaptorConfig:
    """What an adaptor signature is adapted by: one point (`Single`)."""

    adaptor_id: str
    adaptor_points: tuple[bytes, ...]
    adaptor_type: str = "Single"

    def to_json(self) -> Json:
        return {
            "adaptor_id": self.adaptor_id,
            "adaptor_type": self.adaptor_type,
            "adaptor_points": [point.hex() for point in self.adaptor_points],
            "hints": None,
        }

    @classmethod
    def from_json(cls, value: object) -> "AdaptorConfig":
        fields = Fields(value, "adaptor config")
        points = fields.texts("adaptor_points")
        return cls(
            adaptor_id=fields.text("adaptor_id"),
            adaptor_points=tuple(
                [byte_array(point, 33, "adaptor config: adaptor_points") for point in points]
            ),
            adaptor_type=fields.text("adaptor_type"),
        )


@dataclass(frozen=True, slots=True)
class AdaptorSignature:
    """An adaptor signature as the service returns it, one for each adaptor id."""

    signature: bytes
    """65 bytes, R ‖ s'; the wire calls it `signature_scalar`."""
    nonce_point: bytes
    adaptor_points: tuple[bytes, ...]
    aggregate_adaptor_point: bytes

    def to_json(self, adaptor_id: str) -> Json:
        return {
            "adaptor_id": adaptor_id,
            "adaptor_type": "Single",
            "signature_scalar": list(self.signature),
            "nonce_point": list(self.nonce_point),
            "adaptor_points": [list(point) for point in self.adaptor_points],
            "hints": None,
            "aggregate_adaptor_point": list(self.aggregate_adaptor_point),
        }

    @classmethod
    def from_json(cls, value: object) -> "AdaptorSignature":
        fields = Fields(value, "adaptor signature")
        return cls(
            signature=fields.data("signature_scalar", 65),
            nonce_point=fields.data("nonce_point", 33),
            adaptor_points=fields.items(
                "adaptor_points", lambda point: byte_array(point, 33, "adaptor signature: adaptor_points")
            ),
            aggregate_adaptor_point=fields.data("aggregate_adaptor_point", 33),
        )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One item's outcome; the signatures are encrypted with the session secret."""

    batch_item_id: str
    signature: str | None = None
    adaptor_signatures: str | None = None
    error: str | None = None

    def to_json(self) -> Json:
        return {
            "batch_item_id": self.batch_item_id,
            "signature": self.signature,
            "adaptor_signatures": self.adaptor_signatures,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, value: object) -> "BatchResult":
        fields = Fields(value, "batch result")
        return cls(
            batch_item_id=fields.text("batch_item_id"),
            signature=fields.optional_text("signature"),
            adaptor_signatures=fields.optional_text("adaptor_signatures"),
            error=fields.optional_text("error"),
        )


@dataclass(frozen=True, slots=True)
class SigningState:
    """`GET /signing/{id}/status/{user_id}`."""

    signing_session_id: str
    keygen_session_id: str
    status: SigningStatus
    expires_at: int
    participants_requiring_approval: tuple[str, ...] = ()
    approved_participants: tuple[str, ...] = ()
    batch_results: tuple[BatchResult, ...] = ()
    raw_batch_items: Sequence[object] = field(default=(), repr=False)
    """What the session holds, as sent; empty where the service does not show it. Only who reviews it pays for
    reading it: `batch_items`."""

    def batch_items(self) -> tuple[BatchItem, ...]:
        """What the session is to sign; empty where the service does not show it.

        Raises:
            ProtocolError: an item is malformed.
        """
        return tuple([BatchItem.from_json(item) for item in self.raw_batch_items])

    @classmethod
    def from_json(cls, value: object) -> "SigningState":
        fields = Fields(value, "signing status")
        return cls(
            signing_session_id=fields.text("signing_session_id"),
            keygen_session_id=fields.text("keygen_session_id"),
            status=_status(SigningStatus, fields.text("status")),
            expires_at=fields.integer("expires_at", 0),
            participants_requiring_approval=fields.texts("participants_requiring_approval", []),
            approved_participants=fields.texts("approved_participants", []),
            batch_results=fields.items("batch_results", BatchResult.from_json, []),
            raw_batch_items=fields.items("batch_items", lambda item: item, []),
        )


StatusT = TypeVar("StatusT", KeygenStatus, SigningStatus)


def _status(kind: type[StatusT], value: str) -> StatusT:
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"the status {value!r} is unknown") from None


def check_unique(values: Sequence[str], what: str) -> None:
    """
    Raises:
        ProtocolError: a value appears twice.
    """
    if len(set(values)) != len(values):
        raise ProtocolError(f"{what} are not all different")
