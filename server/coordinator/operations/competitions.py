"""Competitions: creating, cancelling, pausing, retrying, inspecting, and scores so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.contract.errors import ContractError
from coordinator.core import Core
from coordinator.domain.competition import Facts
from coordinator.domain.errors import (
    AlreadyExists,
    FieldViolation,
    InvalidInput,
    PreconditionFailed,
)
from coordinator.domain.feasibility import check_feasible, keygen_sessions_needed
from coordinator.domain.htlcs import MAX_HOLD_BLOCKS, hold_blocks, latest_start_at
from coordinator.domain.ids import check_uuid7, new_uuid7
from coordinator.domain.states import CANCELLABLE, CollectingEntries, Created
from coordinator.domain.terms import MAX_FEE_RATE_SATS_PER_VB, Terms
from coordinator.domain.wallet.estimates import estimate_for
from coordinator.operations.tickets import step_limits
from coordinator.ports.chain import ChainError
from coordinator.store.alerts import alerts_of
from coordinator.store.competitions import CompetitionRecord, StaleState, record_of, terms_of
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EventRow, IntentRow

MAX_REASON_CHARACTERS = 500
FEE_RATE_TARGET_BLOCKS = 3
FEE_RATE_HEADROOM = 2


async def create_competition(core: Core, competition_id: str, terms: Terms) -> CompetitionRecord:
    """Announces a competition. The same id with the same terms returns the existing one.

    Raises:
        InvalidInput: names each field that is wrong, also where no contract can be made of the terms.
        AlreadyExists: the id is taken by a competition with other terms.
    """
    if competition_id:
        check_uuid7("id", competition_id)
    settings = core.settings
    row = await CompetitionRow.get_or_none(id=competition_id) if competition_id else None
    fee_rate = terms.fee_rate_sats_per_vb
    if fee_rate == 0:
        # Who asks again gets what was chosen the first time.
        fee_rate = terms_of(row).fee_rate_sats_per_vb if row else await _contract_fee_rate(core)
    terms = terms.with_defaults(
        relative_locktime_blocks=settings.default_relative_locktime_blocks,
        fee_rate_sats_per_vb=fee_rate,
    )
    if row is not None:
        record = record_of(row)
        if record.status.facts.terms == terms:
            return record
        raise AlreadyExists(f"there is another competition {competition_id}", reason="COMPETITION_ID_TAKEN")
    now = core.clock.now()
    terms.validate(now=now)
    _check_hold(core, terms, now)
    competition_id = competition_id or new_uuid7()
    market_maker = core.keys(competition_id).market_maker_pubkey
    try:
        check_feasible(terms, market_maker)
    except ContractError as error:
        raise InvalidInput([FieldViolation("terms", f"no contract can be made of these: {error}")]) from error
    sessions = keygen_sessions_needed(terms, settings.keymeld_max_subsets)
    if sessions > settings.keymeld_max_sessions:
        raise InvalidInput.of(
            "terms.total_allowed_entries",
            f"needs {sessions} keymeld sessions of {settings.keymeld_max_subsets} subsets,"
            f" {settings.keymeld_max_sessions} are allowed",
        )
    facts = Facts(
        competition_id=competition_id,
        terms=terms,
        created_at=now,
        keygen_session_ids=tuple(new_uuid7() for _ in range(sessions)),
        keymeld_coordinator_user_id=new_uuid7(),
        market_maker_pubkey=market_maker,
    )
    record = await core.competitions.insert(
        Created(facts=facts), now, [NewEvent("competition.created", {"name": terms.name})]
    )
    core.wake(competition_id)
    return record


async def _contract_fee_rate(core: Core) -> int:
    """The fee rate of a contract whose terms name none, in sat/vB.

    It is fixed for the contract's whole life, and nothing can pay for its outcome and split transactions
    later (docs/escrow.md): so it is the double of what is asked for now.
    """
    default = core.settings.default_fee_rate_sats_per_vb
    try:
        rates = await core.chain.fee_rates()
    except ChainError:
        return default
    headroom = math.ceil(FEE_RATE_HEADROOM * estimate_for(rates, FEE_RATE_TARGET_BLOCKS, default / 2))
    return min(MAX_FEE_RATE_SATS_PER_VB, max(default, headroom))


def _check_hold(core: Core, terms: Terms, now: int) -> None:
    """A ticket sold now is held until the funding is settled; payers' nodes must lock it that long."""
    limits = step_limits(core.settings)
    needed = hold_blocks(terms.start_observation_at, limits, now)
    if needed > MAX_HOLD_BLOCKS:
        latest = latest_start_at(limits, now)
        days = (latest - now) * 10 // 86_400 / 10
        raise InvalidInput.of(
            "terms.start_observation_at",
            f"a ticket sold now would have to be held for {needed:,} blocks, until the contract is funded and"
            f" settled; payers can lock a payment for {MAX_HOLD_BLOCKS:,}. Start within {days:g} days, at"
            f" {latest} (unix seconds) at the latest",
        )


async def cancel_competition(core: Core, competition_id: str, reason: str) -> CompetitionRecord:
    """Cancels a competition that is not funded; the runner then returns all money. Repeating it is harmless.

    Raises:
        InvalidInput, NotFound: as the names say.
        PreconditionFailed: it is funded, or ended otherwise.
    """
    check_uuid7("competition_id", competition_id)
    if len(reason) > MAX_REASON_CHARACTERS:
        raise InvalidInput.of("reason", f"has more than {MAX_REASON_CHARACTERS} characters")
    record = await core.competitions.load(competition_id)
    if record.status.name == "cancelled":
        return record
    if not isinstance(record.status, CANCELLABLE):
        raise PreconditionFailed(
            f"it cannot be cancelled any more: it is {record.status.name}", reason="NOT_CANCELLABLE"
        )
    words = reason.strip() or "cancelled by the coordinator"
    cancelled = record.status.cancel(words)
    told = [NewEvent("competition.cancelled", {"reason": words})]
    await core.competitions.advance(record, cancelled, core.clock.now(), told)
    core.wake(competition_id)
    return await core.competitions.load(competition_id)


async def pause_competition(core: Core, competition_id: str, paused: bool) -> CompetitionRecord:
    """Stops or restarts the sale of tickets and the taking of entries. Repeating it is harmless.

    Raises:
        InvalidInput, NotFound: as the names say.
        PreconditionFailed: it takes no entries any more, so there is nothing to pause or resume.
    """
    check_uuid7("competition_id", competition_id)
    async with core.competitions.transaction():
        record = await core.competitions.load(competition_id)
        if not isinstance(record.status, Created | CollectingEntries):
            raise PreconditionFailed(
                f"it takes no entries any more: it is {record.status.name}", reason="COMPETITION_CLOSED"
            )
        if record.paused != paused:
            row = CompetitionRow.filter(id=competition_id, version=record.version)
            if not await row.update(paused=paused):
                raise StaleState(competition_id)
            kind = "competition.paused" if paused else "competition.resumed"
            await core.competitions.tell(competition_id, core.clock.now(), [NewEvent(kind)])
    return await core.competitions.load(competition_id)


async def retry_competition(core: Core, competition_id: str) -> CompetitionRecord:
    """Makes the next step due now.

    Raises:
        InvalidInput, NotFound: as the names say.
    """
    check_uuid7("competition_id", competition_id)
    await core.competitions.load(competition_id)
    await CompetitionRow.filter(id=competition_id).update(next_attempt_at=0)
    core.wake(competition_id)
    return await core.competitions.load(competition_id)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an admin sees of a competition."""

    record: CompetitionRecord
    state: dict[str, object]
    history: Sequence[EventRow]
    intents: Sequence[IntentRow]


async def inspect_competition(core: Core, competition_id: str) -> Inspection:
    """The stored state (it holds no secrets) with what is held against the oracle, transitions and intents.

    Raises:
        InvalidInput, NotFound: as the names say.
    """
    check_uuid7("competition_id", competition_id)
    record = await core.competitions.load(competition_id)
    row = await CompetitionRow.get(id=competition_id)
    history = await EventRow.filter(
        competition_id=competition_id, kind__in=("competition.created", "competition.state_changed")
    ).order_by("sequence")
    intents = await IntentRow.filter(competition_id=competition_id).order_by("created_at")
    state = dict(row.state)
    if alerts := await alerts_of(competition_id):
        state["oracle_alerts"] = [
            {
                "kind": alert.kind,
                "message": alert.message,
                "evidence": alert.evidence,
                "noticed_at": alert.noticed_at,
            }
            for alert in alerts
        ]
    return Inspection(record, state, history, intents)
