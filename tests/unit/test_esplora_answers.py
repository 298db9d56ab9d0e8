"""How the Esplora adapter reads servers that falter, lie, or phrase things differently."""

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coordinator.adapters.esplora import EsploraChain
from coordinator.ports.chain import ChainError, ChainUnavailable, TransactionRejected
from coordinator_devnet.chain.transactions import Outpoint
from support.chain import Coin, Player, serving

HASH = "cd" * 32
ALICE = Player("alice")
TX = ALICE.spend([Coin(Outpoint("ab" * 32, 0), 9_000)], [(ALICE.script, 8_000)])


class Script:
    """A server that answers from a list, and counts requests by path."""

    def __init__(self, answer: Callable[[str, int], Response]) -> None:
        self.requests: list[str] = []
        self.answer = answer

    async def respond(self, request: Request) -> Response:
        path = f"{request.method} {request.url.path}"
        self.requests.append(path)
        return self.answer(path, self.requests.count(path))


async def asked(answer: Callable[[str, int], Response], question):
    """The adapter's answer to a question, and the requests it took."""
    script = Script(answer)
    app = Starlette(routes=[Route("/{path:path}", script.respond, methods=["GET", "POST"])])
    async with serving(app) as base_url:
        adapter = EsploraChain(base_url + "/", timeout_seconds=0.5)
        try:
            return await question(adapter), script.requests
        except ChainError as error:
            return error, script.requests
        finally:
            await adapter.aclose()


async def test_a_read_is_tried_again_while_the_server_is_busy():
    def answer(path: str, count: int) -> Response:
        return (
            PlainTextResponse("busy", 429 if count == 1 else 503) if count < 3 else JSONResponse({"2": 1.5})
        )

    result, requests = await asked(answer, lambda adapter: adapter.fee_rates())
    assert (result, len(requests)) == ({2: 1.5}, 3)


async def test_a_read_gives_up_after_three_times():
    result, requests = await asked(
        lambda *_: PlainTextResponse("no", 502), lambda adapter: adapter.transaction_status(HASH)
    )
    assert isinstance(result, ChainUnavailable)
    assert len(requests) == 3


async def test_a_request_that_is_wrong_is_not_repeated():
    result, requests = await asked(
        lambda *_: PlainTextResponse("Invalid hex string", 400),
        lambda adapter: adapter.transaction_status(HASH),
    )
    assert isinstance(result, ChainError)
    assert not isinstance(result, ChainUnavailable)
    assert len(requests) == 1


async def test_a_tip_whose_block_a_neighbour_has_not_seen_yet():
    def answer(path: str, count: int) -> Response:
        if path == "GET /blocks/tip/hash":
            return PlainTextResponse(HASH)
        if count == 1:
            return PlainTextResponse("Block not found", 404)
        return JSONResponse({"id": HASH, "height": 7, "mediantime": 1_700_000_000})

    result, _ = await asked(answer, lambda adapter: adapter.tip())
    assert (result.height, result.block_hash, result.median_time_at) == (7, HASH, 1_700_000_000)


STATUS = {"confirmed": True, "block_height": 5, "block_hash": HASH, "block_time": 1}


@pytest.mark.parametrize(
    "body",
    [
        *(None, [], "x", {}, {"status": {}}, {"status": {"confirmed": True}}),
        {"status": STATUS | {"block_height": "5"}},
        {"status": STATUS | {"block_hash": "zz"}},
        {"status": STATUS | {"block_time": -1}},
    ],
)
async def test_nonsense_is_an_error_and_never_a_status(body):
    result, _ = await asked(lambda *_: JSONResponse(body), lambda adapter: adapter.transaction_status(HASH))
    assert type(result) is ChainError


async def test_html_is_an_error():
    result, _ = await asked(lambda *_: PlainTextResponse("<html>"), lambda adapter: adapter.fee_rates())
    assert type(result) is ChainError


@pytest.mark.parametrize("rate", [-1, 0, "1", None, True])
async def test_an_absurd_fee_rate_is_an_error(rate):
    result, _ = await asked(lambda *_: JSONResponse({"2": rate}), lambda adapter: adapter.fee_rates())
    assert type(result) is ChainError


async def test_another_transaction_than_asked_for_is_an_error():
    result, _ = await asked(lambda *_: Response(TX.raw), lambda adapter: adapter.transaction(HASH))
    assert type(result) is ChainError
    result, _ = await asked(lambda *_: Response(TX.raw), lambda adapter: adapter.transaction(TX.txid))
    assert result == TX.raw


def refusing(body: str, *, status: int = 400, known: bool = False) -> Callable[[str, int], Response]:
    def answer(path: str, _: int) -> Response:
        if path.startswith("POST"):
            return PlainTextResponse(body, status)
        return JSONResponse({"txid": TX.txid}) if known else PlainTextResponse("Transaction not found", 404)

    return answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('sendrawtransaction RPC error: {"code":-26,"message":"non-final"}', "non-final"),
        (
            "sendrawtransaction RPC error -25: bad-txns-inputs-missingorspent",
            "bad-txns-inputs-missingorspent",
        ),
    ],
)
async def test_both_phrasings_of_a_refusal(body, reason):
    result, requests = await asked(refusing(body), lambda adapter: adapter.broadcast(TX.raw))
    assert isinstance(result, TransactionRejected)
    assert result.reason == reason
    assert requests.count("POST /tx") == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('sendrawtransaction RPC error: {"code":-28,"message":"Loading block index..."}', 400),
        ('sendrawtransaction RPC error: {"code":', 400),
        ("failed to read from daemon", 400),
        ("Bad gateway", 502),
        ("Too many requests", 429),
        ('sendrawtransaction RPC error: {"code":-26,"message":"non-final"}', 500),
    ],
)
async def test_trouble_at_the_server_is_no_refusal(body, status):
    result, _ = await asked(refusing(body, status=status), lambda adapter: adapter.broadcast(TX.raw))
    assert isinstance(result, ChainUnavailable)


async def test_a_refusal_of_what_is_there_already_counts_as_done():
    body = 'sendrawtransaction RPC error: {"code":-27,"message":"Transaction already in block chain"}'
    result, _ = await asked(refusing(body, known=True), lambda adapter: adapter.broadcast(TX.raw))
    assert result == TX.txid


async def test_a_base_url_with_a_path_keeps_it():
    script = Script(lambda *_: JSONResponse({"2": 1}))
    async with serving(Starlette(routes=[Route("/{path:path}", script.respond)])) as base_url:
        adapter = EsploraChain(f"{base_url}/testnet/api")
        assert await adapter.fee_rates() == {2: 1.0}
        await adapter.aclose()
    assert script.requests == ["GET /testnet/api/fee-estimates"]
