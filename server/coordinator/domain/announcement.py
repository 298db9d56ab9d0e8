"""Believing an oracle only as far as it can be checked: its announcement, and its attestation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.errors import ContractError
from coordinator.contract.rankings import rankings
from coordinator.contract.secp import mul_base, parse_scalar
from coordinator.ports.oracle import AnnouncementMismatch, Equivocation, OracleEvent

# BIP65: lock times below this count blocks. An expiry is a time.
_FIRST_LOCKTIME_SECONDS = 500_000_000
_MAX_LOCKTIME = 2**32 - 1


def verify_announcement(event: OracleEvent, oracle_pubkey: bytes, n_entries: int, places: int) -> None:
    """Recompute every locking point from key, nonce point and outcomes, and compare.

    About 35 µs an outcome: for large events, call it off the event loop.

    Args:
        event: as the oracle published it.
        oracle_pubkey: the key it must be by, 32 bytes x-only.
        n_entries: how many entries the contract has.
        places: how many win.

    Raises:
        AnnouncementMismatch: names the first difference.
    """
    if event.oracle_pubkey != oracle_pubkey:
        raise AnnouncementMismatch(
            f"the event is announced under the key {event.oracle_pubkey.hex()}, not {oracle_pubkey.hex()}"
        )
    if event.expiry is not None and not _FIRST_LOCKTIME_SECONDS <= event.expiry <= _MAX_LOCKTIME:
        raise AnnouncementMismatch(f"the expiry {event.expiry} is not a time that a transaction can wait for")
    try:
        expected = locking_points(
            oracle_pubkey, event.nonce_point, map(outcome_message, rankings(n_entries, places))
        )
    except ContractError as error:
        raise AnnouncementMismatch(f"the announcement cannot be recomputed: {error}") from error
    if len(event.locking_points) != len(expected):
        raise AnnouncementMismatch(
            f"{n_entries} entries and {places} places have {len(expected)} outcomes, "
            f"announced are {len(event.locking_points)}"
        )
    if expected == event.locking_points:
        return
    for index, (ours, theirs) in enumerate(zip_longest(expected, event.locking_points)):
        if ours != theirs:
            raise AnnouncementMismatch(
                f"locking point {index} must be {ours.hex()}, announced is {theirs.hex()}"
            )


def check_unchanged(event: OracleEvent, oracle_pubkey: bytes, nonce_point: bytes, expiry: int | None) -> None:
    """Compare what the oracle publishes now with what was accepted; the locking points follow from the first
    two, see `verify_announcement`.

    Raises:
        AnnouncementMismatch: names the first difference.
    """
    for what, accepted, now in (
        ("key", oracle_pubkey.hex(), event.oracle_pubkey.hex()),
        ("nonce point", nonce_point.hex(), event.nonce_point.hex()),
        ("expiry", expiry, event.expiry),
    ):
        if accepted != now:
            raise AnnouncementMismatch(f"the {what} was {accepted}, now it is {now}")


def attested_outcome(attestation: bytes, locking_points: Sequence[bytes]) -> int:
    """Index of the outcome whose locking point a 32-byte attestation opens.

    Raises:
        AnnouncementMismatch: it opens none, or is no scalar.
    """
    try:
        secret = parse_scalar(attestation)
    except ContractError as error:
        raise AnnouncementMismatch(f"the attestation is no scalar: {error}") from None
    point = mul_base(secret)
    for index, locking_point in enumerate(locking_points):
        if locking_point == point:
            return index
    raise AnnouncementMismatch("the attestation opens none of the event's locking points")


def check_same_attestation(first: bytes | None, now: bytes | None) -> None:
    """Compare an attestation seen before (None: none was) with the one published now.

    Raises:
        Equivocation: there are two.
    """
    if first is not None and now is not None and first != now:
        raise Equivocation("the oracle published a second, different attestation to the same event")
