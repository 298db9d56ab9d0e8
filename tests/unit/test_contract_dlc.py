"""The contract's own interface: groups, jobs, and the verification of all signatures."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.contract import adaptor
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import InvalidScalar, InvalidSignature, UnknownOutcome
from coordinator.contract.musig2 import key_agg
from coordinator.contract.secp import N, public_key
from support.contract import Competition, competition, secret, sign, sign_with_aggregate_keys


@pytest.fixture(scope="module")
def contract() -> Competition:
    return competition(5, 3)


@pytest.fixture(scope="module")
def signatures(contract: Competition) -> ContractSignatures:
    return sign(contract)


def test_jobs_come_in_order_and_in_ranges(contract: Competition) -> None:
    dlc = contract.dlc
    jobs = list(dlc.signing_jobs())
    assert len(jobs) == dlc.job_count == 62 + 60 * 3 + 2 * 5
    assert [job.key for job in jobs[:5]] == ["att0", "att0:p0", "att0:p1", "att0:p2", "att1"]
    assert jobs[-1].key == "exp:p4"
    assert [job.key for job in jobs if ":" not in job.key] == list(dlc.outcomes())
    assert [*dlc.signing_jobs(0, 30), *dlc.signing_jobs(30)] == jobs
    assert [dlc.signing_job(job.key) for job in jobs] == jobs
    with pytest.raises(AttributeError):
        jobs[0].key = "att1"  # type: ignore[misc]


def test_jobs_say_who_signs_and_how(contract: Competition) -> None:
    dlc = contract.dlc
    for job in dlc.signing_jobs():
        outcome, is_split = job.key.partition(":")[0], ":" in job.key
        assert (job.adaptor_point is not None) == (not is_split and outcome != "exp")
        if is_split and len(dlc.winners(outcome)) < contract.entries:
            assert job.winners == dlc.winners(outcome)
        else:
            assert job.winners is None
        keys = [public_key(key) for key in contract.group_secrets(job)]
        assert dlc.aggregate_key(job.winners) == key_agg(sorted(keys)).point


def test_outcomes_of_the_same_winners_share_their_transaction(contract: Competition) -> None:
    jobs = [job for job in contract.dlc.signing_jobs() if ":" not in job.key]
    messages = {job.message for job in jobs}
    assert len(messages) == 10 + 1 + 1  # sets of three, refund, expiry
    assert len({job.adaptor_point for job in jobs}) == len(jobs)
    splits = [job.message for job in contract.dlc.signing_jobs() if ":" in job.key]
    assert len(set(splits)) == len(splits)


def test_winner_sets(contract: Competition) -> None:
    sets = list(contract.dlc.winner_sets())
    assert len(sets) == len(set(sets)) == 10
    assert sets[0] == (0, 1, 2)
    keys = {contract.dlc.aggregate_key(winners) for winners in [*sets, None]}
    assert len(keys) == 11


def test_attestations_name_their_outcome(contract: Competition) -> None:
    dlc = contract.dlc
    for outcome in ("att0", "att17", "att60"):
        assert dlc.outcome_for_attestation(contract.attestation(outcome)) == outcome
        assert dlc.is_attestation(outcome, contract.attestation(outcome))
        assert not dlc.is_attestation("exp", contract.attestation(outcome))
    assert dlc.outcome_for_attestation(secret("something else")) is None
    for bad in (bytes(32), b"", N.to_bytes(32, "big")):
        with pytest.raises(InvalidScalar):
            dlc.outcome_for_attestation(bad)
        assert not dlc.is_attestation("att0", bad)


def test_unknown_keys(contract: Competition) -> None:
    dlc = contract.dlc
    for key in ("att62", "att0:p3", "exp:p5", "nonsense", "att0:p1x"):
        with pytest.raises(UnknownOutcome):
            dlc.signing_job(key)
        with pytest.raises(UnknownOutcome):
            dlc.verify_signature(key, bytes(64))


def test_money_adds_up(contract: Competition) -> None:
    dlc = contract.dlc
    for outcome in dlc.outcomes():
        payouts = dlc.payouts(outcome)
        assert list(payouts) == list(dlc.winners(outcome))
        spent = sum(payouts.values())
        assert 0 < dlc.outcome_value - spent < 4000
        weights = dlc.parameters.outcome_payouts[outcome]
        for player, sats in payouts.items():
            assert abs(sats - spent * weights[player] / sum(weights.values())) < 600


def test_every_signature_verifies(contract: Competition, signatures: ContractSignatures) -> None:
    contract.dlc.verify_signatures(signatures)
    with ThreadPoolExecutor(2) as pool:
        contract.dlc.verify_signatures(signatures, pool)
    for job in contract.dlc.signing_jobs():
        signature = signatures.get(job.key)
        assert signature is not None
        contract.dlc.verify_signature(job.key, signature)


def test_aggregate_keys_sign_the_same_contract(contract: Competition) -> None:
    contract.dlc.verify_signatures(sign_with_aggregate_keys(contract))


def changed(signatures: ContractSignatures, key: str, value: bytes | None) -> ContractSignatures:
    copy = ContractSignatures(dict(signatures.outcome), dict(signatures.split))
    into = copy.split if ":" in key else copy.outcome
    if value is None:
        del into[key]
    else:
        into[key] = value
    return copy


def flip(signature: bytes | None, at: int) -> bytes:
    assert signature is not None
    return signature[:at] + bytes((signature[at] ^ 1,)) + signature[at + 1 :]


@pytest.mark.parametrize("key", ["att0", "att5", "att60", "exp", "att0:p0", "att33:p2", "exp:p4"])
@pytest.mark.parametrize("change", ["missing", "short", "nonce", "scalar", "empty"])
@pytest.mark.parametrize("pooled", [False, True])
def test_the_first_bad_signature_is_named(
    contract: Competition, signatures: ContractSignatures, key: str, change: str, pooled: bool
) -> None:
    signature = signatures.get(key)
    assert signature is not None
    value = {
        "missing": None,
        "short": signature[:-1],
        "nonce": flip(signature, 9),
        "scalar": flip(signature, 50),
        "empty": b"",
    }[change]
    bad = changed(signatures, key, value)
    bad = changed(bad, "exp:p4", b"") if key != "exp:p4" else bad
    pool: Any = ThreadPoolExecutor(1) if pooled else None
    with pytest.raises(InvalidSignature) as caught:
        contract.dlc.verify_signatures(bad, pool)
    assert caught.value.key == key
    if value is not None:
        with pytest.raises(InvalidSignature):
            contract.dlc.verify_signature(key, value)


def test_signatures_too_many_are_refused(contract: Competition, signatures: ContractSignatures) -> None:
    for stranger in ("att61", "att0:p3"):
        with pytest.raises(InvalidSignature) as caught:
            contract.dlc.verify_signatures(changed(signatures, stranger, bytes(64)))
        assert caught.value.key == stranger
    misplaced = ContractSignatures(
        {**signatures.outcome, "att0:p0": signatures.split["att0:p0"]}, signatures.split
    )
    with pytest.raises(InvalidSignature):
        contract.dlc.verify_signatures(misplaced)


def test_a_signature_for_another_funding_outpoint_is_refused(signatures: ContractSignatures) -> None:
    other = TicketedDLC(competition(5, 3).parameters, ("ab" * 32, 2))
    with pytest.raises(InvalidSignature) as caught:
        other.verify_signatures(signatures)
    assert caught.value.key == "att0"


def test_a_plain_signature_is_no_adaptor_signature(contract: Competition) -> None:
    """A complete signature in place of an adaptor one would let anybody publish the outcome."""
    signed = sign_with_aggregate_keys(contract)
    complete = adaptor.adapt(signed.outcome["att0"], contract.attestation("att0"))
    for forged in (complete, b"\x02" + complete, b"\x03" + complete):
        with pytest.raises(InvalidSignature):
            contract.dlc.verify_signature("att0", forged)
