"""awaiting_attestation and attested: which of the signed transactions becomes valid."""

from __future__ import annotations

import asyncio

from coordinator.contract.errors import ContractError
from coordinator.contract.payouts import EXPIRY, outcome_index, outcome_key
from coordinator.contract.rankings import ranking_at
from coordinator.contract.spends import expiry_transaction, outcome_transaction
from coordinator.domain.competition import Attestation
from coordinator.domain.states import Attested, AwaitingAttestation
from coordinator.runner.onchain import Seen, broadcast_of, decide, watch
from coordinator.runner.oracle_watch import look_at_event, note_rejected
from coordinator.runner.step import AT_ONCE, LATER, Context, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.contract_store import load_outcome
from coordinator.store.events import NewEvent


class AttestationError(Exception):
    """What the oracle published cannot be used; the step is tried again, until the expiry at the latest."""


async def await_attestation(context: Context, record: CompetitionRecord, status: AwaitingAttestation) -> Next:
    """Looks for the attestation; past the expiry the expiry transaction is recorded instead."""
    core = context.core
    seen = await watch(core, record, status)
    if seen is not Seen.CONFIRMED:
        return AT_ONCE if seen is Seen.MOVED else LATER
    now = core.clock.now()
    event = await core.oracle.get_event(record.id)
    await look_at_event(core, record.id, status, event)
    problem = ""
    if event.attestation is not None:
        dlc = await context.contracts.of(status)
        try:
            outcome = dlc.outcome_for_attestation(event.attestation)
        except ContractError:
            outcome = None
        if outcome is not None:
            index = outcome_index(outcome)
            entries = len(status.roster)
            winners = ranking_at(entries, status.facts.terms.number_of_places_win, index)
            attestation = Attestation(event.attestation, index, winners, now)
            told = [
                NewEvent(
                    "oracle.attested",
                    {"outcome": outcome, "winners": list(winners), "attestation": event.attestation.hex()},
                )
            ]
            await core.competitions.advance(record, status.attested(attestation), now, told)
            return AT_ONCE
        await note_rejected(core, record.id, event.attestation)
        problem = f"the attestation {event.attestation.hex()} opens no locking point of the contract"
    expiry = status.announcement.expiry
    if expiry is not None and (await core.chain.tip()).median_time_at > expiry:  # BIP113
        return await _expire(context, record, status)
    if problem:
        raise AttestationError(problem)
    return LATER


async def _expire(context: Context, record: CompetitionRecord, status: AwaitingAttestation) -> Next:
    core = context.core
    dlc = await context.contracts.of(status)
    signatures = await load_outcome(record.id, dlc, EXPIRY)
    assert signatures is not None
    transaction = await asyncio.to_thread(expiry_transaction, dlc, signatures.outcome[EXPIRY])
    await decide(core, record, status.expired(broadcast_of(core, transaction)), "expiry", transaction)
    return AT_ONCE


async def broadcast_outcome(context: Context, record: CompetitionRecord, status: Attested) -> Next:
    """Completes the outcome's adaptor signature with the attestation and records the transaction."""
    core = context.core
    seen = await watch(core, record, status)
    if seen is not Seen.CONFIRMED:
        return AT_ONCE if seen is Seen.MOVED else LATER
    dlc = await context.contracts.of(status)
    outcome = outcome_key(status.attestation.outcome)
    signatures = await load_outcome(record.id, dlc, outcome)
    assert signatures is not None
    transaction = await asyncio.to_thread(
        outcome_transaction, dlc, outcome, signatures.outcome[outcome], status.attestation.secret
    )
    following = status.outcome_broadcasted(broadcast_of(core, transaction))
    await decide(core, record, following, "outcome", transaction)
    return AT_ONCE
