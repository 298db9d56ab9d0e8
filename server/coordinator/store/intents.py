"""Intents: side effects that move money, recorded before they are attempted and looked up after a crash."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.store.models import IntentRow
from coordinator.store.tickets import IntentStatus


async def record_intent(
    key: str, now: int, *, competition_id: str | None = None, data: Mapping[str, object] | None = None
) -> IntentRow:
    """The intent with this idempotency key, recorded now unless it already is."""
    row, _ = await IntentRow.get_or_create(
        key=key,
        defaults={
            "competition_id": competition_id,
            "status": IntentStatus.PENDING,
            "data": dict(data or {}),
            "created_at": now,
        },
    )
    return row


async def attempt_intent(key: str, now: int) -> None:
    """Notes that the side effect is being attempted."""
    await IntentRow.filter(key=key).update(attempted_at=now)


async def finish_intent(key: str, now: int, status: IntentStatus = IntentStatus.DONE) -> None:
    """Notes that the side effect is known to have happened, or never will."""
    await IntentRow.filter(key=key, status=IntentStatus.PENDING).update(status=status, done_at=now)
