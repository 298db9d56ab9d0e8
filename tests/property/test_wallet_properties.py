"""What holds for every payment, whatever coins, outputs and fee rate."""

import random
from collections.abc import Callable
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.contract.sizes import fee_sats, output_weight
from coordinator.contract.utxo import OutPoint, Output
from coordinator.domain.wallet import (
    Branch,
    InsufficientFunds,
    Need,
    PlannedTransaction,
    WalletCoin,
    build_payment,
    build_sweep,
    select_coins,
)
from support.onchain import first_invalid_input, parse_transaction, wallet, weight_of

T = TypeVar("T")

WALLET = wallet()
SCRIPTS = [WALLET.descriptor.script_pubkey(Branch.RECEIVE, index) for index in range(8)]
CHANGE_SCRIPT = WALLET.descriptor.script_pubkey(Branch.CHANGE, 0)
DESTINATIONS = (
    b"\x51\x20" + b"\x05" * 32,
    b"\x00\x14" + b"\x06" * 20,
    b"\x76\xa9\x14" + b"\x07" * 20 + b"\x88\xac",
    b"\xa9\x14" + b"\x08" * 20 + b"\x87",
)

values = st.integers(min_value=1, max_value=200_000) | st.integers(min_value=1, max_value=10**10)


@st.composite
def wallets(draw: st.DrawFn) -> list[WalletCoin]:
    drawn = draw(
        st.lists(st.tuples(values, st.booleans(), st.sampled_from([True, True, True, False])), max_size=14)
    )
    return [
        WalletCoin(
            OutPoint(f"{position:064x}", position % 3),
            value_sats,
            SCRIPTS[position % len(SCRIPTS)],
            Branch.RECEIVE,
            position % len(SCRIPTS),
            confirmed=confirmed,
            locked=locked,
        )
        for position, (value_sats, locked, confirmed) in enumerate(drawn)
    ]


outputs_of_payments = st.lists(
    st.builds(Output, st.sampled_from(DESTINATIONS), st.integers(min_value=546, max_value=300_000)),
    min_size=1,
    max_size=4,
)
fee_rates = st.one_of(
    st.integers(min_value=1, max_value=300), st.floats(min_value=0.1, max_value=50, allow_nan=False)
)


def refusal(call: Callable[[], T]) -> T | InsufficientFunds:
    """What a call returns, or its refusal for want of funds."""
    try:
        return call()
    except InsufficientFunds as error:
        return error


@settings(max_examples=300, deadline=None)
@given(wallets(), outputs_of_payments, fee_rates, st.booleans(), st.none() | st.integers(0, 9))
def test_payments(
    coins: list[WalletCoin],
    outputs: list[Output],
    fee_rate: float,
    include_unconfirmed: bool,
    seed: int | None,
) -> None:
    def build(given: list[WalletCoin]) -> PlannedTransaction:
        rng = None if seed is None else random.Random(seed)
        return build_payment(
            given, outputs, fee_rate, CHANGE_SCRIPT, include_unconfirmed=include_unconfirmed, rng=rng
        )

    usable = [c for c in coins if not c.locked and (c.confirmed or include_unconfirmed)]
    planned = refusal(lambda: build(coins))
    if isinstance(planned, InsufficientFunds):
        # Not even everything that is worth its fee would have done, without change.
        worth = [c.value_sats for c in usable if c.value_sats > fee_sats(230, fee_rate)]
        weight = 42 + sum(output_weight(o.script_pubkey) for o in outputs) + 230 * len(worth)
        assert planned.available_sats == sum(worth)
        assert planned.needed_sats == sum(o.value_sats for o in outputs) + fee_sats(weight, fee_rate)
        assert planned.needed_sats > planned.available_sats
        return

    # Conservation: nothing appears, nothing disappears.
    assert sum(c.value_sats for c in planned.inputs) == (
        sum(o.value_sats for o in planned.outputs) + planned.fee_sats
    )
    parsed = parse_transaction(planned.unsigned_transaction)
    assert sum(out.value for out in parsed.vout) == sum(o.value_sats for o in planned.outputs)
    # Everything asked for is paid, nobody else but change is.
    assert list(planned.outputs[: len(outputs)]) == outputs
    assert len(planned.outputs) - len(outputs) == (planned.change_index is not None)
    # Only coins that may be spent, each once.
    assert len({c.outpoint for c in planned.inputs}) == len(planned.inputs)
    assert set(planned.inputs) <= set(usable)
    # Never dust.
    assert not any(output.is_dust for output in planned.outputs)
    # At least the fee rate, by the weight measured on the signed transaction; with change exactly that.
    signed = WALLET.sign_taproot_inputs(planned.unsigned_transaction, planned.inputs, aux=None)
    assert weight_of(signed) == planned.weight
    assert first_invalid_input(signed, [c.output for c in planned.inputs]) is None
    asked = fee_sats(planned.weight, fee_rate)
    if planned.change_index is not None:
        assert planned.fee_sats == asked
    else:
        # Without change, no more than change would have cost and been worth (and rounding).
        least_change = max(330, fee_sats(230, fee_rate))
        assert asked <= planned.fee_sats <= asked + fee_sats(4 * 43, fee_rate) + least_change + 1
    # Deterministic, whatever the order of the coins.
    again = build(list(reversed(coins)))
    assert (again.txid, again.unsigned_transaction) == (planned.txid, planned.unsigned_transaction)


@settings(max_examples=100, deadline=None)
@given(wallets(), st.sampled_from(DESTINATIONS), fee_rates)
def test_sweeps(coins: list[WalletCoin], destination: bytes, fee_rate: float) -> None:
    planned = refusal(lambda: build_sweep(coins, destination, fee_rate))
    if isinstance(planned, InsufficientFunds):
        assert planned.needed_sats > planned.available_sats
        return
    assert not any(c.locked or not c.confirmed for c in planned.inputs)
    assert planned.fee_sats == fee_sats(planned.weight, fee_rate)
    assert sum(c.value_sats for c in planned.inputs) == planned.outputs[0].value_sats + planned.fee_sats
    assert not planned.outputs[0].is_dust
    # Leaving out any input would bring less.
    assert all(c.value_sats > fee_sats(230, fee_rate) for c in planned.inputs)


@settings(max_examples=200, deadline=None)
@given(
    wallets(),
    st.integers(min_value=-300_000, max_value=300_000),
    st.integers(min_value=1, max_value=260),
    fee_rates,
)
def test_top_ups(coins: list[WalletCoin], target_sats: int, inputs: int, fee_rate: float) -> None:
    need = Need(
        target_sats=target_sats,
        base_weight=42 + 466 * inputs + 172,
        inputs=inputs,
        outputs=1,
        change_script=CHANGE_SCRIPT,
        fee_rate_sat_vb=fee_rate,
    )
    selection = refusal(lambda: select_coins(coins, need))
    if isinstance(selection, InsufficientFunds):
        assert selection.needed_sats > selection.available_sats
        return
    brought = sum(c.value_sats for c in selection.coins)
    assert brought == target_sats + selection.fee_sats + selection.change_sats
    required = need.required_sats(len(selection.coins), change=selection.change_sats > 0)
    if selection.change_sats:
        assert brought - selection.change_sats == required
        assert selection.change_sats > need.least_change_sats
    else:
        assert 0 <= brought - required <= need.most_given_away_sats + 1
    assert not any(c.locked or not c.confirmed for c in selection.coins)
