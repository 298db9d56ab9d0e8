"""A player's approvals against a coordinator and a keymeld made up in the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordinator_client.agreement import PlayerSecrets
from coordinator_client.errors import MalformedAnswer
from coordinator_client.keymeld import (
    KeymeldBadResponse,
    KeymeldExpired,
    KeymeldUnknownSession,
    SessionCredentials,
    SigningItem,
    new_uuid7,
    seal_item,
)
from coordinator_client.keymeld.approval import (
    ApprovalBypassed,
    Approver,
    SessionNotShown,
    SigningApproval,
    SigningEnded,
    Verified,
    check_bypass,
    contract_ready,
)
from coordinator_client.keymeld.crypto import AGGREGATE_PUBLIC_KEY, SUBSET_AGGREGATE
from coordinator_client.keymeld.dlc import job_winners, subset_id
from coordinator_client.keymeld.protocol import KeygenState, KeygenStatus, SigningState, SigningStatus, Slot
from coordinator_client.keymeld.review import SigningMismatch
from coordinator_client.proto.coordinator.v1 import (
    Competition,
    CompetitionState,
    GetStatusResponse,
    ListSigningSessionsResponse,
    SigningSession,
)
from coordinator_client.proto.coordinator.v1 import SigningItem as ListedItem
from support.agreed import agreed

DEAL = agreed()
DLC = DEAL.competition.dlc
ME = DEAL.agreement.ticket_id
KEYGEN = DEAL.agreement.keygen_session_ids[0]
SECRET = SessionCredentials(b"\x05" * 32)
BATCH = 10


@dataclass
class Outside:
    """The coordinator and keymeld: sessions of ten items, signed once this player approved all of them."""

    sessions: list[SigningSession] = field(default_factory=list)
    states: dict[str, SigningState] = field(default_factory=dict)
    total: int = 0
    page: int = 2
    listings: list[str] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)
    competition_state: CompetitionState = CompetitionState.AWAITING_SIGNING
    on_approve: Callable[[str], None] = lambda _: None
    slots_of: dict[str, tuple[Slot, ...]] = field(default_factory=dict)

    def ask(self, count: int, batch: int, attempt: int = 0) -> str:
        """A session of the batch's items, with keymeld agreeing."""
        jobs = list(DLC.signing_jobs())[batch * BATCH : (batch + 1) * BATCH]
        assert len(jobs) == count
        signing_id = new_uuid7()
        items = []
        for job in jobs:
            winners = job_winners(job, 3)
            adaptor = None if job.adaptor_point is None else new_uuid7()
            subset = None if winners is None else subset_id(KEYGEN, winners)
            items.append(SigningItem(new_uuid7(), job.message, subset, adaptor, job.adaptor_point))
        self.sessions.append(
            SigningSession(
                signing_session_id=signing_id,
                keygen_session_id=KEYGEN,
                batch=batch,
                attempt=attempt,
                items=[
                    ListedItem(
                        item.batch_item_id,
                        job.key,
                        item.message.hex(),
                        (item.adaptor_point or b"").hex(),
                        item.subset_id or "",
                    )
                    for job, item in zip(jobs, items, strict=True)
                ],
            )
        )
        self.states[signing_id] = SigningState(
            signing_id,
            KEYGEN,
            SigningStatus.COLLECTING_PARTICIPANTS,
            0,
            participants_requiring_approval=(ME,),
            raw_batch_items=[seal_item(SECRET, item).to_json() for item in items],
        )
        return signing_id

    def ask_all(self) -> list[str]:
        """Every batch of the contract."""
        self.total = 3
        return [self.ask(10, 0), self.ask(10, 1), self.ask(6, 2)]

    @property
    def signed(self) -> bool:
        return len(self.approved) >= self.total > 0

    # The coordinator

    async def signing_sessions(self, _: str, *, page_token: str = "") -> ListSigningSessionsResponse:
        self.listings.append(page_token)
        start = int(page_token or 0)
        page = self.sessions[start : start + self.page]
        more = len(self.sessions) > start + self.page
        return ListSigningSessionsResponse(page, str(start + self.page) if more else "")

    async def keymeld_status(self, _: str) -> GetStatusResponse:
        status = "completed" if self.signed else "in_progress"
        return GetStatusResponse("completed", status, batches_total=self.total)

    async def competition(self, _: str) -> Competition:
        return Competition(state=self.competition_state, failure_reason="somebody was missing")

    # keymeld

    async def signing_status(self, signing_id: str, *_: Any, user_id: str) -> SigningState:
        assert user_id == ME
        return self.states[signing_id]

    async def approve(self, signing_id: str, *_: Any, user_id: str) -> None:
        assert user_id == ME
        self.on_approve(signing_id)
        self.approved.append(signing_id)

    async def keygen_status(self, *_: Any) -> KeygenState:
        group = SECRET.encrypt(DLC.aggregate_key(None), AGGREGATE_PUBLIC_KEY)
        sets = ((0, 1), (0, 2), (1, 2))
        subsets = {
            subset_id(KEYGEN, winners): SECRET.encrypt(DLC.aggregate_key(winners), SUBSET_AGGREGATE)
            for winners in sets
        }
        return KeygenState(KeygenStatus.COMPLETED, 4, 4, 0, group, subsets)

    async def slots(self, session_id: str) -> tuple[Slot, ...]:
        if session_id not in self.slots_of:
            raise KeymeldUnknownSession("no such session")
        return self.slots_of[session_id]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))


def my_secrets() -> PlayerSecrets:
    return replace(DEAL.secrets)


async def run(
    outside: Outside, secrets: PlayerSecrets | None = None, *, accept: bool = False
) -> SigningApproval:
    fake: Any = outside
    approver = Approver(
        fake,
        fake,
        DEAL.agreement,
        secrets or my_secrets(),
        DLC,
        SECRET,
        accept_coordinators_word=accept,
    )
    async with asyncio.timeout(20):
        return await approver.run()


async def test_everything_is_reviewed_then_approved_and_remembered() -> None:
    outside, secrets = Outside(), my_secrets()
    ids = outside.ask_all()
    approval = await run(outside, secrets)
    assert approval == SigningApproval(tuple(ids), 26, Verified.SERVICE)
    assert outside.approved == ids
    assert (secrets.approves, secrets.approved_keygens) == (True, (KEYGEN,))


async def test_nothing_is_approved_while_a_batch_is_not_listed_yet() -> None:
    outside = Outside(total=3)
    first = [outside.ask(10, 0), outside.ask(10, 1)]
    looked = 0
    listing = outside.signing_sessions

    async def later(competition_id: str, *, page_token: str = "") -> ListSigningSessionsResponse:
        nonlocal looked
        looked += 1
        assert looked > 5 or not outside.approved
        if looked == 5:
            outside.ask(6, 2)
        return await listing(competition_id, page_token=page_token)

    outside.signing_sessions = later  # type: ignore[method-assign]
    approval = await run(outside)
    assert approval.sessions[:2] == tuple(first)
    assert len(approval.sessions) == 3
    # Pages that were full are not asked for again.
    assert outside.listings.count("") < looked - 1


async def test_one_false_item_in_the_last_batch_leaves_all_unapproved() -> None:
    outside = Outside()
    last = outside.ask_all()[-1]
    state = outside.states[last]
    false = [*state.raw_batch_items]
    honest: Any = false[3]
    false[3] = {**honest, "message_hash": [7] * 32}
    outside.states[last] = replace(state, raw_batch_items=false)
    with pytest.raises(SigningMismatch) as refusal:
        await run(outside)
    listed = outside.sessions[-1].items[3]
    assert (refusal.value.key, refusal.value.expected) == (listed.key, listed.sighash)
    assert refusal.value.asked == (b"\x07" * 32).hex()
    assert outside.approved == []


async def test_a_failed_batch_is_approved_in_its_next_session() -> None:
    outside = Outside()
    ids = outside.ask_all()
    outside.states[ids[1]] = replace(outside.states[ids[1]], status=SigningStatus.FAILED)
    again = outside.ask(10, 1, attempt=1)
    approval = await run(outside)
    assert approval.sessions == (ids[0], ids[2], again)


async def test_a_session_that_expires_under_the_approval_is_not_counted() -> None:
    outside = Outside()
    ids = outside.ask_all()
    again: list[str] = []

    def expire(signing_id: str) -> None:
        if signing_id == ids[0]:
            again.append(outside.ask(10, 0, attempt=1))
            raise KeymeldExpired("the session expired")

    outside.on_approve = expire
    approval = await run(outside)
    assert set(approval.sessions) == {ids[1], ids[2], *again}
    assert approval.items == 26


async def test_what_was_approved_before_an_interruption_is_not_approved_again() -> None:
    outside, secrets = Outside(), my_secrets()
    ids = outside.ask_all()
    outside.states[ids[0]] = replace(outside.states[ids[0]], approved_participants=(ME,))
    outside.approved = [ids[0]]
    approval = await run(outside, secrets)
    assert approval.sessions == (ids[1], ids[2])
    assert secrets.approved_keygens == (KEYGEN,)


async def test_other_keygen_sessions_are_refused() -> None:
    outside = Outside()
    outside.ask_all()
    strange = new_uuid7()
    outside.sessions[0].keygen_session_id = strange
    with pytest.raises(SigningMismatch, match=strange):
        await run(outside)
    outside = Outside()
    ids = outside.ask_all()
    outside.states[ids[0]] = replace(outside.states[ids[0]], keygen_session_id=strange)
    with pytest.raises(SigningMismatch, match=strange):
        await run(outside)
    assert outside.approved == []


async def test_a_session_that_does_not_ask_this_player_is_found_out() -> None:
    outside = Outside()
    ids = outside.ask_all()
    outside.states[ids[2]] = replace(outside.states[ids[2]], participants_requiring_approval=())
    with pytest.raises(ApprovalBypassed, match=ids[2]):
        await run(outside)
    assert outside.approved == []


async def test_a_hidden_keygen_session_with_the_players_key_is_found_out() -> None:
    agreement = replace(DEAL.agreement, keygen_session_ids=(KEYGEN, new_uuid7(), new_uuid7()))
    _, hidden, unused = agreement.keygen_session_ids
    outside: Any = Outside()
    secrets = replace(my_secrets(), approves=True, approved_keygens=(KEYGEN,))
    await check_bypass(outside, agreement, secrets)
    outside.slots_of = {hidden: (Slot(ME, "1", 1, claimed=False),), KEYGEN: (Slot(ME, "1", 1, claimed=True),)}
    await check_bypass(outside, agreement, secrets)
    outside.slots_of[hidden] = (Slot(new_uuid7(), "1", 0, claimed=True), Slot(ME, "1", 1, claimed=True))
    with pytest.raises(ApprovalBypassed, match=hidden):
        await check_bypass(outside, agreement, secrets)
    assert unused not in outside.slots_of


async def test_what_is_not_shown_is_approved_only_on_demand() -> None:
    outside = Outside()
    for signing_id in outside.ask_all():
        outside.states[signing_id] = replace(outside.states[signing_id], raw_batch_items=())
    with pytest.raises(SessionNotShown):
        await run(outside)
    assert outside.approved == []
    assert (await run(outside, accept=True)).verified_against is Verified.COORDINATOR


async def test_answers_that_cannot_be_read_are_typed() -> None:
    outside = Outside()
    ids = outside.ask_all()
    outside.states[ids[0]] = replace(outside.states[ids[0]], raw_batch_items=[{"nonsense": True}])
    with pytest.raises(KeymeldBadResponse):
        await run(outside)
    outside = Outside()
    outside.ask_all()
    outside.sessions[0].items[0].sighash = "no hex"
    with pytest.raises(MalformedAnswer):
        await run(outside)


async def test_a_competition_that_ends_says_why() -> None:
    outside: Any = Outside(total=3)
    outside.ask(10, 0)
    outside.competition_state = CompetitionState.FAILED
    with pytest.raises(SigningEnded, match="somebody was missing"):
        await run(outside)

    async def not_started(_: str) -> GetStatusResponse:
        return GetStatusResponse("not_started", "not_started")

    outside.keymeld_status = not_started
    with pytest.raises(SigningEnded, match="somebody was missing"):
        await contract_ready(outside, "competition")
