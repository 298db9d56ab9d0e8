"""One outcome's signatures out of a stored contract: right ones only, and of this contract only."""

from hashlib import sha256

import pytest

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import CorruptContract, InvalidSignature, UnknownOutcome
from coordinator.contract.secp import public_key
from coordinator.contract.storage import OracleCommitment, dump, load_outcome
from support.contract import Competition, competition, sign_with_aggregate_keys


@pytest.fixture(scope="module", params=[1_800_000_000, None], ids=["expires", "never expires"])
def contract(request: pytest.FixtureRequest) -> Competition:
    return competition(4, 2, expiry=request.param)


@pytest.fixture(scope="module")
def signatures(contract: Competition) -> ContractSignatures:
    return sign_with_aggregate_keys(contract)


@pytest.fixture(scope="module")
def packed(contract: Competition, signatures: ContractSignatures) -> bytes:
    oracle = OracleCommitment(public_key(contract.oracle_secret), public_key(contract.oracle_nonce))
    return dump(contract.dlc, signatures, oracle)


def sealed(data: bytes) -> bytes:
    """The same with a checksum that fits."""
    return data[:-32] + sha256(data[:-32]).digest()


def test_every_outcome_has_its_own(
    contract: Competition, signatures: ContractSignatures, packed: bytes
) -> None:
    for outcome in contract.dlc.outcomes():
        found = load_outcome(packed, contract.dlc, outcome)
        assert found.outcome == {outcome: signatures.outcome[outcome]}
        winners = contract.dlc.winners(outcome)
        assert found.split == {f"{outcome}:p{i}": signatures.split[f"{outcome}:p{i}"] for i in winners}


def test_payouts_stored_row_by_row_make_no_difference(
    contract: Competition, signatures: ContractSignatures
) -> None:
    without_oracle = dump(contract.dlc, signatures)
    assert load_outcome(without_oracle, contract.dlc, "att3").outcome == {"att3": signatures.outcome["att3"]}


def test_a_wrong_signature_is_refused_where_it_is_used_and_only_there(
    contract: Competition, signatures: ContractSignatures
) -> None:
    winner = contract.dlc.winners("att2")[1]
    for key in ("att2", f"att2:p{winner}"):
        wrong = ContractSignatures(dict(signatures.outcome), dict(signatures.split))
        part = wrong.split if ":" in key else wrong.outcome
        part[key] = part[key][:-1] + bytes([part[key][-1] ^ 1])
        data = dump(contract.dlc, wrong)
        with pytest.raises(InvalidSignature) as refused:
            load_outcome(data, contract.dlc, "att2")
        assert refused.value.key == key
        assert load_outcome(data, contract.dlc, "att3").outcome == {"att3": signatures.outcome["att3"]}


@pytest.mark.parametrize("damage", [b"", b"CDLC", b"none of ours" * 10])
def test_what_is_no_stored_contract_is_refused(contract: Competition, damage: bytes) -> None:
    with pytest.raises(CorruptContract):
        load_outcome(damage, contract.dlc, "att0")


def test_damage_anywhere_is_refused(contract: Competition, packed: bytes) -> None:
    for at in (0, 5, 20, len(packed) // 2, len(packed) - 1):
        with pytest.raises(CorruptContract):
            load_outcome(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :], contract.dlc, "att0")
    with pytest.raises(CorruptContract):
        load_outcome(packed[:-1], contract.dlc, "att0")


def test_another_contract_or_one_without_signatures_is_refused(contract: Competition, packed: bytes) -> None:
    elsewhere = TicketedDLC(contract.parameters, ("cd" * 32, 0))
    with pytest.raises(CorruptContract, match="another contract"):
        load_outcome(packed, elsewhere, "att0")
    with pytest.raises(CorruptContract, match="not all signatures"):
        load_outcome(dump(contract.dlc, None), contract.dlc, "att0")
    with pytest.raises(CorruptContract, match="not all signatures"):
        load_outcome(sealed(packed[:100] + bytes(32)), contract.dlc, "att0")
    other = competition(4, 2, seed="other players", expiry=contract.parameters.event.expiry)
    with pytest.raises(InvalidSignature):
        load_outcome(packed, other.dlc, "att0")


def test_an_outcome_that_the_contract_does_not_have_is_refused(contract: Competition, packed: bytes) -> None:
    with pytest.raises(UnknownOutcome):
        load_outcome(packed, contract.dlc, "att99")
