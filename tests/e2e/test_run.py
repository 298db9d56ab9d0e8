"""`make run` from start to stop: Ctrl-C, restarts, dead parts, taken ports, and what it leaves behind."""

import asyncio
import os
import re
import signal
import socket
import stat
from pathlib import Path

import httpx
import pytest

from coordinator_client.grpc import GrpcClient
from coordinator_client.nostr import NostrKey
from coordinator_client.proto.coordinator.v1 import GetBalanceRequest
from support.stack import PORT_OPTIONS, StackPlace, finish

FUNDS_SATS = 1_000_000_000


async def until_up(process: asyncio.subprocess.Process) -> list[str]:
    """What `run` says until it is up."""
    assert process.stdout is not None
    said: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            said.append(line.decode().rstrip())
            if said[-1].startswith("`make demo`"):
                return
        raise AssertionError("\n".join(said))

    await asyncio.wait_for(read(), 90)
    return said


async def stop(
    process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """Exit code, and what was said meanwhile."""
    process.send_signal(number)
    code, output, errors = await finish(process, 40)
    return code, output + errors


def children(process: asyncio.subprocess.Process) -> dict[int, str]:
    """Pids and command lines of a process's descendants."""
    parents: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
        parents[int(folder.name)] = (parent, command)
    found: dict[int, str] = {}
    wanted = {process.pid}
    while wanted:
        wanted = {pid for pid, (parent, _) in parents.items() if parent in wanted}
        found |= {pid: parents[pid][1] for pid in wanted}
    return found


async def gone(pids: dict[int, str]) -> bool:
    """Whether all of these processes end; the system may need a moment."""
    for _ in range(50):
        if not any(Path(f"/proc/{pid}/cmdline").exists() and is_alive(pid) for pid in pids):
            return True
        await asyncio.sleep(0.1)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def balance_sats(place: StackPlace, admin: NostrKey) -> int:
    async with GrpcClient(f"127.0.0.1:{place.ports[1]}", admin) as client:
        balance = await client.wallet.get_balance(GetBalanceRequest())
    return balance.confirmed_sats + balance.unconfirmed_sats


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_stops_in_order_and_a_restart_is_the_same_coordinator(
    tmp_path: Path, number: signal.Signals
) -> None:
    place = StackPlace(tmp_path)
    names: set[str] = set()
    for start in range(2):
        process = await place.start("run")
        said = await until_up(process)
        assert any("from the faucet" in line for line in said) == (start == 0)
        assert {line.partition("|")[0].strip() for line in said if "| " in line} >= {"core", "gateway"}
        running = children(process)
        assert sum("enclave" in command for command in running.values()) >= 3
        admin = NostrKey.from_nsec((tmp_path / "admin.nsec").read_text())
        assert await balance_sats(place, admin) == FUNDS_SATS
        async with httpx.AsyncClient(base_url=place.gateway_url) as client:
            names.add((await client.get("/api/v1/coordinator")).json()["nostr_npub"])
        code, rest = await stop(process, number)
        assert code == 0, rest
        assert rest.index("Finished server process") < rest.index("Tortoise-ORM shutdown")
        assert await gone(running)
    assert len(names) == 1


async def test_secrets_are_for_their_owner_and_never_in_the_log(tmp_path: Path) -> None:
    place = StackPlace(tmp_path)
    process = await place.start("run")
    said = "\n".join(await until_up(process))
    said += (await stop(process))[1]
    kept = [tmp_path / name for name in ("admin.nsec", "gateway.token", "secret.key")]
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in said
    assert NostrKey.from_nsec(kept[0].read_text()).secret_bytes.hex() not in said


@pytest.mark.parametrize(
    ("part", "command"),
    [("devnet", "coordinator_devnet all"), ("core", "coordinator serve"), ("gateway", "coordinator_gateway")],
)
async def test_a_part_that_dies_ends_everything(tmp_path: Path, part: str, command: str) -> None:
    process = await StackPlace(tmp_path).start("run")
    await until_up(process)
    running = children(process)
    [victim] = [pid for pid, words in running.items() if re.search(rf"-m {command}", words)]
    os.kill(victim, signal.SIGKILL)
    code, output, errors = await finish(process, 40)
    assert code == 1
    assert f"{part} ended by itself" in errors + output
    assert await gone(running)


@pytest.mark.parametrize(
    ("option", "part"), [("--port", "gateway"), ("--core-port", "core"), ("--chain-port", "devnet")]
)
async def test_a_taken_port_is_named_and_nothing_stays_behind(tmp_path: Path, option: str, part: str) -> None:
    place = StackPlace(tmp_path)
    port = place.ports[PORT_OPTIONS.index(option)]
    with socket.create_server(("127.0.0.1", port)):
        process = await place.start("run")
        code, output, errors = await finish(process, 90)
    assert code == 1, output
    assert f"run: {part}" in errors
    assert str(port) in output + errors


async def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    process = await StackPlace(tmp_path).start("run")
    await asyncio.sleep(1.5)
    running = children(process)
    code, _ = await stop(process)
    assert code in (0, 130)
    assert await gone(running)
