"""Answers with JSON: small ones at once, large ones streamed as they are written, compressed if it pays."""

import asyncio
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message
from starlette.types import Scope, Send

from coordinator_gateway import jsoncodec
from coordinator_gateway.httprule import Binding
from coordinator_gateway.jsonpieces import pieces

RawHeaders = Iterable[tuple[bytes, bytes]]

# Of the message. Larger ones (the signatures of a whole contract) are written piece by piece in a thread.
_LARGE_BYTES = 256 * 1024
# Of the text. Below this compressing saves no packet worth its time.
_COMPRESSED_BYTES = 8 * 1024
# zlib lets other threads run; up to this changing threads takes longer.
_COMPRESSED_AT_ONCE_BYTES = 64 * 1024
# What goes to the connection at a time.
_CHUNK_BYTES = 128 * 1024
# Signatures are random and at a higher level hardly any smaller.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS

_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_VARY = (b"vary", b"accept-encoding")
_ENCODED = (b"content-encoding", b"gzip")


async def send_answer(
    scope: Scope, send: Send, binding: Binding, answer: Message, headers: RawHeaders = ()
) -> None:
    """Answers with a method's response, or its part that the binding names."""
    if not binding.response_body and answer.ByteSize() > _LARGE_BYTES:
        await _stream(scope, send, answer, headers)
        return
    content = jsoncodec.dumps(binding.response_json(answer))
    raw = [*_HEADERS, *headers]
    if len(content) >= _COMPRESSED_BYTES:
        raw.append(_VARY)
        if accepts_gzip(scope):
            raw.append(_ENCODED)
            if len(content) > _COMPRESSED_AT_ONCE_BYTES:
                content = await asyncio.to_thread(_compress, content)
            else:
                content = _compress(content)
    raw.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": content})


async def _stream(scope: Scope, send: Send, answer: Message, headers: RawHeaders) -> None:
    raw = [*_HEADERS, _VARY, *headers]
    if accepts_gzip(scope):
        raw.append(_ENCODED)
        chunks = _compressed(pieces(answer))
    else:
        chunks = _gathered(pieces(answer))
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    if scope["method"] != "HEAD":
        # One at a time: the next is written when the connection has taken the one before.
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for part in parts:
        chunk += part
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)

    def compressed() -> Iterator[bytes]:
        yield from map(compressor.compress, parts)
        yield compressor.flush()

    return _gathered(compressed())


def _compress(content: bytes) -> bytes:
    return zlib.compress(content, _LEVEL, _GZIP)


def accepts_gzip(scope: Scope) -> bool:
    """Whether the client takes gzip (RFC 9110 section 12.5.3)."""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            for choice in value.lower().split(b","):
                coding, _, weight = choice.partition(b";")
                if coding.strip() in (b"gzip", b"*"):
                    return not _is_zero(weight)
    return False


def _is_zero(weight: Any) -> bool:
    _, _, number = weight.replace(b" ", b"").partition(b"q=")
    return bool(number) and not number.strip(b"0.")
