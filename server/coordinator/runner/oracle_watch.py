"""Keeping an eye on the oracle: it may not take back its announcement, attest early, or attest twice."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Final

from coordinator.core import Core
from coordinator.domain.announcement import check_same_attestation, check_unchanged, verify_announcement
from coordinator.domain.states import (
    Attested,
    AwaitingAttestation,
    CompetitionStatus,
    Completed,
    DeltaBroadcasted,
    FundingReady,
    OutcomeBroadcasted,
)
from coordinator.ports.oracle import AnnouncementMismatch, Equivocation, OracleError, OracleEvent
from coordinator.runner.step import GiveUp
from coordinator.store.alerts import AlertKind, attestations_seen, note_alert

log = logging.getLogger(__name__)

ATTESTED: Final = (Attested, OutcomeBroadcasted, DeltaBroadcasted, Completed)
# An attested event is looked at again once in this many poll intervals.
POLLS: Final = 15


async def check_before_funding(core: Core, competition_id: str, status: FundingReady) -> None:
    """The last look before money is locked: what was announced still stands, and nothing is attested.

    Raises:
        GiveUp: the oracle cannot be relied on.
        OracleUnavailable: it does not answer; try again.
    """
    event = await core.oracle.get_event(competition_id)
    accepted = status.announcement
    entries, places = len(status.roster), status.facts.terms.number_of_places_win
    try:
        check_unchanged(event, accepted.oracle_pubkey, accepted.nonce_point, accepted.expiry)
        await asyncio.to_thread(verify_announcement, event, accepted.oracle_pubkey, entries, places)
    except AnnouncementMismatch as error:
        words = f"the oracle changed its announcement: {error}"
        await _note(core, competition_id, AlertKind.ANNOUNCEMENT_CHANGED, words, _announced(event))
        raise GiveUp(words) from error
    if event.attestation is not None:
        words = "the oracle attested before anything was at stake: whoever saw it knows the outcome"
        evidence = {"attestation": event.attestation.hex()}
        await _note(core, competition_id, AlertKind.ATTESTED_EARLY, words, evidence)
        raise GiveUp(words)


async def look_at_event(
    core: Core, competition_id: str, status: AwaitingAttestation, event: OracleEvent
) -> None:
    """Notes what the oracle takes back while its attestation is waited for. The contract stands on what was
    accepted: nothing changes for it.
    """
    accepted = status.announcement
    try:
        check_unchanged(event, accepted.oracle_pubkey, accepted.nonce_point, accepted.expiry)
    except AnnouncementMismatch as error:
        words = f"the oracle changed its announcement after the contract was funded: {error}"
        await _note(core, competition_id, AlertKind.ANNOUNCEMENT_CHANGED, words, _announced(event))
    if event.attestation is not None:
        for seen in await attestations_seen(competition_id):
            await _compare(core, competition_id, bytes.fromhex(seen), event.attestation)


async def note_rejected(core: Core, competition_id: str, attestation: bytes) -> None:
    """Records an attestation that opens no locking point."""
    words = (
        "the oracle's attestation opens no locking point of the contract. It is not used; should no right one"
        " come, everybody is refunded after the expiry"
    )
    evidence = {"attestation": attestation.hex()}
    await _note(core, competition_id, AlertKind.ATTESTATION_REJECTED, words, evidence)


async def note_secret_nonce(core: Core, competition_id: str, event: OracleEvent) -> None:
    """Records that the oracle tells the secret of the event's nonce to anyone."""
    words = " ".join(core.oracle.warnings) or "the oracle publishes the secret nonces of its events"
    evidence = {"nonce_point": event.nonce_point.hex()}
    await _note(core, competition_id, AlertKind.NONCE_PUBLISHED, words, evidence)


class OracleWatcher:
    """Looks at attested events again from time to time: a second attestation would be recorded."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next_look: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self, competition_id: str, status: CompetitionStatus) -> None:
        """Compares the accepted attestation with the one published now, when it is time to. Never in the way:
        whatever the oracle answers, and however late, the contract goes on.
        """
        if not isinstance(status, ATTESTED) or status.attestation is None:
            return
        now = asyncio.get_running_loop().time()
        if now < self._next_look.get(competition_id, 0.0):
            return
        if competition_id in self._tasks:
            return
        self._next_look[competition_id] = now + POLLS * self._core.settings.poll_interval_seconds
        accepted = status.attestation.secret
        self._tasks[competition_id] = asyncio.create_task(self._compare(competition_id, accepted))

    async def stop(self) -> None:
        """Ends the looks that are under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compare(self, competition_id: str, accepted: bytes) -> None:
        try:
            event = await self._core.oracle.get_event(competition_id)
            if event.attestation is not None:
                await _compare(self._core, competition_id, accepted, event.attestation)
        except OracleError as error:
            log.info("competition %s: its oracle does not answer: %s", competition_id, error)
        except Exception:
            log.exception("competition %s: cannot compare its attestations", competition_id)
        finally:
            self._tasks.pop(competition_id, None)


async def _compare(core: Core, competition_id: str, first: bytes, now: bytes) -> None:
    try:
        check_same_attestation(first, now)
    except Equivocation as error:
        words = f"{error}. From both its private key can be computed: nothing that it signs can be trusted"
        evidence = {"first": first.hex(), "second": now.hex()}
        await _note(core, competition_id, AlertKind.EQUIVOCATED, words, evidence)


def _announced(event: OracleEvent) -> dict[str, str]:
    points = hashlib.sha256(b"".join(event.locking_points)).hexdigest()
    return {
        "oracle_pubkey": event.oracle_pubkey.hex(),
        "nonce_point": event.nonce_point.hex(),
        "locking_points_sha256": points,
        "expiry": str(event.expiry),
    }


async def _note(
    core: Core, competition_id: str, kind: AlertKind, words: str, evidence: dict[str, str]
) -> None:
    await note_alert(core.competitions, competition_id, kind, words, evidence, core.clock.now())
