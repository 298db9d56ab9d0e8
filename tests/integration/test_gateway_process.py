"""The gateway as its command starts it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.gateway import CoreServer, free_port


@asynccontextmanager
async def command(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "coordinator_gateway",
        *arguments,
        env=os.environ | environ,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def health(client: httpx.AsyncClient, seconds: float = 15) -> httpx.Response:
    """The first answer of the gateway that says it serves, or the last other one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = await client.get("/api/v1/health_check")
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the gateway does not listen"
        else:
            if answer.status_code == 200 or time.monotonic() > deadline:
                return answer
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_from_start_to_a_stop_with_streams_open(tmp_path: Path, stop: signal.Signals) -> None:
    core = CoreServer()
    await core.start()
    (tmp_path / "token").write_text("from a file\n")
    (tmp_path / "index.html").write_text("app")
    port = free_port()
    arguments = ["--core", core.address, "--port", str(port), "--token-file", str(tmp_path / "token")]
    async with (
        command(*arguments, COORDINATOR_GATEWAY_WEB_DIR=str(tmp_path)) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        assert (await health(client)).json()["status"] == "serving"
        assert (await client.get("/")).text == "app"
        await client.get("/api/v1/coordinator")
        assert core.core.calls[-1].metadata["x-coordinator-gateway"] == "from a file"
        async with client.stream("GET", "/api/v1/events") as stream:
            lines = stream.aiter_lines()
            while await anext(lines) != "event: snapshot":
                pass
            started = time.monotonic()
            process.send_signal(stop)
            # The stream ends in good order: httpx would raise on a connection that breaks off.
            assert not [line async for line in lines if line.startswith("event:")]
        assert process.stderr is not None
        output = (await process.stderr.read()).decode()
        await process.wait()
        assert time.monotonic() - started < 3
        assert "Traceback" not in output
        assert "from a file" not in output
    await core.stop()


async def test_a_port_that_is_taken() -> None:
    core = CoreServer()
    await core.start()
    async with command("--core", core.address, "--port", str(core.port)) as process:
        assert await asyncio.wait_for(process.wait(), 20) != 0
    await core.stop()


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, grpc.ServerCredentials]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "core")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        path = tmp_path / "ca.pem"
        path.write_bytes(pem)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return path, grpc.ssl_server_credentials([(private, pem)])

    async def test_a_core_with_this_certificate(
        self, certificate: tuple[Path, grpc.ServerCredentials]
    ) -> None:
        path, credentials = certificate
        core = CoreServer(credentials=credentials)
        await core.start()
        port = free_port()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            address = f"localhost:{core.port}"
            async with command("--core", address, "--port", str(port), "--core-tls-ca", str(path)):
                assert (await health(client)).json()["core"] == "serving"
            # Without TLS the core is not spoken to.
            async with command("--core", address, "--port", str(port)):
                assert (await health(client, 2)).json()["core"] == "unavailable"
        await core.stop()
