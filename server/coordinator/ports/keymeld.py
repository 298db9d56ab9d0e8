"""What the coordinator needs from the remote MuSig2 service: one group key (and one per set of winners), then
signatures under them, without ever holding a player's key.

Group keys are BIP327 KeyAgg over the sorted public keys of the market maker (the coordinator) and either all
players (the *group*) or a set of winners. Everything is resumable: ids are chosen by the caller, and asking
again continues what exists.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.contract.dlc import SigningJob


class KeymeldPortError(Exception):
    """Keymeld could not do what was asked."""


class KeymeldUnavailable(KeymeldPortError):
    """The service cannot be reached or is not ready: try again."""


class KeymeldRefused(KeymeldPortError):
    """The service (or the limits of the sessions given) refuses, and will refuse again; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeymeldTimeout(KeymeldPortError):
    """The time given ran out, or a session's own time did."""


@dataclass(frozen=True, slots=True)
class KeymeldParticipant:
    """A player as registered at entry time, with everything needed to register on his behalf.

    `encrypted_private_keys` holds his ephemeral private key, ECIES-encrypted by himself to every enclave
    (enclave id -> hex); the coordinator cannot read it.
    """

    user_id: str
    """UUIDv7: his ticket id."""
    public_key: bytes
    """33 bytes, compressed."""
    auth_pubkeys: Mapping[str, bytes]
    """Keygen session id -> the 33-byte key his approvals are signed with."""
    encrypted_private_keys: Mapping[str, str]
    enclave_key_epochs: Mapping[str, int]
    """Enclave id -> epoch of the key the ciphertext is for."""
    require_signing_approval: bool

    @property
    def registers_himself(self) -> bool:
        """He approves what his key signs, and gave no ciphertext of it: keygen waits for him."""
        return self.require_signing_approval and not self.encrypted_private_keys


@dataclass(frozen=True, slots=True)
class KeygenPlan:
    """All that identifies a competition's keygen, the same at every call."""

    session_ids: tuple[str, ...]
    """UUIDv7s fixed when the competition was created; as many are used as `winner_sets` need."""
    seed: bytes = field(repr=False)
    """The 32-byte session secret, shared by all sessions."""
    coordinator_user_id: str
    """UUIDv7."""
    coordinator_private_key: bytes = field(repr=False)
    """32 bytes: the market maker's key."""
    participants: tuple[KeymeldParticipant, ...]
    """In player index order."""
    winner_sets: tuple[tuple[int, ...], ...]
    """Every set of player indices a signature is needed under, besides the whole group."""
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class KeygenProgress:
    """Keygen is under way."""

    status: str
    """reserved, collecting_participants or completed: the least advanced session's."""
    sessions_done: int
    sessions_total: int
    registered: tuple[str, ...]
    """User ids whose keys every session holds."""
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeygenResult:
    """Keygen is complete, and the service's keys equal those aggregated here."""

    aggregate_key: bytes
    """33 bytes: the group's key."""
    subset_keys: Mapping[tuple[int, ...], bytes]
    """Set of winners, ascending -> 33-byte key."""


@dataclass(frozen=True, slots=True)
class SigningProgress:
    """How far the batches are."""

    status: str
    """collecting_participants while approvals are missing, then signing, then completed."""
    batches_done: int
    batches_total: int
    approved: tuple[str, ...]
    """User ids that approved every batch."""
    missing: tuple[str, ...]
    """User ids that must approve and have not."""


@dataclass(frozen=True, slots=True)
class SessionAsked:
    """A signing session exists: one batch, as one attempt at it asks to sign it."""

    signing_session_id: str
    keygen_session_id: str
    keygen_index: int
    batch_index: int
    attempt: int
    items: int


@dataclass(frozen=True, slots=True)
class ItemAsked:
    """One signature that a signing session asks for; see proto SigningItem."""

    batch_item_id: str
    job: SigningJob
    subset_id: str | None


class Batches(Protocol):
    """How a contract's jobs are cut into batches."""

    def items(self, keygen_index: int, batch_index: int, signing_session_id: str) -> Sequence[ItemAsked]:
        """What a session of that batch asks to sign."""
        ...


class Keymeld(Protocol):
    """The remote MuSig2 service."""

    async def health(self) -> bool:
        """Whether the service answers and has a healthy enclave."""
        ...

    async def ensure_keygen(self, plan: KeygenPlan) -> KeygenProgress | KeygenResult:
        """Do what is left of the keygen and report; call again to poll.

        Reserves, initialises and registers whatever is not yet so, under the plan's session ids and no
        others.

        Raises:
            KeymeldUnavailable: call again.
            KeymeldRefused: the sessions cannot hold the winner sets, or a registration or key is not
                acceptable.
            KeymeldTimeout: a session expired before it was complete.
        """
        ...

    async def sign(
        self,
        plan: KeygenPlan,
        jobs: Collection[SigningJob],
        *,
        signing_session_id: Callable[[int, int, int], str],
        on_progress: Callable[[SigningProgress], Awaitable[None]],
        timeout_seconds: int,
        on_session: Callable[[SessionAsked], Awaitable[None]] | None = None,
    ) -> Mapping[str, bytes]:
        """Sign every job, in batches side by side.

        Args:
            plan: the completed keygen's plan.
            jobs: what to sign, in the same order at every call (batches are cut from it). Of a big contract
                `coordinator.contract.dlc.SigningJobs`, which is cheap to send to another process.
            signing_session_id: (keygen index, batch index, attempt) -> UUIDv7, the same at every call; a
                session that exists under it is continued.
            on_progress: told whenever a count changes.
            timeout_seconds: for the whole call, and of each signing session.
            on_session: told of each signing session once it exists, at every call again.

        Returns:
            job key -> 64-byte Schnorr signature, or 65-byte adaptor signature where the job has an adaptor
            point. All of them have been verified.

        Raises:
            KeymeldUnavailable: call again; finished batches are not signed twice.
            KeymeldRefused: a batch failed at every attempt.
            KeymeldTimeout: not finished in time, e.g. for want of approvals.
        """
        ...

    async def cut(self, plan: KeygenPlan, jobs: Collection[SigningJob]) -> Batches:
        """The batches that `sign` makes of the same arguments.

        Raises:
            KeymeldRefused: the sessions cannot hold the winner sets.
        """
        ...
