"""Stored rows and domain records as messages of `coordinator.v1`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.contract.payouts import outcome_key
from coordinator.domain.competition import RosterPlayer
from coordinator.domain.endings import ending_words
from coordinator.domain.payouts import outcome_key_of
from coordinator.domain.states import (
    Attested,
    AwaitingAttestation,
    AwaitingEscrow,
    AwaitingKeygen,
    AwaitingSigning,
    Cancelled,
    CollectingEntries,
    CompetitionStatus,
    Completed,
    ContractCreated,
    Created,
    DeltaBroadcasted,
    EntriesSubmitted,
    EscrowConfirmed,
    EventCreated,
    ExpiryBroadcasted,
    Failed,
    FundingBroadcasted,
    FundingConfirmed,
    FundingReady,
    FundingSettled,
    OutcomeBroadcasted,
)
from coordinator.domain.terms import Terms
from coordinator.operations.entries import ExpectedObservation
from coordinator.operations.leaderboard import ScoredPrediction
from coordinator.operations.listing import Counts
from coordinator.ports.oracle import Comparison
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.events import StoredEvent
from coordinator.store.models import EntryRow, PayoutRow, TicketRow, UserRow
from coordinator.v1 import competition_pb2, entry_pb2, event_pb2, payout_pb2, ticket_pb2, user_pb2
from coordinator_client.nostr import hex_to_npub

FUNDED: Final = (
    FundingBroadcasted,
    FundingConfirmed,
    FundingSettled,
    AwaitingAttestation,
    Attested,
    OutcomeBroadcasted,
    ExpiryBroadcasted,
    DeltaBroadcasted,
    Completed,
)
ANNOUNCED: Final = (
    EventCreated,
    EntriesSubmitted,
    ContractCreated,
    AwaitingKeygen,
    AwaitingSigning,
    FundingReady,
    *FUNDED,
)
ESCROWED: Final = (EscrowConfirmed, *ANNOUNCED)
SIGNED: Final = (FundingReady, *FUNDED)
OPEN: Final = (Created, CollectingEntries)


def timestamp(at: int | None) -> Timestamp | None:
    """Unix seconds as a message; None, and 0, which stands for never, as an absent one."""
    return Timestamp(seconds=at) if at else None


def state_of(name: str) -> competition_pb2.CompetitionState.ValueType:
    """The enum value of a state's name."""
    return competition_pb2.CompetitionState.Value(f"COMPETITION_STATE_{name.upper()}")


def state_name(value: competition_pb2.CompetitionState.ValueType) -> str:
    """The name of a state's enum value."""
    return competition_pb2.CompetitionState.Name(value).removeprefix("COMPETITION_STATE_").lower()


def terms_from(message: competition_pb2.CompetitionTerms) -> Terms:
    """Terms as asked for, unchecked. Fractions of a second are dropped."""
    return Terms(
        name=message.name,
        entry_fee_sats=message.entry_fee_sats,
        coordinator_fee_percent=message.coordinator_fee_percent,
        total_competition_pool_sats=message.total_competition_pool_sats,
        total_allowed_entries=message.total_allowed_entries,
        min_entries=message.min_entries,
        number_of_places_win=message.number_of_places_win,
        number_of_values_per_entry=message.number_of_values_per_entry,
        locations=tuple(message.locations),
        scoring_fields=tuple(message.scoring_fields),
        start_observation_at=message.start_observation_at.seconds,
        end_observation_at=message.end_observation_at.seconds,
        signing_at=message.signing_at.seconds,
        relative_locktime_blocks=message.relative_locktime_blocks,
        fee_rate_sats_per_vb=message.fee_rate_sats_per_vb,
        require_signing_approval=message.require_signing_approval,
    )


def terms_message(terms: Terms) -> competition_pb2.CompetitionTerms:
    """Terms as stored."""
    return competition_pb2.CompetitionTerms(
        name=terms.name,
        entry_fee_sats=terms.entry_fee_sats,
        coordinator_fee_percent=terms.coordinator_fee_percent,
        total_competition_pool_sats=terms.total_competition_pool_sats,
        total_allowed_entries=terms.total_allowed_entries,
        min_entries=terms.min_entries,
        number_of_places_win=terms.number_of_places_win,
        number_of_values_per_entry=terms.number_of_values_per_entry,
        locations=terms.locations,
        scoring_fields=terms.scoring_fields,
        start_observation_at=timestamp(terms.start_observation_at),
        end_observation_at=timestamp(terms.end_observation_at),
        signing_at=timestamp(terms.signing_at),
        relative_locktime_blocks=terms.relative_locktime_blocks,
        fee_rate_sats_per_vb=terms.fee_rate_sats_per_vb,
        require_signing_approval=terms.require_signing_approval,
    )


def competition_message(record: CompetitionRecord, counts: Counts) -> competition_pb2.Competition:
    """A competition as everybody sees it."""
    status = record.status
    facts = status.facts
    percent = record.progress_done * 100 // record.progress_total if record.progress_total else 0
    return competition_pb2.Competition(
        id=record.id,
        terms=terms_message(facts.terms),
        state=state_of(status.name),
        created_at=timestamp(facts.created_at),
        state_changed_at=timestamp(record.state_changed_at),
        sequence=record.sequence,
        reserved_tickets=counts.reserved_tickets,
        paid_tickets=counts.paid_tickets,
        entries=counts.all_entries if isinstance(status, Failed | Cancelled) else counts.live_entries,
        paused=record.paused,
        keygen_session_ids=facts.keygen_session_ids,
        market_maker_pubkey=facts.market_maker_pubkey.hex(),
        oracle_pubkey=status.announcement.oracle_pubkey.hex() if isinstance(status, ANNOUNCED) else "",
        transactions=_transactions(status),
        outcome=_outcome(status),
        winners=winners_of(status),
        failure_reason=_failure_reason(status),
        progress_percent=percent,
    )


def roster_of(status: CompetitionStatus) -> tuple[RosterPlayer, ...]:
    """The players in index order; empty while entries are collected."""
    return () if isinstance(status, OPEN) else status.roster


def winners_of(status: CompetitionStatus) -> tuple[int, ...]:
    """Player indices in order of place; all players after a refund or expiry; empty before an outcome."""
    match status:
        case Attested() | OutcomeBroadcasted():
            return status.attestation.winners
        case ExpiryBroadcasted():
            return tuple(range(len(status.roster)))
        case DeltaBroadcasted() | Completed():
            if status.attestation is None:
                return tuple(range(len(status.roster)))
            return status.attestation.winners
        case _:
            return ()


def attestation_of(status: CompetitionStatus) -> bytes:
    """The attestation's 32 bytes, empty without one."""
    match status:
        case Attested() | OutcomeBroadcasted():
            return status.attestation.secret
        case DeltaBroadcasted() | Completed():
            return status.attestation.secret if status.attestation else b""
        case _:
            return b""


def _outcome(status: CompetitionStatus) -> str:
    if isinstance(status, Attested):
        return outcome_key(status.attestation.outcome)
    return outcome_key_of(status) or ""


def _failure_reason(status: CompetitionStatus) -> str:
    if not isinstance(status, Failed | Cancelled):
        return ""
    return ending_words(status)


def _transactions(status: CompetitionStatus) -> competition_pb2.CompetitionTransactions:
    message = competition_pb2.CompetitionTransactions()
    match status:
        case AwaitingEscrow() if status.broadcast is not None:
            message.escrow_txid = status.broadcast.txid
        case Failed() | Cancelled():
            if status.escrow is not None and status.escrow_broadcast:
                message.escrow_txid = status.escrow.txid
            message.release_txids.extend(status.release_txids)
    if isinstance(status, ESCROWED):
        message.escrow_txid = status.escrow_broadcast.txid
    if isinstance(status, FUNDED):
        message.funding_txid = status.funding_broadcast.txid
    if isinstance(status, OutcomeBroadcasted | ExpiryBroadcasted | DeltaBroadcasted | Completed):
        message.outcome_txid = status.outcome_broadcast.txid
    if isinstance(status, DeltaBroadcasted | Completed):
        if status.split_broadcast is not None:
            message.split_txid = status.split_broadcast.txid
        message.closing_txids.extend(closing.txid for closing in status.closings)
    return message


def ticket_message(ticket: TicketRow, entry_id: str, session_ids: Sequence[str]) -> ticket_pb2.Ticket:
    """A ticket as its owner sees it."""
    return ticket_pb2.Ticket(
        id=ticket.id,
        competition_id=ticket.competition_id,
        state=ticket_pb2.TicketState.Value(f"TICKET_STATE_{ticket.state.upper()}"),
        ticket_hash=ticket.ticket_hash,
        payment_request=ticket.payment_request,
        amount_sats=ticket.amount_sats,
        reserved_until_at=timestamp(ticket.reserved_until_at),
        created_at=timestamp(ticket.created_at),
        entry_id=entry_id,
        keygen_session_ids=session_ids,
    )


def observations_from(
    messages: Sequence[entry_pb2.ExpectedObservation],
) -> tuple[ExpectedObservation, ...]:
    """Predictions as asked for, unchecked: an unknown enum value becomes a name that no check accepts."""
    return tuple(
        ExpectedObservation(message.station, message.metric, _prediction_name(message.prediction))
        for message in messages
    )


_PREDICTIONS = {
    Comparison.OVER: entry_pb2.PREDICTION_OVER,
    Comparison.EQUAL: entry_pb2.PREDICTION_PAR,
    Comparison.UNDER: entry_pb2.PREDICTION_UNDER,
}


def scored_prediction(scored: ScoredPrediction) -> entry_pb2.ScoredPrediction:
    """A prediction and its points."""
    return entry_pb2.ScoredPrediction(
        station=scored.choice.source_id,
        metric=scored.choice.metric,
        prediction=_PREDICTIONS[scored.choice.prediction],
        forecast=scored.reference,
        observed=scored.observed,
        points=scored.points,
    )


def entry_message(entry: EntryRow, status: CompetitionStatus, viewer_pubkey: str) -> entry_pb2.Entry:
    """An entry as the viewer may see it: predictions are the owner's secret while others still enter."""
    own = entry.owner_pubkey == viewer_pubkey
    shown = entry.expected_observations if own or not isinstance(status, OPEN) else []
    player_index = next((i for i, player in enumerate(roster_of(status)) if player.entry_id == entry.id), -1)
    return entry_pb2.Entry(
        id=entry.id,
        competition_id=entry.competition_id,
        ticket_id=entry.ticket_id,
        owner_pubkey=entry.owner_pubkey,
        expected_observations=[
            entry_pb2.ExpectedObservation(
                station=o["station"],
                metric=o["metric"],
                prediction=entry_pb2.Prediction.Value(f"PREDICTION_{o['prediction'].upper()}"),
            )
            for o in shown
        ],
        ephemeral_pubkey=entry.ephemeral_pubkey,
        payout_hash=entry.payout_hash,
        ephemeral_private_key_encrypted=entry.ephemeral_private_key_encrypted if own else "",
        payout_preimage_encrypted=entry.payout_preimage_encrypted if own else "",
        created_at=timestamp(entry.created_at),
        player_index=player_index,
        escrow_release_signed=bool(entry.release_signature),
        funding_signed=bool(entry.funding_signature),
    )


def payout_message(payout: PayoutRow) -> payout_pb2.Payout:
    """A payout as its owner sees it."""
    return payout_pb2.Payout(
        entry_id=payout.entry_id,
        competition_id=payout.competition_id,
        state=payout_pb2.PayoutState.Value(f"PAYOUT_STATE_{payout.state.upper()}"),
        amount_sats=payout.amount_sats,
        payment_request=payout.payment_request,
        destination=payout.destination,
        payment_hash=payout.payment_hash,
        failure_reason=payout.failure_reason,
        requested_at=timestamp(payout.requested_at),
        paid_at=timestamp(payout.paid_at),
        ephemeral_key_received=payout.ephemeral_key_encrypted is not None,
        player_index=payout.player_index,
        attempts=payout.attempts,
    )


def user_message(user: UserRow, *, is_admin: bool) -> user_pb2.User:
    """A user."""
    return user_pb2.User(
        pubkey=user.pubkey,
        npub=hex_to_npub(user.pubkey),
        is_admin=is_admin,
        created_at=timestamp(user.created_at),
    )


def event_message(event: StoredEvent) -> event_pb2.Event:
    """A stored event."""
    message = event_pb2.Event(
        sequence=event.sequence,
        competition_id=event.competition_id,
        kind=event.kind,
        occurred_at=timestamp(event.occurred_at),
        state=state_of(event.state_name),
    )
    message.data.update(dict(event.data))
    return message


def _prediction_name(value: entry_pb2.Prediction.ValueType) -> str:
    try:
        return entry_pb2.Prediction.Name(value).removeprefix("PREDICTION_").lower()
    except ValueError:
        return str(int(value))
