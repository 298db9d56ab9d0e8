"""What the keymeld adapter computes for batches: plain functions, so that worker processes can run them.

A batch is cut and packed once, its items are sealed into a request, and the answer's signatures are opened
and verified under keys aggregated here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from coordinator.contract import adaptor, schnorr
from coordinator.contract.dlc import SigningJob
from coordinator.contract.musig2 import key_agg, key_sort
from coordinator_client.keymeld import KeymeldError, SessionCredentials, SigningStatus, open_result
from coordinator_client.keymeld.batch import seal_request
from coordinator_client.keymeld.client import parse_signing_state
from coordinator_client.keymeld.dlc import (
    KeymeldLimits,
    Layout,
    PackedBatch,
    cut_batches,
    job_winners,
)


@dataclass(frozen=True, slots=True)
class Sealing:
    """What requests are made with."""

    seed: bytes = field(repr=False)
    """The session secret."""
    tweak: bytes
    timeout_secs: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose signatures are expected, 33 bytes each."""

    market_maker: bytes
    players: tuple[bytes, ...]

    def of_job(self, job: SigningJob) -> bytes:
        """The aggregate key that a job's signature is valid under."""
        winners = job_winners(job, len(self.players))
        if winners is None:
            return _aggregate(self.market_maker, *self.players)
        return _aggregate(self.market_maker, *[self.players[player] for player in winners])


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a signing session stands."""

    status: SigningStatus
    approved: frozenset[str]
    signatures: Mapping[str, bytes] | None = None
    """Of a completed session: by job key, all of them there and verified."""
    problem: str = ""
    """Why an ended session has none."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.status in (SigningStatus.COMPLETED, SigningStatus.FAILED)


def pack_batches(
    jobs: Iterable[SigningJob], layout: Layout, limits: KeymeldLimits
) -> tuple[PackedBatch, ...]:
    """All batches.

    Raises:
        KeymeldLimitError: a job's set of winners is in no session.
    """
    return tuple([batch.pack(layout) for batch in cut_batches(jobs, layout, limits)])


def seal_batch(batch: PackedBatch, signing_session_id: str, sealing: Sealing) -> bytes:
    """The body of the request that starts a batch's signing session."""
    return seal_request(
        _credentials(sealing.seed),
        [item for _, item in batch.items(signing_session_id)],
        signing_session_id=signing_session_id,
        keygen_session_id=batch.keygen_session_id,
        timeout_secs=sealing.timeout_secs,
        tweak=sealing.tweak,
    )


def read_answer(
    answer: bytes, batch: PackedBatch, signing_session_id: str, sealing: Sealing, keys: Keys
) -> Answer:
    """A signing session's status, with its signatures verified where it is completed.

    Raises:
        KeymeldBadResponse: it is no signing session's status.
    """
    state = parse_signing_state(answer)
    approved = frozenset(state.approved_participants)
    if state.status == SigningStatus.FAILED:
        problem = next((result.error for result in state.batch_results if result.error), None)
        return Answer(state.status, approved, problem=problem or "failed")
    if state.status != SigningStatus.COMPLETED:
        return Answer(state.status, approved)
    results = {result.batch_item_id: result for result in state.batch_results}
    signatures = {}
    try:
        for job, item in batch.items(signing_session_id):
            if item.batch_item_id not in results:
                raise KeymeldError(f"no result for {job.key}")
            signature = open_result(_credentials(sealing.seed), results[item.batch_item_id], item)
            if not _valid(keys.of_job(job), job, signature):
                raise KeymeldError(f"the signature for {job.key} does not verify")
            signatures[job.key] = signature
    except KeymeldError as error:
        return Answer(state.status, approved, problem=error.text)
    return Answer(state.status, approved, signatures)


def _valid(key: bytes, job: SigningJob, signature: bytes) -> bool:
    if job.adaptor_point is None:
        return schnorr.verify(key[1:], job.message, signature)
    return adaptor.verify_adaptor(key[1:], job.message, job.adaptor_point, signature)


@lru_cache(maxsize=8192)
def _aggregate(*pubkeys: bytes) -> bytes:
    return key_agg(key_sort(pubkeys)).point


@lru_cache(maxsize=8)
def _credentials(seed: bytes) -> SessionCredentials:
    # Deriving its keys costs more than a batch's encryption.
    return SessionCredentials(seed)
