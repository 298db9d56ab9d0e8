"""Players that approve what their keys sign: to the end, and against a coordinator that asks for something
else, a player that never comes, and a keymeld that was told not to ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.adapters.keymeld import KeymeldAdapter
from coordinator.domain.errors import InvalidInput
from coordinator.domain.states import Completed, Failed
from coordinator.ports.lightning import Payment, PaymentState
from coordinator.store.models import EventRow
from coordinator.v1 import keymeld_pb2
from coordinator_client.errors import ApiError as RestError
from coordinator_client.keymeld import (
    KeymeldClient,
    SessionCredentials,
    SigningItem,
    UserCredentials,
    new_uuid7,
)
from coordinator_client.keymeld.approval import (
    ApprovalBypassed,
    SessionNotShown,
    SigningApproval,
    SigningEnded,
    Verified,
)
from coordinator_client.keymeld.batch import open_item, seal_item
from coordinator_client.keymeld.protocol import SigningRequest, SigningState
from coordinator_client.keymeld.review import SigningMismatch
from coordinator_client.nostr import NostrKey
from coordinator_client.player import Player, PlayerSecrets
from coordinator_client.watch import Event, watch
from support.api import ADMIN, ApiError
from support.approval import Table, running_table
from support.world import running_world, until


def client_of(table: Table) -> KeymeldClient:
    """The core's own client of keymeld."""
    adapter = table.world.core.keymeld
    assert isinstance(adapter, KeymeldAdapter)
    return adapter._client


async def events(table: Table, kind: str) -> list[dict[str, Any]]:
    rows = await EventRow.filter(competition_id=table.competition_id, kind=kind).order_by("sequence")
    return [dict(row.data) for row in rows]


async def refunded(table: Table, before: dict[str, int]) -> Failed:
    """Waits until everybody has everything back, and the miners their fees."""
    await table.world.wait_for(table.competition_id, "failed")
    for wallet in table.wallets:
        assert wallet.payment is not None
        payment = await wallet.payment
        assert isinstance(payment, Payment)
        assert payment.state == PaymentState.FAILED
    ended = (await table.world.core.competitions.load(table.competition_id)).status
    assert isinstance(ended, Failed)
    assert ended.escrow is not None
    await table.world.chain.mine(ended.escrow.release_blocks)
    record = await table.world.at_rest(table.competition_id)
    assert isinstance(record.status, Failed)
    assert len(record.status.release_txids) == len(table.players)
    after = await table.world.wealth_sats()
    fees = await table.world.fees_sats(table.competition_id)
    assert sum(after.values()) == sum(before.values()) - fees
    names = [f"lightning:{wallet.name}" for wallet in table.wallets]
    assert [after[name] for name in names] == [before[name] for name in names]
    return record.status


async def wealth_of(table: Table) -> dict[str, int]:
    """Before anybody has paid for a ticket."""
    for index in range(3):
        await table.world.lightning.add_node(f"player{index}")
    return await table.world.wealth_sats()


async def test_a_competition_is_approved_session_by_session_and_completes(tmp_path: Path) -> None:
    async with running_table(tmp_path) as table:
        world = table.world
        assert (await table.status()).approval_required
        await table.seat(3)
        await table.to_signing()
        # Two approve; the third is waited for, and everybody can see it.
        early = [asyncio.create_task(player.approve_signing()) for player in table.players[:2]]

        async def two_approved() -> bool:
            approvals = (await table.status()).participant_approvals
            return [one.approved for one in approvals] == [True, True, False]

        await until(two_approved)
        status = await table.status()
        assert (status.keygen_status, status.signing_status) == ("completed", "in_progress")
        assert [one.missing for one in status.participant_approvals] == [False, False, True]
        assert all(one.registered and one.approval_required for one in status.participant_approvals)
        assert status.batches_done == 0
        assert 0 < status.started_at.seconds < status.deadline_at.seconds
        # A core that dies now finds its sessions again, and makes no others.
        asked = await events(table, "approval.requested")
        for task in early:
            task.cancel()
        await asyncio.gather(*early, return_exceptions=True)
        await table.restart()
        done = await table.approve()
        assert await events(table, "approval.requested") == asked
        assert len(asked) == status.batches_total > 2
        assert len({one["keygen_session_id"] for one in asked}) == 2
        for approval in done:
            assert isinstance(approval, SigningApproval), approval
            assert approval.verified_against is Verified.SERVICE
        # The first two had approved before; the third approves everything now.
        assert [approval.items for approval in done] == [0, 0, sum(one["items"] for one in asked)]
        assert set(done[2].sessions) == {one["signing_session_id"] for one in asked}
        await world.wait_for(table.competition_id, "funding_ready")
        # The log told of it all as it happened, and a stream of these kinds shows it from the start.
        told: list[str] = []
        kinds = ("keymeld.*", "approval.*")
        async with asyncio.timeout(20):
            async for event in watch(
                table.players[0].rest, table.competition_id, kinds=kinds, after_sequence=0
            ):
                assert isinstance(event, Event)
                told.append(event.kind)
                if event.kind == "keymeld.signing_progress" and event.data["done"] == event.data["total"]:
                    break
        assert told.count("approval.requested") == len(asked)
        assert told.index("keymeld.keygen_completed") < told.index("approval.requested")
        progress = await events(table, "keymeld.signing_progress")
        assert progress[-1]["done"] == progress[-1]["total"] == status.batches_total
        assert progress[-1]["missing"] == []
        for player in table.players:
            assert player.secrets.approves
            assert set(player.secrets.approved_keygens) == {one["keygen_session_id"] for one in asked}
            assert PlayerSecrets.from_json(player.secrets.to_json()) == player.secrets
            await player.sign_funding()
        await world.wait_for(table.competition_id, "awaiting_attestation", mining=True)
        await world.oracle.attest(table.competition_id, (2, 0))
        await world.outcome_confirmed(table.competition_id)
        for index in (2, 0):
            player, wallet = table.players[index], table.wallets[index]
            prize = await player.payout()
            invoice = world.lightning[wallet.name].add_invoice(
                value_msats=prize.amount_sats * 1000, preimage=player.secrets.payout_preimage
            )
            await player.request_payout(invoice.payment_request)

            async def paid(player: Player = player) -> bool:
                return (await player.payout()).state.name == "PAID"

            await until(paid)
            await player.hand_over_key()
        record = await world.at_rest(table.competition_id)
        assert isinstance(record.status, Completed)


async def test_an_entry_that_does_not_let_its_player_approve_is_refused(tmp_path: Path) -> None:
    async with running_table(tmp_path) as table:
        await table.seat(1)
        wallet = await table.world.player("player1")
        await table.world.buy_ticket(table.competition_id, wallet)
        with pytest.raises(Exception, match="every player approves"):
            await table.world.enter(table.competition_id, wallet)


async def test_only_entrants_see_the_sessions(tmp_path: Path) -> None:
    async with running_table(tmp_path, required=False) as table:
        assert not (await table.status()).approval_required
        sessions = keymeld_pb2.ListSigningSessionsRequest(competition_id=table.competition_id)
        for key in (NostrKey.generate(), ADMIN):
            with pytest.raises(ApiError) as stranger:
                await table.api.call("KeymeldService/ListSigningSessions", sessions, key)
            assert (stranger.value.code, stranger.value.reason) == ("PERMISSION_DENIED", "NO_ENTRY")
        sessions.page_size = -1
        with pytest.raises(ApiError) as too_many:
            await table.api.call("KeymeldService/ListSigningSessions", sessions, NostrKey.generate())
        assert list(too_many.value.fields) == ["page_size"]


async def test_sessions_come_in_pages_to_entrants_over_rest(tmp_path: Path) -> None:
    async with running_table(tmp_path) as table:
        await table.seat(3)
        rest = table.players[0].rest
        assert (await rest.signing_sessions(table.competition_id)).sessions == []
        await table.to_signing()

        async def all_asked() -> bool:
            return len(await events(table, "approval.requested")) == (await table.status()).batches_total > 0

        await until(all_asked)
        whole = await rest.signing_sessions(table.competition_id)
        assert whole.next_page_token == ""
        paged, token = [], ""
        while True:
            page = await rest.signing_sessions(table.competition_id, page_size=1, page_token=token)
            assert len(page.sessions) == 1
            paged += page.sessions
            token = page.next_page_token
            if not token:
                break
        assert paged == whole.sessions
        keys = [item.key for session in paged for item in session.items]
        contract = await table.world.contracts.get(
            await table.world.core.competitions.load(table.competition_id)
        )
        assert sorted(keys) == sorted(job.key for job in contract.signing_jobs())
        with pytest.raises(RestError) as wrong:
            await rest.signing_sessions(table.competition_id, page_token="nonsense")
        assert wrong.value.status == 400
        await table.approve()
        await table.world.wait_for(table.competition_id, "funding_ready")


Alter = Callable[[SigningItem], SigningItem]


def lying(table: Table, alter: Alter) -> list[SigningItem]:
    """Makes the coordinator send keymeld one altered item, not in the first batch. The honest one."""
    client = client_of(table)
    post = client.post_signing
    altered: list[SigningItem] = []

    async def post_altered(keygen_id: str, credentials: SessionCredentials, body: bytes) -> None:
        if keygen_id == table.players[0].agreement.keygen_session_ids[1] and not altered:
            request = SigningRequest.from_json(json.loads(body))
            honest = open_item(credentials, request.batch_items[1])
            altered.append(honest)
            items = list(request.batch_items)
            items[1] = seal_item(credentials, alter(honest))
            body = json.dumps(replace(request, batch_items=tuple(items)).to_json()).encode()
        await post(keygen_id, credentials, body)

    client.post_signing = post_altered  # type: ignore[method-assign]
    return altered


async def test_one_altered_sighash_is_refused_by_name_and_nothing_is_signed(tmp_path: Path) -> None:
    """The coordinator's list is honest, what it has keymeld sign is not: keymeld's own word decides."""
    async with running_table(tmp_path, signing_seconds=8) as table:
        before = await wealth_of(table)
        await table.seat(3)
        other = b"\x66" * 32
        altered = lying(table, lambda item: replace(item, message=other))
        await table.to_signing()
        for refusal in await table.approve():
            assert isinstance(refusal, SigningMismatch)
            assert refusal.field == "sighash"
            assert refusal.key.count(":p") == 1
            assert (refusal.expected, refusal.asked) == (altered[0].message.hex(), other.hex())
            assert refusal.key in str(refusal)
            assert other.hex() in str(refusal)
            assert altered[0].message.hex() in str(refusal)
        # Also the honest sessions are approved by nobody.
        status = await table.status()
        assert [one.approved for one in status.participant_approvals] == [False] * 3
        assert status.batches_done == 0
        failed = await refunded(table, before)
        assert failed.failed_in == "awaiting_signing"
        assert all(player.agreement.ticket_id in failed.reason for player in table.players)
        assert await events(table, "contract.signed") == []
        ended = await table.status()
        assert ended.signing_status == "failed"
        assert [one.missing for one in ended.participant_approvals] == [True] * 3


async def test_a_list_that_agrees_with_the_lie_is_refused_as_well(tmp_path: Path) -> None:
    async with running_table(tmp_path) as table:
        await table.seat(3)
        other = b"\x66" * 32
        altered = lying(table, lambda item: replace(item, message=other))
        await table.to_signing()
        rest = table.players[0].rest
        honest = rest.signing_sessions

        async def dishonest(*args: Any, **options: Any) -> Any:
            page = await honest(*args, **options)
            for session in page.sessions:
                for item in session.items:
                    if item.sighash == altered[0].message.hex():
                        item.sighash = other.hex()
            return page

        rest.signing_sessions = dishonest  # type: ignore[method-assign]
        (refusal,) = await table.approve(table.players[0])
        assert isinstance(refusal, SigningMismatch)
        assert (refusal.field, refusal.asked) == ("sighash", other.hex())


async def test_a_player_who_never_approves_is_named_and_everybody_refunded(tmp_path: Path) -> None:
    async with running_table(tmp_path, signing_seconds=8) as table:
        before = await wealth_of(table)
        await table.seat(3)
        await table.to_signing()
        for ended in await table.approve(*table.players[:2]):
            assert isinstance(ended, SigningEnded)
            assert table.players[2].agreement.ticket_id in str(ended)
        failed = await refunded(table, before)
        assert table.players[2].agreement.ticket_id in failed.reason
        assert not any(player.agreement.ticket_id in failed.reason for player in table.players[:2])
        approvals = (await table.status()).participant_approvals
        assert [one.missing for one in approvals] == [False, False, True]
        assert [one.approved for one in approvals] == [True, True, False]


async def test_players_who_register_themselves_leave_the_coordinator_nothing_to_drop(tmp_path: Path) -> None:
    async with running_table(tmp_path) as table:
        await table.seat(2, register=True)
        await table.seat(1)
        await table.world.escrow_planned(table.competition_id)
        for player in table.players:
            await player.sign_release()
        first = asyncio.create_task(table.players[0].register_keys())
        await table.world.wait_for(table.competition_id, "awaiting_keygen", mining=True)

        async def waits_for_the_second() -> bool:
            rows = (await table.status()).participant_approvals
            return [(row.registered, row.missing) for row in rows] == [
                (True, False),
                (False, True),
                (True, False),
            ]

        await until(waits_for_the_second)
        assert (await table.status()).keygen_status == "collecting_participants"
        await table.players[1].register_keys()
        await first
        approvals = await table.approve()
        assert all(isinstance(approval, SigningApproval) for approval in approvals), approvals
        await table.world.wait_for(table.competition_id, "funding_ready")
        for player in table.players:
            await player.sign_funding()
        await table.world.wait_for(table.competition_id, "awaiting_attestation", mining=True)


async def test_a_player_who_does_not_register_is_named_and_everybody_refunded(tmp_path: Path) -> None:
    async with running_table(tmp_path, keygen_seconds=6) as table:
        before = await wealth_of(table)
        await table.seat(2)
        await table.seat(1, register=True)
        await table.world.escrow_planned(table.competition_id)
        for player in table.players:
            await player.sign_release()
        await until(lambda: _mined_to_failure(table))
        failed = await refunded(table, before)
        assert failed.failed_in == "awaiting_keygen"
        assert f"missing ticket {table.players[2].agreement.ticket_id}" in failed.reason
        assert not any(player.agreement.ticket_id in failed.reason for player in table.players[:2])
        status = await table.status()
        assert (status.keygen_status, status.signing_status) == ("failed", "not_started")
        assert [row.missing for row in status.participant_approvals] == [False, False, True]
        with pytest.raises(SigningEnded, match="missing ticket"):
            await table.players[2].register_keys()


async def test_a_registration_that_drops_the_players_wish_is_found_out(tmp_path: Path) -> None:
    """The coordinator registers a player and leaves out that it wants to approve."""
    async with running_table(tmp_path, required=False) as table:
        await table.seat(2)
        await table.seat(1, approve=True)
        careful = table.players[2]
        assert careful.secrets.approves
        assert not table.players[0].secrets.approves
        client = client_of(table)
        register = client.register_participant

        async def careless(*args: Any, **options: Any) -> None:
            await register(*args, **options | {"require_signing_approval": False})

        client.register_participant = careless  # type: ignore[method-assign]
        await table.world.escrow_planned(table.competition_id)
        for player in table.players:
            await player.sign_release()
        await table.world.wait_for(table.competition_id, "funding_ready", mining=True)
        for refused in (careful.approve_signing, careful.sign_funding):
            with pytest.raises(ApprovalBypassed):
                await refused()
        await table.players[0].sign_funding()


async def test_the_coordinators_word_alone_is_accepted_only_by_who_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keymeld of an earlier version does not show what its sessions hold."""
    read = SigningState.from_json.__func__  # type: ignore[attr-defined]

    def earlier(kind: type[SigningState], value: Any) -> SigningState:
        return read(kind, {name: part for name, part in value.items() if name != "batch_items"})

    monkeypatch.setattr(SigningState, "from_json", classmethod(earlier))
    async with running_table(tmp_path) as table:
        await table.seat(3)
        await table.to_signing()
        (refusal,) = await table.approve(table.players[0])
        assert isinstance(refusal, SessionNotShown)
        approvals = await asyncio.gather(
            *(player.approve_signing(accept_coordinators_word=True) for player in table.players)
        )
        assert {approval.verified_against for approval in approvals} == {Verified.COORDINATOR}
        await table.world.wait_for(table.competition_id, "funding_ready")


async def order(table: Table, **fault: Any) -> None:
    async with httpx.AsyncClient(base_url=table.world.keymeld_url) as http:
        assert (await http.post("/devnet/keymeld/faults", json=fault)).status_code == 201


async def rotate_enclaves(table: Table) -> None:
    async with httpx.AsyncClient(base_url=table.world.keymeld_url) as http:
        for enclave in (await http.get("/api/v1/enclaves")).json()["enclaves"]:
            path = f"/devnet/keymeld/enclaves/{enclave['enclave_id']}/rotate"
            assert (await http.post(path)).status_code == 200


async def take_session_id(table: Table) -> None:
    """Somebody else reserves the competition's session id first."""
    async with KeymeldClient(table.world.keymeld_url) as stranger:
        ids = [new_uuid7(), new_uuid7()]
        credentials = SessionCredentials.generate()
        session_id = table.players[0].agreement.keygen_session_ids[0]
        reservation = await stranger.reserve(
            session_id, credentials, coordinator_user_id=ids[0], expected_participants=ids, timeout_secs=60
        )
        own = UserCredentials(NostrKey.generate().secret_bytes)
        await stranger.initialize(session_id, credentials, own, reservation)


@pytest.mark.parametrize("path", ["/initialize", "/participants", "/signing"])
async def test_a_core_that_dies_in_the_middle_goes_on_with_the_same_sessions(
    tmp_path: Path, path: str
) -> None:
    """It is stopped while keymeld takes its time over a request, whose answer it never sees."""
    async with running_table(tmp_path, required=False) as table:
        await table.seat(3)
        await table.world.escrow_planned(table.competition_id)
        await order(table, kind="delay", match=path, seconds=2, times=2)
        for player in table.players:
            await player.sign_release()
        store = tmp_path / "keymeld" / "keymeld.sqlite3"
        in_time = {"/initialize": "keygens", "/participants": "keygens", "/signing": "participants"}[path]

        async def under_way() -> bool:
            await table.world.chain.mine()
            state = (await table.world.core.competitions.load(table.competition_id)).status.name
            waited_for = "awaiting_signing" if path == "/signing" else "awaiting_keygen"
            return state == waited_for and bool(rows(store, in_time))

        await until(under_way)
        await table.restart()
        await table.world.wait_for(table.competition_id, "funding_ready")
        agreed = set(table.players[0].agreement.keygen_session_ids)
        assert {session_id for session_id, *_ in rows(store, "keygens")} == agreed
        # 26 signatures: of each keygen session as many batches of ten as it needs, and no more.
        signings = [(one[1], len(json.loads(one[4]))) for one in rows(store, "signings")]
        assert sum(items for _, items in signings) == 26
        assert len(signings) == sum(
            -(-sum(items for session_id, items in signings if session_id == agreed_id) // 10)
            for agreed_id in agreed
        )
        for player in table.players:
            await player.sign_funding()
        await table.world.wait_for(table.competition_id, "awaiting_attestation", mining=True)


def rows(store: Path, table: str) -> list[tuple[Any, ...]]:
    """What devnet's keymeld keeps."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        return database.execute(f"SELECT * FROM {table}").fetchall()


async def test_a_field_that_the_sessions_cannot_hold_is_refused_with_the_numbers(tmp_path: Path) -> None:
    settings = {"keymeld_max_subsets": 4, "keymeld_max_sessions": 3}
    async with running_world(tmp_path, **settings) as world:
        with pytest.raises(InvalidInput) as refused:
            await world.create(total_allowed_entries=6)
        (violation,) = refused.value.violations
        assert violation.field == "terms.total_allowed_entries"
        assert violation.description == "needs 4 keymeld sessions of 4 subsets, 3 are allowed"
        await world.create(total_allowed_entries=5)


Trouble = Callable[[Table], Awaitable[None]]


@pytest.mark.parametrize(
    ("trouble", "failed_in", "words"),
    [
        (rotate_enclaves, "awaiting_keygen", "encrypted his key to enclave"),
        (take_session_id, "awaiting_keygen", "is somebody else's|Session signature validation failed"),
        (
            lambda table: order(table, kind="error", match="/participants", status=401, times=99),
            "awaiting_keygen",
            "keymeld answered 401",
        ),
        (
            lambda table: order(table, kind="error", match="/reserve", status=413, times=99),
            "awaiting_keygen",
            "keymeld answered 413",
        ),
        (
            lambda table: order(table, kind="error", match="/signing", status=404, times=99),
            "awaiting_signing",
            "keymeld answered 404",
        ),
        (
            lambda table: order(table, kind="error", match="/status/", status=410, times=99),
            "awaiting_signing",
            "keymeld answered 410",
        ),
    ],
)
async def test_what_keymeld_refuses_is_the_reason_that_the_competition_gives(
    tmp_path: Path, trouble: Trouble, failed_in: str, words: str
) -> None:
    async with running_table(tmp_path, required=False) as table:
        before = await wealth_of(table)
        await table.seat(3)
        await table.world.escrow_planned(table.competition_id)
        await trouble(table)
        for player in table.players:
            await player.sign_release()
        await until(lambda: _mined_to_failure(table))
        failed = await refunded(table, before)
        assert failed.failed_in == failed_in
        assert re.search(words, failed.reason), failed.reason
        shown = await table.players[0].rest.competition(table.competition_id)
        assert shown.failure_reason.startswith(failed.reason)
        # The event goes on to say what becomes of the money.
        (told,) = await events(table, "competition.failed")
        assert told["reason"].startswith(failed.reason)
        status = await table.status()
        rounds = (status.keygen_status, status.signing_status)
        assert rounds == (
            ("failed", "not_started") if failed_in == "awaiting_keygen" else ("completed", "failed")
        )


async def _mined_to_failure(table: Table) -> bool:
    await table.world.chain.mine()
    return (await table.world.core.competitions.load(table.competition_id)).status.name == "failed"
