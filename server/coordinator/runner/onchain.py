"""Transactions of a competition: recorded with the state that sends them, sent, and followed in the chain."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from coordinator.contract.tx import Transaction
from coordinator.core import Core
from coordinator.domain.competition import Broadcast
from coordinator.domain.states import CompetitionStatus, Funded
from coordinator.domain.wallet.locks import escrow_lock, funding_lock
from coordinator.ports.chain import TransactionStatus
from coordinator.runner.lifting import lift
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent
from coordinator.store.transactions import record_transaction
from coordinator.wallet import BURIED_BLOCKS, ensure_sent


class Seen(Enum):
    """What a look at a competition's transactions found."""

    CONFIRMED = auto()
    """All are in the blocks that the state says."""
    WAITING = auto()
    """One is in no block, as the state says."""
    MOVED = auto()
    """One was in another block, or in none: the state was written anew."""


def broadcast_of(core: Core, transaction: bytes) -> Broadcast:
    """A signed transaction as a state keeps it; in no block yet."""
    return Broadcast(Transaction.parse(transaction).txid, transaction, core.clock.now(), None)


async def decide(
    core: Core,
    record: CompetitionRecord,
    status: CompetitionStatus,
    role: str,
    *transactions: bytes,
    events: Sequence[NewEvent] = (),
) -> None:
    """Writes the next state and the transactions that it sends, before any of them is sent."""
    now = core.clock.now()
    txids = [Transaction.parse(transaction).txid for transaction in transactions]
    async with core.competitions.transaction():
        for txid, transaction in zip(txids, transactions, strict=True):
            await record_transaction(txid, transaction, role, now, competition_id=record.id)
        told = [NewEvent("transaction.broadcast", {"role": role, "txid": txid}) for txid in txids]
        await core.competitions.advance(record, status, now, [*events, *told])


async def ensure_broadcast(core: Core, broadcast: Broadcast) -> TransactionStatus | None:
    """Where a recorded transaction is; sends it (again) when the chain does not know it.

    See `coordinator.wallet.sending.ensure_sent` for what it returns and raises.
    """
    return await ensure_sent(core.chain, broadcast.transaction)


async def follow(
    core: Core, competition_id: str, role: str, broadcast: Broadcast
) -> TransactionStatus | None:
    """`ensure_broadcast`, and help by a child where it waits in the mempool for too long."""
    seen = await ensure_broadcast(core, broadcast)
    if seen is not None and not seen.confirmed:
        await lift(core, competition_id, role, broadcast.transaction)
    return seen


async def confirmations(core: Core, status: TransactionStatus | None) -> int:
    """How many blocks have it, its own included."""
    return await depth(core, status.block_height if status is not None and status.confirmed else None)


async def depth(core: Core, block_height: int | None) -> int:
    """Confirmations of what is in a block of this height; 0 for None."""
    if block_height is None:
        return 0
    tip = await core.chain.tip()
    return max(0, tip.height - block_height + 1)


async def watch(core: Core, record: CompetitionRecord, status: Funded) -> Seen:
    """Looks for every transaction that a funded state stands on, parents first, and sends what is missing.

    A transaction that came into a block, or fell out of one by a reorganisation, is written to the state and
    told as an event. The contract decides from funding on, so the state stays what it is: its transactions
    come back.

    Raises:
        Conflicted: another transaction took one's place.
        TransactionRejected, ChainUnavailable: see `ensure_broadcast`.
    """
    found = Seen.CONFIRMED
    for role, broadcast in status.broadcasts:
        seen = await follow(core, record.id, role, broadcast)
        height = seen.block_height if seen is not None and seen.confirmed else None
        if height != broadcast.block_height:
            kind = "transaction.confirmed" if height is not None else "transaction.unconfirmed"
            told = [NewEvent(kind, {"role": role, "txid": broadcast.txid})]
            await core.competitions.advance(
                record, status.moved(broadcast.txid, height), core.clock.now(), told
            )
            return Seen.MOVED
        if height is None:
            found = Seen.WAITING
    if found is Seen.CONFIRMED:
        await _free_coins(core, record.id, status)
    return found


async def _free_coins(core: Core, competition_id: str, status: Funded) -> None:
    """Unlocks what escrow and funding transaction spent, once both are too deep to come back."""
    locks = (escrow_lock(competition_id), funding_lock(competition_id))
    if not await core.wallet.is_locked(locks):
        return
    if await depth(core, status.funding_broadcast.block_height) >= BURIED_BLOCKS:
        for lock in locks:
            await core.wallet.unlock(lock)
