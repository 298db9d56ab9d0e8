"""The wallet's coins."""

from dataclasses import dataclass
from enum import IntEnum

from coordinator.contract.utxo import Coin


class Branch(IntEnum):
    """The two halves of a BIP86 account: addresses given out, and change."""

    RECEIVE = 0
    CHANGE = 1


@dataclass(frozen=True, slots=True)
class WalletCoin(Coin):
    """A BIP86 output of the wallet, and where its key is.

    Args:
        branch: Half of the account.
        index: Number of the address in it.
        confirmed: Whether it is in a block of the best chain.
        locked: Whether another transaction in the making already counts on it.
    """

    branch: Branch
    index: int
    confirmed: bool = True
    locked: bool = False
