"""The chain over Esplora's REST interface: Blockstream's and mempool.space's servers, electrs, or devnet's.

Reference: https://github.com/Blockstream/esplora/blob/master/API.md
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast

import httpx
from embit.transaction import Transaction

from coordinator.ports.chain import (
    ChainError,
    ChainTip,
    ChainUnavailable,
    Outspend,
    TransactionRejected,
    TransactionStatus,
    Utxo,
)
from coordinator_client.bounded import bounded

_READ_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.2
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# Bitcoin Core's RPC codes for a transaction that was looked at and refused: undecodable, failed verification,
# refused by consensus or policy, known already.
_REJECTION_CODES = frozenset({-22, -25, -26, -27})
_TXID = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[0-9A-Za-z]{14,90}")
_RPC_CODE = re.compile(r"RPC error:?\s*(-\d+)[:\s]*(.*)", re.DOTALL)

T = TypeVar("T")


class EsploraChain:
    """Implements `coordinator.ports.chain.Chain`.

    Reads are tried three times over about half a second; a broadcast is sent once, since its caller has to be
    ready to repeat it anyway.

    Args:
        base_url: where the API lives, for example `https://blockstream.info/testnet/api`.
        timeout_seconds: limit for one request.
    """

    def __init__(self, base_url: str, *, timeout_seconds: float = 10) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            timeout=timeout_seconds,
            follow_redirects=True,
            event_hooks=bounded(),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def tip(self) -> ChainTip:
        """The newest block."""
        for _ in range(_READ_ATTEMPTS):
            block_hash = _checked_txid((await self._found("blocks/tip/hash")).text.strip())
            response = await self._get(f"block/{block_hash}")
            # None: a server behind a load balancer may not have the block that its neighbour announced.
            if response is not None:
                return _decode(response, _tip)
            await asyncio.sleep(_BACKOFF_SECONDS)
        raise ChainUnavailable("the tip's block is not available yet")

    async def fee_rates(self) -> Mapping[int, float]:
        """Estimates: confirmation target in blocks -> sat/vB."""
        return _decode(
            await self._found("fee-estimates"),
            lambda body: {int(target): _fee_rate(rate) for target, rate in body.items()},
        )

    async def transaction(self, txid: str) -> bytes | None:
        """The serialised transaction; None when unknown."""
        response = await self._get(f"tx/{_checked_txid(txid)}/raw")
        if response is None:
            return None
        if _txid_of(response.content) != txid:
            raise ChainError(f"the server gave another transaction than {txid}")
        return response.content

    async def transaction_status(self, txid: str) -> TransactionStatus | None:
        """Where the transaction is; None when unknown."""
        # Not /tx/:txid/status: it answers "unconfirmed" for transactions that the server has never seen.
        response = await self._get(f"tx/{_checked_txid(txid)}")
        return None if response is None else _decode(response, lambda body: _status(body["status"]))

    async def utxos(self, address: str) -> Sequence[Utxo]:
        """Unspent outputs of an address.

        Raises:
            ChainError: the server does not take it for an address, or it has more outputs than the server
                lists.
        """
        if not _ADDRESS.fullmatch(address):
            raise ChainError("not an address")
        return _decode(
            await self._found(f"address/{address}/utxo"), lambda body: [_utxo(item) for item in body]
        )

    async def outspend(self, txid: str, vout: int) -> Outspend | None:
        """What spends the output."""
        response = await self._get(f"tx/{_checked_txid(txid)}/outspend/{int(vout)}")
        return None if response is None else _decode(response, _outspend)

    async def broadcast(self, transaction: bytes) -> str:
        """Hand a signed transaction to the network; one that is there already counts as done.

        Raises:
            TransactionRejected: the node refused it, or the bytes are no transaction.
        """
        txid = _txid_of(transaction)
        if txid is None:
            raise TransactionRejected("TX decode failed")
        try:
            response = await self._client.post("tx", content=transaction.hex())
        except httpx.HTTPError as error:
            raise ChainUnavailable(f"broadcast: {type(error).__name__}") from error
        if response.status_code == 200:
            if response.text.strip().lower() != txid:
                raise ChainError(f"the server took {txid} and named another transaction")
            return txid
        # What the node refuses may be refused because it is there already, spent or not, mined or not.
        if response.status_code == 400 and await self._get(f"tx/{txid}") is not None:
            return txid
        rejection = _rejection(response)
        if rejection is not None:
            raise TransactionRejected(rejection)
        raise ChainUnavailable(
            f"broadcast: the server answered {response.status_code}: {response.text[:200]}"
        )

    async def _found(self, path: str) -> httpx.Response:
        response = await self._get(path)
        if response is None:
            raise ChainError(f"{path}: the server answered 404")
        return response

    async def _get(self, path: str) -> httpx.Response | None:
        """A successful answer, or None for 404."""
        problem = ""
        for attempt in range(_READ_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_BACKOFF_SECONDS * 2 ** (attempt - 1))
            try:
                response = await self._client.get(path)
            except httpx.HTTPError as error:
                problem = type(error).__name__
                continue
            if response.status_code == 200:
                return response
            if response.status_code == 404:
                return None
            problem = f"the server answered {response.status_code}"
            if response.status_code not in _RETRYABLE_STATUS:
                raise ChainError(f"{path}: {problem}: {response.text[:200]}")
        raise ChainUnavailable(f"{path}: {problem}")


def _rejection(response: httpx.Response) -> str | None:
    """The node's reason in an answer to a broadcast; None when it is not the node's judgement of a
    transaction.

    electrs wraps the node's words as `sendrawtransaction RPC error: {"code":-26,"message":"..."}`, newer
    versions as `sendrawtransaction RPC error -26: ...`.
    """
    if response.status_code != 400:
        return None
    text = response.text
    start = text.find("{")
    if start >= 0:
        try:
            body = json.loads(text[start : text.rfind("}") + 1])
            code, message = int(body["code"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            return None
        return message if code in _REJECTION_CODES else None
    match = _RPC_CODE.search(text)
    if match is not None and int(match[1]) in _REJECTION_CODES:
        return match[2].strip()
    return None


def _txid_of(raw: bytes) -> str | None:
    """The id of a serialised transaction, None for anything else."""
    try:
        tx = Transaction.parse(raw)
        # Reading tolerates truncated input; writing what was read shows it.
        if tx.serialize() != raw:
            return None
        return cast("bytes", tx.txid()).hex()
    except Exception:  # embit raises whatever its reading runs into
        return None


def _checked_txid(value: str) -> str:
    if not _TXID.fullmatch(value):
        raise ChainError("not a transaction id or block hash (64 lower-case hex digits)")
    return value


def _decode(response: httpx.Response, read: Callable[[Any], T]) -> T:
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _nonsense(response, error)


def _nonsense(response: httpx.Response, error: Exception) -> NoReturn:
    raise ChainError(f"{response.url.path}: the server's answer makes no sense") from error


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("not a non-negative integer")
    return value


def _fee_rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise TypeError("not a fee rate")
    return float(value)


def _tip(body: Mapping[str, Any]) -> ChainTip:
    return ChainTip(_integer(body["height"]), _checked_txid(body["id"]), _integer(body["mediantime"]))


def _status(body: Mapping[str, Any]) -> TransactionStatus:
    if body["confirmed"] is not True:
        return TransactionStatus(False, None, None, None)
    block_hash = _checked_txid(body["block_hash"])
    return TransactionStatus(True, _integer(body["block_height"]), block_hash, _integer(body["block_time"]))


def _utxo(body: Mapping[str, Any]) -> Utxo:
    status = _status(body["status"])
    return Utxo(
        _checked_txid(body["txid"]),
        _integer(body["vout"]),
        _integer(body["value"]),
        status.confirmed,
        status.block_height,
    )


def _outspend(body: Mapping[str, Any]) -> Outspend | None:
    if body["spent"] is not True:
        return None
    status = _status(body["status"])
    return Outspend(_checked_txid(body["txid"]), _integer(body["vin"]), status.confirmed, status.block_height)
