"""What a test or a demo can do to the devnet chain: mine, pay, reorganise. JSON in, JSON out.

A wrong request is answered by 400 and `{"error": ...}`, and changes nothing.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .node import MAX_BLOCKS_PER_CALL, ChainNode, InvalidRequest

_BLOCKS_AT_ONCE = 25
"""Others get their turn after so many blocks, about 10 ms."""


async def invalid_request(_: Request, error: Exception) -> Response:
    """Exception handler for `InvalidRequest`."""
    return JSONResponse({"error": str(error)}, 400)


def routes(node: ChainNode) -> list[Route]:
    """All routes under `/devnet/chain`."""

    async def mine(request: Request) -> Response:
        """`{"blocks", "advance_seconds"?, "address"?, "exclude_txids"?}` → `{"hashes", "height", ...}`."""
        body = await _body(request, {"blocks", "advance_seconds", "address", "exclude_txids"})
        address = body.get("address")
        if address is not None and not isinstance(address, str):
            raise InvalidRequest("address must be a string")
        blocks = _integer(body, "blocks", 1)
        if not 0 <= blocks <= MAX_BLOCKS_PER_CALL:
            raise InvalidRequest(f"blocks must be from 0 to {MAX_BLOCKS_PER_CALL}")
        advance_seconds, excluded = _integer(body, "advance_seconds", 0), _txids(body, "exclude_txids")
        hashes: list[str] = []
        for start in range(0, max(blocks, 1), _BLOCKS_AT_ONCE):
            hashes += node.mine(
                min(blocks - start, _BLOCKS_AT_ONCE),
                advance_seconds=advance_seconds,
                address=address,
                exclude_txids=excluded,
            )
            await asyncio.sleep(0)
        return _blocks_answer(hashes)

    async def reorg(request: Request) -> Response:
        """`{"depth", "blocks"?, "drop_txids"?, "include_txids"?}` → `{"hashes", "height", ...}`."""
        body = await _body(request, {"depth", "blocks", "drop_txids", "include_txids"})
        hashes = node.reorg(
            _integer(body, "depth"),
            blocks=_integer(body, "blocks") if "blocks" in body else None,
            drop_txids=_txids(body, "drop_txids"),
            include_txids=_txids(body, "include_txids"),
        )
        return _blocks_answer(hashes)

    async def faucet(request: Request) -> Response:
        """`{"address", "amount_sats"}` → `{"txid"}`: broadcast, not mined."""
        body = await _body(request, {"address", "amount_sats"})
        address = body.get("address")
        if not isinstance(address, str):
            raise InvalidRequest("address is required")
        return JSONResponse({"txid": node.faucet(address, _integer(body, "amount_sats"))})

    async def fee_rate(request: Request) -> Response:
        """`{"sat_per_vb", "enforce"?}` → the same."""
        body = await _body(request, {"sat_per_vb", "enforce"})
        rate, enforce = body.get("sat_per_vb"), body.get("enforce", False)
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise InvalidRequest("sat_per_vb must be a number")
        if not isinstance(enforce, bool):
            raise InvalidRequest("enforce must be true or false")
        node.set_fee_rate(rate, enforce=enforce)
        return JSONResponse({"sat_per_vb": node.fee_rate_sat_per_vb, "enforce": node.enforces_fee_rate})

    async def status(_: Request) -> Response:
        return JSONResponse(
            {
                "network": "regtest",
                "height": node.height(),
                "block_hash": node.tip_hash(),
                "median_time_at": node.median_time_at(),
                "mempool_count": len(node.mempool),
                "fee_rate_sat_per_vb": node.fee_rate_sat_per_vb,
                "enforces_fee_rate": node.enforces_fee_rate,
                "mine_interval_seconds": node.mine_interval_seconds,
                "wallet_address": node.wallet.address,
            }
        )

    async def supply(_: Request) -> Response:
        return JSONResponse(asdict(node.supply()))

    def _blocks_answer(hashes: list[str]) -> Response:
        answer = {"hashes": hashes, "height": node.height(), "median_time_at": node.median_time_at()}
        return JSONResponse(answer)

    prefix = "/devnet/chain"
    return [
        Route(f"{prefix}/mine", mine, methods=["POST"]),
        Route(f"{prefix}/reorg", reorg, methods=["POST"]),
        Route(f"{prefix}/faucet", faucet, methods=["POST"]),
        Route(f"{prefix}/fee_rate", fee_rate, methods=["POST"]),
        Route(f"{prefix}/status", status, methods=["GET"]),
        Route(f"{prefix}/supply", supply, methods=["GET"]),
    ]


async def _body(request: Request, known: set[str]) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise InvalidRequest("the body is not JSON") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if unknown := body.keys() - known:
        raise InvalidRequest(f"unknown fields: {', '.join(sorted(unknown))}")
    return body


def _integer(body: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be an integer")
    return value


def _txids(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(txid, str) for txid in value):
        raise InvalidRequest(f"{name} must be a list of txids")
    return value
