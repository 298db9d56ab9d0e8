"""escrow_confirmed and event_created: the oracle commits to the event and takes the entries."""

from __future__ import annotations

from coordinator.domain.announcement import verify_announcement
from coordinator.domain.competition import Announcement
from coordinator.domain.states import EscrowConfirmed, EventCreated
from coordinator.operations.entries import observation_choices
from coordinator.operations.listing import live_entries
from coordinator.ports.oracle import (
    AnnouncementMismatch,
    CreateEvent,
    DataSourceConfig,
    EntrySubmission,
    ObservationWindow,
    OracleRefused,
    OracleUnavailable,
    ScoringConfig,
    Weather,
)
from coordinator.runner.oracle_watch import note_secret_nonce
from coordinator.runner.step import AT_ONCE, Context, GiveUp, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import NewEvent


async def create_event(context: Context, record: CompetitionRecord, status: EscrowConfirmed) -> Next:
    """Has the event announced and recomputes the announcement point by point."""
    core = context.core
    terms = status.facts.terms
    entries = len(status.roster)
    event = CreateEvent(
        id=record.id,
        signing_at=terms.signing_at,
        observation_window=ObservationWindow(terms.start_observation_at, terms.end_observation_at),
        data_sources=tuple(DataSourceConfig(station, Weather(station)) for station in terms.locations),
        metrics=core.oracle.metrics(terms.scoring_fields),
        scoring=ScoringConfig(),
        number_of_places_win=terms.number_of_places_win,
        number_of_values_per_entry=terms.number_of_values_per_entry,
        total_allowed_entries=entries,
    )
    try:
        announced = await core.oracle.create_event(event)
        pubkey = await core.oracle.pubkey()
        await core.workers.run_sized(
            len(announced.locking_points),
            verify_announcement,
            announced,
            pubkey,
            entries,
            terms.number_of_places_win,
        )
    except OracleUnavailable as error:
        _give_up_if_late(context, record, error)
        raise
    except OracleRefused as error:
        raise GiveUp(f"the oracle refuses the event: {error}") from error
    except AnnouncementMismatch as error:
        raise GiveUp(f"the oracle's announcement is wrong: {error}") from error
    if announced.publishes_secret_nonce:
        await note_secret_nonce(core, record.id, announced)
    announcement = Announcement(pubkey, announced.nonce_point, announced.expiry)
    told = [NewEvent("oracle.event_created", {"oracle_pubkey": pubkey.hex(), "expiry_at": announced.expiry})]
    await core.competitions.advance(record, status.event_created(announcement), core.clock.now(), told)
    return AT_ONCE


async def submit_entries(context: Context, record: CompetitionRecord, status: EventCreated) -> Next:
    """Hands the entries over; at the oracle an entry's id is its ticket's."""
    core = context.core
    submissions = [
        EntrySubmission(entry.ticket_id, observation_choices(entry))
        for entry in await live_entries(record.id)
    ]
    try:
        await core.oracle.submit_entries(record.id, submissions)
    except OracleUnavailable as error:
        _give_up_if_late(context, record, error)
        raise
    except OracleRefused as error:
        raise GiveUp(f"the oracle refuses the entries: {error}") from error
    await core.competitions.advance(record, status.entries_submitted(), core.clock.now())
    return AT_ONCE


def _give_up_if_late(context: Context, record: CompetitionRecord, error: OracleUnavailable) -> None:
    """Players' money is held meanwhile: it goes back rather than waiting for an oracle without end."""
    core = context.core
    if core.clock.now() > record.state_changed_at + core.settings.oracle_seconds:
        raise GiveUp(f"the oracle could not be reached in time: {error}") from error
