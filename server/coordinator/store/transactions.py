"""Transactions that the coordinator decided on: recorded with the decision, before anything is sent.

A record lets any later transaction bring back what it spends: after a reorganisation or an eviction neither
chain nor mempool may know a parent any more (`coordinator.wallet.sending`).
"""

from __future__ import annotations

from coordinator.store.intents import record_intent
from coordinator.store.models import IntentRow


def _key(txid: str) -> str:
    return f"tx:{txid}"


async def record_transaction(
    txid: str, transaction: bytes, role: str, now: int, *, competition_id: str | None = None
) -> None:
    """Keeps a signed transaction; call it in the database transaction that decides on it.

    Args:
        role: what it is for: escrow, funding, outcome, expiry, split, closing, release, payment or child.
    """
    data = {"transaction": transaction.hex(), "role": role}
    await record_intent(_key(txid), now, competition_id=competition_id, data=data)


async def recorded_transaction(txid: str) -> bytes | None:
    """A transaction that was recorded; None for one that is not the coordinator's."""
    row = await IntentRow.get_or_none(key=_key(txid))
    return None if row is None else bytes.fromhex(str(row.data["transaction"]))


async def labels_of(txids: set[str]) -> dict[str, str]:
    """What recorded transactions are for: txid -> "<role> <competition>", or only the role of what belongs to
    no competition. What was not recorded is left out.
    """
    rows = await IntentRow.filter(key__in=[_key(txid) for txid in txids])
    return {
        row.key.removeprefix(_key("")): " ".join(filter(None, (str(row.data["role"]), row.competition_id)))
        for row in rows
    }
