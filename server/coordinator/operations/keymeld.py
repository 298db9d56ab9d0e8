"""keymeld sessions as players see them: the shared secret for who takes part, progress for everybody."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.contract.dlc import SigningJobs, TicketedDLC
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.errors import InvalidInput, NotFound, PermissionDenied
from coordinator.domain.ids import check_uuid7
from coordinator.domain.states import (
    CANCELLABLE,
    AwaitingKeygen,
    AwaitingSigning,
    Cancelled,
    CollectingEntries,
    CompetitionStatus,
    Created,
    Failed,
)
from coordinator.operations.entries import own_entry
from coordinator.operations.listing import live_entries
from coordinator.ports.keymeld import Batches, ItemAsked, KeygenPlan, KeymeldParticipant
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.models import EntryRow, EventRow
from coordinator_client.nostr import nip44

KEYGEN_PROGRESS = "keymeld.keygen_progress"
SIGNING_PROGRESS = "keymeld.signing_progress"
APPROVAL_REQUESTED = "approval.requested"
_ORDER = [state.name for state in CANCELLABLE]
# Cut batches hold every signing job: some megabytes for a large field.
_KEPT_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Joined:
    """What a player needs to take part in the sessions. The secret is readable by its Nostr key only."""

    entry_id: str
    user_id: str
    session_ids: tuple[str, ...]
    encrypted_session_secret: str


@dataclass(frozen=True, slots=True)
class Participant:
    """One player's part: its key is with an enclave, it must approve, it has approved, it is waited for."""

    user_id: str
    entry_id: str
    registered: bool
    approval_required: bool
    approved: bool
    missing: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far both rounds are. Times are unix seconds, None outside of the rounds."""

    keygen_status: str
    signing_status: str
    participants: tuple[Participant, ...]
    batches_done: int
    batches_total: int
    started_at: int | None
    deadline_at: int | None
    approval_required: bool


@dataclass(frozen=True, slots=True)
class AskedSession:
    """A signing session that players are asked to approve, with its items. `sequence` is its event's."""

    sequence: int
    signing_session_id: str
    keygen_session_id: str
    batch: int
    attempt: int
    items: Sequence[ItemAsked]


async def join(core: Core, competition_id: str, entry_id: str, owner_pubkey: str) -> Joined:
    """The session secret, encrypted from the coordinator's Nostr key to the entry's owner (NIP-44 v2).

    Raises:
        InvalidInput: a malformed id, or none given and the caller has several entries.
        NotFound: no such competition, or entry in it.
        PermissionDenied: the caller has no entry, or the entry is another's.
    """
    check_uuid7("competition_id", competition_id)
    record = await core.competitions.load(competition_id)
    if entry_id:
        entry = await own_entry(entry_id, owner_pubkey)
        if entry.competition_id != competition_id:
            raise NotFound(f"there is no entry {entry_id} in this competition", reason="ENTRY_NOT_FOUND")
    else:
        entry = await _only_entry(competition_id, owner_pubkey)
    secret = core.keys(competition_id).keymeld_seed.hex()
    return Joined(
        entry_id=entry.id,
        user_id=entry.ticket_id,
        session_ids=record.status.facts.keygen_session_ids,
        encrypted_session_secret=nip44.encrypt(core.nostr_key, owner_pubkey, secret),
    )


async def progress(core: Core, competition_id: str) -> Progress:
    """How far key generation and signing are.

    Raises:
        InvalidInput, NotFound: as the names say.
    """
    check_uuid7("competition_id", competition_id)
    record = await core.competitions.load(competition_id)
    status = record.status
    keygen, signing = _round_statuses(status)
    registered = await _told(competition_id, KEYGEN_PROGRESS, "registered")
    approved = await _told(competition_id, SIGNING_PROGRESS, "approved")
    batches = (
        await EventRow.filter(competition_id=competition_id, kind=SIGNING_PROGRESS)
        .order_by("-sequence")
        .first()
    )
    participants = []
    for entry in await _participants(competition_id, status):
        required = bool(entry.keymeld["require_signing_approval"])
        with_enclave = keygen == "completed" or entry.ticket_id in registered
        has_approved = required and (signing == "completed" or entry.ticket_id in approved)
        participants.append(
            Participant(
                user_id=entry.ticket_id,
                entry_id=entry.id,
                registered=with_enclave,
                approval_required=required,
                approved=has_approved,
                missing=(keygen in ("collecting_participants", "failed") and not with_enclave)
                or (signing in ("in_progress", "failed") and required and not has_approved),
            )
        )
    under_way = status if isinstance(status, AwaitingKeygen | AwaitingSigning) else None
    return Progress(
        keygen_status=keygen,
        signing_status=signing,
        participants=tuple(participants),
        batches_done=_number(batches, "done"),
        batches_total=_number(batches, "total"),
        started_at=under_way.started_at if under_way else None,
        deadline_at=under_way.deadline_at if under_way else None,
        approval_required=status.facts.terms.require_signing_approval,
    )


class SigningSessions:
    """What players are asked to approve. Items are made anew from the contract; which sessions there are, the
    log knows."""

    def __init__(self, core: Core, contracts: ContractCache) -> None:
        self._core = core
        self._contracts = contracts
        self._batches: OrderedDict[str, Batches] = OrderedDict()
        self._cutting = asyncio.Lock()

    async def list(
        self, competition_id: str, owner_pubkey: str, *, after_sequence: int, limit: int
    ) -> list[AskedSession]:
        """A page of sessions in the order in which they were created, whose events come after a sequence.

        Raises:
            InvalidInput, NotFound: as the names say.
            PermissionDenied: the caller has no entry in this competition.
        """
        check_uuid7("competition_id", competition_id)
        record = await self._core.competitions.load(competition_id)
        if not await EntryRow.exists(competition_id=competition_id, owner_pubkey=owner_pubkey):
            raise PermissionDenied("you have no entry in this competition", reason="NO_ENTRY")
        if not isinstance(record.status, AwaitingSigning):
            return []  # what was asked before was answered, or is asked no more
        rows = (
            await EventRow.filter(
                competition_id=competition_id, kind=APPROVAL_REQUESTED, sequence__gt=after_sequence
            )
            .order_by("sequence")
            .limit(limit)
        )
        if not rows:
            return []
        batches = await self._batches_of(record, record.status)
        return await asyncio.to_thread(lambda: [_asked(row, batches) for row in rows])

    async def _batches_of(self, record: CompetitionRecord, status: AwaitingSigning) -> Batches:
        async with self._cutting:
            if record.id not in self._batches:
                dlc = await self._contracts.of(status)
                plan = await keygen_plan(self._core, dlc, status)
                self._batches[record.id] = await self._core.keymeld.cut(plan, SigningJobs(dlc))
            self._batches.move_to_end(record.id)
            while len(self._batches) > _KEPT_BATCHES:
                self._batches.popitem(last=False)
            return self._batches[record.id]


def _asked(row: EventRow, batches: Batches) -> AskedSession:
    signing_session_id = str(row.data["signing_session_id"])
    keygen, batch = _number(row, "keygen"), _number(row, "batch")
    return AskedSession(
        sequence=row.sequence,
        signing_session_id=signing_session_id,
        keygen_session_id=str(row.data["keygen_session_id"]),
        batch=batch,
        attempt=_number(row, "attempt"),
        items=batches.items(keygen, batch, signing_session_id),
    )


async def keygen_plan(core: Core, dlc: TicketedDLC, status: AwaitingKeygen | AwaitingSigning) -> KeygenPlan:
    """What identifies the competition's keymeld sessions; the same at every call."""
    facts = status.facts
    keys = core.keys(facts.competition_id)
    by_id = {entry.id: entry for entry in await live_entries(facts.competition_id)}
    return KeygenPlan(
        session_ids=facts.keygen_session_ids,
        seed=keys.keymeld_seed,
        coordinator_user_id=facts.keymeld_coordinator_user_id,
        coordinator_private_key=keys.market_maker_secret,
        participants=tuple(_participant(by_id[player.entry_id]) for player in status.roster),
        winner_sets=tuple(dlc.winner_sets()),
        timeout_seconds=core.settings.keygen_seconds + core.settings.signing_seconds,
    )


def _participant(entry: EntryRow) -> KeymeldParticipant:
    registration = entry.keymeld
    auth_pubkeys = registration["auth_pubkeys"]
    ciphertexts = registration["ciphertexts"]
    assert isinstance(auth_pubkeys, dict)
    assert isinstance(ciphertexts, list)
    return KeymeldParticipant(
        user_id=entry.ticket_id,
        public_key=bytes.fromhex(entry.ephemeral_pubkey),
        auth_pubkeys={session: bytes.fromhex(key) for session, key in auth_pubkeys.items()},
        encrypted_private_keys={c["enclave_id"]: c["encrypted_private_key"] for c in ciphertexts},
        enclave_key_epochs={c["enclave_id"]: c["key_epoch"] for c in ciphertexts},
        require_signing_approval=bool(registration["require_signing_approval"]),
    )


def _round_statuses(status: CompetitionStatus) -> tuple[str, str]:
    ended = isinstance(status, Failed | Cancelled)
    name = status.name
    if isinstance(status, Failed):
        name = status.failed_in
    elif isinstance(status, Cancelled):
        name = status.cancelled_in
    # Every state from the funding on comes after both rounds.
    reached = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    keygen, signing = _ORDER.index("awaiting_keygen"), _ORDER.index("awaiting_signing")

    def of_round(position: int, under_way: str) -> str:
        if reached < position:
            return "not_started"
        if reached > position:
            return "completed"
        return "failed" if ended else under_way

    return of_round(keygen, "collecting_participants"), of_round(signing, "in_progress")


async def _only_entry(competition_id: str, owner_pubkey: str) -> EntryRow:
    own = await EntryRow.filter(competition_id=competition_id, owner_pubkey=owner_pubkey).limit(2)
    if not own:
        raise PermissionDenied("you have no entry in this competition", reason="NO_ENTRY")
    if len(own) > 1:
        raise InvalidInput.of("entry_id", "say which: you have several entries in this competition")
    return own[0]


async def _participants(competition_id: str, status: CompetitionStatus) -> Sequence[EntryRow]:
    """The players in index order; before the close those who have entered so far."""
    if isinstance(status, Created | CollectingEntries):
        return await live_entries(competition_id)
    by_id = {entry.id: entry for entry in await EntryRow.filter(competition_id=competition_id)}
    return [by_id[player.entry_id] for player in status.roster]


async def _told(competition_id: str, kind: str, field: str) -> frozenset[str]:
    """The user ids that the latest event of a round names."""
    row = await EventRow.filter(competition_id=competition_id, kind=kind).order_by("-sequence").first()
    named = row.data.get(field) if row is not None else None
    return frozenset(str(user_id) for user_id in named) if isinstance(named, list) else frozenset()


def _number(row: EventRow | None, field: str) -> int:
    value = row.data.get(field) if row is not None else None
    return value if isinstance(value, int) else 0
