"""Slow, silent, broken, dishonest, killed: what keymeld's faults do to a competition, and what not."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.contract.dlc import ContractSignatures
from coordinator.ports.keymeld import (
    KeygenPlan,
    KeygenResult,
    KeymeldRefused,
    KeymeldUnavailable,
    SigningProgress,
)
from coordinator_client.keymeld import KeymeldClient, KeymeldUnknownSession, UserCredentials
from coordinator_client.keymeld.dlc import KeymeldLimits
from coordinator_devnet.keymeld.sealing import MASTER_KEY_VARIABLE
from support.contract import Competition, competition
from support.keymeld import (
    finish_keygen,
    plan_for,
    process,
    running,
    sign_contract,
    signing_ids,
)


async def order(url: str, **fault: Any) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        (await http.post("/devnet/keymeld/faults", json=fault)).raise_for_status()


def signing_sessions(data_dir: Path) -> Counter[str]:
    """Keygen session id -> how many signing sessions it has had."""
    with contextlib.closing(sqlite3.connect(data_dir / "keymeld.sqlite3")) as db:
        return Counter(dict(db.execute("SELECT session_id, count(*) FROM signings GROUP BY 1").fetchall()))


async def test_a_batch_with_wrong_signatures_alone_is_signed_again(tmp_path: Path) -> None:
    contract = competition(5, 3)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        await order(keymeld.url, kind="wrong_signature")
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        assert signing_sessions(tmp_path) == {plan.session_ids[0]: 4}
        await adapter.close()


async def test_a_service_that_signs_wrongly_every_time_is_refused(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        await order(keymeld.url, kind="wrong_signature", times=3)
        with pytest.raises(
            KeymeldRefused, match=r"failed 3 times, last: the signature for .* does not verify"
        ):
            await sign_contract(adapter, plan, contract)
        # The fault is spent. A later call passes over what failed and has tries of its own.
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


@pytest.mark.parametrize(
    "match", ["/keygen/reserve", "/initialize", "/participants", "/status", "/slots", "/enclaves"]
)
async def test_keygen_survives_lost_answers_and_errors(tmp_path: Path, match: str) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await order(keymeld.url, kind="drop", match=match, after=True)
        await order(keymeld.url, kind="error", match=match, status=503)
        await order(keymeld.url, kind="drop", match=match)
        async with asyncio.timeout(30):
            while True:
                try:
                    if isinstance(result := await adapter.ensure_keygen(plan), KeygenResult):
                        break
                except KeymeldUnavailable:
                    await asyncio.sleep(0.01)
        assert result.aggregate_key == contract.dlc.aggregate_key(None)
        await adapter.close()


@pytest.mark.parametrize("after", [False, True])
async def test_signing_survives_lost_answers(tmp_path: Path, after: bool) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        for match in ("/api/v1/signing", "/status/"):
            await order(keymeld.url, kind="drop", match=match, after=after)
            await order(keymeld.url, kind="error", match=match, status=500)
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        assert signing_sessions(tmp_path) == {plan.session_ids[0]: 1}
        await adapter.close()


async def test_a_slow_service_is_only_slow(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await order(keymeld.url, kind="delay", match="/reserve", seconds=0.5)
        started = asyncio.get_running_loop().time()
        await finish_keygen(adapter, plan)
        assert asyncio.get_running_loop().time() - started >= 0.5
        await adapter.close()


async def test_enclaves_killed_in_their_rounds_begin_anew(tmp_path: Path) -> None:
    contract = competition(8, 3)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        kills = 0

        async def kill(progress: SigningProgress) -> None:
            nonlocal kills
            if 0 < progress.batches_done < progress.batches_total and kills < 2:
                kills += 1
                await order(keymeld.url, kind="restart")

        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract, on_progress=kill))
        assert kills == 2
        await adapter.close()


async def test_health_starts_dead_enclaves_again(tmp_path: Path) -> None:
    async with running(tmp_path) as keymeld, KeymeldClient(keymeld.url) as client:
        await order(keymeld.url, kind="restart")
        assert await client.health()
        assert [enclave.healthy for enclave in await client.enclaves()] == [True] * 3


async def test_enclaves_end_with_their_service(tmp_path: Path) -> None:
    """SIGKILL to the service alone: its enclaves see their pipes close."""
    async with process(tmp_path / "keymeld") as keymeld:
        children = Path(f"/proc/{keymeld.pid}/task/{keymeld.pid}/children")
        enclaves = [int(pid) for pid in children.read_text().split()]
        assert len(enclaves) == 3
        os.kill(keymeld.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while any(Path(f"/proc/{pid}/cmdline").exists() for pid in enclaves):
                await asyncio.sleep(0.05)


async def test_a_killed_service_and_a_killed_coordinator_go_on_where_they_were(tmp_path: Path) -> None:
    """SIGKILL to service and enclaves while batches are being signed, then both sides start again."""
    contract = competition(9, 3)
    data_dir = tmp_path / "keymeld"
    async with process(data_dir) as keymeld:
        plan = await plan_for(keymeld.url, contract)
        crashing = KeymeldAdapter(keymeld.url)
        await finish_keygen(crashing, plan)
        underway = asyncio.Event()

        async def watch(progress: SigningProgress) -> None:
            if progress.batches_done >= 3:
                underway.set()

        signing = asyncio.create_task(sign_contract(crashing, plan, contract, on_progress=watch))
        await underway.wait()
        await keymeld.kill()
        assert not signing.done()
        signing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await signing
        await crashing.close()

        await keymeld.start()
        adapter = KeymeldAdapter(keymeld.url)
        assert isinstance(await adapter.ensure_keygen(plan), KeygenResult)
        first: list[SigningProgress] = []

        async def note(progress: SigningProgress) -> None:
            first.append(progress)

        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract, on_progress=note))
        # Batches that existed were continued, none was made a second time.
        assert signing_sessions(data_dir) == {plan.session_ids[0]: first[-1].batches_total}
        await adapter.close()


async def test_signing_goes_on_through_a_restart_of_the_service(tmp_path: Path) -> None:
    contract = competition(8, 3)
    async with process(tmp_path / "keymeld") as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        underway = asyncio.Event()

        async def watch(progress: SigningProgress) -> None:
            if progress.batches_done >= 1:
                underway.set()

        signing = asyncio.create_task(sign_contract(adapter, plan, contract, on_progress=watch))
        await underway.wait()
        await keymeld.kill()
        await keymeld.start()
        contract.dlc.verify_signatures(await signing)
        await adapter.close()


async def test_keygen_goes_on_through_a_restart_of_the_service(tmp_path: Path) -> None:
    contract = competition(4, 2)
    async with process(tmp_path / "keymeld") as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await order(keymeld.url, kind="error", match="/participants", status=503, times=100)
        with pytest.raises(KeymeldUnavailable):
            await adapter.ensure_keygen(plan)
        await keymeld.kill()
        await keymeld.start()
        assert isinstance(await adapter.ensure_keygen(plan), KeygenResult)
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


async def everything(url: str, contract: Competition) -> tuple[KeygenPlan, ContractSignatures]:
    """A keygen and a signing, with approvals and faults on the way."""
    adapter = KeymeldAdapter(url, limits=KeymeldLimits())
    plan = await plan_for(url, contract, approvers=(0,))
    await order(url, kind="wrong_signature")
    await finish_keygen(adapter, plan)

    signing = asyncio.create_task(sign_contract(adapter, plan, contract, timeout_seconds=30))
    async with KeymeldClient(url) as client:
        while not signing.done():
            # The second attempt is there once the first one's signatures were found wrong.
            for attempt in range(2):
                with contextlib.suppress(KeymeldUnknownSession):
                    await client.approve(
                        signing_ids(plan)(0, 0, attempt),
                        plan.session_ids[0],
                        UserCredentials(contract.player_secrets[0]),
                        user_id=plan.participants[0].user_id,
                    )
            await asyncio.sleep(0.05)
    signatures = await signing
    await adapter.close()
    return plan, signatures


async def test_no_secret_is_in_logs_database_or_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private keys, session secret, master key: raw, as hex, as JSON numbers, in all that is kept or sent."""
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "5e" * 32)
    contract = competition(3, 2)
    answers: list[bytes] = []
    original = httpx.AsyncClient.request

    async def recorded(self: httpx.AsyncClient, *args: Any, **kwargs: Any) -> httpx.Response:
        response = await original(self, *args, **kwargs)
        answers.append(await response.aread() + str(response.headers).encode())
        return response

    monkeypatch.setattr(httpx.AsyncClient, "request", recorded)
    data_dir = tmp_path / "keymeld"
    async with process(data_dir) as keymeld:
        plan, signatures = await everything(keymeld.url, contract)
        contract.dlc.verify_signatures(signatures)
        for path in (
            "/api/v1/health",
            "/api/v1/version",
            "/api/v1/enclaves",
            "/api/v1/enclaves/1/public-key",
        ):
            async with httpx.AsyncClient(base_url=keymeld.url) as http:
                assert (await http.request("GET", path)).status_code == 200
        kept = {
            str(path): path.read_bytes() for path in [*data_dir.rglob("*"), keymeld.log] if path.is_file()
        }
    assert len(answers) > 15
    assert any("keymeld.sqlite3" in name for name in kept)
    kept["answers"] = b"\n".join(answers)
    secrets = [*contract.secret_keys, plan.seed, bytes([0x5E]) * 32]
    for name, content in kept.items():
        for secret in secrets:
            numbers = ",".join(map(str, secret)).encode()
            for form in (secret, secret.hex().encode(), secret.hex().upper().encode(), numbers):
                assert form not in content.replace(b", ", b","), name
    # The scan does find what is there.
    session_id = plan.session_ids[0].encode()
    assert any(session_id in content for content in kept.values())
