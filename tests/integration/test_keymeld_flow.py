"""Keygen and signing of whole contracts, through the port, over real sockets."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.ports.keymeld import (
    KeygenResult,
    KeymeldRefused,
    KeymeldTimeout,
    KeymeldUnavailable,
    SigningProgress,
)
from coordinator_client.keymeld import (
    KeymeldClient,
    KeymeldUnknownSession,
    SessionCredentials,
    UserCredentials,
)
from coordinator_client.keymeld.dlc import KeymeldLimits, lay_out
from coordinator_devnet.keymeld import ServiceLimits
from support.contract import competition
from support.keymeld import finish_keygen, plan_for, running, sign_contract, signing_ids


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


async def test_twelve_entries_need_two_keygen_sessions_of_200_subsets(tmp_path: Path) -> None:
    contract = competition(12, 3)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        short = await plan_for(keymeld.url, contract, sessions=1)
        with pytest.raises(KeymeldRefused, match="220 sets of winners need 2 keygen sessions of 200"):
            await adapter.ensure_keygen(short)
        plan = await plan_for(keymeld.url, contract, sessions=3)
        keys = await finish_keygen(adapter, plan)
        assert len(keys.subset_keys) == 220
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        async with KeymeldClient(keymeld.url) as client:
            # The third session was not needed, so it was not made.
            with pytest.raises(KeymeldUnknownSession):
                await client.slots(plan.session_ids[2])
        await adapter.close()


async def test_smaller_limits_spread_over_more_sessions_and_batches(tmp_path: Path) -> None:
    contract = competition(6, 2)
    limits = KeymeldLimits(subsets_per_keygen=4, items_per_batch=20, parallel_batches=3)
    served = ServiceLimits(subsets_per_keygen=4, items_per_batch=20)
    async with running(tmp_path, enclaves=2, limits=served) as keymeld:
        adapter = KeymeldAdapter(keymeld.url, limits=limits)
        plan = await plan_for(keymeld.url, contract, sessions=4)
        assert len((await finish_keygen(adapter, plan)).subset_keys) == 15
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


async def test_a_field_of_one_place_and_a_single_enclave(tmp_path: Path) -> None:
    contract = competition(3, 1)
    async with running(tmp_path, enclaves=1) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        assert (await finish_keygen(adapter, plan)).subset_keys.keys() == {(0,), (1,), (2,)}
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


async def test_tweaks_as_published_versions_of_the_service_write_them(tmp_path: Path) -> None:
    contract = competition(2, 1)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url, tagged_tweaks=True)
        plan = await plan_for(keymeld.url, contract)
        await finish_keygen(adapter, plan)
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


async def test_nothing_is_signed_before_every_player_who_asked_for_it_approves(tmp_path: Path) -> None:
    contract = competition(4, 2)
    limits = KeymeldLimits(items_per_batch=30, parallel_batches=1)
    async with running(tmp_path) as keymeld, KeymeldClient(keymeld.url) as client:
        adapter = KeymeldAdapter(keymeld.url, limits=limits)
        plan = await plan_for(keymeld.url, contract, approvers=(0, 2))
        await finish_keygen(adapter, plan)
        first, third = (plan.participants[index].user_id for index in (0, 2))
        reports: list[SigningProgress] = []

        async def note(progress: SigningProgress) -> None:
            reports.append(progress)

        with pytest.raises(KeymeldTimeout, match=f"0 of 2 batches done, not approved by {min(first, third)}"):
            await sign_contract(adapter, plan, contract, on_progress=note, timeout_seconds=1)
        assert reports[-1].status == "collecting_participants"
        assert set(reports[-1].missing) == {first, third}

        # The sessions have expired with the call: the next one makes the next attempt's.
        await asyncio.sleep(2.1)
        signing = asyncio.create_task(sign_contract(adapter, plan, contract, on_progress=note))
        for index in (0, 2):
            user = UserCredentials(contract.player_secrets[index])
            for batch in range(2):
                async with asyncio.timeout(10):
                    while True:
                        try:
                            await client.approve(
                                signing_ids(plan)(0, batch, 1),
                                plan.session_ids[0],
                                user,
                                user_id=plan.participants[index].user_id,
                            )
                            break
                        except KeymeldUnknownSession:
                            await asyncio.sleep(0.02)
            if index == 0:
                async with asyncio.timeout(10):
                    while reports[-1].approved != (first,):
                        await asyncio.sleep(0.02)
                assert reports[-1].missing == (third,)
                assert not signing.done()
        contract.dlc.verify_signatures(await signing)
        assert reports[-1].status == "completed"
        await adapter.close()


async def test_players_may_register_themselves(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld, KeymeldClient(keymeld.url) as client:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        session_id, credentials = plan.session_ids[0], SessionCredentials(plan.seed)
        layout = lay_out(
            plan.winner_sets,
            session_ids=plan.session_ids,
            coordinator=plan.coordinator_user_id,
            users=[participant.user_id for participant in plan.participants],
            limits=KeymeldLimits(),
        )
        # As if the coordinator had crashed after each of the first two steps.
        reservation = await client.reserve(
            session_id,
            credentials,
            coordinator_user_id=plan.coordinator_user_id,
            expected_participants=layout.participants(),
            subsets=layout.subset_definitions(0),
            timeout_secs=60,
        )
        await client.initialize(
            session_id, credentials, UserCredentials(plan.coordinator_private_key), reservation
        )
        player = plan.participants[1]
        own = UserCredentials(contract.player_secrets[1])
        await client.register_own_key(session_id, credentials, own, user_id=player.user_id)
        assert isinstance(await adapter.ensure_keygen(plan), KeygenResult)
        contract.dlc.verify_signatures(await sign_contract(adapter, plan, contract))
        await adapter.close()


async def test_a_reserved_session_is_continued(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld, KeymeldClient(keymeld.url) as client:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        credentials = SessionCredentials(plan.seed)
        await client.reserve(
            plan.session_ids[0],
            credentials,
            coordinator_user_id=plan.coordinator_user_id,
            expected_participants=[
                plan.coordinator_user_id,
                *(participant.user_id for participant in plan.participants),
            ],
            subsets=lay_out(
                plan.winner_sets,
                session_ids=plan.session_ids,
                coordinator=plan.coordinator_user_id,
                users=[participant.user_id for participant in plan.participants],
                limits=KeymeldLimits(),
            ).subset_definitions(0),
            timeout_secs=60,
        )
        assert isinstance(await adapter.ensure_keygen(plan), KeygenResult)
        # Asking again changes nothing and gives the same.
        assert await adapter.ensure_keygen(plan) == await adapter.ensure_keygen(plan)
        await adapter.close()


async def test_a_key_encrypted_to_a_former_epoch_is_refused_by_name(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path, enclaves=1) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        await keymeld.service.rotate(1)
        with pytest.raises(
            KeymeldRefused, match=f"{plan.participants[0].user_id} .* epoch 1, which is now 2"
        ):
            await adapter.ensure_keygen(plan)
        fresh = await plan_for(keymeld.url, contract)
        assert isinstance(await adapter.ensure_keygen(fresh), KeygenResult)
        await adapter.close()


async def test_a_player_without_a_ciphertext_for_his_enclave_is_refused_by_name(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract)
        poor = replace(plan.participants[0], encrypted_private_keys={})
        with pytest.raises(KeymeldRefused, match=f"{poor.user_id} has no key for enclave"):
            await adapter.ensure_keygen(replace(plan, participants=(poor, *plan.participants[1:])))
        assert isinstance(await adapter.ensure_keygen(plan), KeygenResult)
        await adapter.close()


async def test_keygen_that_expires_times_out(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        adapter = KeymeldAdapter(keymeld.url)
        plan = await plan_for(keymeld.url, contract, timeout_seconds=1)
        poor = replace(plan.participants[2], encrypted_private_keys={})
        with pytest.raises(KeymeldRefused):
            await adapter.ensure_keygen(replace(plan, participants=(*plan.participants[:2], poor)))
        await asyncio.sleep(2.1)
        with pytest.raises(KeymeldTimeout, match="expired"):
            await adapter.ensure_keygen(plan)
        await adapter.close()


async def test_a_dead_service_is_unavailable(tmp_path: Path) -> None:
    contract = competition(3, 2)
    async with running(tmp_path) as keymeld:
        plan = await plan_for(keymeld.url, contract)
    adapter = KeymeldAdapter(keymeld.url)
    assert not await adapter.health()
    with pytest.raises(KeymeldUnavailable):
        await adapter.ensure_keygen(plan)
    shown = repr(plan)
    assert plan.seed.hex() not in shown
    assert repr(plan.seed) not in shown
    assert repr(plan.coordinator_private_key) not in shown
    await adapter.close()
