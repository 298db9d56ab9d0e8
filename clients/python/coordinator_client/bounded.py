"""Answers over HTTP that end: httpx limits each single read, neither their sum nor their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import httpx

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_SECONDS: Final = 60.0

Hooks = Mapping[str, list[Callable[[httpx.Response], Awaitable[None]]]]


def bounded(most_bytes: int = MOST_BYTES, most_seconds: float = MOST_SECONDS) -> Hooks:
    """`event_hooks` for an `httpx.AsyncClient`: a longer body, or one that takes longer, is a `ReadError`.

    Args:
        most_bytes: of a body as it is sent, before any decompression.
        most_seconds: from the head of an answer to its end.
    """

    async def bound(response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Bounded(response.stream, response.request, most_bytes, most_seconds)

    return {"response": [bound]}


class _Bounded(httpx.AsyncByteStream):
    def __init__(
        self, stream: httpx.AsyncByteStream, request: httpx.Request, most_bytes: int, most_seconds: float
    ) -> None:
        self._stream = stream
        self._request = request
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        ends_at = asyncio.get_running_loop().time() + self._most_seconds
        seen = 0
        async for piece in self._stream:
            seen += len(piece)
            if seen > self._most_bytes:
                raise httpx.ReadError(
                    f"the answer has more than {self._most_bytes:,} bytes", request=self._request
                )
            if asyncio.get_running_loop().time() > ends_at:
                raise httpx.ReadError(
                    f"the answer takes longer than {self._most_seconds:g} seconds", request=self._request
                )
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
