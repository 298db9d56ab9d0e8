"""Contracts at rest."""

import pytest

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, CorruptContract, InvalidParameters, InvalidSignature
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.storage import OracleCommitment, dump, load
from support.contract import Competition, competition, sign
from support.dlctix import SETS, contract, signatures, vectors


def same(a: TicketedDLC, b: TicketedDLC) -> bool:
    return (a.parameters, a.funding_outpoint) == (b.parameters, b.funding_outpoint)


@pytest.fixture(scope="module")
def signed() -> tuple[Competition, ContractSignatures]:
    small = competition(3, 2)
    return small, sign(small)


@pytest.mark.parametrize("name", SETS)
def test_any_contract_comes_back(name: str) -> None:
    dlc, given = contract(name), signatures(vectors(name))
    data = dump(dlc, given)
    loaded, loaded_signatures = load(data)
    assert same(loaded, dlc)
    assert loaded_signatures == given
    assert dump(loaded, loaded_signatures) == data


@pytest.mark.parametrize("expiry", [None, 0, 1_800_000_000])
def test_an_unsigned_contract_comes_back(expiry: int | None) -> None:
    dlc = competition(5, 3, expiry=expiry).dlc
    loaded, none = load(dump(dlc, None))
    assert same(loaded, dlc)
    assert none is None


def commitment(contract: Competition) -> OracleCommitment:
    return OracleCommitment(public_key(contract.oracle_secret), public_key(contract.oracle_nonce))


def test_a_competition_costs_its_signatures() -> None:
    """And what does not grow with its outcomes."""
    small = competition(8, 3)
    given = ContractSignatures()
    signature_bytes = 0
    for job in small.dlc.signing_jobs():
        length = 64 if job.adaptor_point is None else 65
        (given.split if ":" in job.key else given.outcome)[job.key] = bytes(length)
        signature_bytes += length
    fixed_bytes = 8 * 97 + 140
    per_point = 33 * len(small.parameters.event.points)
    assert len(dump(small.dlc, given)) <= signature_bytes + per_point + fixed_bytes
    oracle = commitment(small)
    assert len(dump(small.dlc, given, oracle)) <= signature_bytes + 64 + fixed_bytes


def test_locking_points_come_back_from_the_oracles_commitment(
    signed: tuple[Competition, ContractSignatures],
) -> None:
    small, given = signed
    oracle = commitment(small)
    data = dump(small.dlc, given, oracle)
    loaded, loaded_signatures = load(data)
    assert same(loaded, small.dlc)
    assert loaded_signatures == given
    xonly = OracleCommitment(oracle.oracle_key[1:], oracle.nonce_point[1:])
    assert dump(loaded, loaded_signatures, xonly) == data
    with pytest.raises(InvalidParameters, match="oracle"):
        dump(small.dlc, given, OracleCommitment(oracle.nonce_point, oracle.oracle_key))
    for at in range(7, 500, 3):
        with pytest.raises(ContractError):
            load(resealed(data[:at] + bytes((data[at] ^ 0x21,)) + data[at + 1 :]))


def test_a_small_file_does_not_make_work_without_end() -> None:
    """Entries of a made-up field cost 97 bytes each, outcomes nothing."""
    small = competition(3, 2)
    data = dump(small.dlc, None, commitment(small))
    at = 7 + 36 + 33
    rows = data[at + 4 : at + 4 + 97]
    rest = data[at + 4 + 3 * 97 : -33]
    many = data[:at] + (200).to_bytes(4, "little") + rows * 200 + rest + b"\x04"
    with pytest.raises(CorruptContract, match="too many"):
        load(resealed(many + bytes(32)))


def test_only_a_ranking_competition_is_stored_by_its_commitment() -> None:
    with pytest.raises(InvalidParameters):
        dump(contract("n7_many_winners"), None, commitment(competition(7, 3)))


def test_every_damaged_byte_is_noticed(signed: tuple[Competition, ContractSignatures]) -> None:
    data = dump(signed[0].dlc, signed[1])
    for at in range(0, len(data), 7):
        damaged = data[:at] + bytes((data[at] ^ 0x40,)) + data[at + 1 :]
        with pytest.raises(CorruptContract):
            load(damaged)
    for end in (0, 3, 7, 40, len(data) - 1):
        with pytest.raises(CorruptContract):
            load(data[:end])
    with pytest.raises(CorruptContract):
        load(data + b"\x00")


def resealed(data: bytes) -> bytes:
    """With the checksum made right again, as whoever wrote something else would."""
    return data[:-32] + sha256(data[:-32])


def test_what_is_well_sealed_is_verified_still(signed: tuple[Competition, ContractSignatures]) -> None:
    data = dump(signed[0].dlc, signed[1])
    last = len(data) - 33
    with pytest.raises(InvalidSignature, match="exp:p2"):
        load(resealed(data[:last] + bytes((data[last] ^ 1,)) + data[last + 1 :]))
    with pytest.raises(CorruptContract, match="version"):
        load(resealed(data[:4] + b"\x02\x00" + data[6:]))
    with pytest.raises(CorruptContract, match="flags"):
        load(resealed(data[:6] + b"\x05" + data[7:]))
    with pytest.raises(CorruptContract, match="too many"):
        load(resealed(data[:6] + b"\x00" + data[7:]))
    with pytest.raises(CorruptContract, match="truncated"):
        load(resealed(data[:-33] + bytes(32)))
    for at in range(7, 400, 5):
        with pytest.raises(ContractError):
            load(resealed(data[:at] + bytes((data[at] ^ 0x21,)) + data[at + 1 :]))


def test_incomplete_signatures_are_not_stored(signed: tuple[Competition, ContractSignatures]) -> None:
    small, given = signed
    partial = ContractSignatures(given.outcome, {k: v for k, v in given.split.items() if k != "att1:p0"})
    with pytest.raises(CorruptContract, match="att1:p0"):
        dump(small.dlc, partial)
