"""entries_submitted to awaiting_signing: the contract is fixed, its keys aggregated, everything signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from coordinator.contract import rankings
from coordinator.contract.dlc import ContractSignatures, SigningJobs
from coordinator.contract.errors import ContractError
from coordinator.contract.funding import FundingTransaction, Underfunded, funding_base_weight
from coordinator.contract.parameters import ContractParameters
from coordinator.domain.competition import FundingPlan
from coordinator.domain.contracts import build_funding, contract_parameters
from coordinator.domain.ids import derived_uuid7
from coordinator.domain.states import (
    AwaitingKeygen,
    AwaitingSigning,
    ContractCreated,
    EntriesSubmitted,
)
from coordinator.domain.wallet.coins import WalletCoin
from coordinator.domain.wallet.locks import funding_lock
from coordinator.domain.wallet.selection import Need
from coordinator.operations.keymeld import (
    APPROVAL_REQUESTED,
    KEYGEN_PROGRESS,
    SIGNING_PROGRESS,
    keygen_plan,
)
from coordinator.ports.keymeld import (
    KeygenResult,
    KeymeldRefused,
    KeymeldTimeout,
    KeymeldUnavailable,
    SessionAsked,
    SigningProgress,
)
from coordinator.runner.fees import fee_rate
from coordinator.runner.step import AT_ONCE, Context, GiveUp, Next
from coordinator.store.competitions import CompetitionRecord
from coordinator.store.contract_store import pack_verified, save_packed
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EventRow
from coordinator.wallet import to_coin


async def create_contract(context: Context, record: CompetitionRecord, status: EntriesSubmitted) -> Next:
    """Fixes parameters and funding transaction, and locks the coins that top it up."""
    core = context.core
    try:
        outcomes = rankings.count(len(status.roster), status.facts.terms.number_of_places_win)
        parameters = await core.workers.run_sized(
            outcomes, contract_parameters, status.facts, status.roster, status.announcement
        )
    except ContractError as error:
        raise GiveUp(f"no contract can be made: {error}") from error
    async with core.wallet.deciding:
        rate = await fee_rate(core)
        change_script = await core.wallet.new_script()
        funding, coins = await _plan_funding(context, status, parameters, change_script, rate)
        change = funding.change_output
        plan = FundingPlan(
            txid=funding.txid,
            unsigned_transaction=funding.unsigned_transaction,
            funding_value_sats=parameters.funding_value,
            coins=tuple(to_coin(coin) for coin in coins),
            fee_rate_sats_per_vb=rate,
            change_script_pubkey=change_script,
            change_value_sats=change.value_sats if change else 0,
            fee_sats=funding.fee_sats,
        )
        async with core.competitions.transaction():
            await core.competitions.advance(
                record,
                status.contract_created(plan),
                core.clock.now(),
                [
                    NewEvent(
                        "contract.created",
                        {"funding_txid": plan.txid, "funding_value_sats": plan.funding_value_sats},
                    )
                ],
            )
            await core.wallet.lock(coins, funding_lock(record.id))
    return AT_ONCE


async def _plan_funding(
    context: Context,
    status: EntriesSubmitted,
    parameters: ContractParameters,
    change_script: bytes,
    rate: float,
) -> tuple[FundingTransaction, tuple[WalletCoin, ...]]:
    def build(coins: tuple[WalletCoin, ...]) -> FundingTransaction:
        return build_funding(status.facts, status.roster, status.escrow, coins, change_script, rate)

    try:
        try:
            return build(()), ()
        except Underfunded:
            entries = len(status.roster)
            need = Need(
                target_sats=parameters.funding_value - entries * status.escrow.escrow_value_sats,
                base_weight=funding_base_weight(entries),
                inputs=entries,
                outputs=1,
                change_script=change_script,
                fee_rate_sat_vb=rate,
            )
            coins = (await context.core.wallet.select(need)).coins
            return build(coins), coins
    except ContractError as error:
        raise GiveUp(f"the funding transaction cannot be built: {error}") from error


async def start_keygen(context: Context, record: CompetitionRecord, status: ContractCreated) -> Next:
    """Sets the deadline for keymeld."""
    core = context.core
    now = core.clock.now()
    awaiting = status.start_keygen(started_at=now, deadline_at=now + core.settings.keygen_seconds)
    await core.competitions.advance(record, awaiting, now)
    return AT_ONCE


async def await_keygen(context: Context, record: CompetitionRecord, status: AwaitingKeygen) -> Next:
    """Has keymeld aggregate the keys; the adapter compares each with ours."""
    core = context.core
    now = core.clock.now()
    plan = await keygen_plan(core, await context.contracts.of(status), status)
    try:
        result = await core.keymeld.ensure_keygen(plan)
    except (KeymeldRefused, KeymeldTimeout) as error:
        raise GiveUp(f"keymeld could not make the keys: {error}") from error
    except KeymeldUnavailable as error:
        if now > status.deadline_at:
            raise GiveUp(f"keymeld could not be reached in time: {error}") from error
        raise
    if isinstance(result, KeygenResult):
        dlc = await context.contracts.of(status)
        if result.aggregate_key != dlc.aggregate_key(None):
            raise GiveUp("keymeld aggregated other keys than the contract's")
        awaiting = status.keygen_completed(started_at=now, deadline_at=now + core.settings.signing_seconds)
        told = [NewEvent("keymeld.keygen_completed", {"sessions": len(plan.session_ids)})]
        await core.competitions.advance(record, awaiting, now, told)
        return AT_ONCE
    await _tell_progress(
        context,
        record.id,
        KEYGEN_PROGRESS,
        result.sessions_done,
        result.sessions_total,
        {"registered": list(result.registered), "missing": list(result.missing)},
    )
    if now > status.deadline_at:
        raise GiveUp(f"keymeld has not got every player's key in time: missing {_named(result.missing)}")
    return 0.2


async def await_signing(context: Context, record: CompetitionRecord, status: AwaitingSigning) -> Next:
    """Has keymeld sign every outcome and split, verifies each signature again, stores them."""
    core = context.core
    now = core.clock.now()
    if now > status.deadline_at:
        raise GiveUp(f"keymeld did not sign everything in time{await _last_missing(record.id)}")
    dlc = await context.contracts.of(status)
    plan = await keygen_plan(core, dlc, status)
    asks = any(participant.require_signing_approval for participant in plan.participants)

    def signing_session_id(keygen_index: int, batch_index: int, attempt: int) -> str:
        parts = (record.id, str(status.started_at), str(keygen_index), str(batch_index), str(attempt))
        return derived_uuid7(status.started_at, *parts)

    async def on_progress(progress: SigningProgress) -> None:
        await _tell_progress(
            context,
            record.id,
            SIGNING_PROGRESS,
            progress.batches_done,
            progress.batches_total,
            {"approved": list(progress.approved), "missing": list(progress.missing)},
        )

    try:
        signed = await core.keymeld.sign(
            plan,
            SigningJobs(dlc),
            signing_session_id=signing_session_id,
            on_progress=on_progress,
            on_session=await _session_teller(context, record.id) if asks else None,
            timeout_seconds=max(1, status.deadline_at - now),
        )
    except (KeymeldRefused, KeymeldTimeout) as error:
        raise GiveUp(f"keymeld could not sign: {error}") from error
    signatures = ContractSignatures()
    for key, signature in signed.items():
        (signatures.split if ":" in key else signatures.outcome)[key] = signature
    try:
        # The port promises verified signatures; money hangs on it, so the contract verifies them itself.
        packed = await core.workers.run_sized(
            dlc.job_count, pack_verified, dlc, signatures, status.announcement
        )
    except ContractError as error:
        raise GiveUp(f"keymeld returned a wrong signature: {error}") from error
    await _signed(context, record.id, packed, dlc.job_count)
    return AT_ONCE


async def _signed(context: Context, competition_id: str, packed: bytes, signatures: int) -> None:
    core = context.core
    now = core.clock.now()
    async with core.competitions.transaction():
        record = await core.competitions.load(competition_id)
        if not isinstance(record.status, AwaitingSigning):
            return  # cancelled while it was being signed
        await save_packed(competition_id, packed)
        ready = record.status.signed(deadline_at=now + core.settings.player_signing_seconds)
        told = [NewEvent("contract.signed", {"signatures": signatures, "deadline_at": ready.deadline_at})]
        await core.competitions.advance(record, ready, now, told)


async def _tell_progress(
    context: Context, competition_id: str, kind: str, done: int, total: int, data: dict[str, object]
) -> None:
    """Tells the log of progress whenever it says something new."""
    core = context.core
    told = NewEvent(kind, {"done": done, "total": total, **data})
    async with core.competitions.transaction():
        last = await EventRow.filter(competition_id=competition_id, kind=kind).order_by("-sequence").first()
        if last is not None and last.data == told.data:
            return
        await CompetitionRow.filter(id=competition_id).update(progress_done=done, progress_total=total)
        await core.competitions.tell(competition_id, core.clock.now(), [told])


async def _session_teller(context: Context, competition_id: str) -> Callable[[SessionAsked], Awaitable[None]]:
    """Tells the log of each signing session that players are asked to approve, once."""
    core = context.core
    rows = await EventRow.filter(competition_id=competition_id, kind=APPROVAL_REQUESTED)
    told = {row.data["signing_session_id"] for row in rows}

    async def tell(asked: SessionAsked) -> None:
        if asked.signing_session_id in told:
            return
        told.add(asked.signing_session_id)
        data = {
            "signing_session_id": asked.signing_session_id,
            "keygen_session_id": asked.keygen_session_id,
            "keygen": asked.keygen_index,
            "batch": asked.batch_index,
            "attempt": asked.attempt,
            "items": asked.items,
        }
        async with core.competitions.transaction():
            await core.competitions.tell(
                competition_id, core.clock.now(), [NewEvent(APPROVAL_REQUESTED, data)]
            )

    return tell


async def _last_missing(competition_id: str) -> str:
    """Who, by the latest word of the log, has not approved; for the end of a sentence."""
    rows = EventRow.filter(competition_id=competition_id, kind=SIGNING_PROGRESS)
    last = await rows.order_by("-sequence").first()
    missing = last.data.get("missing") if last is not None else None
    return f": not approved by {_named(missing)}" if isinstance(missing, list) and missing else ""


def _named(user_ids: Sequence[str]) -> str:
    """Players in words; a keymeld user id is a ticket id."""
    return ("ticket " if len(user_ids) == 1 else "tickets ") + ", ".join(user_ids)
