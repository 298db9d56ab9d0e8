"""Whether the gateway and the core behind it can serve."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator_gateway import jsoncodec
from coordinator_gateway.core import Core
from coordinator_gateway.hub import Hub

_TIMEOUT_SECONDS = 3.0


class HealthCheck:
    """200 while the core serves, else 503; what is wrong is in the body."""

    def __init__(self, core: Core, hub: Hub) -> None:
        self._core = core
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path_values: dict[str, str]) -> None:
        core = await self._core_status()
        serving = core == "serving" and not self._hub.draining
        body = {
            "status": "serving" if serving else "not_serving",
            "core": core,
            "events": "connected" if self._hub.connected else "reconnecting",
        }
        response = Response(
            jsoncodec.dumps(body), 200 if serving else 503, {"cache-control": "no-store"}, "application/json"
        )
        await response(scope, receive, send)

    async def _core_status(self) -> str:
        health: Any = health_pb2_grpc.HealthStub(self._core.channel)
        try:
            answer = await health.Check(
                health_pb2.HealthCheckRequest(),
                metadata=self._core.own_metadata(),
                timeout=_TIMEOUT_SECONDS,
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name.lower()
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)).lower()
