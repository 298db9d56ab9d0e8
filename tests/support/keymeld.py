"""A devnet keymeld on a real socket, and a competition's plan for it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.contract.dlc import ContractSignatures
from coordinator.ports.keymeld import (
    KeygenPlan,
    KeygenProgress,
    KeygenResult,
    KeymeldParticipant,
    SigningProgress,
)
from coordinator_client.keymeld import KeymeldClient, derived_uuid7, register_player
from coordinator_client.keymeld.ids import new_uuid7, uuid7_ms
from coordinator_devnet.keymeld import KeymeldService, ServiceLimits, create_app
from support.contract import Competition, secret


@dataclass(frozen=True)
class Running:
    """A service in this process."""

    url: str
    service: KeymeldService


@asynccontextmanager
async def running(
    data_dir: Path, *, enclaves: int = 3, limits: ServiceLimits | None = None
) -> AsyncIterator[Running]:
    """A keymeld service on a free port, in this event loop."""
    service = KeymeldService(data_dir, enclaves=enclaves, limits=limits)
    await service.start()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(service), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", service)
    finally:
        server.should_exit = True
        await task
        await service.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Process:
    """A service in a process of its own, which can be killed and started again."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.parent / "keymeld.log"
        self._data_dir = data_dir
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "coordinator_devnet.keymeld",
                *("--port", str(self.port), "--data-dir", str(self._data_dir), *self._arguments),
                stdout=log,
                stderr=log,
                # A group of its own, so that a kill takes the enclaves with it.
                start_new_session=True,
            )
        async with KeymeldClient(self.url) as client:
            async with asyncio.timeout(30):
                while not await client.health():
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL, to the service and its enclaves."""
        assert self._process is not None
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def process(data_dir: Path, *arguments: str) -> AsyncIterator[Process]:
    running = Process(data_dir, *arguments)
    await running.start()
    try:
        yield running
    finally:
        await running.kill()


async def plan_for(
    url: str,
    competition: Competition,
    *,
    sessions: int = 1,
    approvers: Iterable[int] = (),
    timeout_seconds: int = 600,
    winner_sets: tuple[tuple[int, ...], ...] | None = None,
) -> KeygenPlan:
    """Everybody's part of the keygen, as entries would have brought it."""
    session_ids = tuple(new_uuid7() for _ in range(sessions))
    asking = set(approvers)
    async with KeymeldClient(url) as client:
        enclaves = await client.enclaves()
    participants = []
    for index, private_key in enumerate(competition.player_secrets):
        made = register_player(
            new_uuid7(),
            private_key,
            keygen_session_ids=session_ids,
            enclaves=enclaves,
            require_signing_approval=index in asking,
        )
        participants.append(
            KeymeldParticipant(
                made.user_id,
                made.public_key,
                made.auth_pubkeys,
                made.encrypted_private_keys,
                made.enclave_key_epochs,
                made.require_signing_approval,
            )
        )
    return KeygenPlan(
        session_ids=session_ids,
        seed=secret("keymeld seed", session_ids[0]),
        coordinator_user_id=new_uuid7(),
        coordinator_private_key=competition.market_maker_secret,
        participants=tuple(participants),
        winner_sets=tuple(competition.dlc.winner_sets()) if winner_sets is None else winner_sets,
        timeout_seconds=timeout_seconds,
    )


def signing_ids(plan: KeygenPlan) -> Callable[[int, int, int], str]:
    """Ids as the runner derives them: always the same for a batch and attempt."""
    first = plan.session_ids[0]
    return lambda keygen, batch, attempt: derived_uuid7(
        ("sign", first, str(keygen), str(batch), str(attempt)), uuid7_ms(first)
    )


async def finish_keygen(adapter: KeymeldAdapter, plan: KeygenPlan) -> KeygenResult:
    """Call until it is complete."""
    async with asyncio.timeout(60):
        while True:
            answer = await adapter.ensure_keygen(plan)
            if isinstance(answer, KeygenResult):
                return answer
            assert isinstance(answer, KeygenProgress)
            await asyncio.sleep(0.02)


async def sign_contract(
    adapter: KeymeldAdapter,
    plan: KeygenPlan,
    competition: Competition,
    *,
    on_progress: Callable[[SigningProgress], Awaitable[None]] | None = None,
    timeout_seconds: int = 120,
) -> ContractSignatures:
    """Everything a contract needs signed."""

    async def ignore(_: SigningProgress) -> None:
        return None

    jobs = list(competition.dlc.signing_jobs())
    made = await adapter.sign(
        plan,
        jobs,
        signing_session_id=signing_ids(plan),
        on_progress=on_progress or ignore,
        timeout_seconds=timeout_seconds,
    )
    assert made.keys() == {job.key for job in jobs}
    outcome = {key: signature for key, signature in made.items() if ":" not in key}
    split = {key: signature for key, signature in made.items() if ":" in key}
    return ContractSignatures(outcome, split)
