"""Esplora's REST interface over a `ChainNode`, in the shapes of Blockstream's electrs.

Reference: https://github.com/Blockstream/esplora/blob/master/API.md
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .blocks import difficulty, merkle_branch
from .index import IndexedBlock, ScriptHistory, ScriptStats
from .mempool import MempoolEntry
from .node import ChainNode
from .policy import Rejected
from .scripts import (
    address_to_script,
    is_p2sh,
    iterate_ops,
    script_hash,
    script_to_address,
    script_type,
    to_asm,
    witness_program,
)
from .transactions import Outpoint, Transaction, TxInput, TxOutput

FEE_TARGETS = (*range(1, 26), 144, 504, 1008)
_PAGE = 25
_MAX_MEMPOOL_TXS = 50
_BLOCKS_PAGE = 10
_RECENT = 10

Json = dict[str, Any]


class HttpError(Exception):
    """An answer other than 200, with a plain text body as electrs gives it."""

    status: int
    message: str

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def http_error(_: Request, error: Exception) -> Response:
    """Exception handler for `HttpError`."""
    assert isinstance(error, HttpError)
    return PlainTextResponse(error.message, error.status)


def routes(node: ChainNode) -> list[Route]:
    """All Esplora routes."""
    api = EsploraApi(node)
    table: list[tuple[str, Callable[[Request], Response]]] = [
        ("/blocks", api.blocks),
        ("/blocks/tip/height", api.tip_height),
        ("/blocks/tip/hash", api.tip_hash),
        ("/blocks/{start}", api.blocks),
        ("/block-height/{height}", api.block_height),
        ("/block/{hash}", api.block),
        ("/block/{hash}/header", api.block_header),
        ("/block/{hash}/raw", api.block_raw),
        ("/block/{hash}/status", api.block_status),
        ("/block/{hash}/txids", api.block_txids),
        ("/block/{hash}/txid/{position}", api.block_txid),
        ("/block/{hash}/txs", api.block_txs),
        ("/block/{hash}/txs/{start}", api.block_txs),
        ("/tx/{txid}", api.tx),
        ("/tx/{txid}/hex", api.tx_hex),
        ("/tx/{txid}/raw", api.tx_raw),
        ("/tx/{txid}/status", api.tx_status),
        ("/tx/{txid}/merkle-proof", api.tx_merkle_proof),
        ("/tx/{txid}/outspend/{vout}", api.tx_outspend),
        ("/tx/{txid}/outspends", api.tx_outspends),
        ("/mempool", api.mempool),
        ("/mempool/txids", api.mempool_txids),
        ("/mempool/recent", api.mempool_recent),
        ("/fee-estimates", api.fee_estimates),
    ]
    for kind in ("address", "scripthash"):
        table += [
            (f"/{kind}/{{{kind}}}", api.script),
            (f"/{kind}/{{{kind}}}/utxo", api.script_utxo),
            (f"/{kind}/{{{kind}}}/txs", api.script_txs),
            (f"/{kind}/{{{kind}}}/txs/mempool", api.script_txs_mempool),
            (f"/{kind}/{{{kind}}}/txs/chain", api.script_txs_chain),
            (f"/{kind}/{{{kind}}}/txs/chain/{{last}}", api.script_txs_chain),
        ]
    # Handlers are synchronous and short; wrapping them keeps them on the event loop, where the node lives.
    gets = [Route(path, _on_loop(handler), methods=["GET"]) for path, handler in table]
    return [Route("/tx", api.broadcast, methods=["POST"]), *gets]


def _on_loop(handler: Callable[[Request], Response]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return handler(request)

    return endpoint


def _hash_of(request: Request, name: str) -> str:
    value = str(request.path_params[name]).lower()
    if len(value) != 64 or any(char not in "0123456789abcdef" for char in value):
        raise HttpError(400, "Invalid hex string")
    return value


def _number_of(request: Request, name: str) -> int:
    value = str(request.path_params[name])
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise HttpError(400, "Invalid number")
    return int(value)


class EsploraApi:
    """One method per endpoint."""

    def __init__(self, node: ChainNode) -> None:
        self._node = node

    # Blocks

    def tip_height(self, _: Request) -> Response:
        return PlainTextResponse(str(self._node.height()))

    def tip_hash(self, _: Request) -> Response:
        return PlainTextResponse(self._node.tip_hash())

    def block_height(self, request: Request) -> Response:
        block = self._node.index.block_at(_number_of(request, "height"))
        if block is None:
            raise HttpError(404, "Block not found")
        return PlainTextResponse(block.block_hash)

    def blocks(self, request: Request) -> Response:
        start = _number_of(request, "start") if "start" in request.path_params else self._node.height()
        start = min(start, self._node.height())
        heights = range(start, max(-1, start - _BLOCKS_PAGE), -1)
        found = (self._node.index.block_at(height) for height in heights)
        return JSONResponse([_block_json(block) for block in found if block is not None])

    def block(self, request: Request) -> Response:
        return JSONResponse(_block_json(self._block(request)))

    def block_header(self, request: Request) -> Response:
        return PlainTextResponse(self._raw_block(request)[:80].hex())

    def block_raw(self, request: Request) -> Response:
        return Response(self._raw_block(request), media_type="application/octet-stream")

    def block_status(self, request: Request) -> Response:
        block = self._node.index.block(_hash_of(request, "hash"))
        if block is None:
            return JSONResponse({"in_best_chain": False})
        answer: Json = {"in_best_chain": True, "height": block.height}
        following = self._node.index.block_at(block.height + 1)
        if following is not None:
            answer["next_best"] = following.block_hash
        return JSONResponse(answer)

    def block_txids(self, request: Request) -> Response:
        return JSONResponse(list(self._block(request).txids))

    def block_txid(self, request: Request) -> Response:
        txids = self._block(request).txids
        position = _number_of(request, "position")
        if position >= len(txids):
            raise HttpError(404, "tx index out of range")
        return PlainTextResponse(txids[position])

    def block_txs(self, request: Request) -> Response:
        block = self._block(request)
        start = _number_of(request, "start") if "start" in request.path_params else 0
        if start % _PAGE:
            raise HttpError(400, f"start index must be a multiple of {_PAGE}")
        return JSONResponse([self._tx_json(txid) for txid in block.txids[start : start + _PAGE]])

    def _block(self, request: Request) -> IndexedBlock:
        block = self._node.index.block(_hash_of(request, "hash"))
        if block is None:
            raise HttpError(404, "Block not found")
        return block

    def _raw_block(self, request: Request) -> bytes:
        raw = self._node.engine.block(_hash_of(request, "hash"))
        if raw is None:
            raise HttpError(404, "Block not found")
        return raw

    # Transactions

    def tx(self, request: Request) -> Response:
        return JSONResponse(self._tx_json(_hash_of(request, "txid")))

    def tx_hex(self, request: Request) -> Response:
        return PlainTextResponse(self._transaction(_hash_of(request, "txid")).raw.hex())

    def tx_raw(self, request: Request) -> Response:
        raw = self._transaction(_hash_of(request, "txid")).raw
        return Response(raw, media_type="application/octet-stream")

    def tx_status(self, request: Request) -> Response:
        # electrs answers "not confirmed" for transactions that it has never seen, too.
        return JSONResponse(self._status_json(_hash_of(request, "txid")))

    def tx_merkle_proof(self, request: Request) -> Response:
        txid = _hash_of(request, "txid")
        confirmed = self._node.index.transaction(txid)
        block = self._node.index.block_at(confirmed.height) if confirmed is not None else None
        if block is None:
            raise HttpError(404, "Transaction not found or is unconfirmed")
        position = block.txids.index(txid)
        branch = merkle_branch([bytes.fromhex(other)[::-1] for other in block.txids], position)
        merkle = [sibling[::-1].hex() for sibling in branch]
        return JSONResponse({"block_height": block.height, "merkle": merkle, "pos": position})

    def tx_outspend(self, request: Request) -> Response:
        outpoint = Outpoint(_hash_of(request, "txid"), _number_of(request, "vout"))
        return JSONResponse(self._outspend_json(outpoint))

    def tx_outspends(self, request: Request) -> Response:
        tx = self._transaction(_hash_of(request, "txid"))
        outpoints = (Outpoint(tx.txid, vout) for vout in range(len(tx.outputs)))
        return JSONResponse([self._outspend_json(outpoint) for outpoint in outpoints])

    async def broadcast(self, request: Request) -> Response:
        body = await request.body()
        try:
            raw = bytes.fromhex(body.decode("ascii").strip())
        except ValueError:
            raw = b""
        try:
            return PlainTextResponse(self._node.submit(raw))
        except Rejected as error:
            detail = json.dumps({"code": error.code, "message": error.reason}, separators=(",", ":"))
            raise HttpError(400, f"sendrawtransaction RPC error: {detail}") from error

    def _transaction(self, txid: str) -> Transaction:
        found = self._node.mempool.get(txid) or self._node.index.transaction(txid)
        if found is None:
            raise HttpError(404, "Transaction not found")
        return found.tx

    def _output(self, outpoint: Outpoint) -> TxOutput | None:
        entry = self._node.mempool.get(outpoint.txid)
        return entry.tx.outputs[outpoint.vout] if entry is not None else self._node.index.output(outpoint)

    def _status_json(self, txid: str) -> Json:
        confirmed = self._node.index.transaction(txid)
        block = self._node.index.block_at(confirmed.height) if confirmed is not None else None
        if block is None:
            return {"confirmed": False}
        return {
            "confirmed": True,
            "block_height": block.height,
            "block_hash": block.block_hash,
            "block_time": block.header.time_at,
        }

    def _outspend_json(self, outpoint: Outpoint) -> Json:
        spend = self._node.index.spend(outpoint)
        if spend is not None:
            txid, vin = spend.txid, spend.vin
        else:
            waiting = self._node.mempool.spender(outpoint)
            if waiting is None:
                return {"spent": False}
            txid = waiting
            vin = [txin.outpoint for txin in self._transaction(txid).inputs].index(outpoint)
        return {"spent": True, "txid": txid, "vin": vin, "status": self._status_json(txid)}

    def _tx_json(self, txid: str) -> Json:
        entry, confirmed = self._node.mempool.get(txid), self._node.index.transaction(txid)
        found = confirmed or entry
        if found is None:
            raise HttpError(404, "Transaction not found")
        tx = found.tx
        return {
            "txid": txid,
            "version": tx.version,
            "locktime": tx.locktime,
            "vin": [self._input_json(txin, coinbase=tx.is_coinbase) for txin in tx.inputs],
            "vout": [_output_json(output) for output in tx.outputs],
            "size": tx.size,
            "weight": tx.weight,
            "fee": found.fee_sats,
            "status": self._status_json(txid),
        }

    def _input_json(self, txin: TxInput, *, coinbase: bool) -> Json:
        prevout = None if coinbase else self._output(txin.outpoint)
        answer: Json = {
            "txid": txin.outpoint.txid,
            "vout": txin.outpoint.vout,
            "prevout": None if prevout is None else _output_json(prevout),
            "scriptsig": txin.script_sig.hex(),
            "scriptsig_asm": to_asm(txin.script_sig),
        }
        if txin.witness:
            answer["witness"] = [item.hex() for item in txin.witness]
        answer |= {"is_coinbase": coinbase, "sequence": txin.sequence}
        if prevout is not None:
            answer |= _inner_scripts_json(prevout.script, txin)
        return answer

    # Addresses

    def script(self, request: Request) -> Response:
        kind, name, key = _script_key(request)
        history = self._node.index.history(key)
        stats = history.stats if history is not None else ScriptStats()
        return JSONResponse(
            {kind: name, "chain_stats": asdict(stats), "mempool_stats": asdict(self._mempool_stats(key))}
        )

    def script_utxo(self, request: Request) -> Response:
        _, _, key = _script_key(request)
        history = self._node.index.history(key)
        confirmed = list(history.unspent) if history is not None else []
        waiting = [
            Outpoint(entry.tx.txid, vout)
            for entry in self._node.mempool
            for vout, output in enumerate(entry.tx.outputs)
            if script_hash(output.script) == key
        ]
        answer: list[Json] = []
        for outpoint in [*confirmed, *waiting]:
            coin = self._node.mempool.coin(outpoint)
            if coin is not None and self._node.mempool.spender(outpoint) is None:
                status = self._status_json(outpoint.txid)
                answer.append(
                    {
                        "txid": outpoint.txid,
                        "vout": outpoint.vout,
                        "status": status,
                        "value": coin.output.value_sats,
                    }
                )
        return JSONResponse(answer)

    def script_txs(self, request: Request) -> Response:
        _, _, key = _script_key(request)
        waiting = self._mempool_history(key)[:_MAX_MEMPOOL_TXS]
        return self._txs_json([*waiting, *_newest_first(self._node.index.history(key), None)])

    def script_txs_mempool(self, request: Request) -> Response:
        _, _, key = _script_key(request)
        return self._txs_json(self._mempool_history(key)[:_MAX_MEMPOOL_TXS])

    def script_txs_chain(self, request: Request) -> Response:
        _, _, key = _script_key(request)
        last = _hash_of(request, "last") if "last" in request.path_params else None
        return self._txs_json(_newest_first(self._node.index.history(key), last))

    def _txs_json(self, txids: Iterable[str]) -> Response:
        return JSONResponse([self._tx_json(txid) for txid in txids])

    def _touches(self, entry: MempoolEntry, key: bytes) -> bool:
        spent = (self._output(txin.outpoint) for txin in entry.tx.inputs)
        outputs = (*entry.tx.outputs, *(output for output in spent if output is not None))
        return any(script_hash(output.script) == key for output in outputs)

    def _mempool_history(self, key: bytes) -> list[str]:
        """Newest first."""
        return [entry.tx.txid for entry in self._node.mempool if self._touches(entry, key)][::-1]

    def _mempool_stats(self, key: bytes) -> ScriptStats:
        stats = ScriptStats()
        for entry in self._node.mempool:
            if not self._touches(entry, key):
                continue
            spent = (self._output(txin.outpoint) for txin in entry.tx.inputs)
            funded_values = [o.value_sats for o in entry.tx.outputs if script_hash(o.script) == key]
            spent_values = [o.value_sats for o in spent if o is not None and script_hash(o.script) == key]
            stats.tx_count += 1
            stats.funded_txo_count += len(funded_values)
            stats.funded_txo_sum += sum(funded_values)
            stats.spent_txo_count += len(spent_values)
            stats.spent_txo_sum += sum(spent_values)
        return stats

    # Mempool and fees

    def mempool(self, _: Request) -> Response:
        entries = list(self._node.mempool)
        histogram = [
            [entry.fee_rate, entry.tx.vsize]
            for entry in sorted(entries, key=lambda e: e.fee_rate, reverse=True)
        ]
        return JSONResponse(
            {
                "count": len(entries),
                "vsize": sum(entry.tx.vsize for entry in entries),
                "total_fee": sum(entry.fee_sats for entry in entries),
                "fee_histogram": histogram,
            }
        )

    def mempool_txids(self, _: Request) -> Response:
        return JSONResponse([entry.tx.txid for entry in self._node.mempool])

    def mempool_recent(self, _: Request) -> Response:
        newest = list(self._node.mempool)[: -_RECENT - 1 : -1]
        return JSONResponse(
            [
                {
                    "txid": entry.tx.txid,
                    "fee": entry.fee_sats,
                    "vsize": entry.tx.vsize,
                    "value": sum(output.value_sats for output in entry.tx.outputs),
                }
                for entry in newest
            ]
        )

    def fee_estimates(self, _: Request) -> Response:
        return JSONResponse({str(target): self._node.fee_rate_sat_per_vb for target in FEE_TARGETS})


def _script_key(request: Request) -> tuple[str, str, bytes]:
    """Kind and name as asked for, and the SHA256 of the script."""
    if "address" in request.path_params:
        address = str(request.path_params["address"])
        try:
            return "address", address, script_hash(address_to_script(address))
        except ValueError as error:
            raise HttpError(400, "Invalid Bitcoin address") from error
    name = _hash_of(request, "scripthash")
    return "scripthash", name, bytes.fromhex(name)


def _newest_first(history: ScriptHistory | None, last_seen: str | None) -> Sequence[str]:
    """A page of confirmed transactions, from behind the last one that was seen."""
    if history is None:
        return []
    txids = history.txids[::-1]
    if last_seen is not None:
        if last_seen not in txids:
            return []
        txids = txids[txids.index(last_seen) + 1 :]
    return txids[:_PAGE]


def _block_json(block: IndexedBlock) -> Json:
    header = block.header
    return {
        "id": block.block_hash,
        "height": block.height,
        "version": header.version,
        "timestamp": header.time_at,
        "tx_count": len(block.txids),
        "size": block.size,
        "weight": block.weight,
        "merkle_root": header.merkle_root,
        "previousblockhash": None if block.height == 0 else header.previous_hash,
        "mediantime": block.median_time_at,
        "nonce": header.nonce,
        "bits": header.bits,
        "difficulty": difficulty(header.bits),
    }


def _output_json(output: TxOutput) -> Json:
    answer: Json = {
        "scriptpubkey": output.script.hex(),
        "scriptpubkey_asm": to_asm(output.script),
        "scriptpubkey_type": script_type(output.script),
    }
    address = script_to_address(output.script)
    if address is not None:
        answer["scriptpubkey_address"] = address
    return answer | {"value": output.value_sats}


def _inner_scripts_json(script: bytes, txin: TxInput) -> Json:
    answer: Json = {}
    if is_p2sh(script):
        pushes = [op.data for op in iterate_ops(txin.script_sig)]
        script = (pushes[-1] if pushes else None) or b""
        answer["inner_redeemscript_asm"] = to_asm(script)
    program = witness_program(script)
    if program is None or not txin.witness:
        return answer
    version, data = program
    if version == 0 and len(data) == 32:
        answer["inner_witnessscript_asm"] = to_asm(txin.witness[-1])
    elif version == 1 and len(txin.witness) >= 2:
        answer["inner_witnessscript_asm"] = to_asm(txin.witness[-2])
    return answer
