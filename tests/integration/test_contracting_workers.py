"""The core's contracting steps with worker processes: their deaths are retried and fail no competition."""

import multiprocessing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.errors import InvalidSignature
from coordinator.contract.storage import load
from coordinator.domain.states import AwaitingSigning, Failed, FundingReady
from coordinator.store.contract_store import load_outcome, load_packed, pack_verified
from coordinator.wiring import Wired, wired_core
from coordinator.workers import SMALL_WORK, WorkersLost
from support.contracting import contracted_competition, contracting_settings
from support.keymeld import Running, running

ENTRIES, PLACES = 6, 3
OUTCOMES = 6 * 5 * 4 + 2


@pytest.fixture
async def keymeld(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "keymeld") as service:
        yield service


@pytest.fixture
async def wired(tmp_path: Path, keymeld: Running) -> AsyncIterator[Wired]:
    async with wired_core(contracting_settings(tmp_path, keymeld.url, worker_processes=1)) as made:
        yield made


async def stored(wired: Wired, competition_id: str) -> TicketedDLC:
    """The contract, after a look at everything that is stored of it."""
    record = await wired.core.competitions.load(competition_id)
    assert isinstance(record.status, FundingReady), record
    dlc = await wired.contracts.of(record.status)
    assert dlc.outcome_count == OUTCOMES
    assert dlc.job_count > SMALL_WORK
    packed = await load_packed(competition_id)
    assert packed is not None
    again, signatures = load(packed)
    assert signatures is not None
    assert again.funding_outpoint == dlc.funding_outpoint
    found = await load_outcome(competition_id, dlc, "att11")
    assert found is not None
    assert found.outcome == {"att11": signatures.outcome["att11"]}
    return dlc


async def test_a_contract_is_signed_and_stored_while_workers_are_killed(
    wired: Wired, keymeld: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await contracted_competition(wired.core, keymeld.url, ENTRIES, PLACES)
    tell = wired.core.competitions.tell
    killed = []

    async def deadly(*arguments: Any) -> None:
        await tell(*arguments)
        event = arguments[2][0]
        if event.kind == "keymeld.signing_progress" and event.data["done"] in (1, 3):
            for child in multiprocessing.active_children():
                child.kill()
                killed.append(child.pid)

    monkeypatch.setattr(wired.core.competitions, "tell", deadly)
    await wired.runner.drive(status.facts.competition_id)
    assert killed
    await stored(wired, status.facts.competition_id)


async def test_without_workers_the_step_is_tried_again(
    wired: Wired, keymeld: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await contracted_competition(wired.core, keymeld.url, ENTRIES, PLACES)
    competition_id = status.facts.competition_id
    run = wired.core.workers.run

    async def lost(function: Any, *arguments: Any) -> Any:
        if function is pack_verified:
            raise WorkersLost("worker processes died 3 times")
        return await run(function, *arguments)

    monkeypatch.setattr(wired.core.workers, "run", lost)
    await wired.runner.drive(competition_id)
    record = await wired.core.competitions.load(competition_id)
    assert isinstance(record.status, AwaitingSigning)
    assert "WorkersLost" in record.last_error
    monkeypatch.undo()
    await wired.runner.drive(competition_id)
    await stored(wired, competition_id)


async def test_a_wrong_signature_found_by_a_worker_fails_the_competition_before_it_is_funded(
    wired: Wired, keymeld: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await contracted_competition(wired.core, keymeld.url, ENTRIES, PLACES)
    competition_id = status.facts.competition_id
    sign = wired.core.keymeld.sign

    async def careless(*arguments: Any, **named: Any) -> dict[str, bytes]:
        signatures = dict(await sign(*arguments, **named))
        signatures["att9"] = signatures["att9"][:-1] + bytes([signatures["att9"][-1] ^ 1])
        return signatures

    monkeypatch.setattr(wired.core.keymeld, "sign", careless)
    await wired.runner.drive(competition_id)
    record = await wired.core.competitions.load(competition_id)
    assert isinstance(record.status, Failed)
    assert "att9" in record.status.reason
    assert InvalidSignature("does not verify", key="att9").args[0] in record.status.reason
    assert await load_packed(competition_id) is None
