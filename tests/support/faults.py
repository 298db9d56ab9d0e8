"""Outside services that break: a proxy in front of a HTTP service, and an LND server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import pytest

from coordinator_devnet.lightning.services import Macaroons

HUGE_BYTES: Final = 200 * 1024 * 1024
_PIECE: Final = 64 * 1024


class Fault(StrEnum):
    """What a service does instead of answering."""

    REFUSED = "nothing listens there"
    CUT = "the connection ends before there is an answer"
    ERROR = "it says that it is broken"
    SLOW = "no answer as long as anybody waits"
    HTML = "a page for people, with status 200"
    TRUNCATED = "half an answer"
    WRONG = "an answer of the right form with the wrong content"
    HUGE = "more than anybody wants to read"


def _answer(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close"
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


_ANSWERS: Final = {
    Fault.ERROR: _answer("503 Service Unavailable", "text/plain", b"upstream connect error"),
    Fault.HTML: _answer("200 OK", "text/html", b"<!doctype html><title>Welcome</title><h1>It works!</h1>"),
    Fault.TRUNCATED: _answer("200 OK", "application/json", b'{"id": "0190'),
    Fault.WRONG: _answer(
        "200 OK",
        "application/json",
        b'{"id": 7, "height": "high", "status": [], "enclaves": {}, "pubkey": null}',
    ),
}


class HttpProxy:
    """Passes bytes to a service and back, until it is told to break."""

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        assert target.hostname is not None
        assert target.port is not None
        self._target = target.hostname, target.port
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listens, from the second time on at the same port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def break_(self, fault: Fault) -> None:
        """From now on; connections of before are gone."""
        await self.stop()
        self._fault = fault
        if fault is not Fault.REFUSED:
            await self.start()

    async def heal(self) -> None:
        """Back to normal."""
        await self.stop()
        self._fault = None
        await self.start()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await (self._pass(reader, writer) if self._fault is None else self._fail(reader, writer))
        except asyncio.CancelledError:
            pass  # asyncio's streams would log it
        finally:
            self._connections.discard(task)
            writer.close()

    async def _fail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        match self._fault:
            case Fault.CUT:
                return
            case Fault.SLOW:
                await asyncio.Event().wait()
            case Fault.HUGE:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"connection: close\r\n\r\n[")
                for _ in range(HUGE_BYTES // _PIECE):
                    writer.write(b" " * _PIECE)
                    await writer.drain()
            case fault:
                assert fault is not None
                writer.write(_ANSWERS[fault])
                await writer.drain()
                # What it was sent and does not read would cut the connection before the answer is read.
                writer.write_eof()
                while await reader.read(_PIECE):
                    pass

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(*self._target)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(_PIECE):
                sink.write(data)
                await sink.drain()
            with contextlib.suppress(OSError):
                sink.write_eof()

        try:
            await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer))
        finally:
            their_writer.close()


@asynccontextmanager
async def proxied(target_url: str) -> AsyncIterator[HttpProxy]:
    """A proxy in front of a service."""
    proxy = HttpProxy(target_url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


class LndFaults:
    """Makes the LND servers of this process misbehave, all calls alike."""

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._healed = asyncio.Event()

    async def break_(self, fault: Fault) -> None:
        """From now on."""
        self._fault = fault
        self._healed.clear()

    async def heal(self) -> None:
        """Back to normal; calls that hang fail."""
        self._fault = None
        self._healed.set()

    def handler(self, real: Any) -> Any:
        """What serves a call instead of the real handler."""
        if self._fault is None:
            return real
        fault = self._fault

        async def fail(_: Any, context: Any) -> bytes:
            match fault:
                case Fault.REFUSED | Fault.CUT:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                case Fault.ERROR:
                    await context.abort(grpc.StatusCode.UNKNOWN, "chain notifier is exiting")
                case Fault.SLOW:
                    await self._healed.wait()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                case Fault.HTML:
                    return b"<!doctype html><title>Welcome</title>"
                case Fault.TRUNCATED:
                    return b"\x0a\x40half"
                case Fault.HUGE:
                    return b"\x7a" + b"\x00" * 8 * 1024 * 1024
            return b""  # a message in which nothing is set

        async def fail_as_stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            yield await fail(request, context)

        if real.response_streaming:
            return grpc.unary_stream_rpc_method_handler(fail_as_stream)
        return grpc.unary_unary_rpc_method_handler(fail)


@contextmanager
def faulty_lnd(monkeypatch: pytest.MonkeyPatch, macaroon_hex: str) -> Iterator[LndFaults]:
    """Faults of the node with this macaroon; the players' nodes work on."""
    faults = LndFaults()
    intercept = Macaroons.intercept_service

    async def intercepted(self: Any, continuation: Any, details: Any) -> Any:
        real = await intercept(self, continuation, details)
        return faults.handler(real) if self._macaroon == macaroon_hex.encode() else real

    with monkeypatch.context() as patched:
        patched.setattr(Macaroons, "intercept_service", intercepted)
        yield faults
