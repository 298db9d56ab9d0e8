"""Keygen and signing of whole contracts, through the port, over real sockets."""

from pathlib import Path

import pytest

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.ports.keymeld import SigningProgress
from support.contract import competition
from support.keymeld import finish_keygen, plan_for, running, sign_contract


@pytest.mark.parametrize(("entries", "places"), [(3, 2), (5, 3)])
async def test_a_contract_is_signed_and_every_signature_verifies(
    tmp_path: Path, entries: int, places: int
) -> None:
    contract = competition(entries, places)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        assert await adapter.health()
        plan = await plan_for(keymeld.url, contract)
        keys = await finish_keygen(adapter, plan)
        assert keys.aggregate_key == contract.dlc.aggregate_key(None)
        assert keys.subset_keys == {
            winners: contract.dlc.aggregate_key(winners) for winners in contract.dlc.winner_sets()
        }
        reports: list[SigningProgress] = []

        async def note(progress: SigningProgress) -> None:
            reports.append(progress)

        signatures = await sign_contract(adapter, plan, contract, on_progress=note)
        contract.dlc.verify_signatures(signatures)
        assert reports[0].status == "signing"
        assert reports[0].batches_done == 0
        assert reports[-1].status == "completed"
        assert reports[-1].batches_done == reports[-1].batches_total == -(-contract.dlc.job_count // 100)
        await adapter.close()
