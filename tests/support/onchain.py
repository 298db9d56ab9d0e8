"""Judging spends by Bitcoin Core's own rules, and a wallet with something in it."""

import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from embit.transaction import Transaction as EmbitTransaction

from coordinator.contract.escrow import Escrow
from coordinator.contract.network import Network
from coordinator.contract.secp import public_key
from coordinator.contract.utxo import OutPoint, Output
from coordinator.domain.wallet import Branch, WalletCoin, WalletKeys
from coordinator_devnet.chain.blocks import COINBASE_MATURITY_BLOCKS, build_block, parse_transactions
from coordinator_devnet.chain.engine import BlockRejected, ConsensusEngine, failing_input
from coordinator_devnet.chain.transactions import Transaction

SEED = bytes(range(64))
ANYONE_CAN_SPEND = b"\x51"


def first_invalid_input(transaction: bytes, prevouts: Sequence[Output]) -> int | None:
    """The first input whose scripts fail under all consensus rules; None when the spend is valid."""
    return failing_input(transaction, [(output.value_sats, output.script_pubkey) for output in prevouts])


def parse_transaction(raw: bytes) -> EmbitTransaction:
    """A transaction that tests can spoil; by embit, which is not what the library builds with."""
    return EmbitTransaction.parse(raw)


def weight_of(transaction: bytes) -> int:
    """Weight of a signed transaction, measured."""
    return Transaction.parse(transaction).weight


class Regtest:
    """A chain whose blocks hold what a test puts into them."""

    def __init__(self, folder: Path) -> None:
        self.engine = ConsensusEngine(folder)
        self._time_at = int(time.time()) - 100_000

    def mine(self, *transactions: bytes, script: bytes = ANYONE_CAN_SPEND) -> Transaction:
        """One block; returns its coinbase. Fees are burned.

        Raises:
            BlockRejected: A transaction breaks a rule.
        """
        height = self.engine.height
        previous = self.engine.hash_at(height)
        assert previous is not None
        self._time_at += 60
        block = build_block(
            previous_hash=previous,
            height=height + 1,
            time_at=self._time_at,
            transactions=[Transaction.parse(raw) for raw in transactions],
            fees_sats=0,
            coinbase_script=script,
        )
        self.engine.submit(block)
        return parse_transactions(block)[0]

    def mine_many(self, blocks: int) -> None:
        for _ in range(blocks):
            self.mine()

    def accepts(self, *transactions: bytes) -> bool:
        """Whether a block with these transactions is valid now; mines it if so."""
        try:
            self.mine(*transactions)
        except BlockRejected:
            return False
        return True

    def fund(self, keys: WalletKeys, index: int = 0) -> WalletCoin:
        """A mature coinbase of the wallet."""
        script = keys.descriptor.script_pubkey(Branch.RECEIVE, index)
        coinbase = self.mine(script=script)
        self.mine_many(COINBASE_MATURITY_BLOCKS)
        value_sats = coinbase.outputs[0].value_sats
        return WalletCoin(OutPoint(coinbase.txid, 0), value_sats, script, Branch.RECEIVE, index)


def wallet() -> WalletKeys:
    return WalletKeys.from_seed(SEED, Network.REGTEST)


def coin(keys: WalletKeys, index: int, value_sats: int, *, branch: Branch = Branch.RECEIVE) -> WalletCoin:
    """A made-up coin of the wallet."""
    txid = sha256(f"coin {branch} {index}".encode()).hexdigest()
    return WalletCoin(
        OutPoint(txid, index % 3), value_sats, keys.descriptor.script_pubkey(branch, index), branch, index
    )


def secret(name: str) -> bytes:
    """A secret key that is always the same for a name."""
    return sha256(f"key of {name}".encode()).digest()


def preimage(name: str) -> bytes:
    """A ticket preimage that is always the same for a name."""
    return sha256(f"preimage of {name}".encode()).digest()


def escrow(name: str) -> Escrow:
    """The escrow of a player, between `secret("coordinator " + name)` and `secret(name)`."""
    return Escrow(
        public_key(secret(f"coordinator {name}")), public_key(secret(name)), sha256(preimage(name)).digest()
    )
