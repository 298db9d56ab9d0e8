# mypy: disable-error-code="no-untyped-call"
"""Transactions of the wallet, planned down to the txid before anything is signed."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embit.ec import PublicKey

from coordinator.contract.errors import InvalidParameters
from coordinator.contract.psbt import psbt_of
from coordinator.contract.sizes import (
    OVERHEAD_WEIGHT,
    P2TR_KEY_INPUT_WEIGHT,
    count_weight,
    dust_limit_sats,
    fee_rate_sat_kvb,
    fee_sats,
    is_p2tr,
    output_weight,
    virtual_size,
)
from coordinator.contract.tx import Input, Transaction
from coordinator.contract.utxo import (
    SEQUENCE_FINAL_NO_RBF,
    SEQUENCE_RBF,
    OutPoint,
    Output,
)
from coordinator.domain.wallet.coins import Branch, WalletCoin
from coordinator.domain.wallet.errors import InsufficientFunds, WalletError
from coordinator.domain.wallet.keys import Descriptor
from coordinator.domain.wallet.selection import Need, select_coins, spendable_coins


@dataclass(frozen=True, slots=True)
class PlannedTransaction:
    """An unsigned transaction of the wallet. Its txid is final: it only spends taproot coins.

    Outputs are in the order asked for, change comes last. Input values equal output values and fee.
    """

    inputs: tuple[WalletCoin, ...]
    outputs: tuple[Output, ...]
    fee_sats: int
    change_index: int | None
    weight: int
    """As it will be when signed."""
    unsigned_transaction: bytes
    txid: str

    @property
    def change_outpoint(self) -> OutPoint | None:
        """The change output, if there is one: it can pay for the transaction (`child_fee_sats`)."""
        return None if self.change_index is None else OutPoint(self.txid, self.change_index)

    def psbt(self, descriptor: Descriptor) -> str:
        """PSBT version 0 in base64 (BIP174, BIP371), for a signer elsewhere that has the seed.

        Raises:
            WalletError: An input is not of the descriptor's account.
        """
        psbt = psbt_of(Transaction.parse(self.unsigned_transaction), [coin.output for coin in self.inputs])
        for scope, coin in zip(psbt.inputs, self.inputs, strict=True):
            branch = Branch(coin.branch)
            if descriptor.script_pubkey(branch, coin.index) != coin.script_pubkey:
                raise WalletError("coins", f"{coin.outpoint} is not of this account")
            internal_key = PublicKey.from_xonly(descriptor.internal_key(branch, coin.index))
            scope.taproot_internal_key = internal_key
            scope.taproot_bip32_derivations[internal_key] = ([], descriptor.derivation(branch, coin.index))
        return str(psbt.to_base64())


def build_payment(
    coins: Iterable[WalletCoin],
    outputs: Sequence[Output],
    fee_rate_sat_vb: float,
    change_script: bytes,
    *,
    include_unconfirmed: bool = False,
    replaceable: bool = True,
    rng: random.Random | None = None,
) -> PlannedTransaction:
    """Plan a payment with coins chosen by `select_coins`.

    Args:
        coins: The wallet's coins; locked ones are left alone.
        outputs: What to pay, in this order.
        fee_rate_sat_vb: The fee is what this rate asks for, rounded up; where there is no change, at most
            `Need.most_given_away_sats` more.
        change_script: P2TR script of a change address of the wallet.
        include_unconfirmed: Whether coins that are not in a block yet may be spent.
        replaceable: Whether to signal replacement (BIP125). Not for a transaction whose txid others sign for.
        rng: See `select_coins`; None makes the transaction a function of the other arguments alone.

    Raises:
        WalletError: No outputs, dust, a script or a fee rate that cannot be, or a coin twice.
        InsufficientFunds: The coins do not suffice.
    """
    _check_fee_rate(fee_rate_sat_vb)
    _check_p2tr(change_script, "change_script")
    if not outputs:
        raise WalletError("outputs", "there must be at least one")
    for index, output in enumerate(outputs):
        _check_output(output, f"outputs[{index}]")
    base_weight = OVERHEAD_WEIGHT + sum(output_weight(output.script_pubkey) for output in outputs)
    need = Need(
        target_sats=sum(output.value_sats for output in outputs),
        base_weight=base_weight,
        inputs=0,
        outputs=len(outputs),
        change_script=change_script,
        fee_rate_sat_vb=fee_rate_sat_vb,
    )
    selection = select_coins(coins, need, include_unconfirmed=include_unconfirmed, rng=rng)
    change = [Output(change_script, selection.change_sats)] if selection.change_sats else []
    return _plan(
        selection.coins, [*outputs, *change], replaceable, change_index=len(outputs) if change else None
    )


def build_sweep(
    coins: Iterable[WalletCoin],
    destination_script: bytes,
    fee_rate_sat_vb: float,
    *,
    include_unconfirmed: bool = False,
) -> PlannedTransaction:
    """Plan to send everything that may be spent, and is worth its fee, to one script.

    Raises:
        WalletError: A fee rate that cannot be, or a coin twice.
        InsufficientFunds: Nothing above dust would arrive.
    """
    _check_fee_rate(fee_rate_sat_vb)
    chosen = spendable_coins(coins, fee_rate_sat_vb, include_unconfirmed=include_unconfirmed)
    return sweep_with_fee(
        chosen, destination_script, fee_sats(sweep_weight(chosen, destination_script), fee_rate_sat_vb)
    )


def child_fee_sats(
    parent_weight: int, parent_fee_sats: int, child_weight: int, fee_rate_sat_vb: float
) -> int:
    """Fee with which a child lifts its unconfirmed parent to a fee rate (child pays for parent).

    Miners rank both together: the child brings the pair's fee up to the rate, and pays at least the rate for
    itself. For several unconfirmed ancestors pass the sums of their weights and fees.

    Raises:
        WalletError: A fee rate that cannot be.
    """
    _check_fee_rate(fee_rate_sat_vb)
    pair_weight = 4 * (virtual_size(parent_weight) + virtual_size(child_weight))
    return max(
        fee_sats(pair_weight, fee_rate_sat_vb) - parent_fee_sats, fee_sats(child_weight, fee_rate_sat_vb)
    )


def sweep_weight(coins: Sequence[WalletCoin], destination_script: bytes) -> int:
    """Weight of a signed transaction that sends these coins to one script."""
    return (
        OVERHEAD_WEIGHT
        + len(coins) * P2TR_KEY_INPUT_WEIGHT
        + count_weight(len(coins), 1)
        + output_weight(destination_script)
    )


def sweep_with_fee(coins: Sequence[WalletCoin], destination_script: bytes, fee: int) -> PlannedTransaction:
    """Plan to send these coins to one script for a fee in sats; replaceable (BIP125).

    Raises:
        InsufficientFunds: Nothing above dust would arrive.
    """
    total = sum(coin.value_sats for coin in coins)
    dust_limit = dust_limit_sats(destination_script)
    if total < fee + dust_limit:
        raise InsufficientFunds(fee + dust_limit, total)
    ordered = tuple(sorted(coins, key=lambda coin: coin.outpoint))
    return _plan(ordered, [Output(destination_script, total - fee)], replaceable=True, change_index=None)


def _plan(
    inputs: tuple[WalletCoin, ...], outputs: Sequence[Output], replaceable: bool, *, change_index: int | None
) -> PlannedTransaction:
    for coin in inputs:
        _check_p2tr(coin.script_pubkey, "coins")
    sequence = SEQUENCE_RBF if replaceable else SEQUENCE_FINAL_NO_RBF
    transaction = Transaction(tuple(Input(coin.outpoint, sequence) for coin in inputs), tuple(outputs))
    return PlannedTransaction(
        inputs=inputs,
        outputs=transaction.outputs,
        fee_sats=sum(coin.value_sats for coin in inputs) - sum(output.value_sats for output in outputs),
        change_index=change_index,
        weight=(
            OVERHEAD_WEIGHT
            + len(inputs) * P2TR_KEY_INPUT_WEIGHT
            + count_weight(len(inputs), len(outputs))
            + sum(output_weight(output.script_pubkey) for output in outputs)
        ),
        unsigned_transaction=transaction.serialize(),
        txid=transaction.txid,
    )


def _check_fee_rate(fee_rate_sat_vb: float) -> None:
    try:
        fee_rate_sat_kvb(fee_rate_sat_vb)
    except InvalidParameters as error:
        raise WalletError("fee_rate_sat_vb", str(error).removeprefix("fee_rate_sat_vb: ")) from None


def _check_p2tr(script_pubkey: bytes, field: str) -> None:
    if not is_p2tr(script_pubkey):
        raise WalletError(field, "must be a P2TR script")


def _check_output(output: Output, field: str) -> None:
    if output.is_dust:
        least = dust_limit_sats(output.script_pubkey)
        raise WalletError(f"{field}.value_sats", f"{output.value_sats} sats is dust; the least is {least}")
