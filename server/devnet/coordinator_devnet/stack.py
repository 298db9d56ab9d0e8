"""`run`: the whole product in the foreground, as four kinds of processes with one log.

devnet (chain, Lightning, keymeld, oracle), the core and the gateway are started in that order, each once the
one before is healthy, and stopped in the opposite order. Keys and tokens are made at the first start and kept
in the data directory; a restart goes on from what is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import httpx

from coordinator.v1 import wallet_pb2, wallet_pb2_grpc
from coordinator_client.nostr import NostrKey, nip98

from . import world

GATEWAY_PORT = 8080
CORE_PORT = 50051
FIRST_FUNDS_SATS = 1_000_000_000
START_SECONDS = 60
STOP_SECONDS = 10
COLOURS = {"devnet": 36, "core": 33, "gateway": 35}


class StackError(Exception):
    """A part did not start, or ended by itself; the message says which."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything listens, and who may administer it."""

    data_dir: Path
    host: str
    gateway_port: int
    core_port: int
    chain_port: int
    lightning_grpc_port: int
    lightning_port: int
    keymeld_port: int
    oracle_port: int
    admin: NostrKey = field(repr=False)

    @property
    def gateway_url(self) -> str:
        """REST, events and the web app."""
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def core_address(self) -> str:
        """gRPC."""
        return f"{self.host}:{self.core_port}"

    @property
    def chain_url(self) -> str:
        """Esplora REST."""
        return f"http://{self.host}:{self.chain_port}"

    @property
    def lightning_url(self) -> str:
        """The Lightning network's devnet HTTP interface."""
        return f"http://{self.host}:{self.lightning_port}"

    @property
    def keymeld_url(self) -> str:
        """keymeld."""
        return f"http://{self.host}:{self.keymeld_port}"

    @property
    def oracle_url(self) -> str:
        """The oracle."""
        return f"http://{self.host}:{self.oracle_port}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    world.add_arguments(parser)
    parser.set_defaults(data_dir=Path(os.environ.get("COORDINATOR_DATA_DIR", "data")))
    parser.add_argument("--port", type=int, default=GATEWAY_PORT, help="gateway: REST, events, web app")
    parser.add_argument("--core-port", type=int, default=CORE_PORT, help="core: gRPC")
    parser.add_argument("--web-dir", type=Path, default=Path("web/dist"), help="the built web app")
    parser.add_argument("--quiet", action="store_true", help="log only warnings and errors of the parts")


def configured(args: argparse.Namespace) -> Stack:
    """The stack of these options; makes its keys at the first start."""
    args.data_dir.mkdir(parents=True, exist_ok=True)
    kept_secret(args.data_dir / "gateway.token", lambda: secrets.token_urlsafe(32))
    kept_secret(args.data_dir / "secret.key", lambda: secrets.token_hex(32))
    nsec = kept_secret(args.data_dir / "admin.nsec", lambda: NostrKey.generate().nsec)
    return Stack(
        data_dir=args.data_dir,
        host=args.host,
        gateway_port=args.port,
        core_port=args.core_port,
        chain_port=args.chain_port,
        lightning_grpc_port=args.lightning_grpc_port,
        lightning_port=args.lightning_port,
        keymeld_port=args.keymeld_port,
        oracle_port=args.oracle_port,
        admin=NostrKey.from_nsec(nsec),
    )


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only its owner can read; made at the first call."""
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        fresh.rename(path)
    return path.read_text().strip()


def core_environment(stack: Stack) -> dict[str, str]:
    """The core's settings."""
    node = stack.data_dir / "devnet" / "lightning" / "coordinator"
    return {
        "COORDINATOR_DATABASE_URL": f"sqlite://{(stack.data_dir / 'coordinator.sqlite3').resolve()}",
        "COORDINATOR_NETWORK": "regtest",
        "COORDINATOR_GRPC_HOST": stack.host,
        "COORDINATOR_GRPC_PORT": str(stack.core_port),
        "COORDINATOR_GRPC_AUTHORITIES": f"{stack.core_address},localhost:{stack.core_port}",
        "COORDINATOR_ESPLORA_URL": stack.chain_url,
        "COORDINATOR_LND_ADDRESS": f"{stack.host}:{stack.lightning_grpc_port}",
        "COORDINATOR_LND_TLS_CERT_FILE": str(node / "tls.cert"),
        "COORDINATOR_LND_MACAROON_FILE": str(node / "admin.macaroon"),
        "COORDINATOR_KEYMELD_URL": stack.keymeld_url,
        "COORDINATOR_ORACLE_URL": stack.oracle_url,
        "COORDINATOR_ADMIN_NPUBS": stack.admin.npub,
        "COORDINATOR_GATEWAY_TOKEN_FILE": str(stack.data_dir / "gateway.token"),
        "COORDINATOR_SECRET_KEY_FILE": str(stack.data_dir / "secret.key"),
        "COORDINATOR_FUNDING_CONFIRMATIONS": "1",
        "COORDINATOR_POLL_INTERVAL_SECONDS": "0.5",
    }


@dataclass(slots=True)
class Part:
    """A child process and its log."""

    name: str
    process: asyncio.subprocess.Process
    log: asyncio.Task[None]


@asynccontextmanager
async def running(args: argparse.Namespace, say: Callable[[str], None]) -> AsyncIterator[Stack]:
    """Starts everything and funds the coordinator's wallet at the first start; stops everything when left.

    Raises:
        StackError: a part does not start.
    """
    stack = configured(args)
    parts: list[Part] = []
    try:
        parts.append(await _start("devnet", _devnet_command(args, stack), {}, args.quiet))
        await _healthy(parts, "devnet", lambda: _answers(f"{stack.oracle_url}/oracle/npub"))
        parts.append(
            await _start("core", ("-m", "coordinator", "serve"), core_environment(stack), args.quiet)
        )
        await _healthy(parts, "core", lambda: _listens(stack.host, stack.core_port))
        parts.append(await _start("gateway", _gateway_command(args, stack), {}, args.quiet))
        await _healthy(parts, "gateway", lambda: _answers(f"{stack.gateway_url}/api/v1/health_check"))
        await _fund(stack, say)
        watch = asyncio.create_task(_watch(parts))
        try:
            yield stack
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
    finally:
        for part in reversed(parts):
            await _stop(part)


async def serve(args: argparse.Namespace) -> int:
    """`run`: until Ctrl-C or until a part ends by itself. Returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(_run(args, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(starting), STOP_SECONDS)
        starting.cancel()
    stopping.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return 130
    except StackError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(args: argparse.Namespace, stop: asyncio.Event) -> None:
    def say(text: str) -> None:
        print(text, flush=True)

    async with running(args, say) as stack:
        say(overview(stack))
        await stop.wait()
        say("stopping")


def overview(stack: Stack) -> str:
    """The addresses, for people."""
    rows = (
        ("web app, REST", stack.gateway_url),
        ("API documentation", f"{stack.gateway_url}/api/docs"),
        ("events (SSE)", f"{stack.gateway_url}/api/v1/events"),
        ("gRPC", stack.core_address),
        ("chain (Esplora)", stack.chain_url),
        ("Lightning (LND gRPC)", f"{stack.host}:{stack.lightning_grpc_port}"),
        ("Lightning devnet", f"{stack.lightning_url}/devnet/lightning/nodes"),
        ("keymeld", stack.keymeld_url),
        ("oracle", stack.oracle_url),
        ("admin key", str(stack.data_dir / "admin.nsec")),
    )
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {where}" for name, where in rows]
    return "\n".join(
        ["", "Coordinator is up.", *lines, "", "`make demo` plays a competition. Ctrl-C stops all.", ""]
    )


def _devnet_command(args: argparse.Namespace, stack: Stack) -> Sequence[str]:
    return (
        *("-m", "coordinator_devnet", "all", "--host", stack.host),
        *("--data-dir", str(stack.data_dir / "devnet")),
        *("--chain-port", str(stack.chain_port)),
        *("--lightning-grpc-port", str(stack.lightning_grpc_port)),
        *("--lightning-port", str(stack.lightning_port)),
        *("--keymeld-port", str(stack.keymeld_port)),
        *("--oracle-port", str(stack.oracle_port)),
        *("--mine-interval", str(args.mine_interval)),
        *("--expiry-after", str(args.expiry_after)),
        *("--keymeld-max-subsets", str(args.keymeld_max_subsets)),
        *("--keymeld-max-batch-items", str(args.keymeld_max_batch_items)),
    )


def _gateway_command(args: argparse.Namespace, stack: Stack) -> Sequence[str]:
    command = [
        *("-m", "coordinator_gateway", "--core", stack.core_address),
        *("--host", stack.host, "--port", str(stack.gateway_port)),
        *("--token-file", str(stack.data_dir / "gateway.token")),
    ]
    if (args.web_dir / "index.html").is_file():
        command += ["--web-dir", str(args.web_dir)]
    return command


async def _start(name: str, command: Sequence[str], settings: Mapping[str, str], quiet: bool) -> Part:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C in the terminal reaches only this process, which stops the others in order.
        start_new_session=True,
    )
    return Part(name, process, asyncio.create_task(_copy_log(name, process, quiet)))


async def _copy_log(name: str, process: asyncio.subprocess.Process, quiet: bool) -> None:
    assert process.stdout is not None
    prefix = f"{name:<8}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        prefix = f"\x1b[{COLOURS[name]}m{prefix}\x1b[0m"
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        if not quiet:
            print(f"{prefix}| {text}", flush=True)
        elif " INFO " not in text and not text.startswith("INFO:"):
            print(f"{prefix}| {text}", file=sys.stderr, flush=True)


async def _healthy(parts: Sequence[Part], name: str, check: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await check():
        _check_alive(parts)
        if time.monotonic() > deadline:
            raise StackError(f"{name} did not answer within {START_SECONDS} s")
        await asyncio.sleep(0.1)
    _check_alive(parts)


def _check_alive(parts: Sequence[Part]) -> None:
    for part in parts:
        if part.process.returncode is not None:
            raise StackError(f"{part.name} ended by itself with exit code {part.process.returncode}")


async def _watch(parts: Sequence[Part]) -> None:
    await asyncio.wait(
        [asyncio.create_task(part.process.wait()) for part in parts], return_when=asyncio.FIRST_COMPLETED
    )
    try:
        _check_alive(parts)
    except StackError as error:
        print(f"run: {error}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        raise


async def _stop(part: Part) -> None:
    if part.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            part.process.terminate()
        try:
            await asyncio.wait_for(part.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGKILL)
            await part.process.wait()
    # Whatever children it left (keymeld's enclaves) goes with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(part.process.pid, signal.SIGKILL)
    await part.log


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(url)).is_success
    except httpx.HTTPError:
        return False


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def _fund(stack: Stack, say: Callable[[str], None]) -> None:
    """Gives the coordinator's wallet coins from the faucet if it has none."""
    async with grpc.aio.insecure_channel(stack.core_address) as channel:
        service = wallet_pb2_grpc.WalletServiceStub(channel)

        def signed(method: str, request: bytes) -> tuple[tuple[str, str], ...]:
            url = f"grpc://{stack.core_address}/coordinator.v1.WalletService/{method}"
            return (("authorization", nip98.authorization(stack.admin, url, "POST", request)),)

        balance_request = wallet_pb2.GetBalanceRequest()
        balance = await service.GetBalance(
            balance_request, metadata=signed("GetBalance", balance_request.SerializeToString())
        )
        if balance.confirmed_sats or balance.unconfirmed_sats or balance.locked_sats:
            return
        address_request = wallet_pb2.GetAddressRequest()
        answer = await service.GetAddress(
            address_request, metadata=signed("GetAddress", address_request.SerializeToString())
        )
    async with httpx.AsyncClient(base_url=stack.chain_url, timeout=10) as client:
        paid = await client.post(
            "/devnet/chain/faucet", json={"address": answer.address, "amount_sats": FIRST_FUNDS_SATS}
        )
        paid.raise_for_status()
        (await client.post("/devnet/chain/mine", json={"blocks": 1})).raise_for_status()
    say(f"the coordinator's wallet got {FIRST_FUNDS_SATS:,} sats from the faucet")
