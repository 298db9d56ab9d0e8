"""Database transactions that a cancelled task does not leave half open.

tortoise-orm's own `in_transaction` takes its connection (on SQLite the only one) and begins in two awaits.
A task that is cancelled in between keeps the connection for ever, and all others wait for it; one that is
cancelled while it rolls back leaves the transaction open, for the next to commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from tortoise.backends.base.client import NestedTransactionContext, TransactionContextPooled
from tortoise.backends.sqlite.client import SqliteTransactionContext
from tortoise.connection import get_connection, get_connections
from tortoise.transactions import in_transaction

T = TypeVar("T")

_CONNECTION = "default"


@asynccontextmanager
async def atomic() -> AsyncIterator[None]:
    """All of the block's writes, or, when it raises, none. Inside of another one it is part of that.

    A cancellation that comes while the transaction begins, commits or rolls back is raised after that.
    """
    context: Any = get_connection(_CONNECTION)._in_transaction()
    if isinstance(context, NestedTransactionContext):
        # Whatever happens here, the outer one decides.
        async with in_transaction(_CONNECTION):
            yield
        return
    async with AsyncExitStack() as stack:
        client = await _taken(context, stack)
        token = get_connections().set(_CONNECTION, client)
        stack.callback(get_connections().reset, token)
        try:
            await _to_the_end(client.begin())
            yield
        except BaseException:
            await _to_the_end(client.rollback())
            raise
        await _to_the_end(client.commit())


async def _taken(context: Any, stack: AsyncExitStack) -> Any:
    """The transaction's client with a connection of its own, which is given back when the stack ends."""
    if isinstance(context, SqliteTransactionContext):
        await context._trxlock.acquire()
        stack.callback(context._trxlock.release)
        await context.ensure_connection()
        return context.connection
    assert isinstance(context, TransactionContextPooled)
    await context.ensure_connection()
    client: Any = context.client
    pool = client._parent._pool
    client._connection = await pool.acquire()

    async def give_back() -> None:
        await _to_the_end(pool.release(client._connection))

    stack.push_async_callback(give_back)
    return client


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits work that a cancellation must not interrupt; raises the cancellation after it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except BaseException:
            break
    if cancelled:
        if not task.cancelled():
            task.exception()
        raise asyncio.CancelledError
    return task.result()
