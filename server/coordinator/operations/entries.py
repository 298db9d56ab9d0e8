"""Entries: taking a player's predictions and keys on a paid ticket, and its signatures later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.contract.errors import ContractError
from coordinator.contract.escrow import verify_release_signature, verify_signature
from coordinator.contract.tx import Transaction
from coordinator.core import Core
from coordinator.domain.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from coordinator.domain.escrow import escrow_coin, release_of
from coordinator.domain.ids import check_uuid7, new_uuid7
from coordinator.domain.states import AwaitingEscrow, Created, FundingReady
from coordinator.domain.terms import Terms
from coordinator.operations.checks import FieldChecks
from coordinator.operations.tickets import check_open, reconcile_reserved
from coordinator.ports.oracle import Comparison, ObservationChoice
from coordinator.store.codec import to_plain
from coordinator.store.competitions import CompetitionRecord, record_of
from coordinator.store.events import NewEvent
from coordinator.store.models import CompetitionRow, EntryRow, TicketRow
from coordinator.store.tickets import TicketState

COMPARISONS = {"over": Comparison.OVER, "par": Comparison.EQUAL, "under": Comparison.UNDER}
PREDICTIONS = tuple(COMPARISONS)
MAX_BACKUP_CHARACTERS = 4096
MAX_ENCLAVES = 64


@dataclass(frozen=True, slots=True)
class ExpectedObservation:
    """One prediction: station, metric, and over, par or under."""

    station: str
    metric: str
    prediction: str


@dataclass(frozen=True, slots=True)
class EnclaveCiphertext:
    """The player's ephemeral private key encrypted to one enclave."""

    enclave_id: str
    key_epoch: int
    encrypted_private_key: str


@dataclass(frozen=True, slots=True)
class KeymeldRegistration:
    """See proto KeymeldRegistration."""

    auth_pubkeys: Mapping[str, str]
    ciphertexts: tuple[EnclaveCiphertext, ...]
    require_signing_approval: bool


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What a player submits; keys and hashes in hex."""

    id: str
    ticket_id: str
    competition_id: str
    expected_observations: tuple[ExpectedObservation, ...]
    ephemeral_pubkey: str
    payout_hash: str
    ephemeral_private_key_encrypted: str
    payout_preimage_encrypted: str
    keymeld: KeymeldRegistration


async def create_entry(core: Core, new: NewEntry, owner_pubkey: str) -> EntryRow:
    """Takes an entry on the caller's paid ticket; the first one starts the collection.

    Raises:
        InvalidInput: names each field that is wrong.
        NotFound: no such ticket.
        PermissionDenied: the ticket is another's.
        PreconditionFailed: unpaid, used, or the competition is closed.
        AlreadyExists: the id is taken by another entry.
    """
    checks = FieldChecks()
    if new.id:
        checks.uuid7("entry.id", new.id)
    if new.competition_id:
        checks.uuid7("entry.competition_id", new.competition_id)
    checks.uuid7("entry.ticket_id", new.ticket_id)
    checks.finish()
    ticket = await TicketRow.get_or_none(id=new.ticket_id)
    if ticket is None or (new.competition_id and ticket.competition_id != new.competition_id):
        raise NotFound(f"there is no ticket {new.ticket_id}", reason="TICKET_NOT_FOUND")
    if ticket.owner_pubkey != owner_pubkey:
        raise PermissionDenied("this ticket belongs to somebody else", reason="NOT_TICKET_OWNER")
    record = await core.competitions.load(ticket.competition_id)
    _check_content(new, record)
    content = _content(new)
    repeated = await _existing(new, content)
    if repeated is not None:
        return repeated
    check_open(core, record)
    if ticket.state == TicketState.RESERVED:
        await reconcile_reserved(core, ticket)
    _check_ticket(ticket)
    entry = await _store(core, record, ticket, new.id or new_uuid7(), content)
    core.wake(record.id)
    return entry


async def update_entry(
    core: Core, entry_id: str, expected_observations: Sequence[ExpectedObservation], owner_pubkey: str
) -> EntryRow:
    """Changes the predictions of the caller's entry while entries are collected.

    Raises:
        InvalidInput: names each field that is wrong.
        NotFound, PermissionDenied, PreconditionFailed: as the names say.
    """
    entry = await own_entry(entry_id, owner_pubkey)
    record = await core.competitions.load(entry.competition_id)
    checks = FieldChecks()
    _check_observations(checks, "expected_observations", expected_observations, record.status.facts.terms)
    checks.finish()
    async with core.competitions.transaction():
        # Locked, so that collection cannot close in between.
        row = await CompetitionRow.filter(id=record.id).select_for_update().get()
        check_open(core, record_of(row))
        entry.expected_observations = _plain_observations(expected_observations)
        await entry.save(update_fields=["expected_observations"])
        event = NewEvent("entry.updated", {"entry_id": entry.id, "ticket_id": entry.ticket_id})
        await core.competitions.tell(record.id, core.clock.now(), [event])
    return entry


async def own_entry(entry_id: str, owner_pubkey: str) -> EntryRow:
    """The caller's entry.

    Raises:
        InvalidInput, NotFound, PermissionDenied: as the names say.
    """
    entry = await find_entry(entry_id)
    if entry.owner_pubkey != owner_pubkey:
        raise PermissionDenied("this entry belongs to somebody else", reason="NOT_ENTRY_OWNER")
    return entry


async def find_entry(entry_id: str) -> EntryRow:
    """An entry.

    Raises:
        InvalidInput, NotFound: as the names say.
    """
    check_uuid7("entry_id", entry_id)
    entry = await EntryRow.get_or_none(id=entry_id)
    if entry is None:
        raise NotFound(f"there is no entry {entry_id}", reason="ENTRY_NOT_FOUND")
    return entry


def observation_choices(entry: EntryRow) -> tuple[ObservationChoice, ...]:
    """An entry's predictions as the oracle counts them."""
    return tuple(
        ObservationChoice(o["station"], o["metric"], COMPARISONS[o["prediction"]])
        for o in entry.expected_observations
    )


async def submit_signatures(
    core: Core,
    entry_id: str,
    escrow_release_signature: str,
    funding_signature: str,
    owner_pubkey: str,
) -> EntryRow:
    """Takes the owner's signatures; each is verified before it is stored, and a stored one is kept.

    Raises:
        InvalidInput: none given, or one does not verify.
        PreconditionFailed: it is not asked for in this state.
        NotFound, PermissionDenied: as the names say.
    """
    entry = await own_entry(entry_id, owner_pubkey)
    record = await core.competitions.load(entry.competition_id)
    if not escrow_release_signature and not funding_signature:
        raise InvalidInput.of("escrow_release_signature", "no signature was given")
    told: list[NewEvent] = []
    if escrow_release_signature and entry.release_signature != escrow_release_signature:
        _verify_release(record, entry, escrow_release_signature)
        entry.release_signature = escrow_release_signature
        told.append(NewEvent("entry.escrow_release_signed", {"entry_id": entry.id}))
    if funding_signature and entry.funding_signature != funding_signature:
        _verify_funding(record, entry, funding_signature)
        entry.funding_signature = funding_signature
        told.append(NewEvent("entry.funding_signed", {"entry_id": entry.id}))
    if told:
        async with core.competitions.transaction():
            await entry.save(update_fields=["release_signature", "funding_signature"])
            await core.competitions.tell(record.id, core.clock.now(), told)
        core.wake(record.id)
    return entry


def _verify_release(record: CompetitionRecord, entry: EntryRow, signature: str) -> None:
    status = record.status
    if not isinstance(status, AwaitingEscrow) or status.escrow is None or status.broadcast is not None:
        raise PreconditionFailed(
            f"the escrow release is not asked for: the competition is {status.name}",
            reason="SIGNATURE_NOT_EXPECTED",
        )
    escrow = status.escrow
    coin = escrow_coin(status.roster, escrow, _player_index(status, entry))
    release = release_of(coin, escrow)

    def is_valid(raw: bytes) -> bool:
        return verify_release_signature(
            coin.escrow.player_pubkey, raw, release, coin.value_sats, coin.escrow, escrow.release_blocks
        )

    _verify("escrow_release_signature", signature, is_valid)


def _verify_funding(record: CompetitionRecord, entry: EntryRow, signature: str) -> None:
    status = record.status
    if not isinstance(status, FundingReady):
        raise PreconditionFailed(
            f"the funding signature is not asked for: the competition is {status.name}",
            reason="SIGNATURE_NOT_EXPECTED",
        )
    index = _player_index(status, entry)
    coin = escrow_coin(status.roster, status.escrow, index)
    unsigned = Transaction.parse(status.funding.unsigned_transaction)
    sighash = coin.escrow.sighash(unsigned, index, coin.value_sats)
    _verify(
        "funding_signature",
        signature,
        lambda raw: verify_signature(coin.escrow.player_pubkey, raw, sighash),
    )


def _verify(field: str, signature: str, is_valid: Callable[[bytes], bool]) -> None:
    try:
        valid = is_valid(bytes.fromhex(signature))
    except (ValueError, ContractError):
        valid = False
    if not valid:
        raise InvalidInput.of(field, "is not this entry's valid signature (DER and SIGHASH_ALL, in hex)")


def _player_index(status: AwaitingEscrow | FundingReady, entry: EntryRow) -> int:
    for index, player in enumerate(status.roster):
        if player.entry_id == entry.id:
            return index
    raise PreconditionFailed("this entry is not in the contract", reason="ENTRY_NOT_IN_CONTRACT")


def _check_content(new: NewEntry, record: CompetitionRecord) -> None:
    facts = record.status.facts
    checks = FieldChecks()
    _check_observations(checks, "entry.expected_observations", new.expected_observations, facts.terms)
    checks.point("entry.ephemeral_pubkey", new.ephemeral_pubkey)
    checks.hex_bytes("entry.payout_hash", new.payout_hash, 32)
    for field, value in (
        ("entry.ephemeral_private_key_encrypted", new.ephemeral_private_key_encrypted),
        ("entry.payout_preimage_encrypted", new.payout_preimage_encrypted),
    ):
        checks.require(
            len(value) <= MAX_BACKUP_CHARACTERS, field, f"has more than {MAX_BACKUP_CHARACTERS:,} characters"
        )
    _check_keymeld(checks, new.keymeld, facts.keygen_session_ids)
    checks.require(
        new.keymeld.require_signing_approval or not facts.terms.require_signing_approval,
        "entry.keymeld.require_signing_approval",
        "must be set: in this competition every player approves what its key signs",
    )
    checks.finish()


def _check_observations(
    checks: FieldChecks, field: str, observations: Sequence[ExpectedObservation], terms: Terms
) -> None:
    wanted = terms.number_of_values_per_entry
    checks.require(
        len(observations) == wanted, field, f"needs exactly {wanted} predictions, has {len(observations)}"
    )
    seen: set[tuple[str, str]] = set()
    for index, observation in enumerate(observations[: wanted + 1]):
        path = f"{field}[{index}]"
        checks.require(
            observation.station in terms.locations, f"{path}.station", "is no location of this competition"
        )
        checks.require(
            observation.metric in terms.scoring_fields,
            f"{path}.metric",
            "is no scoring field of this competition",
        )
        checks.require(
            observation.prediction in PREDICTIONS, f"{path}.prediction", "must be over, par or under"
        )
        what = (observation.station, observation.metric)
        checks.require(what not in seen, path, "predicts the same value a second time")
        seen.add(what)


def _check_keymeld(
    checks: FieldChecks, registration: KeymeldRegistration, session_ids: Sequence[str]
) -> None:
    field = "entry.keymeld"
    for session_id in session_ids:
        auth_pubkey = registration.auth_pubkeys.get(session_id)
        if checks.require(auth_pubkey is not None, f"{field}.auth_pubkeys", f"lacks session {session_id}"):
            checks.point(f"{field}.auth_pubkeys[{session_id}]", auth_pubkey or "")
    strangers = registration.auth_pubkeys.keys() - set(session_ids)
    checks.require(not strangers, f"{field}.auth_pubkeys", "names a session of another competition")
    ciphertexts = registration.ciphertexts
    # Who approves what its key signs may also register it itself: then nobody can leave that wish out.
    least = 0 if registration.require_signing_approval else 1
    checks.require(
        least <= len(ciphertexts) <= MAX_ENCLAVES,
        f"{field}.ciphertexts",
        f"needs {least} to {MAX_ENCLAVES} enclaves",
    )
    checks.require(
        len({c.enclave_id for c in ciphertexts}) == len(ciphertexts),
        f"{field}.ciphertexts",
        "names an enclave twice",
    )
    for index, ciphertext in enumerate(ciphertexts[:MAX_ENCLAVES]):
        path = f"{field}.ciphertexts[{index}]"
        checks.require(
            1 <= len(ciphertext.enclave_id) <= 128, f"{path}.enclave_id", "must have 1 to 128 characters"
        )
        checks.require(ciphertext.key_epoch >= 0, f"{path}.key_epoch", "must not be negative")
        # ECIES: public key (33), nonce (12), ciphertext (32), tag (16).
        text = ciphertext.encrypted_private_key
        checks.require(
            186 <= len(text) <= 1024 and _is_hex(text),
            f"{path}.encrypted_private_key",
            "is no ECIES ciphertext",
        )


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def _content(new: NewEntry) -> dict[str, Any]:
    """The columns that the player decides."""
    return {
        "ticket_id": new.ticket_id,
        "expected_observations": _plain_observations(new.expected_observations),
        "ephemeral_pubkey": new.ephemeral_pubkey,
        "payout_hash": new.payout_hash,
        "ephemeral_private_key_encrypted": new.ephemeral_private_key_encrypted,
        "payout_preimage_encrypted": new.payout_preimage_encrypted,
        "keymeld": {
            "auth_pubkeys": dict(new.keymeld.auth_pubkeys),
            "ciphertexts": to_plain(new.keymeld.ciphertexts),
            "require_signing_approval": new.keymeld.require_signing_approval,
        },
    }


def _plain_observations(observations: Sequence[ExpectedObservation]) -> list[dict[str, str]]:
    return [{"station": o.station, "metric": o.metric, "prediction": o.prediction} for o in observations]


async def _existing(new: NewEntry, content: Mapping[str, Any]) -> EntryRow | None:
    """The stored entry if this is a repetition of its request."""
    stored = await EntryRow.get_or_none(ticket_id=new.ticket_id)
    if stored is not None:
        same = (not new.id or stored.id == new.id) and all(
            getattr(stored, name) == value for name, value in content.items()
        )
        if same:
            return stored
        raise PreconditionFailed("this ticket already has an entry", reason="TICKET_USED")
    if new.id and await EntryRow.exists(id=new.id):
        raise AlreadyExists(f"there is another entry {new.id}", reason="ENTRY_ID_TAKEN")
    return None


def _check_ticket(ticket: TicketRow) -> None:
    match ticket.state:
        case TicketState.PAID:
            return
        case TicketState.RESERVED:
            raise PreconditionFailed("the ticket is not paid", reason="TICKET_NOT_PAID")
        case TicketState.ENTERED | TicketState.SETTLED:
            raise PreconditionFailed("this ticket already has an entry", reason="TICKET_USED")
        case _:
            raise PreconditionFailed(f"the ticket is {ticket.state}", reason="TICKET_CLOSED")


async def _store(
    core: Core, record: CompetitionRecord, ticket: TicketRow, entry_id: str, content: Mapping[str, Any]
) -> EntryRow:
    """Entry, ticket, event and perhaps the state, in one transaction.

    The competition's row is locked first, so that collection cannot close in between.
    """
    now = core.clock.now()
    async with core.competitions.transaction():
        row = await CompetitionRow.filter(id=record.id).select_for_update().get()
        record = record_of(row)
        check_open(core, record)
        used = await TicketRow.filter(id=ticket.id, state=TicketState.PAID).update(state=TicketState.ENTERED)
        if not used:
            await ticket.refresh_from_db()
            _check_ticket(ticket)
            raise PreconditionFailed("the ticket changed in between", reason="TICKET_CLOSED")
        entry = await EntryRow.create(
            id=entry_id,
            competition_id=record.id,
            owner_pubkey=ticket.owner_pubkey,
            created_at=now,
            **content,
        )
        told = [
            NewEvent(
                "entry.submitted",
                {
                    "entry_id": entry.id,
                    "ticket_id": ticket.id,
                    "entries": await EntryRow.filter(competition_id=record.id).count(),
                },
            )
        ]
        if isinstance(record.status, Created):
            await core.competitions.advance(record, record.status.first_entry(), now, told)
        else:
            await core.competitions.tell(record.id, now, told)
    return entry
