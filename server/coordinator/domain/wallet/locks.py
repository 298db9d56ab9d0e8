"""Names under which coins are locked: each says what spends them."""

from __future__ import annotations

PAYMENT_LOCK = "send:"
_ESCROW, _FUNDING, _CHILD = "escrow:", "funding:", "child:"


def payment_lock(idempotency_key: str) -> str:
    """Of a payment; also the key of its record."""
    return PAYMENT_LOCK + idempotency_key


def escrow_lock(competition_id: str) -> str:
    """Of a competition's escrow transaction."""
    return _ESCROW + competition_id


def funding_lock(competition_id: str) -> str:
    """Of a competition's funding transaction."""
    return _FUNDING + competition_id


def child_lock(parent_txid: str) -> str:
    """Of the children that pay for a transaction; also the key of their record."""
    return _CHILD + parent_txid


def child_parent(name: str) -> str | None:
    """The transaction that a `child_lock` belongs to; None for other names."""
    return name.removeprefix(_CHILD) if name.startswith(_CHILD) else None
