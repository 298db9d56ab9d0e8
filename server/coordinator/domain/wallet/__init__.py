"""The coordinator's on-chain wallet: BIP86 keys, coin selection, payments. Pure: no input or output."""

from coordinator.contract.network import Network
from coordinator.contract.utxo import Coin, OutPoint, Output
from coordinator.domain.wallet.address import address_from_script, script_from_address
from coordinator.domain.wallet.coins import Branch, WalletCoin
from coordinator.domain.wallet.errors import InsufficientFunds, WalletError
from coordinator.domain.wallet.keys import Descriptor, WalletKeys
from coordinator.domain.wallet.payment import (
    PlannedTransaction,
    build_payment,
    build_sweep,
    child_fee_sats,
    sweep_weight,
    sweep_with_fee,
)
from coordinator.domain.wallet.selection import Need, Selection, select_coins, spendable_coins

__all__ = [
    "Branch",
    "Coin",
    "Descriptor",
    "InsufficientFunds",
    "Need",
    "Network",
    "OutPoint",
    "Output",
    "PlannedTransaction",
    "Selection",
    "WalletCoin",
    "WalletError",
    "WalletKeys",
    "address_from_script",
    "build_payment",
    "build_sweep",
    "child_fee_sats",
    "script_from_address",
    "select_coins",
    "spendable_coins",
    "sweep_weight",
    "sweep_with_fee",
]
