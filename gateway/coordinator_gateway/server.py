"""The HTTP server: uvicorn, stopped so that open event streams do not hold it up."""

import resource
import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette

from coordinator_gateway.config import GatewayConfig

_BACKLOG = 4096


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
