"""A gateway on a real socket in front of a gRPC server on a real socket that keeps a log in memory.

`MemoryCore` implements the generated servicers of competitions and events; every other method answers with
what `MemoryCore.answers` has for it. What reaches it is recorded in `MemoryCore.calls`.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from coordinator.v1 import competition_pb2, event_pb2, event_pb2_grpc
from coordinator_gateway import api
from coordinator_gateway.app import create_app
from coordinator_gateway.config import GatewayConfig
from coordinator_gateway.server import GatewayServer


@dataclass
class Call:
    """One call that reached the core."""

    method: str
    request: Any
    metadata: dict[str, str]


@dataclass
class StoredEvent:
    """An event in the log; one that is not public has an owner's session token."""

    event: event_pb2.Event
    token: str = ""


@dataclass
class Fault:
    """What a method fails with: a status and its packed details."""

    code: grpc.StatusCode
    message: str = ""
    details: list[Message] = field(default_factory=list)

    def trailing(self) -> tuple[tuple[str, bytes], ...]:
        if not self.details:
            return ()
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return (("grpc-status-details-bin", status.SerializeToString()),)


class MemoryCore(event_pb2_grpc.EventServiceServicer):
    """The core's side of the API, in memory."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Message] = {}
        self.faults: dict[str, Fault] = {}
        self.delay_seconds = 0.0
        self.log: list[StoredEvent] = []
        self.tokens: set[str] = set()
        # Sequences before this one are no longer in the log.
        self.log_start = 0
        self.heartbeat_seconds = 60.0
        self.competitions: dict[str, competition_pb2.Competition] = {}
        self._changed = asyncio.Condition()

    # --- the log ---

    @property
    def head(self) -> int:
        return self.log[-1].event.sequence if self.log else 0

    async def publish(
        self,
        kind: str = "ticket.paid",
        competition_id: str = "c1",
        *,
        token: str = "",
        data: dict[str, Any] | None = None,
    ) -> int:
        """Appends an event and wakes the watchers; its sequence."""
        return await self.publish_many([(kind, competition_id, token, data or {})])

    async def publish_many(self, events: list[tuple[str, str, str, dict[str, Any]]]) -> int:
        for kind, competition_id, token, data in events:
            event = event_pb2.Event(sequence=self.head + 1, competition_id=competition_id, kind=kind)
            event.occurred_at.GetCurrentTime()
            event.data.update(data)
            self.log.append(StoredEvent(event, token))
            competition = self.competitions.setdefault(
                competition_id, competition_pb2.Competition(id=competition_id)
            )
            competition.entries += 1
            competition.sequence = event.sequence
        async with self._changed:
            self._changed.notify_all()
        return self.head

    def watch_calls(self) -> list[Call]:
        return [call for call in self.calls if call.method.endswith("EventService/Watch")]

    async def Watch(
        self, request: event_pb2.WatchRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[event_pb2.WatchResponse]:
        """As the proto has it."""
        name = "/coordinator.v1.EventService/Watch"
        metadata = _metadata(context)
        self.calls.append(Call(name, request, metadata))
        await self._fail(name, context)
        token = metadata.get("x-session-token", "")
        if token and token not in self.tokens:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown session")
        after = request.after_sequence if request.HasField("after_sequence") else self.head
        if after > self.head or (request.HasField("after_sequence") and after < self.log_start):
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"the log has {self.log_start} to {self.head}")
        if request.include_snapshot:
            if request.competition_id and request.competition_id not in self.competitions:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such competition")
            snapshot = event_pb2.Snapshot(sequence=self.head)
            snapshot.competitions.extend(
                c for c in self.competitions.values() if request.competition_id in ("", c.id)
            )
            after = self.head
            yield event_pb2.WatchResponse(snapshot=snapshot)
        while True:
            sent_up_to = self.head
            for stored in self.log[_index_after(self.log, after) :]:
                after = stored.event.sequence
                if _wanted(stored, request, token):
                    yield event_pb2.WatchResponse(event=stored.event)
            after = max(after, sent_up_to)
            if self.head > after:
                continue
            try:
                async with asyncio.timeout(self.heartbeat_seconds), self._changed:
                    await self._changed.wait_for(lambda seen=after: self.head > seen)
            except TimeoutError:
                yield event_pb2.WatchResponse(heartbeat=event_pb2.Heartbeat(sequence=after))

    # --- unary methods ---

    def handler(self, method: Any) -> grpc.RpcMethodHandler:
        name = f"/{method.containing_service.full_name}/{method.name}"
        request_class, response_class = (
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Message:
            self.calls.append(Call(name, request, _metadata(context)))
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._fail(name, context)
            if name.endswith("/ListCompetitions") and name not in self.answers:
                return competition_pb2.ListCompetitionsResponse(
                    competitions=self.competitions.values(), sequence=self.head
                )
            return self.answers.get(name) or response_class()

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )

    async def _fail(self, name: str, context: grpc.aio.ServicerContext) -> None:
        if (fault := self.faults.get(name)) is not None:
            await context.abort(fault.code, fault.message, fault.trailing())


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return dict(context.invocation_metadata() or ())  # type: ignore[arg-type]


def _index_after(log: list[StoredEvent], sequence: int) -> int:
    # Sequences have no gaps here.
    return max(0, sequence - log[0].event.sequence + 1) if log else 0


def _wanted(stored: StoredEvent, request: event_pb2.WatchRequest, token: str) -> bool:
    event = stored.event
    if stored.token and stored.token != token:
        return False
    if request.competition_id and event.competition_id != request.competition_id:
        return False
    return not request.kinds or any(
        event.kind.startswith(kind[:-1]) if kind.endswith(".*") else event.kind == kind
        for kind in request.kinds
    )


class CoreServer:
    """A MemoryCore behind a gRPC server that can be stopped and started at the same address."""

    def __init__(
        self, core: MemoryCore | None = None, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.core = core or MemoryCore()
        self._credentials = credentials
        self.health = health.aio.HealthServicer()
        self.port = free_port()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        event_pb2_grpc.add_EventServiceServicer_to_server(self.core, server)
        for service in api.services():
            handlers = {
                method.name: self.core.handler(method)
                for method in service.methods
                if not method.server_streaming
            }
            if handlers:
                server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(service.full_name, handlers),)
                )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        if self._credentials is None:
            bound = server.add_insecure_port(self.address)
        else:
            bound = server.add_secure_port(self.address, self._credentials)
        assert bound == self.port
        await server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningGateway:
    """A gateway served by uvicorn."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.app = create_app(config)
        self.server = GatewayServer(self.app, config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.port}"

    @property
    def hub(self) -> Any:
        return self.app.state.hub

    async def start(self) -> None:
        self._task = asyncio.create_task(self.server._serve())
        while not self.server.started:
            assert not self._task.done(), "the gateway did not start"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.server.should_exit = True
        if self._task is not None:
            await self._task


@dataclass
class World:
    """A gateway, the core behind it, and a client."""

    core_server: CoreServer
    gateway: RunningGateway
    client: httpx.AsyncClient

    @property
    def core(self) -> MemoryCore:
        return self.core_server.core

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Waits until the condition holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def gateway_to(core: str, **settings: Any) -> AsyncIterator[RunningGateway]:
    """A gateway in front of the core at an address; `settings` hold the token that the core knows."""
    given = {"core": core, "port": free_port(), "rate_limit_per_second": 0} | settings
    gateway = RunningGateway(GatewayConfig(**given))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@contextlib.asynccontextmanager
async def running(core: MemoryCore | None = None, **settings: Any) -> AsyncIterator[World]:
    """A gateway with these settings in front of a core, both on ports of their own."""
    server = CoreServer(core)
    await server.start()
    try:
        async with (
            gateway_to(server.address, **{"token": "shared"} | settings) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=10) as client,
        ):
            await asyncio.wait_for(gateway.hub.ready.wait(), 5)
            yield World(server, gateway, client)
    finally:
        await server.stop()


@dataclass
class Frame:
    """One frame of an event stream."""

    id: str = ""
    event: str = ""
    data: str = ""
    retry: str = ""
    comment: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class EventStreamClient:
    """Reads an event stream from a plain socket, so that it can be as slow and as rude as a test needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._text = b""

    @classmethod
    async def open(
        cls,
        world: World,
        path: str = "/api/v1/events",
        *,
        receive_buffer: int | None = None,
        **headers: str,
    ) -> "EventStreamClient":
        """Connects; header names have _ for -."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.gateway.config.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        lines = [f"GET {path} HTTP/1.1", "host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        client = cls(reader, writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        client.status = int(head[0].split()[1])
        client.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        return client

    async def frame(self, seconds: float = 5.0) -> Frame:
        """The next frame. EOFError at the end of the stream."""
        async with asyncio.timeout(seconds):
            while b"\n\n" not in self._text:
                self._text += await self._chunk()
        text, _, self._text = self._text.partition(b"\n\n")
        frame = Frame()
        for line in text.decode().split("\n"):
            name, _, value = line.partition(":")
            setattr(frame, name or "comment", value.strip())
        return frame

    async def event(self, seconds: float = 5.0) -> Frame:
        """The next frame that is a stored event."""
        while not (frame := await self.frame(seconds)).id:
            pass
        return frame

    async def _chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        if size == 0:
            raise EOFError
        return (await self.reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        """Drops the connection."""
        self.writer.transport.abort()
