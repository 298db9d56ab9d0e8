"""`idempotency-key`: the same caller, method, key and content get the answer that was given the first time.

The key is recorded before the request is carried out and the answer after. What was interrupted in between is
carried out again under the same server-chosen id, so that it still makes one object.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

from google.protobuf.message import Message

from coordinator.core import Core
from coordinator.domain.errors import AlreadyExists, DomainError, InvalidInput, ServiceUnavailable
from coordinator.domain.ids import derived_uuid7
from coordinator.store.models import IdempotencyRow

KEPT_SECONDS: Final = 24 * 3600
MAX_KEY_CHARACTERS: Final = 128


def check_key(key: str) -> None:
    """Refuses a key that could not be kept, whether or not the method keeps it.

    Raises:
        InvalidInput: the key is malformed.
    """
    if not (1 <= len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidInput.of(
            "idempotency-key", f"must have 1 to {MAX_KEY_CHARACTERS} printable ASCII characters"
        )


class IdempotentAnswers:
    """Answers by key, kept for a day."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def answer(
        self,
        pubkey: str,
        method: str,
        key: str,
        request: Message,
        carry_out: Callable[[str], Awaitable[bytes]],
    ) -> bytes:
        """The serialised answer to a request.

        Args:
            pubkey: the caller.
            method: full name.
            key: chosen by the caller for this one request, and checked.
            request: parsed, so that two encodings of the same content count as the same.
            carry_out: takes the id for a server-named object; called unless there is an answer already.

        Raises:
            AlreadyExists: the key was used with other content.
        """
        row_key = hashlib.sha256("\x00".join((pubkey, method, key)).encode()).hexdigest()
        request_hash = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        lock = self._locks.setdefault(row_key, asyncio.Lock())
        async with lock:
            row = await self._row(row_key, request_hash)
            if row.request_hash != request_hash:
                raise AlreadyExists(
                    "this idempotency key was used for another request", reason="IDEMPOTENCY_KEY_REUSED"
                )
            if row.response:
                return bytes(row.response)
            try:
                response = await carry_out(derived_uuid7(row.created_at, row_key))
            except ServiceUnavailable:
                raise
            except DomainError:
                # Refused: nothing was changed, and the key is free for the mended request.
                await row.delete()
                raise
            row.response = response
            await row.save(update_fields=["response"])
            return response

    async def _row(self, row_key: str, request_hash: str) -> IdempotencyRow:
        now = self._core.clock.now()
        await IdempotencyRow.filter(created_at__lt=now - KEPT_SECONDS).delete()
        row, _ = await IdempotencyRow.get_or_create(
            key=row_key, defaults={"request_hash": request_hash, "response": b"", "created_at": now}
        )
        return row
