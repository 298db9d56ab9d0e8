"""HTTP answers that never end, end."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from coordinator_client.bounded import bounded


class Endless(httpx.AsyncByteStream):
    """Pieces for ever; counts them."""

    def __init__(self) -> None:
        self.pieces = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            await asyncio.sleep(0.001)
            yield b"x" * 1000

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("limits", "words"), [((10_000, 60.0), "10,000 bytes"), ((2**60, 0.05), "0.05 seconds")]
)
async def test_an_endless_answer_is_an_error(limits: tuple[int, float], words: str) -> None:
    body = Endless()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    async with httpx.AsyncClient(transport=transport, event_hooks=bounded(*limits)) as client:
        with pytest.raises(httpx.ReadError, match=words):
            await client.get("http://service/")
    assert body.closed
    assert limits[0] > 10_000 or body.pieces == 11


async def test_an_answer_within_the_limits_arrives_whole() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * 10_000))
    async with httpx.AsyncClient(transport=transport, event_hooks=bounded(10_000)) as client:
        assert (await client.get("http://service/")).content == b"x" * 10_000
