"""Signing a contract that is big enough for worker processes: the same signatures, also when workers die."""

import multiprocessing
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.contract.dlc import ContractSignatures, SigningJobs
from coordinator.contract.errors import InvalidSignature
from coordinator.contract.secp import public_key
from coordinator.contract.storage import load_outcome
from coordinator.contract_message import signatures_message
from coordinator.domain.competition import Announcement
from coordinator.ports.keymeld import KeygenPlan, SigningProgress
from coordinator.store.contract_store import pack_verified
from coordinator.v1 import competition_pb2 as pb
from coordinator.workers import SMALL_WORK, Workers
from support.contract import EXPIRY, Competition, competition
from support.keymeld import finish_keygen, plan_for, running, signing_ids


@pytest.fixture(scope="module")
def contract() -> Competition:
    made = competition(6, 3)
    assert made.dlc.job_count > SMALL_WORK
    return made


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(1)
    yield made
    await made.close()


def kill_workers() -> int:
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    return len(children)


async def sign(
    adapter: KeymeldAdapter, plan: KeygenPlan, contract: Competition, *, deadly: bool = False
) -> ContractSignatures:
    """All signatures; `deadly`: every worker dies after the first batch."""
    killed = 0

    async def on_progress(progress: SigningProgress) -> None:
        nonlocal killed
        if deadly and not killed and 0 < progress.batches_done < progress.batches_total:
            killed = kill_workers()

    signed = await adapter.sign(
        plan,
        SigningJobs(contract.dlc),
        signing_session_id=signing_ids(plan),
        on_progress=on_progress,
        timeout_seconds=200,
    )
    assert bool(killed) == deadly
    return ContractSignatures(
        {key: signature for key, signature in signed.items() if ":" not in key},
        {key: signature for key, signature in signed.items() if ":" in key},
    )


async def test_a_big_contract_is_signed_while_its_workers_die(
    contract: Competition, workers: Workers, tmp_path: Path
) -> None:
    async with running(tmp_path / "keymeld") as keymeld:
        adapter = KeymeldAdapter(keymeld.url, workers=workers)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        signatures = await sign(adapter, plan, contract, deadly=True)
        contract.dlc.verify_signatures(signatures)
        # What is signed is only read again, in new workers and in threads alike.
        assert await sign(adapter, plan, contract) == signatures
        threads = KeymeldAdapter(keymeld.url)
        assert await sign(threads, plan, contract) == signatures
        cut = await adapter.cut(plan, SigningJobs(contract.dlc))
        asked = cut.items(0, 1, signing_ids(plan)(0, 1, 0))
        jobs = list(contract.dlc.signing_jobs())
        assert [item.job for item in asked] == jobs[100:200]
        await threads.close()
        await adapter.close()

    announcement = Announcement(public_key(contract.oracle_secret), public_key(contract.oracle_nonce), EXPIRY)
    packed = await workers.run(pack_verified, contract.dlc, signatures, announcement)
    assert load_outcome(packed, contract.dlc, "att7").outcome == {"att7": signatures.outcome["att7"]}
    message = pb.GetContractResponse.FromString(await workers.run(signatures_message, packed))
    told = {signature.key: signature.signature for signature in message.signatures}
    assert told == signatures.outcome | signatures.split

    wrong = ContractSignatures(dict(signatures.outcome), signatures.split)
    wrong.outcome["exp"] = bytes(64)
    with pytest.raises(InvalidSignature, match="exp"):
        await workers.run(pack_verified, contract.dlc, wrong, announcement)


async def test_building_a_contract_leaves_the_loop_and_the_process(
    contract: Competition, workers: Workers
) -> None:
    assert await workers.run(os.getpid) != os.getpid()
    jobs = await workers.run(list, SigningJobs(contract.dlc))
    assert jobs == list(contract.dlc.signing_jobs())
    assert len(SigningJobs(contract.dlc)) == len(jobs)
