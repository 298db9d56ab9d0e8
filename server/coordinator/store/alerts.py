"""What an oracle did that it must not do: the evidence, kept for good, and told in the log once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum

from coordinator.store.competitions import Competitions
from coordinator.store.events import NewEvent
from coordinator.store.models import OracleAlertRow

log = logging.getLogger(__name__)

MOST_SHOWN = 20


class AlertKind(StrEnum):
    """What happened; also the kind of the event that tells of it."""

    EQUIVOCATED = "oracle.equivocated"
    ATTESTATION_REJECTED = "oracle.attestation_rejected"
    ANNOUNCEMENT_CHANGED = "oracle.announcement_changed"
    ATTESTED_EARLY = "oracle.attested_early"
    NONCE_PUBLISHED = "oracle.nonce_published"


async def note_alert(
    competitions: Competitions,
    competition_id: str,
    kind: AlertKind,
    message: str,
    evidence: Mapping[str, str],
    now: int,
) -> bool:
    """Records it, tells the log and the operator. The same again does nothing.

    Args:
        competitions: where events are told.
        competition_id: whose event at the oracle it is about.
        kind: what happened.
        message: in words for a person.
        evidence: what proves it, hex.
        now: unix seconds.

    Returns:
        Whether it is new.
    """
    plain = json.dumps([competition_id, kind, sorted(evidence.items())])
    key = hashlib.sha256(plain.encode()).hexdigest()
    if await OracleAlertRow.exists(key=key):
        return False
    async with competitions.transaction():
        await OracleAlertRow.create(
            key=key,
            competition_id=competition_id,
            kind=kind,
            message=message,
            evidence=dict(evidence),
            noticed_at=now,
        )
        await competitions.tell(competition_id, now, [NewEvent(kind, {"message": message, **evidence})])
    log.error("competition %s: %s", competition_id, message)
    return True


async def attestations_seen(competition_id: str) -> list[str]:
    """Attestations (hex) that were refused because they open no locking point, oldest first."""
    rows = await OracleAlertRow.filter(
        competition_id=competition_id, kind=AlertKind.ATTESTATION_REJECTED
    ).order_by("noticed_at")
    return [row.evidence["attestation"] for row in rows]


async def standing_warnings() -> list[str]:
    """The newest alerts in words, newest first; what an oracle does to every event is said once."""
    rows = await OracleAlertRow.all().order_by("-noticed_at").limit(MOST_SHOWN)
    words = [
        row.message
        if row.kind == AlertKind.NONCE_PUBLISHED
        else f"competition {row.competition_id}: {row.message}"
        for row in rows
    ]
    return list(dict.fromkeys(words))


async def alerts_of(competition_id: str) -> Sequence[OracleAlertRow]:
    """All of a competition, oldest first."""
    return await OracleAlertRow.filter(competition_id=competition_id).order_by("noticed_at")
