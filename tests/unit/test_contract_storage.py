"""Contracts at rest."""

import pytest

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, CorruptContract, InvalidSignature
from coordinator.contract.secp import sha256
from coordinator.contract.storage import dump, load
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


def test_a_competition_costs_its_signatures_and_locking_points() -> None:
    """Signatures (65 + 3*64), locking point (33), and parameters that do not grow with outcomes."""
    small = competition(8, 3)
    given = ContractSignatures()
    for job in small.dlc.signing_jobs():
        (given.split if ":" in job.key else given.outcome)[job.key] = bytes(
            64 if job.adaptor_point is None else 65
        )
    size = len(dump(small.dlc, given))
    outcomes = small.dlc.outcome_count
    assert size / outcomes < 65 + 3 * 64 + 33 + 10


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
        load(resealed(data[:6] + b"\x03" + data[7:]))
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
