"""The server itself: TLS, a port that is taken, calls whose client has gone away, what the log says."""

import asyncio
import datetime
import ipaddress
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.api.server import build_server
from coordinator.config import ConfigError, Settings
from coordinator.core import Core
from coordinator.domain.ids import new_uuid7
from coordinator.operations import competitions, tickets
from coordinator.ports.chain import ChainUnavailable
from coordinator.store.models import TicketRow
from coordinator.v1 import competition_pb2, competition_pb2_grpc, ticket_pb2
from support.api import ADMIN, Api, ApiError, running_api


@pytest_asyncio.fixture
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


class Authority:
    """A certificate authority that writes PEM files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._certificate = self._build(subject, subject, self._key.public_key(), ca=True)
        self.certificate = self._write(f"{name}.pem", self._certificate.public_bytes(_PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, self._certificate.subject, key.public_key(), ca=False)
        plain = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return (
            self._write(f"{self.name}-{name}.pem", certificate.public_bytes(_PEM)),
            self._write(f"{self.name}-{name}.key", plain),
        )

    def _build(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(local, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


_PEM = serialization.Encoding.PEM


def with_settings(core: Core, **changes: object) -> Core:
    settings: Settings = replace(core.settings, **changes)  # type: ignore[arg-type]
    return replace(core, settings=settings)


async def ask(port: int, credentials: grpc.ChannelCredentials | None) -> str:
    """Nostr key of who answers there."""
    address = f"127.0.0.1:{port}"
    channel = (
        grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    )
    async with channel:
        stub = competition_pb2_grpc.CompetitionServiceStub(channel)
        answer = await stub.GetCoordinator(competition_pb2.GetCoordinatorRequest(), timeout=2)
        return str(answer.nostr_pubkey)


async def test_tls_and_client_certificates(api: Api, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = authority.issue("server")
    client, client_key = authority.issue("client")
    other, other_key = stranger.issue("client")
    core = with_settings(
        api.core,
        grpc_tls_certificate_file=certificate,
        grpc_tls_key_file=key,
        grpc_tls_client_ca_file=authority.certificate,
    )
    server, port = build_server(core, api.world.contracts)
    await server.start()
    root = authority.certificate.read_bytes()
    try:
        trusted = grpc.ssl_channel_credentials(root, client_key.read_bytes(), client.read_bytes())
        assert await ask(port, trusted) == core.nostr_key.public_hex
        for refused in (
            None,
            grpc.ssl_channel_credentials(root),
            grpc.ssl_channel_credentials(root, other_key.read_bytes(), other.read_bytes()),
            grpc.ssl_channel_credentials(
                stranger.certificate.read_bytes(), client_key.read_bytes(), client.read_bytes()
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await ask(port, refused)
            assert error.value.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )
    finally:
        await server.stop(None)


async def test_half_of_tls_is_a_mistake(api: Api, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "ours").issue("server")
    for half in (
        {"grpc_tls_certificate_file": certificate},
        {"grpc_tls_key_file": key},
        {"grpc_tls_client_ca_file": certificate},
    ):
        with pytest.raises(ConfigError, match="TLS"):
            build_server(with_settings(api.core, **half), api.world.contracts)


async def test_a_port_that_is_taken_is_a_mistake(api: Api) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{api.port}"):
        build_server(with_settings(api.core, grpc_port=api.port), api.world.contracts)


async def open_competition(api: Api) -> str:
    now = int(time.time())
    times = {"start_observation_at": now + 600, "end_observation_at": now + 700, "signing_at": now + 800}
    return (await competitions.create_competition(api.core, "", api.world.terms(**times))).id


async def test_what_was_begun_is_carried_out_though_the_client_hangs_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gives up while the Lightning node makes the invoice."""
    made = await open_competition(api)
    asked, go_on = asyncio.Event(), asyncio.Event()
    add_hold_invoice = api.core.lightning.add_hold_invoice

    async def slow(*args: object, **options: object) -> object:
        asked.set()
        await go_on.wait()
        return await add_hold_invoice(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(api.core.lightning, "add_hold_invoice", slow)
    request = ticket_pb2.RequestTicketRequest(competition_id=made)
    call = asyncio.create_task(api.call("TicketService/RequestTicket", request, ADMIN))
    await asyncio.wait_for(asked.wait(), 5)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0.1)
    go_on.set()
    async with asyncio.timeout(5):
        while not (await TicketRow.get(competition_id=made)).payment_request:
            await asyncio.sleep(0.02)


async def test_stopping_waits_for_what_was_begun(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await open_competition(api)
    asked = asyncio.Event()
    request_ticket = tickets.request_ticket

    async def slow(*args: object) -> object:
        asked.set()
        await asyncio.sleep(0.5)
        return await request_ticket(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tickets, "request_ticket", slow)
    request = ticket_pb2.RequestTicketRequest(competition_id=made)
    kept = asyncio.create_task(api.call("TicketService/RequestTicket", request, ADMIN))
    await asyncio.wait_for(asked.wait(), 5)
    await api.server.stop(5)
    assert (await kept).ticket.payment_request
    with pytest.raises(ApiError) as error:
        await api.call("CompetitionService/ListCompetitions")
    assert error.value.code == "UNAVAILABLE"


async def test_services_out_of_reach_are_unavailable_and_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object) -> object:
        raise ChainUnavailable("http://10.0.0.1 refused")

    with monkeypatch.context() as broken:
        broken.setattr(api.core.chain, "fee_rates", unreachable)
        with pytest.raises(ApiError) as error:
            await api.call("WalletService/GetEstimatedFees", None, ADMIN)
    assert (error.value.code, error.value.reason) == ("UNAVAILABLE", "CHAIN_UNAVAILABLE")
    assert error.value.retry_seconds
    assert "10.0.0.1" not in error.value.message
    assert (await api.call("WalletService/GetEstimatedFees", None, ADMIN)).sats_per_vb_by_target_blocks


async def test_bugs_are_told_by_an_incident_that_the_log_has(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> object:
        raise KeyError("the secret column")

    monkeypatch.setattr(api.core.chain, "fee_rates", broken)
    with pytest.raises(ApiError) as error:
        await api.call("WalletService/GetEstimatedFees", None, ADMIN)
    assert error.value.code == "INTERNAL"
    assert "secret" not in error.value.message
    assert error.value.metadata["incident"] in caplog.text


async def test_the_log_has_the_callers_request_id_and_no_secret(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="coordinator"):
        metadata = [("x-request-id", "req-17")]
        login = await api.call("UserService/Login", None, ADMIN, metadata)
        session = [("x-session-token", login.session_token)]
        request = competition_pb2.GetCompetitionRequest(competition_id=new_uuid7())
        with pytest.raises(ApiError):
            await api.call("CompetitionService/GetCompetition", request, None, session)
    assert "[req-17] /coordinator.v1.UserService/Login ok" in caplog.text
    assert "GetCompetition COMPETITION_NOT_FOUND" in caplog.text
    assert login.session_token not in caplog.text
    assert api.core.settings.gateway_token not in caplog.text
