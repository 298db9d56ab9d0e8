"""Worker processes: what they give back, and that no death, theirs or the core's, leaves anything behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from coordinator.contract.errors import InvalidContribution, InvalidSignature
from coordinator.workers import SMALL_WORK, WorkerError, Workers, WorkersLost


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def die_once(marker: Path) -> int:
    """The first process to come here dies, the next returns."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def die() -> None:
    os._exit(9)


def refuse(kind: str) -> None:
    if kind == "signature":
        raise InvalidSignature("does not verify", key="att3:p1")
    if kind == "contribution":
        raise InvalidContribution(2, "psig")
    raise Unpicklable(1, 2)


def where() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(1)
    yield made
    await made.close()


async def test_work_runs_in_another_process_and_small_work_in_a_thread(workers: Workers) -> None:
    process, _ = await workers.run_sized(SMALL_WORK, where)
    assert process == os.getpid()
    process, _ = await workers.run_sized(SMALL_WORK + 1, where)
    assert process != os.getpid()


async def test_without_processes_everything_runs_in_threads() -> None:
    threads = Workers(0)
    process, thread = await threads.run(where)
    assert process == os.getpid()
    assert thread != threading.current_thread().name
    await threads.close()


async def test_errors_arrive_with_their_type_and_break_nothing(workers: Workers) -> None:
    with pytest.raises(InvalidSignature, match="att3:p1: does not verify") as signature:
        await workers.run(refuse, "signature")
    assert signature.value.key == "att3:p1"
    with pytest.raises(InvalidContribution, match="invalid psig of signer 2") as contribution:
        await workers.run(refuse, "contribution")
    assert contribution.value.signer == 2
    with pytest.raises(WorkerError, match="Unpicklable: 1 and 2"):
        await workers.run(refuse, "strange")
    assert (await workers.run(where))[0] != os.getpid()


async def test_what_a_killed_worker_was_at_is_done_again(workers: Workers, tmp_path: Path) -> None:
    before, _ = await workers.run(where)
    after = await workers.run(die_once, tmp_path / "died")
    assert (tmp_path / "died").exists()
    assert after not in (before, os.getpid())


async def test_several_at_once_survive_a_killed_worker(tmp_path: Path) -> None:
    two = Workers(2)
    try:
        done = await asyncio.gather(
            two.run(die_once, tmp_path / "died"), *(two.run(where) for _ in range(20)), return_exceptions=True
        )
        assert not [one for one in done if isinstance(one, BaseException)]
    finally:
        await two.close()


async def test_work_that_kills_every_worker_is_given_up(workers: Workers) -> None:
    with pytest.raises(WorkersLost, match="died 3 times"):
        await workers.run(die)
    assert (await workers.run(where))[0] != os.getpid()


async def test_closed_workers_take_no_more_work() -> None:
    made = Workers(1)
    pid, _ = await made.run(where)
    await made.close()
    await made.close()
    assert not alive(pid)
    with pytest.raises(WorkersLost, match="shut down"):
        await made.run(where)


async def test_workers_end_with_a_killed_core() -> None:
    core = subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": ""}
    )
    try:
        assert core.stdout is not None
        worker = int(await asyncio.to_thread(core.stdout.readline))
        assert alive(worker)
    finally:
        core.kill()
        core.wait()
    async with asyncio.timeout(30):
        while alive(worker):
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    with suppress(OSError):
        # An orphan that ended may wait for whoever reaps it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_group_ends_core_and_workers_in_order(number: signal.Signals) -> None:
    core = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": ""},
        start_new_session=True,
    )
    assert core.stdout is not None
    worker = int(await core.stdout.readline())
    os.killpg(core.pid, number)
    async with asyncio.timeout(60):
        _, errors = await core.communicate()
    assert core.returncode == 0, errors.decode()
    assert not alive(worker)


async def core() -> None:
    """What the process does that the tests above end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    workers = Workers(1)
    print(await workers.run(os.getpid), flush=True)
    waiting = asyncio.ensure_future(workers.run(time.sleep, 0.5))
    await stop.wait()
    waiting.cancel()
    await workers.close()


if __name__ == "__main__":
    asyncio.run(core())
