"""Event fan-out and unary overhead of one gateway process. `python bench/bench_gateway.py --help`.

Three processes on the loopback interface: the gateway as its command starts it, the clients, and this one,
which is the core (a real gRPC server with a log in memory) and publishes. Times are of the system's monotonic
clock, which the processes share: from just before an event is appended to the log, through gRPC, gateway and
socket, to when the client process reads it. Unary requests are measured against a bare Starlette route that
makes the same gRPC call, and against one that answers by itself. Nothing leaves the machine. Written to
bench/results/gateway.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

MAX_SECONDS = 120
SPACING_SECONDS = 0.5
DATA = {"ticket_id": "0190e3a0-0000-7000-8000-000000000000", "amount_sats": 10_000}
TARGETS = {
    "delivered": "every event to every client",
    "p99_seconds": 1.0,
    "kib_per_client": 40,
    "unary_times_bare_route_with_the_same_call": 2.0,
}


# --- the clients: a process of its own ---


class Reader(asyncio.Protocol):
    """One client: notes when each event arrives."""

    ID = re.compile(rb"\nid: (\d+)|^id: (\d+)", re.MULTILINE)

    def __init__(self, path: str, sequences: "array[int]", times: "array[float]") -> None:
        self.request = f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
        self.sequences, self.times = sequences, times
        self.ready = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.lost = False
        self.rest = b""
        self.got: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self.rest + data
        end = data.rfind(b"\n\n") + 2
        # A frame that is not complete waits for its rest.
        self.rest = data[end:] if end >= 2 else data
        for found in self.ID.finditer(data, 0, max(end, 0)):
            self.got.append(int(found[1] or found[2]))
            self.sequences.append(self.got[-1])
            self.times.append(now)
        if not self.ready.done() and b"event: snapshot" in data:
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(str(exc)))


async def run_clients(port: int, amount: int) -> None:
    """Connects, says so, and reports on what arrived each time a line comes in on stdin."""
    loop = asyncio.get_running_loop()
    sequences, times = array("q"), array("d")
    readers: list[Reader] = []
    for start in range(0, amount, 100):
        batch = []
        for _ in range(min(100, amount - start)):
            _, reader = await loop.create_connection(
                lambda: Reader("/api/v1/events", sequences, times), "127.0.0.1", port
            )
            batch.append(reader)
        await asyncio.gather(*[reader.ready for reader in batch])
        readers += batch
    print(json.dumps({"connected": len(readers)}), flush=True)
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        # {"expect": events * clients, "published": {sequence: time}}
        order = json.loads(line)
        deadline = time.monotonic() + order["seconds"]
        while len(sequences) < order["expect"] and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        published = {int(sequence): at for sequence, at in order["published"].items()}
        latencies = sorted(at - published[seq] for seq, at in zip(sequences, times, strict=True))
        report = {
            "delivered": len(latencies),
            # In order, each once.
            "complete": all(reader.got == sorted(published) for reader in readers),
            "lost_connections": sum(reader.lost for reader in readers),
            "delivered_per_second": round(len(latencies) / (max(times) - min(published.values()))),
            "p50_seconds": round(latencies[len(latencies) // 2], 4),
            "p99_seconds": round(latencies[len(latencies) * 99 // 100], 4),
            "max_seconds": round(latencies[-1], 4),
        }
        del sequences[:], times[:]
        for reader in readers:
            reader.got.clear()
        print(json.dumps(report), flush=True)


# --- processes ---


@contextlib.asynccontextmanager
async def process(*command: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | environ,
        limit=1 << 24,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


@contextlib.asynccontextmanager
async def gateway(core: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = {"CORE": core, "PORT": str(port), "RATE_LIMIT_PER_SECOND": "0"}
    settings |= {"MAX_STREAMS": "20000", "MAX_STREAMS_PER_ADDRESS": "20000"}
    environ = {f"COORDINATOR_GATEWAY_{name}": value for name, value in settings.items()}
    async with process(sys.executable, "-m", "coordinator_gateway", **environ) as child:
        await listening(port)
        yield child


async def listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def answer(child: asyncio.subprocess.Process) -> dict[str, Any]:
    assert child.stdout is not None
    async with asyncio.timeout(MAX_SECONDS):
        line = await child.stdout.readline()
    assert line, "the clients are gone"
    report: dict[str, Any] = json.loads(line)
    return report


# --- fan-out ---


async def fan_out(amount: int, bursts: int, burst: int) -> dict[str, Any]:
    """`bursts` times `burst` events at once, then as many one after the other, to `amount` clients."""
    from support.gateway import CoreServer, free_port

    server = CoreServer()
    await server.start()
    port = free_port()
    try:
        async with gateway(server.address, port) as gate:
            await asyncio.sleep(1)
            before = rss_kib(gate.pid)
            started = time.monotonic()
            command = (sys.executable, __file__, "--clients-of", str(port), "--amount", str(amount))
            async with process(*command) as clients:
                assert clients.stdin is not None
                connected = (await answer(clients))["connected"]
                result: dict[str, Any] = {
                    "clients": connected,
                    "connect_seconds": round(time.monotonic() - started, 2),
                    "kib_per_client": round((rss_kib(gate.pid) - before) / connected, 1),
                    "bursts": [],
                }
                for pause in [0.0] * bursts + [SPACING_SECONDS]:
                    cpu = cpu_seconds(gate.pid)
                    published: dict[int, float] = {}
                    for count in [1] * burst if pause else [burst]:
                        first, at = server.core.head + 1, time.monotonic()
                        last = await server.core.publish_many([("ticket.paid", "c1", "", DATA)] * count)
                        published |= dict.fromkeys(range(first, last + 1), at)
                        await asyncio.sleep(pause)
                    order = {"expect": connected * burst, "published": published, "seconds": 30}
                    clients.stdin.write(json.dumps(order).encode() + b"\n")
                    report = await answer(clients)
                    report |= {"events": burst, "seconds_between_events": pause}
                    report["gateway_cpu_seconds"] = round(cpu_seconds(gate.pid) - cpu, 2)
                    result["bursts"].append(report)
                result["kib_per_client_after"] = round((rss_kib(gate.pid) - before) / connected, 1)
            return result
    finally:
        await server.stop()


# --- unary ---


BARE = """
import contextlib, sys, grpc, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from coordinator.v1 import competition_pb2 as pb, competition_pb2_grpc as rpc
async def alone(request):
    return JSONResponse({"id": request.path_params["id"], "state": "created"})
async def calling(request):
    message = pb.GetCompetitionRequest(competition_id=request.path_params["id"])
    answer = await request.app.state.stub.GetCompetition(message)
    return JSONResponse({"id": answer.competition.id, "state": answer.competition.state})
@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.stub = rpc.CompetitionServiceStub(grpc.aio.insecure_channel(sys.argv[2]))
    yield
endpoint = calling if len(sys.argv) > 2 else alone
routes = [Route("/api/v1/competitions/{id}", endpoint)]
app = Starlette(routes=routes, lifespan=lifespan if sys.argv[2:] else None)
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error")
"""

CORE = """
import asyncio, sys
sys.path.insert(0, "tests")
from support.gateway import CoreServer
from support.messages import filled
from coordinator.v1 import competition_pb2 as pb
async def main():
    server = CoreServer()
    server.port = int(sys.argv[1])
    server.core.answers["/coordinator.v1.CompetitionService/GetCompetition"] = filled(
        pb.GetCompetitionResponse.DESCRIPTOR)
    server.core.calls = type("Forgetful", (list,), {"append": lambda self, item: None})()
    await server.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def load(port: int, connections: int, seconds: float) -> dict[str, Any]:
    """GETs over kept connections for a while."""
    request = b"GET /api/v1/competitions/0190e3a0 HTTP/1.1\r\nhost: bench\r\n\r\n"
    latencies: list[float] = []
    until = time.monotonic() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.monotonic()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
            latencies.append(time.monotonic() - start)
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*[one() for _ in range(connections)])
    latencies.sort()
    return {
        "connections": connections,
        "requests_per_second": round(len(latencies) / (time.monotonic() - started)),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 3),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 3),
    }


async def unary(seconds: float) -> dict[str, Any]:
    """The gateway in front of a core against a Starlette route that answers by itself."""
    from support.gateway import free_port

    result: dict[str, Any] = {}
    port, core_port = free_port(), free_port()

    async def measure(pid: int, port: int) -> list[dict[str, Any]]:
        await load(port, 1, 0.5)
        runs = []
        for connections in (1, 16):
            cpu = cpu_seconds(pid)
            run = await load(port, connections, seconds)
            used = cpu_seconds(pid) - cpu
            run["cpu_us_per_request"] = round(used / (run["requests_per_second"] * seconds) * 1e6)
            runs.append(run)
        return runs

    os.chdir(ROOT)
    async with process(sys.executable, "-c", BARE, str(port)) as bare:
        await listening(port)
        result["bare_route_alone"] = await measure(bare.pid, port)
    async with process(sys.executable, "-c", CORE, str(core_port)):
        await listening(core_port)
        core = f"127.0.0.1:{core_port}"
        port = free_port()
        async with process(sys.executable, "-c", BARE, str(port), core) as bare:
            await listening(port)
            result["bare_route_with_the_same_call"] = await measure(bare.pid, port)
        port = free_port()
        async with gateway(core, port) as gate:
            await asyncio.sleep(1)
            result["gateway"] = await measure(gate.pid, port)
    for base in ("bare_route_alone", "bare_route_with_the_same_call"):
        for base_run, run in zip(result[base], result["gateway"], strict=True):
            result[f"times_{base}_{run['connections']}_connections"] = {
                "p50": round(run["p50_ms"] / base_run["p50_ms"], 2),
                "cpu": round(run["cpu_us_per_request"] / base_run["cpu_us_per_request"], 2),
            }
    return result


async def run(sizes: list[int], seconds: float) -> None:
    result: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
            ).stdout.strip(),
        },
        "targets": TARGETS,
        "fan_out": [],
    }
    for size in sizes:
        result["fan_out"].append(await fan_out(size, bursts=3, burst=10))
        print(json.dumps(result["fan_out"][-1]), flush=True)
    result["unary"] = await unary(seconds)
    print(json.dumps(result["unary"]))
    path = ROOT / "bench" / "results" / "gateway.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 5000, 10_000], help="clients per run")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each unary run")
    parser.add_argument("--clients-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--amount", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.clients_of:
        asyncio.run(run_clients(args.clients_of, args.amount))
    else:
        asyncio.run(run(args.sizes, args.seconds))


if __name__ == "__main__":
    main()
