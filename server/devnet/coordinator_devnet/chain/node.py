"""Devnet's chain: the consensus engine, the mempool, a miner and a faucet, as one object.

A `ChainNode` belongs to one event loop thread. Its methods are short and synchronous (a block connects in
about a millisecond), so each is atomic with respect to every other.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .audit import Supply, audit_supply
from .blocks import MAX_FUTURE_SECONDS, build_block, median_time, parse_header
from .engine import BlockRejected, ConsensusEngine, EngineError
from .index import ChainIndex
from .mempool import Mempool, MempoolEntry
from .policy import MIN_RELAY_SAT_PER_VB, RPC_DESERIALIZATION_ERROR, Rejected
from .scripts import address_to_script
from .store import NodeStore
from .transactions import Transaction, TransactionDecodeError, TxOutput
from .wallet import DevnetWallet, InsufficientFunds

logger = logging.getLogger(__name__)

INITIAL_BLOCKS = 201
"""Blocks of a new chain: the first 101 coinbases are then spendable."""
_INITIAL_SPACING_SECONDS = 600
# On regtest the kernel checks its whole block index at every block: a long journal would be slow to replay.
_MAX_JOURNALED_BLOCKS = 500
MAX_BLOCKS_PER_CALL = 1000
# Block times must keep rising above the median, so blocks that follow an advance need room below the limit.
_MAX_ADVANCE_SECONDS = MAX_FUTURE_SECONDS - 300


class InvalidRequest(ValueError):
    """What was asked of the devnet chain is impossible; nothing has changed."""


class NodeNotRunning(RuntimeError):
    """The node is not started."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What exists between start and stop."""

    engine: ConsensusEngine
    store: NodeStore
    index: ChainIndex
    mempool: Mempool
    wallet: DevnetWallet


class ChainNode:
    """A regtest node on disk that mines.

    Args:
        data_dir: holds the kernel's blocks and UTXO set, `node.sqlite` and `wallet.seed`; created when
            absent.
        mine_interval_seconds: mine a block this often, or never on its own when None.
        clock: the time in unix seconds. The kernel judges block times by the machine's clock all the same.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        mine_interval_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._data_dir = data_dir
        self.mine_interval_seconds = mine_interval_seconds
        self._clock = clock
        self._parts: _Parts | None = None
        self._timer: asyncio.Task[None] | None = None
        self._fee_rate = float(MIN_RELAY_SAT_PER_VB)
        self._enforce_fee_rate = False
        self._journaled_blocks = 0

    # Life

    async def start(self) -> None:
        """Open the data directory, recover what a crash left behind, and mine the first blocks of a new
        chain.

        Raises:
            EngineError: the directory is in use by another process, or damaged.
        """
        if self._parts is not None:
            return
        engine = ConsensusEngine(self._data_dir)
        try:
            store = NodeStore(self._data_dir / "node.sqlite")
        except BaseException:
            engine.close()
            raise
        index = ChainIndex()
        mempool = Mempool(
            index,
            on_added=lambda entry: store.add_transaction(entry.tx.txid, entry.tx.raw, entry.entered_at),
            on_removed=store.remove_transaction,
        )
        try:
            wallet = DevnetWallet(self._data_dir / "wallet.seed", index, mempool)
            self._parts = _Parts(engine, store, index, mempool, wallet)
            self._load()
            await self._mine_initial_blocks()
        except BaseException:
            self._parts = None
            store.close()
            engine.close()
            raise
        if self.mine_interval_seconds is not None:
            self._timer = asyncio.create_task(self._mine_on_timer(self.mine_interval_seconds))

    async def stop(self) -> None:
        """Stop mining and write everything to disk."""
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer
            self._timer = None
        if self._parts is not None:
            parts, self._parts = self._parts, None
            parts.store.close()
            parts.engine.close()

    def _load(self) -> None:
        engine, store = self._running.engine, self._running.store
        journal = store.journal()
        lost = [(block_hash, block) for block_hash, block in journal if engine.height_of(block_hash) is None]
        for block_hash, block in lost:
            try:
                engine.submit(block)
            except BlockRejected as error:
                logger.warning("journaled block %s is refused: %s", block_hash, error.reason)
        if lost:
            logger.info("recovered %d blocks from the journal", len(lost))
        else:
            # Whatever the kernel knows right after it was opened, it knows from disk.
            store.clear_journal()
        self._journaled_blocks = len(journal) if lost else 0
        self._follow_best_chain()
        self._fee_rate = float(store.setting("fee_rate_sat_per_vb") or MIN_RELAY_SAT_PER_VB)
        self._enforce_fee_rate = store.setting("enforce_fee_rate") == "1"
        with store.transaction():
            for raw, entered_at in store.mempool():
                try:
                    self.mempool.add(Transaction.parse(raw), entered_at=entered_at, relay_rules=False)
                except Rejected as error:
                    txid = Transaction.parse(raw).txid
                    logger.info("transaction %s is no longer valid: %s", txid, error.reason)
                    store.remove_transaction(txid)

    async def _mine_initial_blocks(self) -> None:
        while (missing := INITIAL_BLOCKS - self.height()) > 0:
            for _ in range(min(missing, 50)):
                age_seconds = (INITIAL_BLOCKS - 1 - self.height()) * _INITIAL_SPACING_SECONDS
                self._mine_one(-age_seconds, self.wallet.script, ())
            await asyncio.sleep(0)

    async def _mine_on_timer(self, interval_seconds: float) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                self.mine()
            except Exception:
                logger.exception("mining on the timer failed; trying again in %s s", interval_seconds)

    # Views

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise NodeNotRunning("the chain node is not running")
        return self._parts

    @property
    def engine(self) -> ConsensusEngine:
        """The consensus engine."""
        return self._running.engine

    @property
    def index(self) -> ChainIndex:
        """The best chain, indexed."""
        return self._running.index

    @property
    def mempool(self) -> Mempool:
        """The waiting transactions."""
        return self._running.mempool

    @property
    def wallet(self) -> DevnetWallet:
        """The miner's and faucet's coins."""
        return self._running.wallet

    def height(self) -> int:
        """Height of the best chain."""
        return self.index.height

    def tip_hash(self) -> str:
        """Hash of the best chain's newest block."""
        return self.index.tip.block_hash

    def median_time_at(self) -> int:
        """Median time of the last 11 blocks (BIP113), what time locks of the next block are compared with."""
        return self.index.tip.median_time_at

    @property
    def fee_rate_sat_per_vb(self) -> float:
        """The fee rate that estimates give for every target, and that the faucet pays."""
        return self._fee_rate

    @property
    def enforces_fee_rate(self) -> bool:
        """Whether packages below the fee rate wait instead of being mined."""
        return self._enforce_fee_rate

    def supply(self) -> Supply:
        """Where every confirmed satoshi is; see `Supply` for the identities an audit can check."""
        return audit_supply(self.index, self.wallet.script)

    # Transactions

    def submit(self, raw: bytes) -> str:
        """Let a transaction into the mempool and return its txid; it may be there already.

        Raises:
            Rejected: with Bitcoin Core's RPC code and reason.
        """
        try:
            tx = Transaction.parse(raw)
        except TransactionDecodeError as error:
            raise Rejected(
                "TX decode failed. Make sure the tx has at least one input.", RPC_DESERIALIZATION_ERROR
            ) from error
        self._add_to_mempool(tx)
        return tx.txid

    def _add_to_mempool(self, tx: Transaction) -> MempoolEntry:
        with self._running.store.transaction():
            return self.mempool.add(tx, entered_at=int(self._clock()))

    def faucet(self, address: str, amount_sats: int) -> str:
        """Pay an address from the devnet wallet; broadcast, not mined. Returns the txid.

        Raises:
            InvalidRequest: not an address, an amount that cannot be paid, or not enough coins.
        """
        try:
            output = TxOutput(amount_sats, address_to_script(address))
            if amount_sats <= 0:
                raise InvalidRequest("amount_sats must be positive")
            tx = self.wallet.payment([output], max(self._fee_rate, MIN_RELAY_SAT_PER_VB))
            self._add_to_mempool(tx)
        except (InsufficientFunds, Rejected, ValueError) as error:
            raise InvalidRequest(str(error)) from error
        return tx.txid

    def set_fee_rate(self, sat_per_vb: float, *, enforce: bool = False) -> None:
        """Set what fee estimates say.

        Args:
            enforce: also let blocks leave out packages that pay less, as in a full mempool; they wait until a
                child pays for them (CPFP), they are replaced, or the rate falls.

        Raises:
            InvalidRequest: below the relay minimum or absurdly high.
        """
        if not MIN_RELAY_SAT_PER_VB <= sat_per_vb <= 10_000:
            raise InvalidRequest(f"sat_per_vb must be from {MIN_RELAY_SAT_PER_VB} to 10000")
        with self._running.store.transaction():
            self._running.store.save_setting("fee_rate_sat_per_vb", repr(float(sat_per_vb)))
            self._running.store.save_setting("enforce_fee_rate", "1" if enforce else "0")
        self._fee_rate, self._enforce_fee_rate = float(sat_per_vb), enforce

    # Blocks

    def mine(
        self,
        blocks: int = 1,
        *,
        advance_seconds: int = 0,
        address: str | None = None,
        exclude_txids: Collection[str] = (),
    ) -> list[str]:
        """Mine blocks on the tip and return their hashes.

        Args:
            advance_seconds: date the blocks this much ahead of the clock. Median time passes, which time
                locks are measured by, follows after six such blocks. Consensus allows two hours; dates are
                kept five minutes below that so that later blocks, which must be newer than the median,
                still fit.
            address: where the coinbases pay, the devnet wallet when None.
            exclude_txids: leave these in the mempool, and what depends on them.

        Raises:
            InvalidRequest: a parameter is out of range, or block times have reached the limit.
        """
        if not 0 <= blocks <= MAX_BLOCKS_PER_CALL:
            raise InvalidRequest(f"blocks must be from 0 to {MAX_BLOCKS_PER_CALL}")
        if not 0 <= advance_seconds <= MAX_FUTURE_SECONDS:
            raise InvalidRequest(f"advance_seconds must be from 0 to {MAX_FUTURE_SECONDS}")
        script = self._coinbase_script(address)
        offset = min(advance_seconds, _MAX_ADVANCE_SECONDS)
        return [self._mine_one(offset, script, exclude_txids) for _ in range(blocks)]

    def _coinbase_script(self, address: str | None) -> bytes:
        if address is None:
            return self.wallet.script
        try:
            return address_to_script(address)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error

    def _mine_one(self, offset_seconds: int, script: bytes, excluded: Collection[str]) -> str:
        template = self.mempool.template(
            excluded=excluded, min_sat_per_vb=self._fee_rate if self._enforce_fee_rate else 0.0
        )
        block = build_block(
            previous_hash=self.tip_hash(),
            height=self.height() + 1,
            time_at=self._block_time(self.index.block_times(self.height()), offset_seconds),
            transactions=template.transactions,
            fees_sats=template.fees_sats,
            coinbase_script=script,
        )
        block_hash = self._submit_block(block)
        self._follow_best_chain()
        return block_hash

    def _block_time(self, previous_times: Sequence[int], offset_seconds: int) -> int:
        now = int(self._clock())
        time_at = max(now + offset_seconds, median_time(previous_times) + 1)
        if time_at > now + MAX_FUTURE_SECONDS:
            raise InvalidRequest(
                "block times are two hours ahead of the clock already: wait before mining more"
            )
        return time_at

    def _submit_block(self, block: bytes) -> str:
        block_hash = parse_header(block).block_hash
        self._running.store.add_block(block_hash, block)
        self._journaled_blocks += 1
        try:
            return self.engine.submit(block)
        except BlockRejected as error:
            self._running.store.remove_block(block_hash)
            raise InvalidRequest(str(error)) from error

    def reorg(
        self,
        depth: int,
        *,
        blocks: int | None = None,
        drop_txids: Collection[str] = (),
        include_txids: Sequence[str] = (),
    ) -> list[str]:
        """Replace the newest blocks by a longer branch and return its block hashes.

        Transactions of the replaced blocks return to the mempool if the new branch allows them; those that
        spend coinbases of the replaced blocks cannot.

        Args:
            depth: how many blocks are replaced.
            blocks: length of the new branch, at least `depth + 1` (the default).
            drop_txids: transactions that must not come back, nor what depends on them.
            include_txids: transactions of the replaced blocks or the mempool that the branch's first block
                contains, parents first; the other blocks are empty.

        Raises:
            InvalidRequest: a parameter is out of range, or the branch is invalid. The chain has not moved.
        """
        length = depth + 1 if blocks is None else blocks
        if not 1 <= depth <= self.height():
            raise InvalidRequest(f"depth must be from 1 to {self.height()}")
        if not depth < length <= MAX_BLOCKS_PER_CALL:
            raise InvalidRequest(f"blocks must be from {depth + 1} to {MAX_BLOCKS_PER_CALL}")
        fork_height = self.height() - depth
        fork = self.index.block_at(fork_height)
        assert fork is not None
        chosen, fees_sats = self._chosen_transactions(include_txids, fork_height)
        times = self.index.block_times(fork_height)
        previous_hash = fork.block_hash
        hashes: list[str] = []
        for height in range(fork_height + 1, fork_height + 1 + length):
            first = height == fork_height + 1
            times.append(self._block_time(times, 0))
            block = build_block(
                previous_hash=previous_hash,
                height=height,
                time_at=times[-1],
                transactions=chosen if first else (),
                fees_sats=fees_sats if first else 0,
                coinbase_script=self.wallet.script,
            )
            previous_hash = self._submit_block(block)
            hashes.append(previous_hash)
        self._follow_best_chain(drop_txids)
        if self.tip_hash() != previous_hash:
            reasons = {reason for block_hash in hashes if (reason := self.engine.why_invalid(block_hash))}
            raise InvalidRequest(f"the branch is invalid: {', '.join(sorted(reasons)) or 'unknown reason'}")
        return hashes

    def _chosen_transactions(self, txids: Sequence[str], fork_height: int) -> tuple[list[Transaction], int]:
        chosen: list[Transaction] = []
        fees_sats = 0
        for txid in txids:
            confirmed, waiting = self.index.transaction(txid), self.mempool.get(txid)
            if waiting is not None:
                chosen.append(waiting.tx)
                fees_sats += waiting.fee_sats
            elif confirmed is not None and confirmed.height > fork_height and not confirmed.tx.is_coinbase:
                chosen.append(confirmed.tx)
                fees_sats += confirmed.fee_sats
            else:
                raise InvalidRequest(f"{txid} is neither in the mempool nor in a replaced block")
        return chosen, fees_sats

    def _follow_best_chain(self, dropped: Collection[str] = ()) -> None:
        """Bring index and mempool to where the kernel is."""
        engine, index, mempool = self.engine, self.index, self.mempool
        left: list[list[tuple[Transaction, int]]] = []
        while index.height >= 0 and engine.hash_at(index.height) != index.tip.block_hash:
            time_at = index.tip.header.time_at
            left.append([(tx, time_at) for tx in index.disconnect()])
        with self._running.store.transaction():
            while (block_hash := engine.hash_at(index.height + 1)) is not None:
                raw = engine.block(block_hash)
                if raw is None:
                    raise EngineError(f"the kernel lost block {block_hash}")
                connected = index.connect(raw)
                if not left:
                    confirmed = [index.transaction(txid) for txid in connected.txids[1:]]
                    mempool.block_connected(entry.tx for entry in confirmed if entry is not None)
            if left:
                mempool.reorganised([pair for block in reversed(left) for pair in block], dropped)
        if self._journaled_blocks >= _MAX_JOURNALED_BLOCKS:
            engine.flush()
            self._running.store.clear_journal()
            self._journaled_blocks = 0
