"""The public contract of 25 entries and three places, all its signatures in it, from the core to clients."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from coordinator.api import server as core_server
from coordinator.v1 import competition_pb2 as pb
from coordinator_client.rest import RestClient
from coordinator_gateway import jsoncodec
from coordinator_gateway.config import GatewayConfig
from support.contract import competition
from support.gateway import EventStreamClient, MemoryCore, World, running
from support.messages import filled

GET_CONTRACT = "/coordinator.v1.CompetitionService/GetContract"
COMPETITION_ID = "0190e3a0-0000-7000-8000-000000000000"
PATH = f"/api/v1/competitions/{COMPETITION_ID}/contract?include_signatures=true"
PLACES, ENTRIES = 3, 25


@pytest.fixture(scope="module")
def contract() -> pb.GetContractResponse:
    """Real parameters and keys; signatures are random bytes, as they look."""
    dlc = competition(ENTRIES, PLACES).dlc
    draw = random.Random(25)
    answer = pb.GetContractResponse(
        parameters_json=dlc.parameters.to_json(),
        players=[filled(pb.ContractPlayer.DESCRIPTOR)] * ENTRIES,
        escrow_transaction_hex=draw.randbytes(2_000).hex(),
        funding_psbt="x" * 8_000,
    )
    for job in dlc.signing_jobs():
        answer.signatures.add(key=job.key, signature=draw.randbytes(64 if job.adaptor_point is None else 65))
    return answer


@pytest.fixture(scope="module")
def text(contract: pb.GetContractResponse) -> bytes:
    return jsoncodec.dumps(jsoncodec.encode(contract))


@pytest.fixture
async def world(contract: pb.GetContractResponse) -> AsyncIterator[World]:
    core = MemoryCore()
    core.answers[GET_CONTRACT] = contract
    async with running(core) as world:
        yield world


def test_it_is_far_from_the_limits(contract: pb.GetContractResponse, text: bytes) -> None:
    assert len(contract.signatures) == (25 * 24 * 23 + 2) * (1 + PLACES) + (ENTRIES - PLACES) * 2
    assert len(text) > 10_000_000
    send_limit: Any = dict(core_server._OPTIONS)["grpc.max_send_message_length"]
    assert contract.ByteSize() * 4 < min(send_limit, GatewayConfig().max_response_bytes)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_over_http(world: World, text: bytes, coding: str) -> None:
    answer = await world.client.get(PATH, headers={"accept-encoding": coding})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers.get("content-encoding", "identity") == coding
    assert answer.content == text
    if coding == "gzip":
        assert answer.num_bytes_downloaded < len(text) * 0.65


async def test_head(world: World) -> None:
    answer = await world.client.head(PATH)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_python_client(world: World, contract: pb.GetContractResponse) -> None:
    async with RestClient(world.gateway.url) as client:
        got = await client.contract(COMPETITION_ID, include_signatures=True)
    assert got.parameters_json == contract.parameters_json
    assert [(s.key, s.signature) for s in got.signatures] == [
        (s.key, s.signature) for s in contract.signatures
    ]


async def test_one_who_takes_it_slowly_is_in_nobodys_way(world: World, text: bytes) -> None:
    stream = await EventStreamClient.open(world)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", world.gateway.config.port))
    reader, writer = await asyncio.open_connection(sock=slow, limit=4096)
    writer.write(f"GET {PATH} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    # It has begun, and waits for its reader.
    await world.core.publish()
    assert (await stream.event()).id == "1"
    assert (await world.client.get("/api/v1/coordinator")).status_code == 200
    body = b""
    while chunk := await reader.readline():
        size = int(chunk, 16)
        body += (await reader.readexactly(size + 2))[:-2]
    assert body == text
    writer.close()


async def test_one_who_leaves_half_way(world: World) -> None:
    async with world.client.stream("GET", PATH) as answer:
        await anext(answer.aiter_raw())
    assert (await world.client.get("/api/v1/coordinator")).status_code == 200


async def test_an_answer_that_is_too_large(contract: pb.GetContractResponse) -> None:
    core = MemoryCore()
    core.answers[GET_CONTRACT] = contract
    async with running(core, max_response_bytes=1_000_000) as world:
        answer = await world.client.get(PATH)
        assert (answer.status_code, answer.json()["reason"]) == (500, "ANSWER_TOO_LARGE")
        assert "retry-after" not in answer.headers


async def test_small_answers_are_compressed_if_it_pays(world: World) -> None:
    core = world.core
    await core.publish_many([("ticket.paid", f"c{n}", "", {}) for n in range(200)])
    for path, compressed in (("/api/v1/competitions", True), ("/api/v1/coordinator", False)):
        sent = {}
        for coding in ("gzip", "identity"):
            answer = await world.client.get(path, headers={"accept-encoding": coding})
            assert ("content-encoding" in answer.headers) is (compressed and coding == "gzip")
            assert ("vary" in answer.headers) is compressed
            sent[coding] = answer
        assert sent["gzip"].content == sent["identity"].content
        assert isinstance(sent["gzip"], httpx.Response)
        if compressed:
            assert (
                int(sent["gzip"].headers["content-length"])
                < int(sent["identity"].headers["content-length"]) / 5
            )
