"""What Esplora's questions need and the kernel does not keep: transactions, spends and scripts of the best
chain.

Lives in memory and is rebuilt from the kernel's blocks at start, so it can never disagree with them after
a crash.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .blocks import BlockHeader, median_time, parse_header, parse_transactions
from .scripts import is_unspendable, script_hash
from .transactions import Outpoint, Transaction, TxOutput


@dataclass(frozen=True, slots=True)
class Spend:
    """The input of a transaction that spends an output."""

    txid: str
    vin: int


@dataclass(frozen=True, slots=True)
class Coin:
    """An output that may be spent; `height` is None while its transaction is in the mempool."""

    output: TxOutput
    height: int | None
    is_coinbase: bool


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """A block of the best chain."""

    block_hash: str
    height: int
    header: BlockHeader
    median_time_at: int
    """Median time of the 11 blocks that end here (BIP113)."""
    txids: tuple[str, ...]
    size: int
    weight: int


@dataclass(frozen=True, slots=True)
class ConfirmedTransaction:
    """A transaction in the best chain; coinbases pay no fee."""

    tx: Transaction
    height: int
    fee_sats: int


@dataclass(slots=True)
class ScriptStats:
    """Esplora's `chain_stats` of a script."""

    tx_count: int = 0
    funded_txo_count: int = 0
    funded_txo_sum: int = 0
    spent_txo_count: int = 0
    spent_txo_sum: int = 0


@dataclass(slots=True)
class ScriptHistory:
    """Everything the best chain says about one script, oldest first."""

    script: bytes
    txids: list[str] = field(default_factory=list)
    unspent: dict[Outpoint, None] = field(default_factory=dict)
    stats: ScriptStats = field(default_factory=ScriptStats)


class ChainIndex:
    """The best chain from genesis to tip; blocks come and go at the tip only."""

    def __init__(self) -> None:
        self._blocks: list[IndexedBlock] = []
        self._heights: dict[str, int] = {}
        self._transactions: dict[str, ConfirmedTransaction] = {}
        self._spends: dict[Outpoint, Spend] = {}
        self._histories: dict[bytes, ScriptHistory] = {}

    @property
    def height(self) -> int:
        """Height of the tip; -1 while empty."""
        return len(self._blocks) - 1

    @property
    def tip(self) -> IndexedBlock:
        """The newest block."""
        return self._blocks[-1]

    def block_at(self, height: int) -> IndexedBlock | None:
        """The block at a height, None above the tip."""
        return self._blocks[height] if 0 <= height < len(self._blocks) else None

    def block(self, block_hash: str) -> IndexedBlock | None:
        """A block of the best chain by hash."""
        height = self._heights.get(block_hash)
        return None if height is None else self._blocks[height]

    def block_times(self, height: int) -> list[int]:
        """Times of the last (up to) 11 blocks that end at a height, oldest first."""
        return [block.header.time_at for block in self._blocks[max(0, height - 10) : height + 1]]

    def transaction(self, txid: str) -> ConfirmedTransaction | None:
        """A confirmed transaction."""
        return self._transactions.get(txid)

    def transactions(self) -> Iterator[ConfirmedTransaction]:
        """Every confirmed transaction, in chain order."""
        return iter(self._transactions.values())

    def output(self, outpoint: Outpoint) -> TxOutput | None:
        """A confirmed output, spent or not."""
        confirmed = self._transactions.get(outpoint.txid)
        if confirmed is None or outpoint.vout >= len(confirmed.tx.outputs):
            return None
        return confirmed.tx.outputs[outpoint.vout]

    def spend(self, outpoint: Outpoint) -> Spend | None:
        """The confirmed input that spends an output."""
        return self._spends.get(outpoint)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        """A confirmed output that no confirmed transaction spends; None too for one that nobody can spend."""
        output = self.output(outpoint)
        if output is None or outpoint in self._spends or is_unspendable(output.script):
            return None
        confirmed = self._transactions[outpoint.txid]
        # The genesis coinbase never entered the UTXO set.
        if confirmed.height == 0:
            return None
        return Coin(output, confirmed.height, confirmed.tx.is_coinbase)

    def history(self, key: bytes) -> ScriptHistory | None:
        """What the chain knows about the script with this SHA256."""
        return self._histories.get(key)

    def histories(self) -> Iterator[ScriptHistory]:
        """All scripts that the chain has seen."""
        return iter(self._histories.values())

    def connect(self, raw_block: bytes) -> IndexedBlock:
        """Append the block that follows the tip."""
        header = parse_header(raw_block)
        transactions = parse_transactions(raw_block)
        height = len(self._blocks)
        times = [*self.block_times(height - 1), header.time_at]
        overhead = len(raw_block) - sum(tx.size for tx in transactions)
        block = IndexedBlock(
            header.block_hash,
            height,
            header,
            median_time(times),
            tuple(tx.txid for tx in transactions),
            len(raw_block),
            4 * overhead + sum(tx.weight for tx in transactions),
        )
        self._blocks.append(block)
        self._heights[block.block_hash] = height
        for tx in transactions:
            self._connect_transaction(tx, height)
        return block

    def _connect_transaction(self, tx: Transaction, height: int) -> None:
        txid = tx.txid
        touched: dict[bytes, ScriptHistory] = {}
        spent_sats = 0
        if not tx.is_coinbase:
            for vin, txin in enumerate(tx.inputs):
                spent = self._transactions[txin.outpoint.txid].tx.outputs[txin.outpoint.vout]
                spent_sats += spent.value_sats
                self._spends[txin.outpoint] = Spend(txid, vin)
                history = self._touch(spent.script, touched)
                history.unspent.pop(txin.outpoint, None)
                history.stats.spent_txo_count += 1
                history.stats.spent_txo_sum += spent.value_sats
        for vout, output in enumerate(tx.outputs):
            history = self._touch(output.script, touched)
            if height > 0 and not is_unspendable(output.script):
                history.unspent[Outpoint(txid, vout)] = None
            history.stats.funded_txo_count += 1
            history.stats.funded_txo_sum += output.value_sats
        for history in touched.values():
            history.txids.append(txid)
            history.stats.tx_count += 1
        fee = 0 if tx.is_coinbase else spent_sats - sum(output.value_sats for output in tx.outputs)
        self._transactions[txid] = ConfirmedTransaction(tx, height, fee)

    def disconnect(self) -> list[Transaction]:
        """Take the tip off again. Returns its transactions without the coinbase, in block order."""
        block = self._blocks.pop()
        del self._heights[block.block_hash]
        transactions = [self._transactions[txid].tx for txid in block.txids]
        for tx in reversed(transactions):
            self._disconnect_transaction(tx)
        return transactions[1:]

    def _disconnect_transaction(self, tx: Transaction) -> None:
        txid = tx.txid
        touched: dict[bytes, ScriptHistory] = {}
        for vout, output in enumerate(tx.outputs):
            history = self._touch(output.script, touched)
            history.unspent.pop(Outpoint(txid, vout), None)
            history.stats.funded_txo_count -= 1
            history.stats.funded_txo_sum -= output.value_sats
        if not tx.is_coinbase:
            for txin in tx.inputs:
                spent = self._transactions[txin.outpoint.txid].tx.outputs[txin.outpoint.vout]
                del self._spends[txin.outpoint]
                history = self._touch(spent.script, touched)
                history.unspent[txin.outpoint] = None
                history.stats.spent_txo_count -= 1
                history.stats.spent_txo_sum -= spent.value_sats
        for key, history in touched.items():
            history.txids.pop()
            history.stats.tx_count -= 1
            if not history.txids:
                del self._histories[key]
        del self._transactions[txid]

    def _touch(self, script: bytes, touched: dict[bytes, ScriptHistory]) -> ScriptHistory:
        key = script_hash(script)
        history = self._histories.get(key)
        if history is None:
            history = self._histories[key] = ScriptHistory(script)
        touched[key] = history
        return history
