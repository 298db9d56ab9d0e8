"""What every call goes through: request id, parsing, who calls, idempotency key, errors, a log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from coordinator.api import call as calls
from coordinator.api.access import ACCESS, IDEMPOTENT, PACKAGE, Access
from coordinator.api.auth import Authenticator
from coordinator.api.call import Call
from coordinator.api.errors import abort
from coordinator.api.idempotency import IdempotentAnswers, check_key
from coordinator.api.metadata import CallMetadata
from coordinator.api.text import check_text
from coordinator.core import Core
from coordinator.domain.errors import InvalidInput

log = logging.getLogger(__name__)

Context = Any
"""grpc.aio.ServicerContext; its stubs want type parameters that say nothing here."""
_NS_PER_MS: Final = 1_000_000


class ApiInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the methods of `coordinator.v1`; health and reflection pass untouched."""

    def __init__(self, core: Core) -> None:
        self._authenticator = Authenticator(core)
        self._idempotent = IdempotentAnswers(core)
        self._running: set[asyncio.Task[bytes]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler with everything around it, None where there is none."""
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or not method.startswith(f"/{PACKAGE}."):
            return handler
        access = ACCESS.get(method)
        if access is None:
            return None  # nobody has said who may call it
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, access, handler),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(self._unary(method, access, handler))

    async def finish(self, timeout_seconds: float | None) -> None:
        """Waits for calls whose client has gone away: what they have begun is carried out."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_seconds)

    def _unary(
        self, method: str, access: Access, handler: Any
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(request_bytes: bytes, context: Context) -> bytes:
            async def respond() -> bytes:
                request, call = await self._enter(method, access, handler, request_bytes, context)

                async def carry_out(server_chosen_id: str = "") -> bytes:
                    calls.enter_call(
                        Call(
                            call.method,
                            call.request_id,
                            call.caller,
                            call.idempotency_key,
                            server_chosen_id,
                        )
                    )
                    response = await handler.unary_unary(request, context)
                    return bytes(handler.response_serializer(response))

                if method in IDEMPOTENT and call.idempotency_key is not None:
                    return await self._idempotent.answer(
                        call.caller.pubkey, method, call.idempotency_key, request, carry_out
                    )
                return await carry_out()

            with _Logged(method, context) as logged:
                try:
                    return await self._to_the_end(respond())
                except Exception as error:
                    logged.failed(error)
                    await abort(context, error)

        return answer

    def _streaming(
        self, method: str, access: Access, handler: Any
    ) -> Callable[[bytes, Context], AsyncIterator[Message]]:
        async def answer(request_bytes: bytes, context: Context) -> AsyncIterator[Message]:
            with _Logged(method, context) as logged:
                try:
                    request, call = await self._enter(method, access, handler, request_bytes, context)
                    calls.enter_call(call)
                    async for item in handler.unary_stream(request, context):
                        yield item
                except Exception as error:
                    logged.failed(error)
                    await abort(context, error)

        return answer

    async def _enter(
        self, method: str, access: Access, handler: Any, request_bytes: bytes, context: Context
    ) -> tuple[Message, Call]:
        metadata = CallMetadata(context.invocation_metadata() or ())
        try:
            request: Message = handler.request_deserializer(request_bytes)
        except DecodeError:
            raise InvalidInput.of("", "the request is no message of this method") from None
        caller = await self._authenticator.caller(method, access, metadata, request_bytes)
        check_text(request)
        idempotency_key = metadata.get("idempotency-key") if metadata.has("idempotency-key") else None
        if idempotency_key is not None:
            check_key(idempotency_key)
        call = Call(
            method,
            calls.request_id.get(),
            caller,
            idempotency_key,
        )
        return request, call

    async def _to_the_end(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        """Awaits work that a client's going away must not interrupt half-way."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[bytes]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # it was told to the client, or the client is gone


class _Logged:
    """One line per call, with its request id, outcome and duration."""

    def __init__(self, method: str, context: Context) -> None:
        self._method = method
        self._outcome = "ok"
        self._started_ns = time.perf_counter_ns()
        self._request_id = CallMetadata.request_id_of(context.invocation_metadata() or ())

    def failed(self, error: Exception) -> None:
        """Notes why the call failed."""
        self._outcome = getattr(error, "reason", type(error).__name__)

    def __enter__(self) -> _Logged:
        calls.request_id.set(self._request_id)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._outcome = "cancelled"
        milliseconds = (time.perf_counter_ns() - self._started_ns) / _NS_PER_MS
        log.info("[%s] %s %s %.1f ms", self._request_id, self._method, self._outcome, milliseconds)
