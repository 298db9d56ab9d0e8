"""Devnet HTTP API over the Lightning network, for players who in the real world bring their own wallet.

Money is in millisatoshis, hashes and keys are hex. Errors are RFC 9457 problem documents.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .ledger import InvoiceNotFound, LedgerError, PaymentExists, PaymentNotFound
from .network import LightningNetwork
from .node import Node, PaymentIntent
from .records import Invoice, Payment

_PREFIX = "/devnet/lightning"
_LNURL_CALLBACK = f"{_PREFIX}/lnurlp"
_LNURL_LEAST_MSATS = 1_000
_LNURL_MOST_MSATS = 100_000_000_000


def create_app(network: LightningNetwork) -> Starlette:
    """The HTTP API of this network, under `/devnet/lightning`."""

    def at(
        node_handler: Callable[[Node, Request], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            name = request.path_params["node"]
            if name not in network.nodes:
                raise HTTPException(404, f"no node {name!r}")
            return await node_handler(network.nodes[name], request)

        return handle

    async def list_nodes(_request: Request) -> Response:
        return JSONResponse({"nodes": [_node(node) for node in network.nodes.values()]})

    async def add_node(request: Request) -> Response:
        body = await _body(request)
        name = _string(body, "name")
        existed = name in network.nodes
        node = await network.add_node(name, balance_msats=_optional_int(body, "balance_msats"))
        return JSONResponse(_node(node), status_code=200 if existed else 201)

    async def supply(_request: Request) -> Response:
        money = network.supply()
        return JSONResponse({**asdict(money), "total_msats": money.total_msats})

    async def show_node(node: Node, _request: Request) -> Response:
        return JSONResponse(_node(node))

    async def pay(node: Node, request: Request) -> Response:
        body = await _body(request)
        payment_request = _string(body, "payment_request").removeprefix("lightning:")
        intent = PaymentIntent(
            payment_request=payment_request,
            amount_msats=_optional_int(body, "amount_msats") or 0,
            fee_limit_msats=_optional_int(body, "fee_limit_msats") or 1_000_000,
        )
        try:
            payment = await node.pay(intent)
        except PaymentExists:
            payment = node.ledger.payment(node.name, node.decode(payment_request).payment_hash)
        return JSONResponse(_payment(payment))

    async def show_payment(node: Node, request: Request) -> Response:
        return JSONResponse(_payment(node.ledger.payment(node.name, _hash(request))))

    async def add_invoice(node: Node, request: Request) -> Response:
        body = await _body(request)
        preimage = body.get("preimage")
        invoice = node.add_invoice(
            value_msats=_optional_int(body, "amount_msats") or 0,
            preimage=_hex32("preimage", preimage) if preimage is not None else None,
            memo=_string(body, "memo") if "memo" in body else "",
            expiry_seconds=_optional_int(body, "expiry_seconds") or 0,
        )
        return JSONResponse(_invoice(invoice), status_code=201)

    async def show_invoice(node: Node, request: Request) -> Response:
        return JSONResponse(_invoice(node.ledger.invoice(node.name, _hash(request))))

    async def pay_request(node: Node, request: Request) -> Response:
        return JSONResponse(
            {
                "tag": "payRequest",
                "callback": f"{request.base_url}{_LNURL_CALLBACK.lstrip('/')}/{node.name}",
                "minSendable": _LNURL_LEAST_MSATS,
                "maxSendable": _LNURL_MOST_MSATS,
                "metadata": _metadata(node, request),
            }
        )

    async def lnurl_invoice(node: Node, request: Request) -> Response:
        amount = request.query_params.get("amount", "")
        if not amount.isdecimal() or not _LNURL_LEAST_MSATS <= int(amount) <= _LNURL_MOST_MSATS:
            return JSONResponse({"status": "ERROR", "reason": "this amount is not taken"})
        description_hash = sha256(_metadata(node, request).encode()).digest()
        invoice = node.add_invoice(value_msats=int(amount), description_hash=description_hash)
        return JSONResponse({"pr": invoice.payment_request, "routes": []})

    return Starlette(
        routes=[
            Route("/.well-known/lnurlp/{node}", at(pay_request), methods=["GET"]),
            Route(f"{_LNURL_CALLBACK}/{{node}}", at(lnurl_invoice), methods=["GET"]),
            Route(f"{_PREFIX}/nodes", list_nodes, methods=["GET"]),
            Route(f"{_PREFIX}/nodes", add_node, methods=["POST"]),
            Route(f"{_PREFIX}/supply", supply, methods=["GET"]),
            Route(f"{_PREFIX}/{{node}}", at(show_node), methods=["GET"]),
            Route(f"{_PREFIX}/{{node}}/pay", at(pay), methods=["POST"]),
            Route(f"{_PREFIX}/{{node}}/payments/{{hash}}", at(show_payment), methods=["GET"]),
            Route(f"{_PREFIX}/{{node}}/invoice", at(add_invoice), methods=["POST"]),
            Route(f"{_PREFIX}/{{node}}/invoices/{{hash}}", at(show_invoice), methods=["GET"]),
        ],
        exception_handlers={LedgerError: _on_ledger_error, HTTPException: _on_http_exception},
    )


def _metadata(node: Node, request: Request) -> str:
    """What a Lightning address says of itself (LUD-06, LUD-16); its invoices commit to it."""
    address = f"{node.name}@{request.url.netloc}"
    return json.dumps([["text/plain", f"Pay {node.name} of devnet"], ["text/identifier", address]])


def _node(node: Node) -> dict[str, Any]:
    balances = node.ledger.balances(node.name)
    return {
        "name": node.name,
        "pubkey": node.credentials.pubkey.hex(),
        "grpc_address": node.address,
        "tls_certificate": node.credentials.tls_cert.decode(),
        "macaroon": node.macaroon_hex,
        "balance_msats": balances.local_msats,
        "outgoing_msats": balances.outgoing_msats,
        "incoming_msats": balances.incoming_msats,
        "receivable_msats": balances.remote_msats,
    }


def _payment(payment: Payment) -> dict[str, Any]:
    return {
        "payment_hash": payment.payment_hash.hex(),
        "state": payment.state.lower(),
        "amount_msats": payment.amount_msats,
        "fee_msats": payment.fee_msats,
        "preimage": payment.preimage.hex() if payment.preimage else None,
        "failure_reason": payment.failure,
    }


def _invoice(invoice: Invoice) -> dict[str, Any]:
    return {
        "payment_hash": invoice.payment_hash.hex(),
        "payment_request": invoice.payment_request,
        "state": invoice.state.lower(),
        "amount_msats": invoice.value_msats,
        "amount_paid_msats": invoice.amount_paid_msats,
        "expires_at": invoice.created_at + invoice.expiry_seconds,
        "preimage": invoice.preimage.hex() if invoice.preimage else None,
    }


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not an object")
    return body


def _string(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise HTTPException(400, f"{name} must be a string")
    return value


def _optional_int(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (
        not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62
    ):
        raise HTTPException(400, f"{name} must be a non-negative integer")
    return value


def _hex32(name: str, value: object) -> bytes:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != 32:
        raise HTTPException(400, f"{name} must be 32 bytes in hex")
    return data


def _hash(request: Request) -> bytes:
    return _hex32("hash", request.path_params["hash"])


def _on_ledger_error(_request: Request, error: Exception) -> Response:
    return _problem(404 if isinstance(error, InvoiceNotFound | PaymentNotFound) else 400, str(error))


def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail)


def _problem(status: int, detail: str) -> Response:
    return JSONResponse(
        {"status": status, "detail": detail}, status_code=status, media_type="application/problem+json"
    )
