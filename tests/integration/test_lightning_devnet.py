"""The devnet's Lightning network as a program: HTTP API, restarts, and being killed while HTLCs are held."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.adapters.lnd import LndLightning
from coordinator.ports.lightning import InvoiceState, LightningUnavailable, PaymentState
from coordinator_devnet.lightning import create_app
from support.lightning import drain, lightning_network, new_preimage

START_MSATS = 500_000_000


class Esplora:
    """The one endpoint of Esplora that a Lightning node needs."""

    def __init__(self) -> None:
        self.height = 300
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/blocks/tip/height"
                body = str(outer.height).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def esplora() -> Iterator[Esplora]:
    esplora = Esplora()
    yield esplora
    esplora.server.shutdown()
    esplora.server.server_close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Program:
    """`python -m coordinator_devnet.lightning`, and its HTTP API."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def kill(self) -> None:
        """As by a crash: without any chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def get(self, path: str) -> dict[str, Any]:
        response = await self.http.get(f"/devnet/lightning{path}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await self.http.post(f"/devnet/lightning{path}", json=body)
        assert response.status_code in (200, 201), response.text
        return dict(response.json())

    async def node(self, name: str) -> LndLightning:
        node = await self.get(f"/{name}")
        return LndLightning(
            node["grpc_address"],
            tls_certificate=node["tls_certificate"].encode(),
            macaroon_hex=node["macaroon"],
        )

    async def balance_msats(self, name: str) -> int:
        return int((await self.get(f"/{name}"))["balance_msats"])


@asynccontextmanager
async def program(data_dir: Path, esplora: Esplora, *options: str) -> AsyncIterator[Program]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "coordinator_devnet.lightning", "--data-dir", str(data_dir), "--esplora-url", esplora.url),
        *("--grpc-port", "0", "--http-port", str(port), "--poll-seconds", "0.1"),
        *("--initial-balance-msats", str(START_MSATS), *options),
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for _ in range(200):
                try:
                    await http.get("/devnet/lightning/nodes")
                    break
                except httpx.TransportError:
                    assert process.returncode is None, "the program ended"
                    await asyncio.sleep(0.05)
            yield Program(process, http)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def until(check: Any) -> None:
    for _ in range(100):
        if await check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


async def test_killed_while_an_htlc_is_held(tmp_path: Path, esplora: Esplora) -> None:
    """The same HTLC, invoice and payment are there after the crash, and settle once, on the same address."""
    preimage, payment_hash = new_preimage()
    async with program(tmp_path, esplora) as first:
        coordinator, player = await first.node("coordinator"), await first.node("player")
        before = await first.get("/nodes")
        invoice = await coordinator.add_hold_invoice(
            payment_hash, 123_456_789, memo="ticket", expiry_seconds=600, cltv_expiry_blocks=144
        )
        paying = asyncio.create_task(
            drain(player.pay(invoice.payment_request, fee_limit_msats=0, timeout_seconds=5))
        )
        subscription = aiter(coordinator.subscribe_invoice(payment_hash))
        while (accepted := await anext(subscription)).state is not InvoiceState.ACCEPTED:
            pass
        waiting = asyncio.ensure_future(anext(subscription))
        await first.kill()
        with pytest.raises(LightningUnavailable):
            await paying
        with pytest.raises(LightningUnavailable):
            await waiting
        with pytest.raises(LightningUnavailable):
            await coordinator.settle_invoice(preimage)

    async with program(tmp_path, esplora) as second:
        after = await second.get("/nodes")
        for node in (*before["nodes"], *after["nodes"]):
            for amount in ("balance_msats", "outgoing_msats", "incoming_msats", "receivable_msats"):
                node.pop(amount)
        assert after == before

        # The clients of before the crash reconnect by themselves.
        async def reconnected() -> bool:
            try:
                return await coordinator.lookup_invoice(payment_hash) == accepted
            except LightningUnavailable:
                return False

        await until(reconnected)
        held = await player.track_payment(payment_hash)
        assert held is not None
        assert held.state is PaymentState.IN_FLIGHT
        assert await second.balance_msats("player") == START_MSATS - 123_456_789
        assert await second.balance_msats("coordinator") == START_MSATS
        again = asyncio.create_task(
            drain(player.pay(invoice.payment_request, fee_limit_msats=0, timeout_seconds=5))
        )
        await asyncio.sleep(0.1)
        await coordinator.settle_invoice(preimage)
        assert (await again)[-1].preimage == preimage
        assert await second.balance_msats("player") == START_MSATS - 123_456_789
        assert await second.balance_msats("coordinator") == START_MSATS + 123_456_789
        await second.kill()
        await coordinator.aclose()
        await player.aclose()

    async with program(tmp_path, esplora) as third:
        assert (await third.get(f"/player/payments/{payment_hash.hex()}"))["state"] == "succeeded"
        supply = await third.get("/supply")
        assert supply["total_msats"] == supply["funded_msats"] == 2 * START_MSATS
        assert supply["in_flight_msats"] == 0


async def test_htlc_that_expires_while_the_program_is_down(tmp_path: Path, esplora: Esplora) -> None:
    _, payment_hash = new_preimage()
    async with program(tmp_path, esplora) as first:
        coordinator = await first.node("coordinator")
        invoice = await coordinator.add_hold_invoice(
            payment_hash, 1_000, memo="", expiry_seconds=600, cltv_expiry_blocks=40
        )
        await coordinator.aclose()
        payment = await first.post("/player/pay", {"payment_request": invoice.payment_request})
        assert payment["state"] == "in_flight"
        await first.kill()
    esplora.height += 40
    async with program(tmp_path, esplora) as second:
        payment = await second.get(f"/player/payments/{payment_hash.hex()}")
        assert payment["state"] == "failed"
        assert payment["failure_reason"] == "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
        shown = await second.get(f"/coordinator/invoices/{payment_hash.hex()}")
        assert shown["state"] == "canceled"
        assert await second.balance_msats("player") == START_MSATS


async def test_nodes_made_on_demand(tmp_path: Path, esplora: Esplora) -> None:
    async with program(tmp_path, esplora, "--nodes", "coordinator") as first:
        alice = await first.post("/nodes", {"name": "alice", "balance_msats": 5_000})
        assert (alice["name"], alice["balance_msats"]) == ("alice", 5_000)
        assert (await first.post("/nodes", {"name": "alice"})) == alice
        bob = await first.post("/nodes", {"name": "bob"})
        assert bob["balance_msats"] == START_MSATS
        invoice = await first.post("/bob/invoice", {"amount_msats": 3_000, "memo": "lunch"})
        paid = await first.post("/alice/pay", {"payment_request": f"lightning:{invoice['payment_request']}"})
        assert (paid["state"], paid["amount_msats"]) == ("succeeded", 3_000)
        assert (await first.post("/alice/pay", {"payment_request": invoice["payment_request"]})) == paid
        assert (await first.get(f"/bob/invoices/{paid['payment_hash']}"))["state"] == "settled"
        assert (tmp_path / "alice" / "admin.macaroon").read_bytes().hex() == alice["macaroon"]
        for secret in ("node.key", "tls.key", "admin.macaroon"):
            assert (tmp_path / "alice" / secret).stat().st_mode & 0o077 == 0
    async with program(tmp_path, esplora, "--nodes", "coordinator") as second:
        nodes = {node["name"]: node for node in (await second.get("/nodes"))["nodes"]}
        assert list(nodes) == ["coordinator", "alice", "bob"]
        assert nodes["alice"]["grpc_address"] == alice["grpc_address"]
        assert nodes["alice"]["balance_msats"] == 2_000
        client = await second.node("alice")
        assert (await client.info()).pubkey == alice["pubkey"]
        await client.aclose()


async def test_chosen_preimage(tmp_path: Path) -> None:
    preimage, payment_hash = new_preimage()
    async with lightning_network(tmp_path) as network:
        transport = httpx.ASGITransport(app=create_app(network))
        async with httpx.AsyncClient(transport=transport, base_url="http://devnet/devnet/lightning") as http:
            response = await http.post(
                "/player/invoice", json={"amount_msats": 1_000, "preimage": preimage.hex()}
            )
            assert response.status_code == 201
            assert response.json()["payment_hash"] == payment_hash.hex()
            twice = await http.post(
                "/player/invoice", json={"amount_msats": 1_000, "preimage": preimage.hex()}
            )
            assert twice.status_code == 400
            assert twice.json()["detail"] == "invoice with payment hash already exists"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nobody", None, 404),
        ("GET", "/nobody/payments/00", None, 404),
        ("GET", f"/player/payments/{'00' * 32}", None, 404),
        ("GET", f"/player/invoices/{'00' * 32}", None, 404),
        ("GET", "/player/payments/xyz", None, 400),
        ("POST", "/player/pay", "not JSON", 400),
        ("POST", "/player/pay", "[]", 400),
        ("POST", "/player/pay", "{}", 400),
        ("POST", "/player/pay", '{"payment_request": "lnbcrt1"}', 400),
        ("POST", "/player/invoice", '{"amount_msats": -1}', 400),
        ("POST", "/player/invoice", '{"amount_msats": true}', 400),
        ("POST", "/player/invoice", '{"amount_msats": 1, "preimage": "00"}', 400),
        ("POST", "/player/invoice", '{"amount_msats": 1, "memo": 5}', 400),
        ("POST", "/nodes", '{"name": "../up"}', 400),
        ("POST", "/nodes", '{"name": "nodes"}', 400),
        ("POST", "/nodes", '{"name": ["x"]}', 400),
        ("POST", "/nodes", "{}", 400),
    ],
)
async def test_http_requests_that_are_refused(
    tmp_path: Path, method: str, path: str, body: str | None, status: int
) -> None:
    async with lightning_network(tmp_path) as network:
        transport = httpx.ASGITransport(app=create_app(network))
        async with httpx.AsyncClient(transport=transport, base_url="http://devnet/devnet/lightning") as http:
            response = await http.request(method, path, content=body)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.text)["status"] == status
        assert list(network.nodes) == ["coordinator", "player"]
