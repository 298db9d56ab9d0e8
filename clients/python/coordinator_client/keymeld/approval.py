"""A player's approvals: finds out which signing sessions want its key, reviews each, approves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

from coordinator.contract.dlc import TicketedDLC
from coordinator_client.agreement import Agreement, PlayerSecrets
from coordinator_client.errors import ApiError, CheckFailed, ClientError, MalformedAnswer
from coordinator_client.proto.coordinator.v1 import CompetitionState
from coordinator_client.proto.coordinator.v1 import SigningSession as ListedSession
from coordinator_client.rest import RestClient

from .batch import SigningItem
from .client import KeymeldClient, backoff
from .crypto import SessionCredentials, UserCredentials
from .errors import KeymeldBadResponse, KeymeldExpired, KeymeldUnknownSession
from .protocol import BatchItem, ProtocolError, SigningState, SigningStatus
from .review import AskedItem, SigningMismatch, check_keys, review, signing_sets

_ENDED = (CompetitionState.FAILED, CompetitionState.CANCELLED)


class Verified(StrEnum):
    """What the contract was compared with."""

    SERVICE = "service"
    """What keymeld itself says that its sessions hold."""
    COORDINATOR = "coordinator"
    """The coordinator's word on it only."""


class SigningEnded(ClientError):
    """The competition ended before everything was signed; the message says why."""


class ApprovalBypassed(CheckFailed):
    """keymeld holds the player's key in a session that does not ask for its approval: it could have signed
    anything."""


class SessionNotShown(CheckFailed):
    """keymeld does not show what a session holds, and the coordinator's word alone was not to be accepted."""


@dataclass(frozen=True, slots=True)
class SigningApproval:
    """What a player approved.

    Attributes:
        sessions: ids of the signing sessions that were reviewed and approved now.
        items: how many signatures they ask for.
        verified_against: what the contract was compared with; `COORDINATOR` if so for a single session.
    """

    sessions: tuple[str, ...]
    items: int
    verified_against: Verified


async def contract_ready(rest: RestClient, competition_id: str) -> None:
    """Waits until the contract is fixed and its keys are made.

    Raises:
        SigningEnded: the competition ended before.
    """
    for delay in backoff(first_seconds=0.2, longest_seconds=5.0):
        status = await rest.keymeld_status(competition_id)
        if status.signing_status in ("in_progress", "completed"):
            return
        await check_alive(rest, competition_id)
        await asyncio.sleep(delay)


async def check_bypass(keymeld: KeymeldClient, agreement: Agreement, secrets: PlayerSecrets) -> None:
    """Whether keymeld has the player's key only in sessions that asked for its approval.

    A session that nobody set up has no keys. The player's registration is good for the agreed sessions only,
    as it gave keys to authenticate with for no others.

    Raises:
        ApprovalBypassed: there is another.
    """
    for session_id in agreement.keygen_session_ids:
        if session_id in secrets.approved_keygens:
            continue
        try:
            slots = await keymeld.slots(session_id)
        except KeymeldUnknownSession:
            continue
        if any(slot.user_id == agreement.ticket_id and slot.claimed for slot in slots):
            raise ApprovalBypassed(f"this player approved nothing in keymeld's keygen session {session_id}")


class Approver:
    """One run of `Player.approve_signing`."""

    def __init__(
        self,
        rest: RestClient,
        keymeld: KeymeldClient,
        agreement: Agreement,
        secrets: PlayerSecrets,
        dlc: TicketedDLC,
        credentials: SessionCredentials,
        *,
        accept_coordinators_word: bool,
    ) -> None:
        """
        Args:
            rest: of the coordinator, with the player's Nostr key.
            keymeld: the service.
            agreement: made at the ticket.
            secrets: the player's; `approves` and `approved_keygens` change.
            dlc: the contract as the player rebuilt it.
            credentials: of the session secret.
            accept_coordinators_word: approve also where the service does not show what it holds.
        """
        self._rest = rest
        self._keymeld = keymeld
        self._agreement = agreement
        self._secrets = secrets
        self._dlc = dlc
        self._credentials = credentials
        self._accept_coordinators_word = accept_coordinators_word
        self._user = UserCredentials(secrets.ephemeral_secret)
        self._last_page = ""
        self._seen: set[str] = set()
        self._reviewed: list[ListedSession] = []
        self._batches: set[tuple[str, int]] = set()
        self._approved: list[str] = []
        self._items = 0
        self._verified = Verified.SERVICE
        self._checked_sets: dict[str, frozenset[tuple[int, ...]]] = {}

    async def run(self) -> SigningApproval:
        """Approves until everything is signed. For what it raises see `Player.approve_signing`."""
        competition_id = self._agreement.competition_id
        for delay in backoff(first_seconds=0.2, longest_seconds=5.0):
            async for listed in self._listed():
                if listed.signing_session_id not in self._seen:
                    await self._look_at(listed)
            status = await self._rest.keymeld_status(competition_id)
            if status.signing_status == "completed":
                await check_bypass(self._keymeld, self._agreement, self._secrets)
                return SigningApproval(tuple(self._approved), self._items, self._verified)
            # Nothing is approved before everything was reviewed: one false batch stops all of them.
            if 0 < status.batches_total <= len(self._batches):
                while self._reviewed:
                    await self._approve(self._reviewed.pop(0))
            await check_alive(self._rest, competition_id)
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _listed(self) -> AsyncIterator[ListedSession]:
        """The sessions not listed before: pages that are full do not change, the last one grows."""
        while True:
            page = await self._rest.signing_sessions(
                self._agreement.competition_id, page_token=self._last_page
            )
            for session in page.sessions:
                yield session
            if not page.next_page_token:
                return
            self._last_page = page.next_page_token

    async def _look_at(self, listed: ListedSession) -> None:
        """Reviews a session, and keeps it to be approved unless that is done or too late."""
        signing_id, keygen_id = listed.signing_session_id, listed.keygen_session_id
        if keygen_id not in self._agreement.keygen_session_ids:
            agreed = " or ".join(self._agreement.keygen_session_ids)
            raise SigningMismatch("", "keygen session", agreed, keygen_id)
        user_id = self._agreement.ticket_id
        state = await self._keymeld.signing_status(signing_id, keygen_id, self._user, user_id=user_id)
        if state.keygen_session_id != keygen_id:
            raise SigningMismatch("", "keygen session", keygen_id, state.keygen_session_id)
        if user_id not in state.participants_requiring_approval:
            raise ApprovalBypassed(
                f"keymeld does not ask this player before it signs in session {signing_id}"
            )
        self._secrets.approves = True
        self._seen.add(signing_id)
        if state.status == SigningStatus.FAILED:
            return  # another attempt at the batch has its own session
        await self._review(listed, state)
        self._batches.add((keygen_id, listed.batch))
        if user_id in state.approved_participants:
            self._remember(keygen_id)  # before an interruption
        else:
            self._reviewed.append(listed)

    async def _approve(self, listed: ListedSession) -> None:
        signing_id, keygen_id = listed.signing_session_id, listed.keygen_session_id
        user_id = self._agreement.ticket_id
        try:
            await self._keymeld.approve(signing_id, keygen_id, self._user, user_id=user_id)
        except KeymeldExpired:
            return
        self._approved.append(signing_id)
        self._items += len(listed.items)
        self._remember(keygen_id)

    async def _review(self, listed: ListedSession, state: SigningState) -> None:
        held = _held(state)
        if not held and not self._accept_coordinators_word:
            raise SessionNotShown(
                f"keymeld does not show what session {listed.signing_session_id} holds: there is only the"
                " coordinator's word on it"
            )
        if not held:
            self._verified = Verified.COORDINATOR
        asked = _asked(listed)
        keygen_id = listed.keygen_session_id
        await asyncio.to_thread(review, keygen_id, asked, held, self._credentials, self._dlc)
        checked = self._checked_sets.get(keygen_id)
        sets = await asyncio.to_thread(signing_sets, asked, self._dlc)
        if checked is None or not sets <= checked:
            keys = await self._keymeld.keygen_status(keygen_id, self._credentials)
            await asyncio.to_thread(check_keys, keygen_id, keys, self._credentials, self._dlc, sets)
            self._checked_sets[keygen_id] = sets | (checked or frozenset())

    def _remember(self, keygen_id: str) -> None:
        if keygen_id not in self._secrets.approved_keygens:
            self._secrets.approved_keygens = (*self._secrets.approved_keygens, keygen_id)


def _held(state: SigningState) -> tuple[BatchItem, ...]:
    try:
        return state.batch_items()
    except ProtocolError as error:
        raise KeymeldBadResponse(str(error)) from None


def _asked(listed: ListedSession) -> list[AskedItem]:
    try:
        return [
            AskedItem(
                item.key,
                SigningItem(
                    item.batch_item_id,
                    bytes.fromhex(item.sighash),
                    item.subset_id or None,
                    adaptor_point=bytes.fromhex(item.adaptor_point) or None,
                ),
            )
            for item in listed.items
        ]
    except ValueError:
        raise MalformedAnswer("signing_sessions: an item's sighash or adaptor point is not hex") from None


async def check_alive(rest: RestClient, competition_id: str) -> None:
    """
    Raises:
        SigningEnded: the competition ended; says why.
    """
    try:
        competition = await rest.competition(competition_id)
    except ApiError as error:
        raise SigningEnded(str(error)) from error
    if competition.state in _ENDED:
        raise SigningEnded(competition.failure_reason or f"the competition is {competition.state.name}")
