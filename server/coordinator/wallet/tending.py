"""Looking after the wallet: what the chain loses is sent again, what is buried frees its coins.

Coins of a competition's escrow and funding transactions are the runner's to free, with their competition.
"""

from __future__ import annotations

import logging

from coordinator.domain.wallet.locks import PAYMENT_LOCK, child_parent
from coordinator.ports.chain import Chain, TransactionRejected
from coordinator.store.intents import finish_intent
from coordinator.store.models import CoinLockRow, IntentRow
from coordinator.store.tickets import IntentStatus
from coordinator.wallet.sending import BURIED_BLOCKS, Conflicted, ensure_sent

log = logging.getLogger(__name__)


async def tend(chain: Chain, now: int) -> None:
    """One look at every payment and every child that holds coins. Call it from time to time.

    A payment that was recorded and not sent, by a crash or because the node was out of reach, is sent: it was
    promised.

    Raises:
        ChainUnavailable: nothing is known; try again.
    """
    tip_height = (await chain.tip()).height
    for name in sorted({row.locked_by for row in await CoinLockRow.all()}):
        if name.startswith(PAYMENT_LOCK):
            await _tend_payment(chain, name, tip_height, now)
        elif (parent := child_parent(name)) is not None:
            # A child matters as long as its parent could need it again.
            await _free_if_buried(chain, name, parent, tip_height)


async def _tend_payment(chain: Chain, name: str, tip_height: int, now: int) -> None:
    row = await IntentRow.get_or_none(key=name)
    if row is None or "transaction" not in row.data:
        return
    txid = str(row.data["txid"])
    try:
        await ensure_sent(chain, bytes.fromhex(str(row.data["transaction"])))
    except Conflicted as conflict:
        log.error("a payment cannot be sent: %s", conflict)
        await _free_if_buried(chain, name, conflict.spender, tip_height)
        return
    except TransactionRejected as rejection:
        log.warning("the payment %s is not taken: %s", txid, rejection.reason)
        return
    if row.status == IntentStatus.PENDING:
        await finish_intent(name, now)
    await _free_if_buried(chain, name, txid, tip_height)


async def _free_if_buried(chain: Chain, name: str, txid: str, tip_height: int) -> None:
    status = await chain.transaction_status(txid)
    if status is None or status.block_height is None:
        return
    if tip_height - status.block_height + 1 >= BURIED_BLOCKS:
        await CoinLockRow.filter(locked_by=name).delete()
