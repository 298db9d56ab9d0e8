"""An announcement is recomputed point by point, and an attestation must open one of them."""

import dataclasses

import pytest

from coordinator.contract.attestation import attestation_secret, locking_points, outcome_message
from coordinator.contract.rankings import rankings
from coordinator.contract.secp import N, mul_base, negate
from coordinator.domain.announcement import attested_outcome, check_same_attestation, verify_announcement
from coordinator.ports.oracle import AnnouncementMismatch, Equivocation, OracleEvent

ORACLE_SECRET, NONCE_SECRET = (5).to_bytes(32, "big"), (7).to_bytes(32, "big")
PUBKEY = mul_base(5)[1:]
NONCE_POINT = mul_base(7)
ENTRIES, PLACES = 4, 2
MESSAGES = [outcome_message(ranking) for ranking in rankings(ENTRIES, PLACES)]


def announced(**changes) -> OracleEvent:
    event = OracleEvent(
        id="01890a5d-ac96-774b-bcce-b302099a8057",
        oracle_pubkey=PUBKEY,
        nonce_point=NONCE_POINT,
        locking_points=tuple(locking_points(PUBKEY, NONCE_POINT, MESSAGES)),
        expiry=1_790_000_000,
        attestation=None,
        publishes_secret_nonce=False,
        status="live",
        entries=(),
    )
    return dataclasses.replace(event, **changes)


def refusal(event: OracleEvent, pubkey: bytes = PUBKEY, entries: int = ENTRIES, places: int = PLACES) -> str:
    with pytest.raises(AnnouncementMismatch) as mismatch:
        verify_announcement(event, pubkey, entries, places)
    return str(mismatch.value)


def test_a_right_announcement_is_accepted():
    verify_announcement(announced(), PUBKEY, ENTRIES, PLACES)
    verify_announcement(announced(expiry=None), PUBKEY, ENTRIES, PLACES)


def test_the_nonce_counts_by_its_x_coordinate():
    verify_announcement(announced(nonce_point=negate(NONCE_POINT)), PUBKEY, ENTRIES, PLACES)


def test_the_first_differing_point_is_named():
    points = list(announced().locking_points)
    points[3], points[4] = points[4], points[3]
    assert refusal(announced(locking_points=tuple(points))).startswith("locking point 3 must be")
    points = list(announced().locking_points)
    points[12] = negate(points[12])
    assert "locking point 12" in refusal(announced(locking_points=tuple(points)))


def test_too_few_or_many_points_are_refused():
    points = announced().locking_points
    assert "13 outcomes, announced are 12" in refusal(announced(locking_points=points[:-1]))
    assert "announced are 14" in refusal(announced(locking_points=(*points, points[0])))
    assert "announced are 0" in refusal(announced(locking_points=()))


def test_an_announcement_for_another_competition_is_refused():
    assert "outcomes" in refusal(announced(), entries=5)
    assert "outcomes" in refusal(announced(), places=1)
    assert "recomputed" in refusal(announced(), entries=2)


def test_another_key_is_refused():
    assert "key" in refusal(announced(), pubkey=mul_base(6)[1:])
    other = mul_base(6)[1:]
    assert "locking point 0" in refusal(announced(oracle_pubkey=other), pubkey=other)


def test_a_nonce_that_is_no_point_is_refused():
    assert "recomputed" in refusal(announced(nonce_point=b"\x02" + b"\xff" * 32))
    assert "locking point 0" in refusal(announced(nonce_point=mul_base(8)))


@pytest.mark.parametrize("expiry", [-1, 0, 800_000, 2**32])
def test_an_expiry_that_is_no_time_is_refused(expiry):
    assert "expiry" in refusal(announced(expiry=expiry))


def test_an_attestation_opens_its_outcome():
    for index, message in enumerate(MESSAGES):
        attestation = attestation_secret(ORACLE_SECRET, NONCE_SECRET, message)
        assert attested_outcome(attestation, announced().locking_points) == index


@pytest.mark.parametrize("attestation", [bytes(32), b"\x01" * 32, N.to_bytes(32, "big"), b"", b"\x01" * 33])
def test_an_attestation_to_no_outcome_is_refused(attestation):
    with pytest.raises(AnnouncementMismatch):
        attested_outcome(attestation, announced().locking_points)


def test_a_second_attestation_is_noticed():
    check_same_attestation(None, None)
    check_same_attestation(None, b"\x01" * 32)
    check_same_attestation(b"\x01" * 32, b"\x01" * 32)
    check_same_attestation(b"\x01" * 32, None)
    with pytest.raises(Equivocation):
        check_same_attestation(b"\x01" * 32, b"\x02" * 32)
