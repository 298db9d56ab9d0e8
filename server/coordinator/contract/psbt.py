# mypy: disable-error-code="no-untyped-call"
"""Partially signed transactions, version 0 (BIP174), through embit."""

from collections.abc import Sequence

from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction as EmbitTransaction
from embit.transaction import TransactionOutput

from coordinator.contract.errors import InvalidTransaction
from coordinator.contract.tx import Transaction
from coordinator.contract.utxo import Output


def psbt_of(transaction: Transaction, prevouts: Sequence[Output]) -> PSBT:
    """PSBT of an unsigned transaction that spends segwit outputs, with these in it, one an input."""
    psbt = PSBT(EmbitTransaction.parse(transaction.serialize()))
    for scope, output in zip(psbt.inputs, prevouts, strict=True):
        scope.witness_utxo = TransactionOutput(output.value_sats, Script(output.script_pubkey))
    return psbt


def transaction_of_psbt(text: str) -> Transaction:
    """The unsigned transaction of a PSBT in base64.

    Raises:
        InvalidTransaction: not a PSBT.
    """
    try:
        raw = bytes(PSBT.from_string(text).tx.serialize())
    except Exception:  # embit raises whatever its parsers run into
        raise InvalidTransaction("not a PSBT", field="psbt") from None
    return Transaction.parse(raw)
