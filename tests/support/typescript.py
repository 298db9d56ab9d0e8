"""Stages for the TypeScript client's scenarios (clients/typescript/test/scenarios.ts): a real gateway, and a
control server by which a scenario, wherever it runs, makes happen what it needs.
"""

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from coordinator_client.nostr import NostrKey
from coordinator_gateway.config import GatewayConfig
from support.api import ADMIN, GATEWAY_TOKEN, running_api
from support.browser import Wire, wire
from support.gateway import CoreServer, Fault, RunningGateway, free_port
from support.web import COORDINATOR, LivingCore

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
PROGRAMS = ROOT / "web" / "node_modules" / ".bin"
KEYS = {"admin": ADMIN, "player": NostrKey(b"\x12" * 32)}

Data = dict[str, Any]
Action = Callable[[Data], Awaitable[Data]]


def search_path() -> str:
    """Where programs are: the machine's, and the Node.js that `make web` brings along if it has none."""
    return os.pathsep.join([os.environ.get("PATH", ""), str(ROOT / "build" / "node")])


def why_not() -> str:
    """Why there can be no test of the client here; empty if there can."""
    if not shutil.which("node", path=search_path()):
        return "there is no Node.js on this machine"
    if not (PROGRAMS / "esbuild").exists():
        return "the web app's packages are not installed: make web"
    return ""


def examples() -> dict[str, str]:
    """The README's examples by the headings that they stand under."""
    text = (CLIENT / "README.md").read_text("utf-8")
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for heading, section in zip(sections[1::2], sections[2::2], strict=True):
        for source in re.findall(r"^```ts\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            assert heading not in found
            found[heading] = source
    return found


def check_types(sources: list[Path]) -> None:
    """What TypeScript has to say of modules that import the client by its name; nothing, or it fails."""
    folder = sources[0].parent
    config = {
        "extends": str(CLIENT / "tsconfig.json"),
        "compilerOptions": {
            "noEmit": True,
            "rootDir": "/",
            "types": [],
            "module": "ESNext",
            "moduleResolution": "bundler",
            "allowImportingTsExtensions": True,
            "paths": {"coordinator-client": [str(CLIENT / "src" / "index.ts")]},
        },
        "include": [str(source) for source in sources],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config))
    command = [PROGRAMS / "tsc", "-p", folder]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": search_path()})
    assert done.returncode == 0, done.stdout + done.stderr


def example_at(folder: Path, heading: str, url: str) -> Path:
    """An example as a module, with the gateway's address in place of the README's."""
    source = examples()[heading].replace("https://play.example.org", url)
    assert url in source
    path = folder / f"{heading.lower()}.ts"
    path.write_text(source)
    return path


def bundle(source: Path, target: Path, *options: str) -> Path:
    """A module with all that it imports in one file."""
    words = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning", f"--outfile={target}"]
    alias = f"--alias:coordinator-client={CLIENT / 'src' / 'index.ts'}"
    command = [PROGRAMS / "esbuild", source, *words, alias, *options]
    subprocess.run(command, check=True, env={"PATH": search_path()})
    return target


async def node(script: Path, *options: str, seconds: float = 60, **environment: str) -> tuple[int, str]:
    """Exit code and output of a script in Node."""
    program = shutil.which("node", path=search_path())
    assert program
    # Not `node --test`: its runner is another process, whose children outlive it if it is killed.
    process = await asyncio.create_subprocess_exec(
        program,
        *options,
        str(script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": search_path(), **environment},
    )
    output = bytearray()

    async def finish() -> int:
        assert process.stdout is not None
        while chunk := await process.stdout.read(65536):
            output.extend(chunk)
        return await process.wait()

    try:
        code = await asyncio.wait_for(finish(), seconds)
    except TimeoutError:
        raise AssertionError(f"it did not end: {output.decode()}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return code, output.decode()


@dataclass
class Stage:
    """Where the gateway is, and where it is controlled from. The latter serves a page at / too."""

    url: str
    control_url: str


@asynccontextmanager
async def stage_of_streams(
    script: Path | None = None, core: LivingCore | None = None
) -> AsyncIterator[Stage]:
    """With a core in memory; `script` is the module of the page at the control server."""
    server = CoreServer(core or LivingCore())
    await server.start()
    try:
        async with _gateway(
            server.address, script, lambda place: _Streams(place, server.core).actions
        ) as stage:
            yield stage
    finally:
        await server.stop()


@asynccontextmanager
async def life(core: LivingCore) -> AsyncIterator[None]:
    """Competitions that are announced and cancelled, one after the other."""
    await core.announce(1, "Windy weekend")

    async def go_on() -> None:
        for number in range(2, 10_000):
            await asyncio.sleep(0.05)
            id_ = await core.announce(number, f"Weekend {number}")
            await core.happen(id_, "competition.cancelled", {"reason": "rain"}, state="cancelled")

    going = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going.cancel()


@asynccontextmanager
async def stage_of_core(folder: Path, script: Path | None = None) -> AsyncIterator[Stage]:
    """With a real core, whose chain and Lightning are devnet's."""
    async with (
        running_api(folder, admin_npubs=ADMIN.npub) as api,
        _gateway(f"127.0.0.1:{api.port}", script, lambda _: {}) as stage,
    ):
        yield stage


@dataclass
class _Place:
    """A gateway behind a wire."""

    config: GatewayConfig
    gateway: RunningGateway
    relay: Wire

    async def start(self) -> None:
        self.gateway = RunningGateway(self.config)
        await self.gateway.start()
        await self.gateway.hub.ready.wait()


class _Streams:
    """What can be made to happen with a core in memory."""

    def __init__(self, place: _Place, core: Any) -> None:
        self.place = place
        self.core: LivingCore = core
        self.random = random.Random(20261125)
        self.actions: dict[str, Action] = {
            name: getattr(self, name)
            for name in (
                "announce",
                "happen",
                "limit",
                "limits",
                "stop",
                "start",
                "forget",
                "streams",
                "overload",
            )
        }

    async def announce(self, data: Data) -> Data:
        return {"id": await self.core.announce(len(self.core.competitions) + 1, data["name"])}

    async def happen(self, data: Data) -> Data:
        sequence = self.core.head
        for _ in range(data["count"]):
            text = "x" * self.random.randint(0, 300)
            sequence = await self.core.happen(data["id"], "weather.seen", {"text": text})
        return {"sequence": sequence}

    async def limit(self, data: Data) -> Data:
        self.place.relay.stream_bytes = list(data["bytes"])
        return {}

    async def limits(self, _: Data) -> Data:
        return {"left": len(self.place.relay.stream_bytes)}

    async def stop(self, _: Data) -> Data:
        await self.place.gateway.stop()
        return {}

    async def start(self, _: Data) -> Data:
        await self.place.start()
        return {}

    async def forget(self, data: Data) -> Data:
        del self.core.log[-data["count"] :]
        return {}

    async def streams(self, _: Data) -> Data:
        return {"count": self.place.relay.streams}

    async def overload(self, data: Data) -> Data:
        retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=7))
        fault = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", [retry])
        self.core.faults = {COORDINATOR: fault} if data["on"] else {}
        return {}


async def _sign(data: Data) -> Data:
    event = data["event"]
    signed = KEYS[data["who"]].sign_event(
        kind=event["kind"], created_at=event["created_at"], tags=event["tags"], content=event["content"]
    )
    return signed.to_dict()


@asynccontextmanager
async def _gateway(
    core: str, script: Path | None, actions: Callable[[_Place], dict[str, Action]]
) -> AsyncIterator[Stage]:
    control_port = free_port()
    control_url = f"http://127.0.0.1:{control_port}"
    config = GatewayConfig(
        core=core,
        port=free_port(),
        token=GATEWAY_TOKEN,
        rate_limit_per_second=0,
        retry_milliseconds=100,
        heartbeat_seconds=0.5,
        shutdown_seconds=2,
        # The scenarios' page is of another origin, as an integrator's is.
        cors_origins=(control_url,),
    )
    async with wire(config.port) as relay:
        place = _Place(config, RunningGateway(config), relay)
        await place.start()
        known = {"sign": _sign, "where": _answer({"url": relay.url}), **actions(place)}
        server = uvicorn.Server(
            uvicorn.Config(_control(known, script), port=control_port, log_level="warning", ws="none")
        )
        serving = asyncio.create_task(server._serve())
        try:
            while not server.started:
                assert not serving.done(), "the control server did not start"
                await asyncio.sleep(0.01)
            yield Stage(relay.url, control_url)
        finally:
            server.should_exit = True
            relay.cut()
            await serving
            await place.gateway.stop()


def _answer(value: Data) -> Action:
    async def answer(_: Data) -> Data:
        return value

    return answer


def _control(actions: dict[str, Action], script: Path | None) -> Starlette:
    async def act(request: Request) -> Response:
        return JSONResponse(await actions[request.path_params["name"]](await request.json()))

    async def page(_: Request) -> Response:
        return HTMLResponse(
            '<!doctype html><meta charset="utf-8"><title>Client</title>'
            '<link rel="icon" href="data:,"><script type="module" src="/script.js"></script>'
        )

    async def module(_: Request) -> Response:
        assert script is not None
        return FileResponse(script, media_type="text/javascript")

    return Starlette(
        routes=[
            Route("/control/{name}", act, methods=["POST"]),
            Route("/", page),
            Route("/script.js", module),
        ]
    )
