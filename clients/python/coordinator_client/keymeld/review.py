"""What a player compares before its key signs: every item of a signing session with the contract as the
player rebuilt it itself, and the keys that sign with keys aggregated here.

Pure: no network. A large session takes its time: call it off the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.contract.dlc import SigningJob, TicketedDLC
from coordinator.contract.errors import UnknownOutcome
from coordinator_client.errors import ContractMismatch

from .batch import SigningItem, open_item
from .client import decrypt_aggregate_key
from .crypto import SessionCredentials
from .dlc import job_winners, subset_id
from .errors import KeymeldBadResponse
from .protocol import BatchItem, KeygenState

GROUP: Final = "the whole group"
NO_POINT: Final = "none"


class SigningMismatch(ContractMismatch):
    """The player's key was asked for a signature that the contract does not have. Nothing was approved.

    Attributes:
        key: the outcome ("att3", "exp") or win condition ("att3:p1") that the item is said to be for; empty
            if it is for none.
        field: what differs: sighash, adaptor_point, subset or item.
        expected: as the player rebuilt it.
        asked: as it was asked for.
    """

    def __init__(self, key: str, field: str, expected: str, asked: str) -> None:
        super().__init__(f"signing {key}" if key else "signing", f"{field} must be {expected}, is {asked}")
        self.key = key
        self.field = field
        self.expected = expected
        self.asked = asked


@dataclass(frozen=True, slots=True)
class AskedItem:
    """One signature as the coordinator says that it asks for it, with what it says that it is for."""

    key: str
    item: SigningItem


def review(
    keygen_session_id: str,
    asked: Sequence[AskedItem],
    held: Sequence[BatchItem],
    credentials: SessionCredentials,
    dlc: TicketedDLC,
) -> None:
    """Compares a signing session with the contract.

    Args:
        keygen_session_id: whose keys sign.
        asked: the session's items as the coordinator lists them.
        held: the session's items as the service shows them; empty: it does not, and only the coordinator's
            word is compared.
        credentials: of the session secret that `held` is encrypted with.
        dlc: as the player rebuilt it.

    Raises:
        SigningMismatch: names the first difference; also where an item cannot be read, or tweaks its key.
    """
    seen: dict[str, SigningJob] = {}
    for one in asked:
        try:
            job = dlc.signing_job(one.key)
        except UnknownOutcome:
            raise SigningMismatch(one.key, "item", "of this contract", "of none of its outcomes") from None
        _compare(keygen_session_id, one.item, job, dlc)
        if one.item.batch_item_id in seen:
            raise SigningMismatch(one.key, "item", "asked once", "there twice")
        seen[one.item.batch_item_id] = job
    for sealed in held:
        claimed = seen.pop(sealed.batch_item_id, None)
        if claimed is None:
            asked_hash = sealed.message_hash.hex()
            raise SigningMismatch("", "item", "one that the coordinator lists", f"to sign {asked_hash}")
        # The hash in the clear first: a difference is then shown as one, and not as a broken item.
        _compare_hash(claimed, sealed.message_hash)
        try:
            opened = open_item(credentials, sealed)
        except KeymeldBadResponse as error:
            raise SigningMismatch(claimed.key, "item", "one signature as listed", error.text) from None
        _compare(keygen_session_id, opened, claimed, dlc)
    if held and seen:
        raise SigningMismatch(next(iter(seen.values())).key, "item", "in the session", "missing there")


def check_keys(
    keygen_session_id: str,
    state: KeygenState,
    credentials: SessionCredentials,
    dlc: TicketedDLC,
    winner_sets: Iterable[tuple[int, ...]],
) -> None:
    """Compares the keys that a keygen session made with those aggregated here.

    Args:
        keygen_session_id: which.
        state: as the service shows it.
        credentials: of the session secret.
        dlc: as the player rebuilt it.
        winner_sets: those whose subsets the session's items use.

    Raises:
        SigningMismatch: a key is missing or another.
        KeymeldBadResponse: a key cannot be read.
    """
    _compare_key("the group's key", state.aggregate_public_key, credentials, dlc.aggregate_key(None))
    for winners in winner_sets:
        named = state.encrypted_subset_aggregates.get(subset_id(keygen_session_id, winners))
        _compare_key(f"the key of winners {winners}", named, credentials, dlc.aggregate_key(winners))


def signing_sets(asked: Iterable[AskedItem], dlc: TicketedDLC) -> frozenset[tuple[int, ...]]:
    """The sets of winners whose subsets sign these items, after they passed `review`."""
    players = len(dlc.parameters.players)
    sets = (job_winners(dlc.signing_job(one.key), players) for one in asked)
    return frozenset(winners for winners in sets if winners is not None)


def _compare(keygen_session_id: str, item: SigningItem, job: SigningJob, dlc: TicketedDLC) -> None:
    _compare_hash(job, item.message)
    if item.adaptor_point != job.adaptor_point:
        raise SigningMismatch(job.key, "adaptor_point", _point(job.adaptor_point), _point(item.adaptor_point))
    winners = job_winners(job, len(dlc.parameters.players))
    expected = None if winners is None else subset_id(keygen_session_id, winners)
    if item.subset_id != expected:
        raise SigningMismatch(job.key, "subset", expected or GROUP, item.subset_id or GROUP)


def _compare_hash(job: SigningJob, asked: bytes) -> None:
    if asked != job.message:
        raise SigningMismatch(job.key, "sighash", job.message.hex(), asked.hex())


def _compare_key(what: str, encrypted: str | None, credentials: SessionCredentials, expected: bytes) -> None:
    if encrypted is None:
        raise SigningMismatch("", what, expected.hex(), "missing")
    key = decrypt_aggregate_key(credentials, encrypted)
    if key != expected:
        raise SigningMismatch("", what, expected.hex(), key.hex())


def _point(point: bytes | None) -> str:
    return NO_POINT if point is None else point.hex()
