"""Child pays for parent: a transaction that no block takes is lifted by spending its change at a higher fee.

A child is recorded, with its coins locked, before it is sent. While its parent waits it is sent again where
the chain has lost it, and replaced by one that pays more where two more blocks did not take it (BIP125).

Only transactions with an output of the wallet can be helped so: escrow, funding, closing and release. The
outcome, expiry and split transactions pay the contract alone; see docs/escrow.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from coordinator.contract.sizes import dust_limit_sats, virtual_size
from coordinator.contract.tx import Transaction
from coordinator.contract.utxo import OutPoint
from coordinator.core import Core
from coordinator.domain.wallet.coins import WalletCoin
from coordinator.domain.wallet.locks import child_lock
from coordinator.domain.wallet.payment import child_fee_sats, sweep_weight, sweep_with_fee
from coordinator.ports.chain import Chain, ChainUnavailable
from coordinator.runner.fees import fee_rate
from coordinator.store.events import NewEvent
from coordinator.store.intents import record_intent
from coordinator.store.models import IntentRow
from coordinator.store.transactions import record_transaction
from coordinator.wallet import Conflicted, ensure_sent

log = logging.getLogger(__name__)

STUCK_BLOCKS = 2
"""A transaction is lifted when so many blocks have passed it by."""

MAX_CHILD_FEE_PERCENT = 25
"""A child pays at most this share of what its parent brings to others, or to the wallet alone."""

_STEP = 1.25
"""By what factor at least a replacement raises the fee rate."""

_RELAY_SATS_PER_VB = 1
"""What a replacement pays for its own relay, above the fee of what it replaces (BIP125 rule 4)."""


@dataclass(frozen=True, slots=True)
class Child:
    """A transaction that pays for its parent, as it is recorded."""

    txid: str
    transaction: str
    fee_sats: int
    package_rate_sats_per_vb: float
    """What parent, its unconfirmed ancestors and child pay together."""
    height: int
    """Of the chain when it was made."""

    @property
    def spends(self) -> list[OutPoint]:
        """The coins it spends."""
        return [txin.outpoint for txin in Transaction.parse(bytes.fromhex(self.transaction)).inputs]


@dataclass(frozen=True, slots=True)
class Package:
    """A transaction and its unconfirmed ancestors: what a miner takes together."""

    weight: int
    fee_sats: int

    @property
    def rate_sats_per_vb(self) -> float:
        """What a miner gets for a virtual byte."""
        return self.fee_sats / virtual_size(self.weight)


async def lift(core: Core, competition_id: str, role: str, parent: bytes) -> None:
    """Helps a transaction that waits in the mempool, if it has an output of the wallet.

    Call it at every look as long as the parent waits: the children's record says what is to be done next.

    Raises:
        ChainUnavailable: nothing is known; try again.
    """
    parsed = Transaction.parse(parent)
    if not await core.wallet.own_outputs(parsed):
        return
    now, chain = core.clock.now(), core.chain
    height = (await chain.tip()).height
    record = await record_intent(
        child_lock(parsed.txid),
        now,
        competition_id=competition_id,
        data={"since_height": height, "children": []},
    )
    children = _children(record)
    if children and not await _send(chain, children[-1]):
        return
    since = children[-1].height if children else int(str(record.data["since_height"]))
    if height - since < STUCK_BLOCKS:
        return
    async with core.wallet.deciding:
        child = await _next_child(core, parsed, children, height)
        if child is None:
            return
        held = {outpoint for earlier in children for outpoint in earlier.spends}
        told = NewEvent(
            "transaction.lifted",
            {"role": role, "txid": parsed.txid, "child_txid": child.txid, "fee_sats": child.fee_sats},
        )
        async with core.competitions.transaction():
            record.data = {**record.data, "children": [asdict(c) for c in (*children, child)]}
            await record.save(update_fields=["data"])
            raw = bytes.fromhex(child.transaction)
            await record_transaction(child.txid, raw, "child", now, competition_id=competition_id)
            await core.wallet.lock_outpoints(
                [outpoint for outpoint in child.spends if outpoint not in held], child_lock(parsed.txid)
            )
            await core.competitions.tell(competition_id, now, [told])
    await _send(chain, child)


async def _send(chain: Chain, child: Child) -> bool:
    """Sends a child; False where the coins are gone: a child before it was mined meanwhile."""
    try:
        await ensure_sent(chain, bytes.fromhex(child.transaction))
    except Conflicted as conflict:
        log.warning("%s", conflict)
        return False
    return True


async def _next_child(
    core: Core, parent: Transaction, children: Sequence[Child], height: int
) -> Child | None:
    """The next child, or None where none is needed or possible."""
    # Looked at again: blocks come while others are decided on.
    status = await core.chain.transaction_status(parent.txid)
    if status is None or status.confirmed:
        return None
    package = await unconfirmed_package(core.chain, parent)
    last = children[-1] if children else None
    rate = await fee_rate(core)
    if last is not None:
        rate = max(rate, last.package_rate_sats_per_vb * _STEP)
    if package.rate_sats_per_vb >= rate:
        return None
    coins = await _coins_to_spend(core, parent, last)
    if not coins:
        return None
    # As long as the script that a new address will have.
    script = coins[0].script_pubkey
    fee, least = _fees(package, coins, script, rate, last)
    if sum(coin.value_sats for coin in coins) < fee + dust_limit_sats(script):
        coins = [*coins, *await _one_more(core)]
        fee, least = _fees(package, coins, script, rate, last)
    left_sats = sum(coin.value_sats for coin in coins) - dust_limit_sats(script)
    most = min(await _bound_sats(core, parent), left_sats)
    if most < least:
        log.warning("%s waits for a block; nothing that may be spent on it would help", parent.txid)
        return None
    if last is None:
        destination = await core.wallet.new_script()
    else:
        destination = Transaction.parse(bytes.fromhex(last.transaction)).outputs[0].script_pubkey
    planned = sweep_with_fee(coins, destination, min(fee, most))
    signed = await asyncio.to_thread(
        core.wallet.keys.sign_taproot_inputs, planned.unsigned_transaction, planned.inputs
    )
    together = Package(package.weight + planned.weight, package.fee_sats + planned.fee_sats)
    return Child(planned.txid, signed.hex(), planned.fee_sats, together.rate_sats_per_vb, height)


def _fees(
    package: Package, coins: Sequence[WalletCoin], script: bytes, rate: float, last: Child | None
) -> tuple[int, int]:
    """What brings the package to a fee rate, and the least that nodes relay; in sats."""
    weight = sweep_weight(coins, script)
    relay = virtual_size(weight) * _RELAY_SATS_PER_VB
    least = relay if last is None else last.fee_sats + relay
    return max(least, child_fee_sats(package.weight, package.fee_sats, weight, rate)), least


async def _bound_sats(core: Core, parent: Transaction) -> int:
    own = {coin.outpoint.vout for coin in await core.wallet.own_outputs(parent)}
    values = [output.value_sats for output in parent.outputs]
    to_others = sum(value for vout, value in enumerate(values) if vout not in own)
    return (to_others or sum(values)) * MAX_CHILD_FEE_PERCENT // 100


async def _coins_to_spend(core: Core, parent: Transaction, last: Child | None) -> list[WalletCoin]:
    """What the child before spends, which its replacement has to spend too; else the parent's change.

    Change that another transaction spends, or is about to spend, is not to be had: that one helps then.
    """
    if last is not None:
        coins = []
        for outpoint in last.spends:
            created = await _read(core.chain, outpoint.txid)
            coins += [c for c in await core.wallet.own_outputs(created) if c.outpoint == outpoint]
        return coins
    for coin in sorted(await core.wallet.own_outputs(parent), key=lambda c: -c.value_sats):
        spent = await core.chain.outspend(coin.outpoint.txid, coin.outpoint.vout)
        if spent is None and not coin.locked:
            return [coin]
    return []


async def _one_more(core: Core) -> list[WalletCoin]:
    """The greatest free coin, for change that is too small. Confirmed: a replacement may add no other."""
    free = [coin for coin in await core.wallet.coins() if coin.confirmed and not coin.locked]
    return sorted(free, key=lambda coin: -coin.value_sats)[:1]


async def unconfirmed_package(chain: Chain, transaction: Transaction) -> Package:
    """Weight and fees of a transaction and of all its ancestors that are in no block.

    Raises:
        ChainUnavailable: an ancestor cannot be read.
    """
    weight = fee = 0
    pending, parents = [transaction], dict[str, Transaction]()
    while pending:
        current = pending.pop()
        weight += current.weight
        fee -= sum(output.value_sats for output in current.outputs)
        for txin in current.inputs:
            txid = txin.outpoint.txid
            if txid not in parents:
                parents[txid] = await _read(chain, txid)
                status = await chain.transaction_status(txid)
                if status is None or not status.confirmed:
                    pending.append(parents[txid])
            fee += parents[txid].outputs[txin.outpoint.vout].value_sats
    return Package(weight, fee)


async def _read(chain: Chain, txid: str) -> Transaction:
    raw = await chain.transaction(txid)
    if raw is None:
        raise ChainUnavailable(f"the server does not give transaction {txid}")
    return Transaction.parse(raw)


def _children(record: IntentRow) -> list[Child]:
    stored = record.data["children"]
    assert isinstance(stored, list)
    return [Child(**item) for item in stored]
