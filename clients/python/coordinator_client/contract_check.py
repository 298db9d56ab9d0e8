"""What a player compares before it pays or signs. Pure: answers in, `CheckFailed` out, no network.

A large field's contract takes seconds to rebuild and verify: call `check_contract` off the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, InvalidSignature
from coordinator.contract.escrow import LEAST_RELEASE_BLOCKS, Escrow, covered_blocks
from coordinator.contract.funding import EscrowBatch, EscrowCoin, TicketEscrow
from coordinator.contract.network import Network
from coordinator.contract.parameters import ContractParameters, EventLock, Player, competition_parameters
from coordinator.contract.psbt import transaction_of_psbt
from coordinator.contract.rankings import rankings
from coordinator.contract.tx import Transaction
from coordinator.contract.utxo import OutPoint
from coordinator_client import bolt11
from coordinator_client.agreement import Agreement
from coordinator_client.errors import ContractMismatch, InvoiceMismatch, UnsafeHtlc
from coordinator_client.oracle import Announcement
from coordinator_client.proto.coordinator.v1 import ContractPlayer, GetContractResponse

# A payer's node adds so many blocks to what an invoice asks for (LND's `BlockPadding`).
PAYER_PADDING_BLOCKS = 3
# A ticket is to be paid within an hour of its request; the most blocks to expect in that.
LATE_PAYMENT_SECONDS = 3600
LATE_PAYMENT_BLOCKS = 12
# What the network aims at.
BLOCK_SECONDS = 600

# dlctix counts fee rates in sats per 1000 weight units: 1 sat/vB = 250.
SATS_PER_KWU_OF_ONE_SAT_PER_VB = 250

_INVOICE_PREFIXES = {
    Network.MAINNET: "bc",
    Network.TESTNET: "tb",
    Network.SIGNET: "tbs",
    Network.REGTEST: "bcrt",
}


def check_invoice(payment_request: str, agreement: Agreement) -> bolt11.PaymentRequest:
    """Whether paying the ticket's invoice can only buy this ticket, at its price.

    Raises:
        InvoiceMismatch: says what differs.
    """
    try:
        invoice = bolt11.decode(payment_request)
    except bolt11.Bolt11Error as error:
        raise InvoiceMismatch(f"the invoice cannot be read: {error}") from error
    fee_sats = agreement.terms.entry_fee_sats
    if invoice.payment_hash != agreement.ticket_hash:
        raise InvoiceMismatch("the invoice's payment hash is not the ticket hash")
    if invoice.amount_msats != fee_sats * 1000:
        raise InvoiceMismatch(f"the invoice does not ask for the entry fee of {fee_sats} sats")
    if invoice.network != _INVOICE_PREFIXES[agreement.network]:
        raise InvoiceMismatch(f"the invoice is not for {agreement.network}")
    return invoice


def fewest_blocks(seconds: int) -> int:
    """Fewest blocks to expect in a time: as many as on average, less three standard deviations."""
    mean = max(0, seconds) / BLOCK_SECONDS
    return max(0, math.floor(mean - 3 * math.sqrt(mean)))


def settleable_blocks(agreement: Agreement, height: int | None, now: int) -> int | None:
    """For how many blocks from now the ticket's payment may be settled at most, as far as its last hop goes.
    Over several hops the player's own HTLC is longer: only its wallet knows that.

    Args:
        agreement: made at the ticket.
        height: the tip's, by the player's own explorer. None: unknown; the blocks since then are those that
            come in the time that has passed, on a slow chain.
        now: unix seconds by the player's own clock.

    Returns:
        None where the agreement does not say.
    """
    if agreement.htlc_blocks is None:
        return None
    if height is not None and agreement.height is not None:
        passed = height - agreement.height - LATE_PAYMENT_BLOCKS
    elif agreement.requested_at is not None:
        passed = fewest_blocks(now - agreement.requested_at - LATE_PAYMENT_SECONDS)
    else:
        passed = 0
    return max(0, agreement.htlc_blocks - max(0, passed))


def shown_release_blocks(contract: GetContractResponse) -> int:
    """The relative lock of the escrows' releases. A coordinator of before there was a choice does not say it.

    Raises:
        ContractMismatch: no release may have it. Longer ones than needed are no harm to the player.
    """
    blocks = contract.release_blocks or LEAST_RELEASE_BLOCKS
    try:
        covered_blocks(blocks)
    except ContractError as error:
        raise ContractMismatch("release_blocks", str(error)) from error
    return blocks


def check_htlc(blocks_left: int, release_blocks: int) -> None:
    """Whether the payment runs out in time for the escrow to protect the player, from now on
    (docs/escrow.md).

    Args:
        blocks_left: until the player's own HTLC expires.
        release_blocks: the relative lock of the escrow's release.

    Raises:
        UnsafeHtlc: it could still be settled when fewer blocks than the clawback's are left before the
            release.
    """
    covered = covered_blocks(release_blocks)
    if blocks_left > covered:
        raise UnsafeHtlc(
            f"the payment can be settled for {blocks_left} blocks more; the escrow, released after"
            f" {release_blocks}, protects it for {covered}"
        )


def own_player(contract: GetContractResponse, agreement: Agreement, entry: Player) -> ContractPlayer:
    """The player's own line in the contract, with nothing in it changed.

    Args:
        contract: as the coordinator shows it.
        agreement: made at the ticket.
        entry: the player's own key and hashes.

    Raises:
        ContractMismatch: it is missing or differs.
    """
    mine = next((p for p in contract.players if p.ticket_id == agreement.ticket_id), None)
    if mine is None:
        raise ContractMismatch("players", f"ticket {agreement.ticket_id} is not among them")
    for name, ours, theirs in (
        ("ephemeral_pubkey", entry.pubkey, mine.ephemeral_pubkey),
        ("ticket_hash", entry.ticket_hash, mine.ticket_hash),
        ("payout_hash", entry.payout_hash, mine.payout_hash),
    ):
        if ours.hex() != theirs:
            raise ContractMismatch(f"players[{mine.player_index}].{name}", f"is {theirs}, not {ours.hex()}")
    return mine


def own_escrow(contract: GetContractResponse, agreement: Agreement, entry: Player) -> EscrowCoin:
    """The player's escrow in the escrow transaction: rebuilt from its own key and hash, with the whole price.

    Raises:
        ContractMismatch: it is not there.
    """
    mine = own_player(contract, agreement, entry)
    try:
        escrow = Escrow(bytes.fromhex(mine.escrow_coordinator_pubkey), entry.pubkey, entry.ticket_hash)
        return EscrowBatch.find(
            bytes.fromhex(contract.escrow_transaction_hex),
            mine.escrow_vout,
            TicketEscrow(agreement.ticket_id, escrow, agreement.terms.entry_fee_sats),
        )
    except (ContractError, ValueError) as error:
        raise ContractMismatch("escrow_transaction_hex", str(error)) from error


def check_contract(
    contract: GetContractResponse,
    agreement: Agreement,
    entry: Player,
    announcement: Announcement | None,
    predicted: frozenset[tuple[str, str, str]] = frozenset(),
) -> TicketedDLC:
    """The contract, rebuilt from what was agreed and compared; every signature verified.

    Args:
        contract: as the coordinator shows it, with signatures.
        agreement, entry, announcement, predicted: as for `rebuild_contract`.

    Raises:
        ContractMismatch: names the first difference.
    """
    dlc = rebuild_contract(contract, agreement, entry, announcement, predicted)
    signatures = ContractSignatures()
    for item in contract.signatures:
        (signatures.split if ":" in item.key else signatures.outcome)[item.key] = item.signature
    try:
        dlc.verify_signatures(signatures)
    except InvalidSignature as error:
        raise ContractMismatch(f"signatures[{error.key}]", str(error)) from error
    return dlc


def rebuild_contract(
    contract: GetContractResponse,
    agreement: Agreement,
    entry: Player,
    announcement: Announcement | None,
    predicted: frozenset[tuple[str, str, str]] = frozenset(),
) -> TicketedDLC:
    """The contract, rebuilt from what was agreed and compared; its signatures are not looked at.

    Args:
        contract: as the coordinator shows it.
        agreement: made at the ticket.
        entry: the player's own key and hashes.
        announcement: of the oracle itself. None: the locking points are taken on the coordinator's word, who
            could then be the one to decide.
        predicted: the player's predictions, compared with the oracle's; empty: not compared.

    Raises:
        ContractMismatch: names the first difference.
    """
    own_player(contract, agreement, entry)
    _check_players(contract.players, agreement)
    try:
        shown = ContractParameters.from_json(contract.parameters_json)
    except ContractError as error:
        raise ContractMismatch("parameters_json", str(error)) from error
    event = shown.event
    if announcement is not None:
        event = _announced(announcement, contract.players, agreement, predicted)
    # Without an expiry a silent oracle would lock the money up; an early one would make the ranking void.
    if event.expiry is None or event.expiry < agreement.terms.signing_at.timestamp():
        raise ContractMismatch("event.expiry", "must come after the oracle's signing date")
    expected = _expected(contract.players, agreement, event)
    for what, ours, theirs in _compared(expected, shown):
        if ours != theirs:
            raise ContractMismatch(what, f"must be {_shown(ours)}, is {_shown(theirs)}")
    try:
        outpoint = OutPoint.parse(contract.funding_outpoint)
        return TicketedDLC(expected, (outpoint.txid, outpoint.vout))
    except ContractError as error:
        raise ContractMismatch("funding_outpoint", str(error)) from error


def check_funding(
    contract: GetContractResponse, dlc: TicketedDLC, coin: EscrowCoin
) -> tuple[Transaction, int]:
    """The funding transaction and the index of the player's input in it.

    Raises:
        ContractMismatch: it does not pay the contract, or does not spend the player's escrow.
    """
    try:
        transaction = transaction_of_psbt(contract.funding_psbt)
    except ContractError as error:
        raise ContractMismatch("funding_psbt", str(error)) from error
    if OutPoint(transaction.txid, 0) != dlc.funding_outpoint:
        raise ContractMismatch("funding_psbt", "is another transaction than the contract spends")
    if not transaction.outputs or transaction.outputs[0] != dlc.funding_output():
        raise ContractMismatch("funding_psbt", "does not pay the contract's whole value to its key")
    if transaction.lock_time != 0:
        raise ContractMismatch("funding_psbt", "cannot be mined before its lock time")
    for index, spending in enumerate(transaction.inputs):
        if spending.outpoint == coin.outpoint:
            return transaction, index
    raise ContractMismatch("funding_psbt", "does not spend this player's escrow")


def _check_players(players: Sequence[ContractPlayer], agreement: Agreement) -> None:
    """Their number, and their order: the index of an entry is its place when ticket ids are sorted."""
    terms = agreement.terms
    if not terms.min_entries <= len(players) <= terms.total_allowed_entries:
        raise ContractMismatch(
            "players",
            f"must be {terms.min_entries} to {terms.total_allowed_entries}, are {len(players)}",
        )
    ticket_ids = [player.ticket_id for player in players]
    if sorted(set(ticket_ids)) != ticket_ids:
        raise ContractMismatch("players", "are not in the order of their ticket ids")
    for index, player in enumerate(players):
        if player.player_index != index:
            raise ContractMismatch(f"players[{index}].player_index", f"is {player.player_index}")


def _announced(
    announcement: Announcement,
    players: Sequence[ContractPlayer],
    agreement: Agreement,
    predicted: frozenset[tuple[str, str, str]],
) -> EventLock:
    """Locking points and expiry as the oracle's own announcement gives them, for these very entries."""
    if set(announcement.entries) != {player.ticket_id for player in players}:
        raise ContractMismatch("players", "the oracle has other entries than the contract")
    there = announcement.entries[agreement.ticket_id]
    if predicted and there is not None and there != predicted:
        raise ContractMismatch("expected_observations", "the oracle has other predictions of this entry")
    try:
        messages = map(outcome_message, rankings(len(players), agreement.terms.number_of_places_win))
        points = locking_points(announcement.oracle_pubkey, announcement.nonce_point, messages)
    except ContractError as error:
        raise ContractMismatch("event", str(error)) from error
    return EventLock(points, announcement.expiry)


def _expected(
    players: Sequence[ContractPlayer], agreement: Agreement, event: EventLock
) -> ContractParameters:
    terms = agreement.terms
    try:
        return competition_parameters(
            agreement.market_maker_pubkey,
            [
                Player(
                    bytes.fromhex(player.ephemeral_pubkey),
                    bytes.fromhex(player.ticket_hash),
                    bytes.fromhex(player.payout_hash),
                )
                for player in players
            ],
            terms.number_of_places_win,
            event,
            terms.fee_rate_sats_per_vb * SATS_PER_KWU_OF_ONE_SAT_PER_VB,
            agreement.funding_value_sats(len(players)),
            terms.relative_locktime_blocks,
        )
    except (ContractError, ValueError) as error:
        raise ContractMismatch("parameters_json", str(error)) from error


def _compared(ours: ContractParameters, theirs: ContractParameters) -> Iterator[tuple[str, object, object]]:
    """(name, as it must be, as it is) of everything in the parameters, in order."""
    yield "market_maker.pubkey", ours.market_maker, theirs.market_maker
    yield "players", len(ours.players), len(theirs.players)
    for index, (mine, other) in enumerate(zip(ours.players, theirs.players, strict=False)):
        for name in ("pubkey", "ticket_hash", "payout_hash"):
            yield f"players[{index}].{name}", getattr(mine, name), getattr(other, name)
    yield "event.expiry", ours.event.expiry, theirs.event.expiry
    if ours.event.points != theirs.event.points:
        pairs = zip_longest(ours.event.points, theirs.event.points)
        for index, (point, other_point) in enumerate(pairs):
            yield f"event.locking_points[{index}]", point, other_point
    if ours.payouts != theirs.payouts:
        for key in dict.fromkeys([*ours.payouts, *theirs.payouts]):
            yield f"outcome_payouts.{key}", ours.payouts.get(key), theirs.payouts.get(key)
    yield "fee_rate", ours.fee_rate, theirs.fee_rate
    yield "funding_value", ours.funding_value, theirs.funding_value
    delta = "relative_locktime_block_delta"
    yield delta, getattr(ours, delta), getattr(theirs, delta)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
