"""What every command works with, and what several share."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from coordinator.admin.connection import Connection
from coordinator.admin.output import Output
from coordinator_client.grpc import GrpcClient

T = TypeVar("T")

MAX_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one command."""

    arguments: argparse.Namespace
    connection: Connection
    client: GrpcClient
    out: Output


async def all_pages(
    fetch: Callable[[int, str], Awaitable[tuple[Sequence[T], str]]], limit: int | None
) -> tuple[list[T], str]:
    """Items of as many pages as it takes, and the token of what follows (empty: nothing).

    Args:
        fetch: takes page size and token, gives the page and the next token.
        limit: the most items; None for all.
    """
    items: list[T] = []
    token = ""
    while True:
        size = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(items))
        page, token = await fetch(size, token)
        items += page
        if not token or (limit is not None and len(items) >= limit):
            return items, token
