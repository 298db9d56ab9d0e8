"""Transactions that wait for a block: the rules of entry, replacement, and what the next block takes.

Consensus has the last word (the kernel validates every block); these rules make sure that it never has to
say no.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from . import policy
from .blocks import COINBASE_MATURITY_BLOCKS, MAX_BLOCK_WEIGHT
from .engine import failing_input
from .index import ChainIndex, Coin
from .policy import RPC_ALREADY_IN_CHAIN, RPC_VERIFY_ERROR, Rejected
from .scripts import is_unspendable
from .transactions import Outpoint, Transaction, TxInput, TxOutput

_LOCKTIME_IS_TIME_FROM = 500_000_000
_SEQUENCE_FINAL = 0xFFFFFFFF
_SEQUENCE_DISABLED, _SEQUENCE_IS_TIME, _SEQUENCE_MASK = 1 << 31, 1 << 22, 0xFFFF  # BIP68
_MAX_ANCESTORS = _MAX_DESCENDANTS = 25
_MAX_ANCESTORS_VSIZE = 101_000
_MAX_REPLACED = 100
_MAX_TEMPLATE_WEIGHT = MAX_BLOCK_WEIGHT - 8_000  # room for header and coinbase
_MAX_TEMPLATE_SIGOP_COST = 80_000 - 400


@dataclass(slots=True, eq=False)
class MempoolEntry:
    """A waiting transaction and its unconfirmed relatives."""

    tx: Transaction
    fee_sats: int
    sigop_cost: int
    entered_at: int
    parents: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)

    @property
    def fee_rate(self) -> float:
        """sat/vB of this transaction alone."""
        return self.fee_sats / self.tx.vsize


@dataclass(frozen=True, slots=True)
class BlockTemplate:
    """What the next block should contain, parents before children."""

    transactions: tuple[Transaction, ...]
    fees_sats: int


class Mempool:
    """Transactions that could all be in the next block together.

    Args:
        index: the best chain that transactions are checked against.
        on_added: called with each entry that came in.
        on_removed: called with the id of each that left, mined or not.
    """

    def __init__(
        self,
        index: ChainIndex,
        on_added: Callable[[MempoolEntry], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._index = index
        self._on_added = on_added
        self._on_removed = on_removed
        self._entries: dict[str, MempoolEntry] = {}
        self._spends: dict[Outpoint, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, txid: str) -> bool:
        return txid in self._entries

    def __iter__(self) -> Iterator[MempoolEntry]:
        """Entries, oldest first."""
        return iter(list(self._entries.values()))

    def get(self, txid: str) -> MempoolEntry | None:
        """A waiting transaction."""
        return self._entries.get(txid)

    def spender(self, outpoint: Outpoint) -> str | None:
        """The waiting transaction that spends an output."""
        return self._spends.get(outpoint)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        """An output of the chain or the mempool, whether or not a waiting transaction spends it."""
        entry = self._entries.get(outpoint.txid)
        if entry is None:
            return self._index.coin(outpoint)
        if outpoint.vout >= len(entry.tx.outputs) or is_unspendable(entry.tx.outputs[outpoint.vout].script):
            return None
        return Coin(entry.tx.outputs[outpoint.vout], None, is_coinbase=False)

    def ancestors(self, txid: str) -> set[str]:
        """Waiting transactions that this one needs, without itself."""
        return self._closure(self._entries[txid].parents, lambda entry: entry.parents)

    def descendants(self, txid: str) -> set[str]:
        """Waiting transactions that need this one, without itself."""
        return self._closure(self._entries[txid].children, lambda entry: entry.children)

    def _closure(self, start: Iterable[str], step: Callable[[MempoolEntry], set[str]]) -> set[str]:
        found: set[str] = set()
        pending = list(start)
        while pending:
            txid = pending.pop()
            if txid not in found:
                found.add(txid)
                pending += step(self._entries[txid])
        return found

    # Entry

    def add(self, tx: Transaction, *, entered_at: int, relay_rules: bool = True) -> MempoolEntry:
        """Check a transaction against the next block and let it in; adding one that waits already is no
        error.

        Args:
            entered_at: unix seconds.
            relay_rules: False for transactions that were accepted before and come back (restart,
                reorganisation): then fee and replacement rules do not apply, and a double spend loses to
                what is there.

        Raises:
            Rejected: it may not come in; nothing has changed.
        """
        known = self._entries.get(tx.txid)
        if known is not None:
            return known
        policy.check_context_free(tx)
        policy.check_standard(tx)
        if not self._is_final(tx):
            raise Rejected("non-final")
        conflicts = {self._spends[txin.outpoint] for txin in tx.inputs if txin.outpoint in self._spends}
        if conflicts and not relay_rules:
            raise Rejected("txn-mempool-conflict")
        coins = self._spent_coins(tx)
        if not self._is_sequence_final(tx, coins):
            raise Rejected("non-BIP68-final")
        spent = [coin.output for coin in coins]
        fee_sats = sum(output.value_sats for output in spent) - sum(o.value_sats for o in tx.outputs)
        if fee_sats < 0:
            raise Rejected("bad-txns-in-belowout")
        policy.check_standard_inputs(tx, spent)
        sigop_cost = policy.sigop_cost(tx, spent)
        if sigop_cost > policy.MAX_STANDARD_SIGOP_COST:
            raise Rejected("bad-txns-too-many-sigops")
        entry = MempoolEntry(tx, fee_sats, sigop_cost, entered_at)
        entry.parents = {txin.outpoint.txid for txin in tx.inputs if txin.outpoint.txid in self._entries}
        replaced: set[str] = set()
        if relay_rules:
            required = policy.min_relay_fee_sats(tx.vsize)
            if fee_sats < required:
                raise Rejected(f"min relay fee not met, {fee_sats} < {required}")
            replaced = self._check_replacement(entry, conflicts)
            self._check_family(entry, replaced)
        self._check_scripts(tx, spent)
        self._remove(replaced)
        self._insert(entry)
        return entry

    def _spent_coins(self, tx: Transaction) -> list[Coin]:
        coins = [self.coin(txin.outpoint) for txin in tx.inputs]
        if self._index.transaction(tx.txid) is not None and any(
            self._index.coin(Outpoint(tx.txid, vout)) for vout in range(len(tx.outputs))
        ):
            raise Rejected("Transaction outputs already in utxo set", RPC_ALREADY_IN_CHAIN)
        next_height = self._index.height + 1
        found: list[Coin] = []
        for coin in coins:
            if coin is None:
                raise Rejected("bad-txns-inputs-missingorspent", RPC_VERIFY_ERROR)
            age = next_height - (coin.height if coin.height is not None else next_height)
            if coin.is_coinbase and age < COINBASE_MATURITY_BLOCKS:
                raise Rejected("bad-txns-premature-spend-of-coinbase")
            found.append(coin)
        return found

    def _is_final(self, tx: Transaction) -> bool:
        """Locktime against the next block (BIP113: the time is the median time past)."""
        if tx.locktime == 0 or all(txin.sequence == _SEQUENCE_FINAL for txin in tx.inputs):
            return True
        is_time = tx.locktime >= _LOCKTIME_IS_TIME_FROM
        return tx.locktime < (self._index.tip.median_time_at if is_time else self._index.height + 1)

    def _is_sequence_final(self, tx: Transaction, coins: list[Coin]) -> bool:
        """Relative lock times against the next block (BIP68)."""
        if tx.version < 2:
            return True
        return all(map(self._is_input_unlocked, tx.inputs, coins))

    def _is_input_unlocked(self, txin: TxInput, coin: Coin) -> bool:
        if txin.sequence & _SEQUENCE_DISABLED:
            return True
        next_height = self._index.height + 1
        coin_height = coin.height if coin.height is not None else next_height
        lock = txin.sequence & _SEQUENCE_MASK
        if not txin.sequence & _SEQUENCE_IS_TIME:
            return next_height >= coin_height + lock
        before = self._index.block_at(max(coin_height - 1, 0))
        assert before is not None
        return self._index.tip.median_time_at >= before.median_time_at + lock * 512

    def _check_replacement(self, entry: MempoolEntry, conflicts: set[str]) -> set[str]:
        """BIP125 rules 2 to 5 and a higher fee rate; like today's Core, without asking for its signal
        (rule 1).
        """
        replaced = conflicts | self._closure(
            (child for txid in conflicts for child in self._entries[txid].children),
            lambda relative: relative.children,
        )
        if not replaced:
            return replaced
        txid = entry.tx.txid
        if len(replaced) > _MAX_REPLACED:
            raise Rejected(
                f"too many potential replacements, rejecting replacement {txid}; "
                f"too many potential replacements ({len(replaced)} > {_MAX_REPLACED})"
            )
        if entry.parents & replaced:
            raise Rejected(f"bad-txns-spends-conflicting-tx, {txid} spends conflicting transaction")
        if entry.parents - set().union(*(self._entries[other].parents for other in conflicts)):
            raise Rejected(f"replacement-adds-unconfirmed, replacement {txid} adds unconfirmed input")
        for other in conflicts:
            if entry.fee_rate <= self._entries[other].fee_rate:
                raise Rejected(
                    f"insufficient fee, rejecting replacement {txid}; new feerate "
                    f"{entry.fee_rate:.3f} sat/vB <= old feerate {self._entries[other].fee_rate:.3f} sat/vB"
                )
        old_fees = sum(self._entries[other].fee_sats for other in replaced)
        if entry.fee_sats < old_fees:
            raise Rejected(
                f"insufficient fee, rejecting replacement {txid}, less fees than conflicting txs; "
                f"{entry.fee_sats} < {old_fees}"
            )
        extra, required = entry.fee_sats - old_fees, policy.min_relay_fee_sats(entry.tx.vsize)
        if extra < required:
            raise Rejected(
                f"insufficient fee, rejecting replacement {txid}, not enough additional fees to relay; "
                f"{extra} < {required}"
            )
        return replaced

    def _check_family(self, entry: MempoolEntry, replaced: set[str]) -> None:
        ancestors = self._closure(entry.parents, lambda relative: relative.parents)
        if len(ancestors) + 1 > _MAX_ANCESTORS:
            raise Rejected(
                f"too-long-mempool-chain, too many unconfirmed ancestors [limit: {_MAX_ANCESTORS}]"
            )
        vsize = entry.tx.vsize + sum(self._entries[txid].tx.vsize for txid in ancestors)
        if vsize > _MAX_ANCESTORS_VSIZE:
            raise Rejected(
                f"too-long-mempool-chain, exceeds ancestor size limit [limit: {_MAX_ANCESTORS_VSIZE}]"
            )
        for txid in ancestors:
            if len(self.descendants(txid) - replaced) + 2 > _MAX_DESCENDANTS:
                raise Rejected(
                    f"too-long-mempool-chain, too many descendants for tx {txid} [limit: {_MAX_DESCENDANTS}]"
                )

    def _check_scripts(self, tx: Transaction, spent: list[TxOutput]) -> None:
        failed = failing_input(tx.raw, [(output.value_sats, output.script) for output in spent])
        if failed is not None:
            outpoint = tx.inputs[failed].outpoint
            raise Rejected(
                f"mandatory-script-verify-flag-failed (script of input {failed} failed), input {failed} of "
                f"{tx.txid}, spending {outpoint.txid}:{outpoint.vout}"
            )

    def _insert(self, entry: MempoolEntry) -> None:
        txid = entry.tx.txid
        self._entries[txid] = entry
        for txin in entry.tx.inputs:
            self._spends[txin.outpoint] = txid
        for parent in entry.parents:
            self._entries[parent].children.add(txid)
        # A transaction that returns in a reorganisation may find its children here already.
        for vout in range(len(entry.tx.outputs)):
            child = self._spends.get(Outpoint(txid, vout))
            if child is not None:
                entry.children.add(child)
                self._entries[child].parents.add(txid)
        self._on_added(entry)

    # Leaving

    def _remove(self, txids: Iterable[str]) -> None:
        for txid in txids:
            entry = self._entries.pop(txid)
            for txin in entry.tx.inputs:
                del self._spends[txin.outpoint]
            for parent in entry.parents:
                if parent in self._entries:
                    self._entries[parent].children.discard(txid)
            for child in entry.children:
                if child in self._entries:
                    self._entries[child].parents.discard(txid)
            self._on_removed(txid)

    def drop(self, txids: Collection[str]) -> None:
        """Forget transactions together with all that need them."""
        present = [txid for txid in txids if txid in self._entries]
        self._remove(set(present).union(*(self.descendants(txid) for txid in present)))

    def block_connected(self, transactions: Iterable[Transaction]) -> None:
        """Let go of what a new block contains, and of what it makes impossible."""
        for tx in transactions:
            if tx.txid in self._entries:
                self._remove([tx.txid])
            self.drop([self._spends[txin.outpoint] for txin in tx.inputs if txin.outpoint in self._spends])

    def reorganised(self, disconnected: Iterable[tuple[Transaction, int]], dropped: Collection[str]) -> None:
        """Check everything again after the chain has moved to another branch.

        Args:
            disconnected: transactions of the left branch with the time they count as entered, parents first;
                those that the new branch lacks come back if it allows them.
            dropped: ids of transactions that must not come back, nor their descendants.
        """
        waiting = [(entry.tx, entry.entered_at) for entry in self._entries.values()]
        self._remove(list(self._entries))
        for tx, entered_at in [*disconnected, *waiting]:
            if tx.txid not in dropped:
                try:
                    self.add(tx, entered_at=entered_at, relay_rules=False)
                except Rejected:
                    continue  # spent, unfunded or locked on the new branch: it is gone, as in any node

    # Mining

    def template(self, *, excluded: Collection[str] = (), min_sat_per_vb: float = 0.0) -> BlockTemplate:
        """Fill a block by ancestor fee rate: a child that pays enough carries its parents in (CPFP).

        Args:
            excluded: ids that must wait, with all that need them.
            min_sat_per_vb: packages that pay less than this wait.
        """
        left_out = {txid for txid in excluded if txid in self._entries}
        left_out.update(*(self.descendants(txid) for txid in left_out))
        chosen: dict[str, MempoolEntry] = {}
        weight = sigops = 0
        order = {txid: position for position, txid in enumerate(self._entries)}
        packages = {txid: self.ancestors(txid) | {txid} for txid in self._entries if txid not in left_out}

        def rate(txid: str) -> float:
            members = [self._entries[member] for member in packages[txid]]
            return sum(e.fee_sats for e in members) / (sum(e.tx.weight for e in members) / 4)

        current = {txid: rate(txid) for txid in packages}
        heap = [(-value, order[txid], txid) for txid, value in current.items()]
        heapq.heapify(heap)
        while heap:
            negative_rate, _, txid = heapq.heappop(heap)
            if txid in chosen or -negative_rate != current[txid]:
                continue
            if -negative_rate < min_sat_per_vb:
                break
            package = sorted(packages[txid], key=lambda member: (len(self.ancestors(member)), order[member]))
            package_weight = sum(self._entries[member].tx.weight for member in package)
            package_sigops = sum(self._entries[member].sigop_cost for member in package)
            if (
                weight + package_weight > _MAX_TEMPLATE_WEIGHT
                or sigops + package_sigops > _MAX_TEMPLATE_SIGOP_COST
            ):
                continue
            weight, sigops = weight + package_weight, sigops + package_sigops
            chosen |= {member: self._entries[member] for member in package}
            affected = (
                set().union(*(self.descendants(member) for member in package)) - chosen.keys() - left_out
            )
            for relative in affected:
                packages[relative] -= chosen.keys()
                current[relative] = rate(relative)
                heapq.heappush(heap, (-current[relative], order[relative], relative))
        entries = chosen.values()
        return BlockTemplate(tuple(entry.tx for entry in entries), sum(entry.fee_sats for entry in entries))
