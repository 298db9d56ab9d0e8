"""Payments: amounts, fees, change, PSBT, and raising a fee by a child."""

import random
from dataclasses import replace

import pytest
from embit.bip32 import HDKey
from embit.finalizer import finalize_psbt
from embit.psbt import PSBT

from coordinator.contract.network import Network
from coordinator.contract.sizes import (
    OVERHEAD_WEIGHT,
    P2TR_KEY_INPUT_WEIGHT,
    fee_sats,
    output_weight,
    virtual_size,
)
from coordinator.contract.utxo import OutPoint, Output
from coordinator.domain.errors import InvalidInput, PreconditionFailed
from coordinator.domain.wallet import (
    Branch,
    InsufficientFunds,
    Need,
    PlannedTransaction,
    WalletError,
    WalletKeys,
    build_payment,
    build_sweep,
    child_fee_sats,
    select_coins,
    sweep_weight,
    sweep_with_fee,
)
from coordinator.domain.wallet.estimates import estimate_for
from support.onchain import SEED, coin, first_invalid_input, parse_transaction, wallet, weight_of

WALLET = wallet()
CHANGE_SCRIPT = WALLET.descriptor.script_pubkey(Branch.CHANGE, 0)
DESTINATION = b"\x51\x20" + b"\x05" * 32
COINS = [
    coin(WALLET, index, value) for index, value in enumerate((5_000, 12_000, 40_000, 90_000, 300, 7_777))
]


def pay(value_sats: int, fee_rate: float = 2, coins: list = COINS, **options: object) -> PlannedTransaction:  # type: ignore[type-arg]
    return build_payment(coins, [Output(DESTINATION, value_sats)], fee_rate, CHANGE_SCRIPT, **options)  # type: ignore[arg-type]


def signed(planned: PlannedTransaction) -> bytes:
    return WALLET.sign_taproot_inputs(planned.unsigned_transaction, planned.inputs)


@pytest.mark.parametrize("value_sats", [330, 4_000, 30_000, 100_000, 145_000])
@pytest.mark.parametrize("fee_rate", [0.2, 1, 2.5, 17])
def test_payments_are_valid_and_as_heavy_as_predicted(value_sats: int, fee_rate: float) -> None:
    planned = pay(value_sats, fee_rate)
    transaction = signed(planned)
    assert first_invalid_input(transaction, [c.output for c in planned.inputs]) is None
    assert weight_of(transaction) == planned.weight
    assert parse_transaction(transaction).txid().hex() == planned.txid
    assert planned.fee_sats >= fee_sats(planned.weight, fee_rate)
    if planned.change_index is not None:
        assert planned.fee_sats == fee_sats(planned.weight, fee_rate)


def test_outputs_keep_their_order_and_change_comes_last() -> None:
    outputs = [
        Output(DESTINATION, 9_000),
        Output(b"\x00\x14" + b"\x01" * 20, 1_000),
        Output(DESTINATION, 5_000),
    ]
    planned = build_payment(COINS, outputs, 1, CHANGE_SCRIPT)
    assert planned.outputs[:3] == tuple(outputs)
    assert planned.change_index == 3
    assert planned.outputs[3].script_pubkey == CHANGE_SCRIPT
    assert planned.change_outpoint == OutPoint(planned.txid, 3)


def test_an_exact_match_needs_no_change() -> None:
    pair = 12_000 + 7_777
    value = pair - fee_sats(OVERHEAD_WEIGHT + 2 * P2TR_KEY_INPUT_WEIGHT + output_weight(DESTINATION), 2)
    planned = pay(value)
    assert {c.value_sats for c in planned.inputs} == {12_000, 7_777}
    assert planned.change_index is None
    assert planned.fee_sats == fee_sats(planned.weight, 2)


def test_selection_finds_small_change_without_one() -> None:
    planned = pay(70_000)
    assert planned.change_index is not None
    assert [c.value_sats for c in planned.inputs] == [90_000]


def test_coins_worth_less_than_their_fee_stay() -> None:
    sweep = build_sweep(COINS, DESTINATION, 10)
    assert min(c.value_sats for c in sweep.inputs) == 5_000


def test_locked_and_unconfirmed_coins_stay() -> None:
    coins = [replace(c, locked=c.value_sats == 90_000, confirmed=c.value_sats != 40_000) for c in COINS]
    with pytest.raises(InsufficientFunds) as error:
        pay(50_000, coins=coins)
    assert error.value.available_sats == 5_000 + 12_000 + 7_777 + 300
    assert error.value.needed_sats > 50_000
    planned = pay(50_000, coins=coins, include_unconfirmed=True)
    assert 90_000 not in {c.value_sats for c in planned.inputs}
    assert {c.value_sats for c in build_sweep(coins, DESTINATION, 1).inputs} == {5_000, 12_000, 7_777, 300}


def test_insufficient_funds_say_how_much_is_missing() -> None:
    for short in (1, 10_000_000):
        most = build_sweep(COINS, DESTINATION, 2)
        with pytest.raises(InsufficientFunds) as error:
            pay(most.outputs[0].value_sats + short)
        assert error.value.needed_sats - error.value.available_sats == short
        assert isinstance(error.value, PreconditionFailed)
    assert pay(most.outputs[0].value_sats).unsigned_transaction.hex()


def test_no_coins() -> None:
    with pytest.raises(InsufficientFunds) as error:
        pay(1_000, coins=[])
    assert error.value.available_sats == 0
    with pytest.raises(InsufficientFunds):
        build_sweep([], DESTINATION, 1)


@pytest.mark.parametrize("value_sats", [0, 329])
def test_dust_is_refused(value_sats: int) -> None:
    with pytest.raises(WalletError) as error:
        build_payment(COINS, [Output(DESTINATION, 1_000), Output(DESTINATION, value_sats)], 1, CHANGE_SCRIPT)
    assert error.value.field == "outputs[1].value_sats"
    assert isinstance(error.value, InvalidInput)


@pytest.mark.parametrize("fee_rate", [0, -1, float("nan"), float("inf"), 10_001])
def test_impossible_fee_rates_are_refused(fee_rate: float) -> None:
    for call in (
        lambda: pay(1_000, fee_rate),
        lambda: build_sweep(COINS, DESTINATION, fee_rate),
        lambda: child_fee_sats(400, 100, 400, fee_rate),
    ):
        with pytest.raises(WalletError) as error:
            call()
        assert error.value.field == "fee_rate_sat_vb"


def test_other_refusals() -> None:
    with pytest.raises(WalletError):
        build_payment(COINS, [], 1, CHANGE_SCRIPT)
    with pytest.raises(WalletError):
        build_payment(COINS, [Output(DESTINATION, 1_000)], 1, b"\x00\x14" + bytes(20))
    with pytest.raises(WalletError):
        pay(1_000, coins=[*COINS, COINS[0]])
    with pytest.raises(WalletError):
        pay(1_000, coins=[replace(COINS[3], script_pubkey=b"\x00\x14" + bytes(20))])


def test_replacement_is_signalled_only_where_wanted() -> None:
    for replaceable, sequence in ((True, 0xFFFFFFFD), (False, 0xFFFFFFFE)):
        transaction = parse_transaction(pay(1_000, replaceable=replaceable).unsigned_transaction)
        assert {vin.sequence for vin in transaction.vin} == {sequence}


def test_the_same_arguments_make_the_same_transaction() -> None:
    shuffled = list(COINS)
    random.Random(3).shuffle(shuffled)
    assert pay(33_333) == pay(33_333, coins=shuffled)
    assert pay(33_333, rng=random.Random(5)) == pay(33_333, rng=random.Random(5))


def test_many_inputs_are_counted_and_paid() -> None:
    many = [coin(WALLET, index, 1_000) for index in range(300)]
    sweep = build_sweep(many, DESTINATION, 1.5)
    assert weight_of(signed(sweep)) == sweep.weight
    assert sweep.fee_sats == fee_sats(sweep.weight, 1.5)
    planned = pay(240_000, 1.5, many)
    assert weight_of(signed(planned)) == planned.weight
    assert len(planned.inputs) > 252


def test_selection_of_a_large_wallet_is_quick() -> None:
    rng = random.Random(11)
    many = [coin(WALLET, index, rng.randrange(1_000, 5_000_000)) for index in range(1_000)]
    planned = pay(77_777_777, 3, many)
    assert planned.fee_sats < fee_sats(planned.weight, 3) + 3 * 43 + 330


class TestPsbt:
    def test_a_signer_with_the_seed_completes_it(self) -> None:
        planned = pay(100_000)
        psbt = PSBT.from_base64(planned.psbt(WALLET.descriptor))
        assert psbt.fee() == planned.fee_sats
        root = HDKey.from_seed(SEED, version=Network.REGTEST.prefixes["xprv"])
        assert psbt.sign_with(root) == len(planned.inputs)
        transaction = finalize_psbt(psbt)
        assert transaction is not None
        assert first_invalid_input(transaction.serialize(), [c.output for c in planned.inputs]) is None
        assert transaction.txid().hex() == planned.txid

    def test_coins_of_another_account_are_refused(self) -> None:
        other = WalletKeys.from_seed(SEED, Network.REGTEST, account=1).descriptor
        with pytest.raises(WalletError):
            pay(1_000).psbt(other)


class TestChildPaysForParent:
    def test_both_together_reach_the_rate(self) -> None:
        parent = pay(70_000, 1, replaceable=False)
        assert parent.change_outpoint is not None
        change = replace(
            coin(WALLET, 0, parent.outputs[-1].value_sats, branch=Branch.CHANGE),
            outpoint=parent.change_outpoint,
            confirmed=False,
        )
        weight = sweep_weight([change], DESTINATION)
        fee = child_fee_sats(parent.weight, parent.fee_sats, weight, 20)
        child = sweep_with_fee([change], DESTINATION, fee)
        assert weight_of(signed(child)) == weight
        assert first_invalid_input(signed(child), [change.output]) is None
        vsize = virtual_size(weight_of(signed(parent))) + virtual_size(weight_of(signed(child)))
        assert parent.fee_sats + child.fee_sats == 20 * vsize

    def test_a_parent_that_pays_enough_is_not_counted_against_the_child(self) -> None:
        assert child_fee_sats(400, 100_000, 444, 5) == fee_sats(444, 5)

    def test_refusals(self) -> None:
        with pytest.raises(InsufficientFunds):
            sweep_with_fee([coin(WALLET, 0, 1_000)], DESTINATION, 671)
        assert sweep_with_fee([coin(WALLET, 0, 1_000)], DESTINATION, 670).outputs[0].value_sats == 330
        with pytest.raises(WalletError):
            child_fee_sats(400, 100, 444, 0)


@pytest.mark.parametrize(
    ("rates", "target_blocks", "expected"),
    [
        ({1: 9.0, 3: 6.0, 6: 4.0, 144: 1.5}, 3, 6.0),
        ({1: 9.0, 3: 6.0, 6: 4.0, 144: 1.5}, 5, 6.0),
        ({1: 9.0, 3: 6.0, 6: 4.0, 144: 1.5}, 1000, 1.5),
        # Nothing that quick is known: the quickest that is.
        ({144: 1.5, 10: 3.0}, 3, 3.0),
        ({3: 0.2}, 3, 1.0),
        ({}, 3, 2.0),
    ],
)
def test_estimates(rates: dict[int, float], target_blocks: int, expected: float) -> None:
    assert estimate_for(rates, target_blocks, 2.0) == expected


def test_inputs_that_suffice_already_take_no_coin() -> None:
    need = Need(
        target_sats=-50_000,
        base_weight=800,
        inputs=2,
        outputs=1,
        change_script=CHANGE_SCRIPT,
        fee_rate_sat_vb=2,
    )
    selection = select_coins(COINS, need)
    assert selection.coins == ()
    assert selection.change_sats == 50_000 - selection.fee_sats
    assert selection.fee_sats == fee_sats(800 + 4 * 43, 2)
