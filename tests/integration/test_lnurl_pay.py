"""Asking strangers for invoices: what a service may answer, and what a hostile one may not achieve."""

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from coincurve import PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from coordinator.adapters.lnurl import LnurlPayees
from coordinator.domain.lnurl import Destination, parse_destination
from coordinator.ports.payees import PayeeError, PayeeRefused, PayeeUnavailable
from coordinator_client import bolt11
from coordinator_devnet.lightning.credentials import load_or_create
from support.chain import serving
from support.contract import secret

AMOUNT_MSATS = 40_500_000
METADATA = json.dumps([["text/plain", "Pay me"]])


def invoice(**changes: Any) -> str:
    values: dict[str, Any] = {
        "network": "bcrt",
        "payment_hash": b"\x01" * 32,
        "created_at": int(time.time()),
        "amount_msats": AMOUNT_MSATS,
        "description_hash": hashlib.sha256(METADATA.encode()).digest(),
    }
    return bolt11.encode(PrivateKey(secret("payee")), **(values | changes))


class Service:
    """An LNURL-pay service that answers as told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.terms: dict[str, Any] = {
            "tag": "payRequest", "minSendable": 1000, "maxSendable": 10**12, "metadata": METADATA
        }  # fmt: skip
        self.answer: Any = None
        self.base_url = ""
        self.first: Callable[[Request], Response] | None = None

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.handle)])

    async def handle(self, request: Request) -> Response:
        self.asked.append(str(request.url))
        if "amount" in request.query_params:
            return JSONResponse({"pr": invoice(), "routes": []} if self.answer is None else self.answer)
        if self.first is not None:
            return self.first(request)
        return JSONResponse({"callback": f"{self.base_url}/pay?id=7", **self.terms})

    @property
    def address(self) -> Destination:
        destination = parse_destination(f"me@{self.base_url.removeprefix('http://')}")
        assert destination is not None
        return destination


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    async with serving(made.app()) as base_url:
        made.base_url = base_url
        yield made


@asynccontextmanager
async def payees(**options: Any) -> AsyncIterator[LnurlPayees]:
    made = LnurlPayees(**{"private_hosts": True} | options)
    try:
        yield made
    finally:
        await made.aclose()


async def test_an_address_gives_an_invoice(service: Service) -> None:
    async with payees() as asking:
        given = await asking.invoice(service.address, AMOUNT_MSATS)
    assert bolt11.decode(given).amount_msats == AMOUNT_MSATS
    assert service.asked == [
        f"{service.base_url}/.well-known/lnurlp/me",
        f"{service.base_url}/pay?id=7&amount={AMOUNT_MSATS}",
    ]


async def refused(service: Service, words: str, kind: type[PayeeError] = PayeeRefused) -> None:
    async with payees() as asking:
        with pytest.raises(kind, match=words):
            await asking.invoice(service.address, AMOUNT_MSATS)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"minSendable": AMOUNT_MSATS + 1}, "takes 40500 to"),
        ({"maxSendable": AMOUNT_MSATS - 1}, "not 40500"),
        ({"minSendable": "1000"}, "no valid minSendable"),
        ({"maxSendable": True}, "no valid maxSendable"),
        ({"maxSendable": 1e12}, "no valid maxSendable"),
        ({"maxSendable": 10**30}, "no valid maxSendable"),
        ({"minSendable": -5}, "no valid minSendable"),
        ({"tag": "withdrawRequest"}, "does not take payments"),
        ({"metadata": None}, "lacks metadata"),
        ({"metadata": [["text/plain", "x"]]}, "lacks metadata"),
        ({"callback": ""}, "lacks callback"),
        ({"callback": "http://pay.example/"}, "only https"),
        ({"callback": "file:///etc/passwd"}, "where it must not"),
        ({"callback": "https://u:p@pay.example/"}, "where it must not"),
        (
            {"status": "ERROR", "reason": "gone\x1b[31m fishing" + "x" * 900},
            r"refuses: gone\[31m fishingx{178,}$",
        ),
    ],
)
async def test_terms_that_do_not_fit(service: Service, terms: dict[str, Any], words: str) -> None:
    service.terms |= terms
    await refused(service, words)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"pr": invoice(amount_msats=AMOUNT_MSATS + 1)}, "another amount"),
        ({"pr": invoice(amount_msats=None)}, "another amount"),
        ({"pr": invoice(description_hash=b"\x02" * 32)}, "does not commit"),
        ({"pr": invoice(description_hash=None, description="Pay me")}, "does not commit"),
        ({"pr": "lnbcrt1nonsense"}, "cannot be read"),
        ({"pr": 7}, "lacks pr"),
        ({}, "lacks pr"),
        ([], "not what LNURL-pay says"),
        ({"status": "error"}, "no reason given|refuses: None"),
    ],
)
async def test_invoices_that_must_not_be_paid(service: Service, answer: Any, words: str) -> None:
    service.answer = answer
    await refused(service, words)


async def test_answers_that_are_none(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def far_too_much() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    cases: list[tuple[Callable[[Request], Response], str, type[PayeeError]]] = [
        (lambda _: PlainTextResponse("<html>"), "not what LNURL-pay says", PayeeRefused),
        (lambda _: PlainTextResponse("[" * 30_000), "not what LNURL-pay says", PayeeRefused),
        (lambda _: PlainTextResponse("no", 404), "HTTP 404", PayeeRefused),
        (lambda _: PlainTextResponse("no", 503), "HTTP 503", PayeeUnavailable),
        (lambda _: StreamingResponse(far_too_much()), "too long", PayeeRefused),
        (lambda request: RedirectResponse(str(request.url)), "too often", PayeeRefused),
        (lambda _: RedirectResponse("file:///etc/passwd"), "where it must not", PayeeRefused),
        (lambda _: RedirectResponse("https://pay.example/x"), "another scheme", PayeeRefused),
        (lambda _: RedirectResponse("http://10.1.2.3/x"), "where it must not", PayeeRefused),
    ]
    for first, words, kind in cases:
        service.first = first
        await refused(service, words, kind)
    service.first = lambda _: StreamingResponse(dripping())
    async with payees(timeout_seconds=0.5) as asking:
        with pytest.raises(PayeeUnavailable):
            await asking.invoice(service.address, AMOUNT_MSATS)


async def test_a_redirect_within_the_rules_is_followed(service: Service) -> None:
    def moved(request: Request) -> Response:
        service.first = None
        return RedirectResponse(f"{service.base_url}/elsewhere")

    service.first = moved
    async with payees() as asking:
        await asking.invoice(service.address, AMOUNT_MSATS)
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1",
    ],
)  # fmt: skip
async def test_hosts_that_are_not_public_are_not_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Whatever name they go by; not even if another address of the name is public."""

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (found, port)) for found in ("93.184.216.34", address)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    destination = parse_destination("me@pay.example")
    assert destination is not None
    async with payees(private_hosts=False) as asking:
        with pytest.raises(PayeeRefused, match="not on the public network"):
            await asking.invoice(destination, AMOUNT_MSATS)


async def test_this_machine_is_asked_on_a_devnet_only(service: Service) -> None:
    async with payees(private_hosts=False) as asking:
        with pytest.raises(PayeeRefused, match="not on the public network"):
            await asking.invoice(service.address, AMOUNT_MSATS)
    assert service.asked == []


async def test_a_host_that_is_not_there(service: Service) -> None:
    async with payees() as asking:
        for text in ("me@127.0.0.1:1", "me@nowhere.invalid"):
            destination = parse_destination(text)
            assert destination is not None
            with pytest.raises(PayeeUnavailable):
                await asking.invoice(destination, AMOUNT_MSATS)
        odd = parse_destination("me@a..b")
        assert odd is not None
        with pytest.raises(PayeeError):
            await asking.invoice(odd, AMOUNT_MSATS)


async def test_the_certificate_is_the_names_although_the_address_was_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name's server has the right certificate; another name's at the same address has not."""
    credentials = load_or_create(tmp_path, "127.0.0.1")
    (tmp_path / "key.pem").write_bytes(credentials.tls_key)
    (tmp_path / "cert.pem").write_bytes(credentials.tls_cert)
    service = Service()
    config = uvicorn.Config(
        service.app(), port=0, log_level="warning", lifespan="off",
        ssl_keyfile=str(tmp_path / "key.pem"), ssl_certfile=str(tmp_path / "cert.pem"),
    )  # fmt: skip
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    service.base_url = f"https://localhost:{port}"

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    trusting = ssl.create_default_context(cadata=credentials.tls_cert.decode())
    async with payees(trusted=trusting) as asking:
        for host, fits in (("localhost", True), ("pay.example", False)):
            destination = Destination("x", f"https://{host}:{port}/.well-known/lnurlp/me")
            if fits:
                await asking.invoice(destination, AMOUNT_MSATS)
                assert service.asked[0] == destination.url
            else:
                with pytest.raises(PayeeUnavailable):
                    await asking.invoice(destination, AMOUNT_MSATS)
    assert len(service.asked) == 2
    server.should_exit = True
    await running
