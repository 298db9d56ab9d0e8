"""What the coordinator needs from the bitcoin chain: look, and broadcast.

Transaction ids and block hashes are lower-case hex in display order (byte-reversed), as block explorers write
them. Amounts are satoshis, times are unix seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class ChainError(Exception):
    """The chain could not answer, or answered something that cannot be right."""


class ChainUnavailable(ChainError):
    """Nothing is known about the effect of the call: try again later (calls of `Chain` may be repeated)."""


class TransactionRejected(ChainError):
    """The node looked at the transaction and refused it. Repeating the call without a change is pointless,
    unless `reason` names something that passes with time (`non-final`, `non-BIP68-final`) or with another
    transaction.
    """

    reason: str
    """The node's own words, as Bitcoin Core phrases them, for example `bad-txns-inputs-missingorspent`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ChainTip:
    """The newest block of the best chain."""

    height: int
    block_hash: str
    median_time_at: int
    """Median time of the last 11 blocks (BIP113): what time locks of the next block are compared with."""


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """Where a known transaction is: in a block of the best chain, or in the mempool (block fields None)."""

    confirmed: bool
    block_height: int | None
    block_hash: str | None
    block_time_at: int | None


@dataclass(frozen=True, slots=True)
class Utxo:
    """An unspent output. Outputs that a mempool transaction spends already are not listed."""

    txid: str
    vout: int
    value_sats: int
    confirmed: bool
    block_height: int | None


@dataclass(frozen=True, slots=True)
class Outspend:
    """The input that spends an output."""

    txid: str
    vin: int
    confirmed: bool
    block_height: int | None


class Chain(Protocol):
    """A view of the best chain and the mempool. Every method raises `ChainUnavailable` when the backend is
    out of reach and `ChainError` when its answer makes no sense.
    """

    async def tip(self) -> ChainTip:
        """The newest block."""
        ...

    async def fee_rates(self) -> Mapping[int, float]:
        """Estimated fee rates: confirmation target in blocks -> sat/vB. Empty when there is no estimate."""
        ...

    async def transaction(self, txid: str) -> bytes | None:
        """The serialised transaction with witnesses, confirmed or in the mempool; None when unknown."""
        ...

    async def transaction_status(self, txid: str) -> TransactionStatus | None:
        """Whether and where the transaction is confirmed; None when no block and no mempool has it."""
        ...

    async def utxos(self, address: str) -> Sequence[Utxo]:
        """Unspent outputs paying to the address, unconfirmed ones included."""
        ...

    async def outspend(self, txid: str, vout: int) -> Outspend | None:
        """What spends the output; None when nothing does, or when the output is unknown."""
        ...

    async def broadcast(self, transaction: bytes) -> str:
        """Hand a signed transaction to the network and return its txid.

        Idempotent: a transaction that is in the mempool or in the chain already counts as done.

        Raises:
            TransactionRejected: the node refused it.
        """
        ...
