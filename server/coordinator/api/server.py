"""The gRPC server: all services, health, reflection, limits, TLS."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.api.access import ACCESS
from coordinator.api.interceptor import ApiInterceptor
from coordinator.api.services.competition import CompetitionService
from coordinator.api.services.entry import EntryService
from coordinator.api.services.event import HEARTBEAT_SECONDS, EventService
from coordinator.api.services.keymeld import KeymeldService
from coordinator.api.services.payout import PayoutService
from coordinator.api.services.ticket import TicketService
from coordinator.api.services.user import UserService
from coordinator.api.services.wallet import WalletService
from coordinator.config import ConfigError, Settings
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.v1 import (
    competition_pb2,
    competition_pb2_grpc,
    entry_pb2,
    entry_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    keymeld_pb2,
    keymeld_pb2_grpc,
    payout_pb2,
    payout_pb2_grpc,
    ticket_pb2,
    ticket_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
)

SERVICES: Final = tuple(
    service
    for file in (
        competition_pb2,
        ticket_pb2,
        entry_pb2,
        keymeld_pb2,
        payout_pb2,
        wallet_pb2,
        user_pb2,
        event_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)
"""Descriptors of all services of the API."""

_MIB: Final = 1024 * 1024
_OPTIONS: Final = (
    # A contract with all its signatures has tens of megabytes; what players send is small.
    ("grpc.max_send_message_length", 64 * _MIB),
    ("grpc.max_receive_message_length", 4 * _MIB),
    # The gateway passes on headers of up to 4 KiB each.
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this grpcio 1.8x waits a minute for a ping's answer, whatever the keepalive timeout says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A second server on the same port is a mistake, not a second worker.
    ("grpc.so_reuseport", 0),
)


class ApiServer:
    """A bound server. Start it, and stop it before the database is closed."""

    def __init__(
        self,
        server: grpc.aio.Server,
        interceptor: ApiInterceptor,
        events: EventService,
        health_servicer: Any,
    ) -> None:
        self._server = server
        self._interceptor = interceptor
        self._events = events
        self._health = health_servicer

    async def start(self) -> None:
        """Serves from now on."""
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """Takes no new calls, ends streams at once, and gives the other calls `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        self._events.close()
        await self._server.stop(grace)
        await self._interceptor.finish(grace)

    async def wait_for_termination(self) -> None:
        """Until it is stopped."""
        await self._server.wait_for_termination()


def build_server(
    core: Core, contracts: ContractCache, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> tuple[ApiServer, int]:
    """A server bound to the address of the settings, and its port.

    Args:
        core: what operations work with.
        contracts: shared with the runner.
        heartbeat_seconds: after how long a silent stream shows that it is alive.

    Raises:
        ConfigError: the address is not free, or TLS is half configured.
    """
    _check_access_table()
    interceptor = ApiInterceptor(core)
    server = grpc.aio.server(interceptors=(interceptor,), options=_OPTIONS)
    events = EventService(core, heartbeat_seconds)
    competition_pb2_grpc.add_CompetitionServiceServicer_to_server(CompetitionService(core, contracts), server)
    ticket_pb2_grpc.add_TicketServiceServicer_to_server(TicketService(core), server)
    entry_pb2_grpc.add_EntryServiceServicer_to_server(EntryService(core), server)
    keymeld_pb2_grpc.add_KeymeldServiceServicer_to_server(KeymeldService(core, contracts), server)
    payout_pb2_grpc.add_PayoutServiceServicer_to_server(PayoutService(core, contracts), server)
    wallet_pb2_grpc.add_WalletServiceServicer_to_server(WalletService(core), server)
    user_pb2_grpc.add_UserServiceServicer_to_server(UserService(core), server)
    event_pb2_grpc.add_EventServiceServicer_to_server(events, server)
    health_servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [service.full_name for service in SERVICES]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return ApiServer(server, interceptor, events, health_servicer), _bind(server, core.settings)


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    address = f"{settings.grpc_host}:{settings.grpc_port}"
    credentials = _credentials(settings)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from None


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """TLS if a certificate is configured; with a client CA only its clients get in."""
    certificate, key = settings.grpc_tls_certificate_file, settings.grpc_tls_key_file
    client_ca = settings.grpc_tls_client_ca_file
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("COORDINATOR_GRPC_TLS_CERT_FILE and COORDINATOR_GRPC_TLS_KEY_FILE go together")
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=client_ca.read_bytes() if client_ca else None,
        require_client_auth=client_ca is not None,
    )


def _check_access_table() -> None:
    methods = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    if methods != ACCESS.keys():
        raise RuntimeError(f"the access table does not fit the API: {methods ^ ACCESS.keys()}")
