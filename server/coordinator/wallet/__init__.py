"""The coordinator's on-chain wallet: addresses and locks in the store, coins from the chain, keys from the
seed.
"""

from coordinator.wallet.wallet import Balance, Wallet, to_coin, to_wallet_coin

__all__ = ["Balance", "Wallet", "to_coin", "to_wallet_coin"]
