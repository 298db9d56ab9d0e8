"""The HTTP server: uvicorn, stopped so that open event streams do not hold it up."""

import asyncio
import resource
import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from coordinator_gateway.config import GatewayConfig

_BACKLOG = 4096


class Connection(H11Protocol):
    """A client's connection: closed at once if there are too many, or if no request comes in time."""

    max_connections: int
    receive_timeout_seconds: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._first_request = self.loop.call_later(self.receive_timeout_seconds, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        if (timer := getattr(self, "_first_request", None)) is not None:
            timer.cancel()

    def _close_if_silent(self) -> None:
        # Between requests uvicorn's own timeout holds.
        if self.cycle is None:
            self.transport.close()


class GatewayServer(uvicorn.Server):
    """uvicorn, but streams end when the stop begins: left alone it would wait for clients to go away."""

    def __init__(self, app: Starlette, config: GatewayConfig) -> None:
        self._app = app
        # Later than the gateway itself cuts a stream, so that it is the one to notice.
        self._peer_timeout_milliseconds = int(config.client_stall_seconds * 2000)
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                http=type(
                    "GatewayConnection",
                    (Connection,),
                    {
                        "max_connections": config.max_connections,
                        "receive_timeout_seconds": config.receive_timeout_seconds,
                    },
                ),
                lifespan="on",
                proxy_headers=True,
                forwarded_allow_ips=config.trusted_proxies,
                server_header=False,
                access_log=False,
                backlog=_BACKLOG,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=config.shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                self._drop_dead_peers(listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends all event streams, then everything else."""
        self._app.state.hub.drain()
        await super().shutdown(sockets)

    def _drop_dead_peers(self, listener: Any) -> None:
        """Connections (they inherit it) whose peer takes or acknowledges nothing for a while are dropped.

        A stream that is cut leaves data that its client does not take; without this it would stay for hours.
        """
        if listener.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._peer_timeout_milliseconds)


def allow_many_connections() -> None:
    """Raises the process's limit of open files to what the system allows: a client is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
