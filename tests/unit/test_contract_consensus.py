"""A contract's transactions before Bitcoin Core's script interpreter: what is valid, and what is not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.contract import adaptor, spends
from coordinator.contract.dlc import ContractSignatures
from coordinator.contract.errors import (
    ContractError,
    InvalidAttestation,
    InvalidPreimage,
    InvalidSignature,
    InvalidTransaction,
    SigningError,
    UnknownOutcome,
)
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import public_key
from coordinator.contract.tx import SighashCache, Transaction
from support.contract import DELTA, EXPIRY, Competition, competition, is_valid, secret, sign, sign_job

DESTINATION = p2tr_script(public_key(secret("destination"))[1:])
STRANGER = secret("stranger")


@pytest.fixture(scope="module", params=[(2, 1), (3, 2), (5, 3)], ids=lambda size: f"{size[0]}x{size[1]}")
def signed(request: Any) -> tuple[Competition, ContractSignatures]:
    contract = competition(*request.param)
    signatures = sign(contract) if request.param != (5, 3) else sign_some(contract)
    return contract, signatures


def sign_some(contract: Competition) -> ContractSignatures:
    """The biggest contract's first, last (refund) and expiry outcomes: enough to spend."""
    signatures = ContractSignatures()
    last = contract.dlc.outcome_count - 2
    for start in (0, 7, last, last + 1):
        for job in contract.dlc.signing_jobs(start, start + 1):
            into = signatures.split if ":" in job.key else signatures.outcome
            into[job.key] = sign_job(contract.group_secrets(job), job)
    return signatures


@pytest.fixture
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the builders make invalid transactions, to see the interpreter refuse them."""
    monkeypatch.setattr(spends, "_check_key", lambda *_: None)
    monkeypatch.setattr(spends, "_check_preimage", lambda *_: None)


def outcomes(signatures: ContractSignatures) -> list[str]:
    return list(signatures.outcome)


def edit(raw: bytes, change: Callable[[Transaction], Transaction]) -> bytes:
    changed = change(Transaction.parse(raw)).serialize()
    assert changed != raw
    return changed


def with_sequence(tx: Transaction, sequence: int) -> Transaction:
    return replace(tx, inputs=(replace(tx.inputs[0], sequence=sequence),))


def with_item(tx: Transaction, place: int, item: bytes) -> Transaction:
    witness = list(tx.inputs[0].witness)
    witness[place] = item
    return tx.with_witness(0, witness)


def test_outcome_transactions(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, signatures = signed
    dlc = contract.dlc
    attested = [key for key in outcomes(signatures) if key != "exp"]
    for key in attested:
        raw = spends.outcome_transaction(dlc, key, signatures.outcome[key], contract.attestation(key))
        assert is_valid(raw, dlc.funding_output())
        assert Transaction.parse(raw).txid == dlc.outcome_outpoint(key).txid
        more = replace(dlc.funding_output(), value_sats=dlc.parameters.funding_value + 1)
        assert not is_valid(raw, more)
        other = next(k for k in attested if k != key)
        wrong = contract.attestation(other)
        with pytest.raises(InvalidAttestation):
            spends.outcome_transaction(dlc, key, signatures.outcome[key], wrong)
        with pytest.raises(InvalidSignature):
            spends.outcome_transaction(dlc, other, signatures.outcome[key], wrong)
        # Another outcome's attestation completes nothing; nor does a signature fit another transaction.
        forged = dlc.outcome_tx(key).with_witness(0, [adaptor.adapt(signatures.outcome[key], wrong)])
        assert not is_valid(forged.serialize(), dlc.funding_output())
        assert not is_valid(edit(raw, lambda tx: with_sequence(tx, 0xFFFFFFFF)), dlc.funding_output())


def test_the_expiry_transaction_waits_for_the_expiry(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, signatures = signed
    dlc = contract.dlc
    raw = spends.expiry_transaction(dlc, signatures.outcome["exp"])
    assert is_valid(raw, dlc.funding_output())
    tx = Transaction.parse(raw)
    assert tx.lock_time == EXPIRY
    assert tx.inputs[0].sequence < 0xFFFFFFFF
    assert not is_valid(edit(raw, lambda tx: replace(tx, lock_time=EXPIRY - 1)), dlc.funding_output())
    assert not is_valid(edit(raw, lambda tx: with_sequence(tx, 0xFFFFFFFF)), dlc.funding_output())
    with pytest.raises(InvalidSignature):
        spends.expiry_transaction(dlc, bytes(64))
    with pytest.raises(InvalidAttestation):
        spends.outcome_transaction(dlc, "exp", signatures.outcome["att0"], contract.attestation("att0"))


def test_split_transactions(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, signatures = signed
    dlc = contract.dlc
    for key in outcomes(signatures):
        prevout = dlc.outcome_output(key)
        for player in dlc.winners(key):
            ticket = contract.ticket_preimages[player]
            signature = signatures.split[f"{key}:p{player}"]
            raw = spends.split_transaction(dlc, key, player, signature, ticket)
            assert is_valid(raw, prevout)
            tx = Transaction.parse(raw)
            assert tx.inputs[0].sequence == DELTA
            assert not is_valid(edit(raw, lambda tx: with_sequence(tx, DELTA - 1)), prevout)
            assert not is_valid(edit(raw, lambda tx: with_item(tx, 1, STRANGER)), prevout)
            with pytest.raises(InvalidPreimage):
                spends.split_transaction(dlc, key, player, signature, STRANGER)
            for other in dlc.winners(key):
                if other != player:
                    other_signature = signatures.split[f"{key}:p{other}"]
                    assert not is_valid(edit(raw, lambda tx, s=other_signature: with_item(tx, 0, s)), prevout)
                    with pytest.raises(InvalidSignature):
                        spends.split_transaction(dlc, key, player, other_signature, ticket)


def test_players_who_lost_cannot_split(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, _ = signed
    loser = next(i for i in range(contract.entries) if i not in contract.dlc.winners("att0"))
    with pytest.raises(UnknownOutcome):
        spends.split_transaction(contract.dlc, "att0", loser, bytes(64), contract.ticket_preimages[loser])


def spend_inputs(contract: Competition, key: str, player: int) -> dict[str, spends.SpendInput]:
    dlc, maker, own = contract.dlc, contract.market_maker_secret, contract.player_secrets[player]
    return {
        "win": spends.win_input(dlc, key, player, own, contract.ticket_preimages[player]),
        "sellback": spends.sellback_input(dlc, key, player, maker, contract.payout_preimages[player]),
        "split reclaim": spends.split_reclaim_input(dlc, key, player, maker),
        "split close": spends.split_close_input(dlc, key, player, [maker, own]),
        "outcome reclaim": spends.outcome_reclaim_input(dlc, key, maker),
        "outcome close": spends.outcome_close_input(dlc, key, contract.secret_keys),
        "funding close": spends.funding_close_input(dlc, contract.secret_keys),
    }


WAITS = {"win": DELTA, "split reclaim": 2 * DELTA, "outcome reclaim": 2 * DELTA}


def test_spends(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, signatures = signed
    for key in outcomes(signatures):
        for player in contract.dlc.winners(key):
            for name, item in spend_inputs(contract, key, player).items():
                raw = spends.spend([item], DESTINATION, 7)
                assert is_valid(raw, item.output), name
                tx = Transaction.parse(raw)
                fee = item.output.value_sats - tx.outputs[0].value_sats
                assert fee == 7 * tx.vsize
                assert tx.inputs[0].sequence == WAITS.get(name, 0xFFFFFFFD)
                if name in WAITS:
                    early = replace(item, sequence=WAITS[name] - 1)
                    assert not is_valid(spends.spend([early], DESTINATION, 7), item.output), name
                    seconds = replace(item, sequence=WAITS[name] | 1 << 22)
                    assert not is_valid(spends.spend([seconds], DESTINATION, 7), item.output), name
                    disabled = replace(item, sequence=WAITS[name] | 1 << 31)
                    assert not is_valid(spends.spend([disabled], DESTINATION, 7), item.output), name


def test_timelocks_need_version_two(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, _ = signed
    item = spends.outcome_reclaim_input(contract.dlc, "att0", contract.market_maker_secret)
    tx = replace(Transaction.parse(spends.spend([item], DESTINATION, 7)), version=1)
    tx = tx.with_witness(0, item._sign(SighashCache(tx, [item.output]), 0))
    assert not is_valid(tx.serialize(), item.output)


@pytest.mark.usefixtures("anything_goes")
def test_the_wrong_key_or_preimage_spends_nothing(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, _ = signed
    dlc, maker = contract.dlc, contract.market_maker_secret
    key, player = "att0", 0
    own, ticket, payout = (
        contract.player_secrets[player],
        contract.ticket_preimages[player],
        contract.payout_preimages[player],
    )
    wrong = {
        "win, market maker's key": spends.win_input(dlc, key, player, maker, ticket),
        "win, payout preimage": spends.win_input(dlc, key, player, own, payout),
        "sellback, player's key": spends.sellback_input(dlc, key, player, own, payout),
        "sellback, ticket preimage": spends.sellback_input(dlc, key, player, maker, ticket),
        "reclaim, player's key": spends.split_reclaim_input(dlc, key, player, own),
        "outcome reclaim, player's key": spends.outcome_reclaim_input(dlc, key, own),
    }
    for name, item in wrong.items():
        assert not is_valid(spends.spend([item], DESTINATION, 7), item.output), name


def test_builders_refuse_the_wrong_key_or_preimage(signed: tuple[Competition, ContractSignatures]) -> None:
    contract, _ = signed
    dlc, maker = contract.dlc, contract.market_maker_secret
    own, ticket, payout = (
        contract.player_secrets[0],
        contract.ticket_preimages[0],
        contract.payout_preimages[0],
    )
    refused: list[tuple[type[ContractError], Callable[[], Any]]] = [
        (SigningError, lambda: spends.win_input(dlc, "att0", 0, maker, ticket)),
        (InvalidPreimage, lambda: spends.win_input(dlc, "att0", 0, own, payout)),
        (SigningError, lambda: spends.sellback_input(dlc, "att0", 0, own, payout)),
        (InvalidPreimage, lambda: spends.sellback_input(dlc, "att0", 0, maker, ticket)),
        (SigningError, lambda: spends.split_reclaim_input(dlc, "att0", 0, own)),
        (SigningError, lambda: spends.outcome_reclaim_input(dlc, "att0", own)),
        (SigningError, lambda: spends.split_close_input(dlc, "att0", 0, [maker, STRANGER])),
        (SigningError, lambda: spends.outcome_close_input(dlc, "att0", [maker])),
        (SigningError, lambda: spends.funding_close_input(dlc, contract.secret_keys[:-1])),
        (UnknownOutcome, lambda: spends.outcome_reclaim_input(dlc, "att99999", maker)),
        (UnknownOutcome, lambda: spends.split_reclaim_input(dlc, "att0", contract.entries, maker)),
    ]
    for error, call in refused:
        with pytest.raises(error) as caught:
            call()
        for hidden in (maker, own, ticket, payout):
            assert hidden.hex() not in str(caught.value)


def test_many_outputs_in_one_transaction() -> None:
    """The market maker's batch: sold back, closed and reclaimed outputs, of two contracts."""
    one, two = competition(5, 3), competition(3, 2, seed="another")
    items = []
    for contract in (one, two):
        dlc, maker = contract.dlc, contract.market_maker_secret
        first, second = dlc.winners("att1")[:2]
        items.append(spends.split_reclaim_input(dlc, "att1", first, maker))
        items.append(spends.sellback_input(dlc, "att1", second, maker, contract.payout_preimages[second]))
    last = one.dlc.winners("att1")[2]
    items.append(
        spends.split_close_input(one.dlc, "att1", last, [one.market_maker_secret, one.player_secrets[last]])
    )
    items.append(spends.outcome_reclaim_input(two.dlc, "att2", two.market_maker_secret))
    raw = spends.spend(items, DESTINATION, 2.5)
    prevouts = [item.output for item in items]
    assert is_valid(raw, *prevouts)
    tx = Transaction.parse(raw)
    assert sum(out.value_sats for out in prevouts) - tx.outputs[0].value_sats == -(-5 * tx.vsize // 2)
    assert not is_valid(raw, *reversed(prevouts))


@pytest.mark.parametrize(
    ("destination", "fee_rate", "message"),
    [
        (b"", 1, "lost"),
        (b"\x6a\x04none", 1, "lost"),
        (DESTINATION, 10_000, "more than 25%"),
        (DESTINATION, 0, "fee_rate"),
        (DESTINATION, -1, "fee_rate"),
        (DESTINATION, float("nan"), "fee_rate"),
        (DESTINATION, float("inf"), "fee_rate"),
    ],
)
def test_spends_that_are_refused(destination: bytes, fee_rate: float, message: str) -> None:
    contract = competition(3, 2)
    item = spends.outcome_reclaim_input(contract.dlc, "att0", contract.market_maker_secret)
    with pytest.raises(ContractError, match=message):
        spends.spend([item], destination, fee_rate)


def test_dust_nothing_and_double_spends_are_refused() -> None:
    contract = competition(3, 2, funding_value=3000, fee_rate=250)
    item = spends.split_reclaim_input(contract.dlc, "att0", 1, contract.market_maker_secret)
    assert item.output.value_sats < 1400
    with pytest.raises(InvalidTransaction, match="dust"):
        spends.spend([replace(item, output=replace(item.output, value_sats=400))], DESTINATION, 0.6)
    with pytest.raises(InvalidTransaction, match="nothing"):
        spends.spend([], DESTINATION, 1)
    with pytest.raises(InvalidTransaction, match="twice"):
        spends.spend([item, item], DESTINATION, 1)


def test_secrets_stay_out_of_representations() -> None:
    contract = competition(3, 2)
    for item in spend_inputs(contract, "att0", 0).values():
        for hidden in (
            *contract.secret_keys,
            contract.ticket_preimages[0],
            contract.payout_preimages[0],
        ):
            assert hidden.hex() not in repr(item)
            assert repr(hidden) not in repr(item)
