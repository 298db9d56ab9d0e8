"""Sending recorded transactions, with those that they spend where the chain has lost them."""

from __future__ import annotations

import logging

from coordinator.contract.tx import Transaction
from coordinator.ports.chain import Chain, ChainError, TransactionRejected, TransactionStatus
from coordinator.store.transactions import recorded_transaction

log = logging.getLogger(__name__)

BURIED_BLOCKS = 6
"""Confirmations after which a transaction is taken to stay: reorganisations are handled up to this depth."""

# Bitcoin Core's words (validation.cpp) for what the next blocks bring by themselves.
_PASSES_WITH_TIME = ("non-final", "non-BIP68-final")
# Current and older words for an output that is unknown, or spent by something else.
_INPUTS_MISSING = ("bad-txns-inputs-missingorspent", "missing inputs")


class Conflicted(ChainError):
    """Another transaction spends an output that this one needs: as long as that one stays, this one is void.

    Attributes:
        txid: the one that cannot be sent.
        spender: the one that is in its way.
    """

    def __init__(self, txid: str, spender: str) -> None:
        super().__init__(f"{txid} cannot be sent: {spender} spends what it needs")
        self.txid = txid
        self.spender = spender


async def ensure_sent(chain: Chain, transaction: bytes) -> TransactionStatus | None:
    """Where a transaction is; sends it (again) when neither block nor mempool has it.

    Parents that were recorded and are missing too are sent before it. A time lock that is still closed is no
    error: the transaction is sent by a later call.

    Returns:
        Its status, or None when it was only now sent, or cannot be in the next block yet.

    Raises:
        Conflicted: something else spends one of its inputs.
        TransactionRejected: the chain does not take it.
        ChainUnavailable: nothing is known; try again.
    """
    parsed = Transaction.parse(transaction)
    status = await chain.transaction_status(parsed.txid)
    if status is not None:
        return status
    try:
        await _broadcast(chain, parsed)
    except TransactionRejected as rejection:
        if not (_is_one_of(rejection, _INPUTS_MISSING) and await _resend_parents(chain, parsed)):
            raise
        await _broadcast(chain, parsed)
    return None


async def _broadcast(chain: Chain, parsed: Transaction) -> None:
    try:
        await chain.broadcast(parsed.serialize())
    except TransactionRejected as rejection:
        if _is_one_of(rejection, _PASSES_WITH_TIME):
            log.info("%s waits: %s", parsed.txid, rejection.reason)
            return
        await raise_conflict(chain, parsed)
        raise


async def _resend_parents(chain: Chain, parsed: Transaction) -> bool:
    """Sends recorded parents that the chain has lost; whether there were any."""
    resent = False
    for txid in dict.fromkeys(txin.outpoint.txid for txin in parsed.inputs):
        parent = await recorded_transaction(txid)
        if parent is not None and await chain.transaction_status(txid) is None:
            log.warning("%s: its parent %s is gone from the chain; sending it again", parsed.txid, txid)
            await ensure_sent(chain, parent)
            resent = True
    return resent


async def raise_conflict(chain: Chain, parsed: Transaction) -> None:
    """Looks whether something else spends an input of a transaction.

    Raises:
        Conflicted: so it is.
    """
    for txin in parsed.inputs:
        spent = await chain.outspend(txin.outpoint.txid, txin.outpoint.vout)
        if spent is not None and spent.txid != parsed.txid:
            raise Conflicted(parsed.txid, spent.txid)


def _is_one_of(rejection: TransactionRejected, words: tuple[str, ...]) -> bool:
    return rejection.reason.lower().startswith(tuple(word.lower() for word in words))
