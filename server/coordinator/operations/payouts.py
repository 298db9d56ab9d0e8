"""Payouts: a winner's request to be paid over Lightning, and the handing over of its key."""

from __future__ import annotations

import hashlib

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F

from coordinator.contract.secp import public_key
from coordinator.contracts import ContractCache
from coordinator.core import Core
from coordinator.domain.errors import (
    InvalidInput,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from coordinator.domain.ids import check_uuid7
from coordinator.domain.lnurl import Destination, InvalidDestination, parse_destination
from coordinator.domain.payouts import PAYABLE, outcome_key_of, payment_blocks_left
from coordinator.domain.states import Completed
from coordinator.operations.checks import FieldChecks
from coordinator.operations.entries import own_entry
from coordinator.ports.lightning import DecodedInvoice, InvalidPaymentRequest, LightningError
from coordinator.ports.payees import PayeeRefused, PayeeUnavailable
from coordinator.store.competitions import CompetitionRecord, record_of
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EntryRow, PaymentAttemptRow, PayoutRow
from coordinator.store.tickets import PayoutState

# An invoice must stay payable at least this long.
MIN_INVOICE_SECONDS = 30


async def get_payout(
    core: Core, contracts: ContractCache, competition_id: str, entry_id: str, owner_pubkey: str
) -> PayoutRow:
    """The caller's payout: as recorded, or as available.

    Raises:
        InvalidInput, NotFound, PermissionDenied: as the names say.
        PreconditionFailed: the entry has not won anything (yet).
    """
    entry, record = await _own(core, competition_id, entry_id, owner_pubkey)
    stored = await PayoutRow.get_or_none(entry_id=entry.id)
    if stored is not None:
        return stored
    index, amount_sats = await _prize(contracts, record, entry)
    return PayoutRow(
        entry_id=entry.id,
        competition_id=record.id,
        player_index=index,
        state=PayoutState.ON_CHAIN if isinstance(record.status, Completed) else PayoutState.AVAILABLE,
        amount_sats=amount_sats,
        requested_at=0,
    )


async def request_payout(
    core: Core,
    contracts: ContractCache,
    competition_id: str,
    entry_id: str,
    payment_request: str,
    payout_preimage: str,
    ephemeral_private_key: str,
    owner_pubkey: str,
) -> PayoutRow:
    """Records how a winner wants to be paid; the runner pays. The same invoice again returns the same payout,
    and so does the same destination unless its last payment has failed: then it is asked for a new invoice.

    Args:
        payment_request: a BOLT11 invoice, a Lightning address or an LNURL-pay code.

    Raises:
        InvalidInput: names each field that is wrong.
        NotFound, PermissionDenied: as the names say.
        PreconditionFailed: nothing won, too late, or an earlier payment is not finished.
        ServiceUnavailable: the Lightning node or the destination does not answer now.
    """
    entry, record = await _own(core, competition_id, entry_id, owner_pubkey)
    destination = _destination(payment_request)
    stored = await PayoutRow.get_or_none(entry_id=entry.id)
    if stored is not None and _is_repeated(stored, payment_request, destination):
        return stored
    _check_free(stored)
    index, amount_sats = await _prize(contracts, record, entry)
    _check_payable(record)
    if destination is not None:
        # Wrong fields are told before anybody is asked for an invoice.
        checks = FieldChecks()
        _check_secrets(checks, entry, None, payout_preimage, ephemeral_private_key)
        checks.finish()
        payment_request = await _ask(core, destination, amount_sats)
    invoice = await _decode(core, payment_request)
    preimage, ephemeral = _check_request(
        core, entry, invoice, amount_sats, payout_preimage, ephemeral_private_key
    )
    await _check_time_left(core, record, invoice)
    now = core.clock.now()
    payment_hash = invoice.payment_hash.hex()
    values: dict[str, object] = {
        "competition_id": record.id,
        "player_index": index,
        "amount_sats": amount_sats,
        "state": PayoutState.REQUESTED,
        "destination": destination.text if destination else "",
        "payment_request": payment_request,
        "payment_hash": payment_hash,
        "failure_reason": "",
        "requested_at": now,
    }
    if preimage:
        values["payout_preimage_encrypted"] = core.box.seal(f"payout-preimage:{entry.id}", preimage)
    if ephemeral:
        values["ephemeral_key_encrypted"] = core.box.seal(f"ephemeral-key:{entry.id}", ephemeral)
    try:
        async with core.competitions.transaction():
            await _claim_turn(record, entry)
            await PaymentAttemptRow.create(
                payment_hash=payment_hash,
                entry_id=entry.id,
                payment_request=payment_request,
                amount_sats=amount_sats,
                state=PayoutState.REQUESTED,
                created_at=now,
            )
            await PayoutRow.update_or_create(entry_id=entry.id, defaults=values)
            told = NewEvent("payout.requested", {"entry_id": entry.id, "amount_sats": amount_sats})
            await core.competitions.tell(record.id, now, [told])
    except IntegrityError:
        # With a payment hash that was attempted before a late success would look like this attempt's.
        raise InvalidInput.of(
            "payment_request", "its payment hash was used before; make a new invoice"
        ) from None
    core.wake(record.id)
    return await PayoutRow.get(entry_id=entry.id)


async def hand_over_key(
    core: Core, competition_id: str, entry_id: str, ephemeral_private_key: str, owner_pubkey: str
) -> PayoutRow:
    """Takes a paid winner's ephemeral private key. Repeating it is harmless.

    Raises:
        InvalidInput: it is not the key of this entry.
        NotFound, PermissionDenied: as the names say.
        PreconditionFailed: the payout has not succeeded.
    """
    entry, record = await _own(core, competition_id, entry_id, owner_pubkey)
    checks = FieldChecks()
    secret = _checked_key(checks, entry, ephemeral_private_key)
    checks.finish()
    payout = await PayoutRow.get_or_none(entry_id=entry.id)
    if payout is None or payout.state != PayoutState.PAID:
        raise PreconditionFailed("hand over the key only after the payout was paid", reason="PAYOUT_NOT_PAID")
    if payout.ephemeral_key_encrypted is None:
        async with core.competitions.transaction():
            payout.ephemeral_key_encrypted = core.box.seal(f"ephemeral-key:{entry.id}", secret)
            await payout.save(update_fields=["ephemeral_key_encrypted"])
            told = NewEvent("payout.key_received", {"entry_id": entry.id})
            await core.competitions.tell(record.id, core.clock.now(), [told])
        core.wake(record.id)
    return payout


async def _own(
    core: Core, competition_id: str, entry_id: str, owner_pubkey: str
) -> tuple[EntryRow, CompetitionRecord]:
    check_uuid7("competition_id", competition_id)
    entry = await own_entry(entry_id, owner_pubkey)
    if entry.competition_id != competition_id:
        raise NotFound(f"there is no entry {entry_id} in this competition", reason="ENTRY_NOT_FOUND")
    return entry, await core.competitions.load(competition_id)


async def _prize(contracts: ContractCache, record: CompetitionRecord, entry: EntryRow) -> tuple[int, int]:
    """Player index and sats of the entry's prize."""
    outcome = outcome_key_of(record.status)
    if outcome is None:
        raise PreconditionFailed(
            f"nothing is paid out yet: the competition is {record.status.name}", reason="NO_OUTCOME"
        )
    roster = contracts.status_of(record).roster
    index = next((i for i, player in enumerate(roster) if player.entry_id == entry.id), None)
    dlc = await contracts.get(record)
    amount_sats = dlc.payouts(outcome).get(index) if index is not None else None
    if index is None or amount_sats is None:
        raise PreconditionFailed("this entry won nothing", reason="NOT_A_WINNER")
    return index, amount_sats


def _destination(payment_request: str) -> Destination | None:
    try:
        return parse_destination(payment_request)
    except InvalidDestination as error:
        raise InvalidInput.of("payment_request", str(error)) from None


def _is_repeated(stored: PayoutRow, payment_request: str, destination: Destination | None) -> bool:
    """Whether the payout is this request's already."""
    if destination is None:
        return bool(stored.payment_request == payment_request)
    return bool(stored.destination == destination.text and stored.state != PayoutState.FAILED)


def _check_free(stored: PayoutRow | None) -> None:
    """Only a payment that failed for good makes room for another one."""
    if stored is not None and stored.state != PayoutState.FAILED:
        raise PreconditionFailed(
            f"the payout is {stored.state}; another invoice is taken only after it failed",
            reason="PAYOUT_IN_PROGRESS",
        )


def _check_payable(record: CompetitionRecord) -> None:
    if not isinstance(record.status, PAYABLE):
        raise PreconditionFailed("it is too late: the prize is on chain", reason="PAYOUT_CLOSED")


async def _claim_turn(record: CompetitionRecord, entry: EntryRow) -> None:
    """Inside of the transaction: what was checked before still holds, and nobody else decides meanwhile.

    Raising the version makes a step of the runner that read the payouts before this one start anew: it must
    not send the prize on chain as well.
    """
    row = await CompetitionRow.filter(id=record.id).select_for_update().get()
    _check_payable(record_of(row))
    _check_free(await PayoutRow.get_or_none(entry_id=entry.id))
    await CompetitionRow.filter(id=record.id).update(version=F("version") + 1)


async def _ask(core: Core, destination: Destination, amount_sats: int) -> str:
    """An invoice of the destination's."""
    try:
        return await core.payees.invoice(destination, amount_sats * 1000)
    except PayeeUnavailable as error:
        raise ServiceUnavailable(str(error), reason="PAYEE_UNAVAILABLE") from error
    except PayeeRefused as error:
        raise InvalidInput.of("payment_request", str(error)) from error


async def _decode(core: Core, payment_request: str) -> DecodedInvoice:
    try:
        return await core.lightning.decode(payment_request)
    except InvalidPaymentRequest as error:
        raise InvalidInput.of("payment_request", f"is no invoice that can be paid: {error}") from error
    except LightningError as error:
        raise ServiceUnavailable(
            "the Lightning node does not answer", reason="LIGHTNING_UNAVAILABLE"
        ) from error


def _check_request(
    core: Core,
    entry: EntryRow,
    invoice: DecodedInvoice,
    amount_sats: int,
    payout_preimage: str,
    ephemeral_private_key: str,
) -> tuple[bytes, bytes]:
    """Checks the fields against invoice and entry; returns preimage and key where they were given."""
    checks = FieldChecks()
    checks.require(
        invoice.amount_msats == amount_sats * 1000,
        "payment_request",
        f"must ask for exactly {amount_sats} sats",
    )
    checks.require(
        invoice.expires_at >= core.clock.now() + MIN_INVOICE_SECONDS,
        "payment_request",
        f"is expired, or expires within {MIN_INVOICE_SECONDS} seconds",
    )
    secrets = _check_secrets(checks, entry, invoice.payment_hash, payout_preimage, ephemeral_private_key)
    checks.finish()
    return secrets


def _check_secrets(
    checks: FieldChecks,
    entry: EntryRow,
    payment_hash: bytes | None,
    payout_preimage: str,
    ephemeral_private_key: str,
) -> tuple[bytes, bytes]:
    """Payout preimage and ephemeral key, where they were given. `payment_hash` is the invoice's; None: of an
    invoice that is still to be made by somebody who does not know the payout preimage.
    """
    preimage = b""
    if payout_preimage:
        preimage = checks.hex_bytes("payout_preimage", payout_preimage, 32)
        checks.require(
            hashlib.sha256(preimage).hexdigest() == entry.payout_hash,
            "payout_preimage",
            "is not the preimage of the payout hash",
        )
    elif payment_hash is None:
        checks.require(False, "payout_preimage", "must be given where an address makes the invoice")
    elif payment_hash.hex() != entry.payout_hash:
        checks.require(
            False,
            "payment_request",
            "its payment hash must be the entry's payout hash, or payout_preimage must be given",
        )
    ephemeral = b""
    if ephemeral_private_key:
        ephemeral = _checked_key(checks, entry, ephemeral_private_key)
    return preimage, ephemeral


def _checked_key(checks: FieldChecks, entry: EntryRow, ephemeral_private_key: str) -> bytes:
    secret = checks.hex_bytes("ephemeral_private_key", ephemeral_private_key, 32)
    if secret:
        try:
            matches = public_key(secret).hex() == entry.ephemeral_pubkey
        except ValueError:
            matches = False
        checks.require(matches, "ephemeral_private_key", "is not the key of this entry")
    return secret


async def _check_time_left(core: Core, record: CompetitionRecord, invoice: DecodedInvoice) -> None:
    """A payment must be over before the winner can take the prize on chain as well."""
    status = record.status
    assert isinstance(status, PAYABLE)
    left = payment_blocks_left(status, (await core.chain.tip()).height)
    if invoice.min_final_cltv_blocks > left:
        raise PreconditionFailed(
            f"the payment could still be open when the prize can be taken on chain ({left} blocks);"
            " claim the prize on chain",
            reason="PAYOUT_CLOSED",
        )
