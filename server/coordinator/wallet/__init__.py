"""The coordinator's on-chain wallet: addresses and locks in the store, coins from the chain, keys from the
seed.
"""

from coordinator.wallet.sending import BURIED_BLOCKS, Conflicted, ensure_sent
from coordinator.wallet.wallet import Balance, Wallet, to_coin, to_wallet_coin

__all__ = [
    "BURIED_BLOCKS",
    "Balance",
    "Conflicted",
    "Wallet",
    "ensure_sent",
    "to_coin",
    "to_wallet_coin",
]
