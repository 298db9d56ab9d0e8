"""A player in one competition: pays, enters, and signs only what it has rebuilt and compared itself.

Trust is placed in nobody: the invoice is checked against the ticket, the escrow against the player's own key,
the contract against the agreed terms, every signature against the contract. What does not hold raises
`CheckFailed` before anything is paid or signed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.dlc import ContractSignatures, TicketedDLC, funding_script_pubkey
from coordinator.contract.errors import ContractError
from coordinator.contract.escrow import Escrow, release_transaction, sign_release
from coordinator.contract.funding import EscrowBatch, EscrowCoin, TicketEscrow
from coordinator.contract.parameters import (
    ContractParameters,
    EventLock,
    competition_parameters,
)
from coordinator.contract.parameters import Player as ContractPlayer
from coordinator.contract.psbt import transaction_of_psbt
from coordinator.contract.rankings import rankings
from coordinator.contract.secp import public_key
from coordinator.contract.tx import Transaction
from coordinator.contract.utxo import OutPoint
from coordinator_client import bolt11
from coordinator_client.errors import ContractMismatch, InvoiceMismatch
from coordinator_client.keymeld import KeymeldClient, register_player
from coordinator_client.nostr import NostrKey, nip44
from coordinator_client.proto.coordinator.v1 import (
    Competition,
    CompetitionTerms,
    EnclaveCiphertext,
    Entry,
    ExpectedObservation,
    GetContractResponse,
    KeymeldRegistration,
    Payout,
    Ticket,
)
from coordinator_client.rest import RestClient

# dlctix counts fee rates in sats per 1000 weight units: 1 sat/vB = 250.
_SATS_PER_KWU_OF_ONE_SAT_PER_VB = 250


@dataclass(slots=True)
class PlayerSecrets:
    """What a player must keep for one competition. The caller stores it, before the player goes on.

    With these, the public contract and the oracle's attestation a winner gets the prize without the
    coordinator (docs/recovery.md). Its repr shows no secret.
    """

    nostr_secret: bytes = field(repr=False)
    ephemeral_secret: bytes = field(repr=False)
    payout_preimage: bytes = field(repr=False)
    ticket_id: str = ""
    entry_id: str = ""

    @classmethod
    def generate(cls, key: NostrKey | None = None) -> PlayerSecrets:
        """Fresh secrets, for the given or a new Nostr key."""
        key = key or NostrKey.generate()
        return cls(key.secret_bytes, secrets.token_bytes(32), secrets.token_bytes(32))

    def to_json(self) -> dict[str, str]:
        """Plain values for storage: keep them as safe as money."""
        return {
            "nostr_secret": self.nostr_secret.hex(),
            "ephemeral_secret": self.ephemeral_secret.hex(),
            "payout_preimage": self.payout_preimage.hex(),
            "ticket_id": self.ticket_id,
            "entry_id": self.entry_id,
        }

    @classmethod
    def from_json(cls, plain: dict[str, str]) -> PlayerSecrets:
        """What `to_json` gave."""
        return cls(
            bytes.fromhex(plain["nostr_secret"]),
            bytes.fromhex(plain["ephemeral_secret"]),
            bytes.fromhex(plain["payout_preimage"]),
            plain["ticket_id"],
            plain["entry_id"],
        )


class Player:
    """The player's side of one competition over REST and keymeld. Use as an async context manager."""

    def __init__(self, base_url: str, competition_id: str, player_secrets: PlayerSecrets) -> None:
        self.competition_id = competition_id
        self.secrets = player_secrets
        self.key = NostrKey(player_secrets.nostr_secret)
        self.rest = RestClient(base_url, self.key)

    async def __aenter__(self) -> Player:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rest.aclose()

    # Entering

    async def request_ticket(self) -> Ticket:
        """Reserves a place. The invoice was checked: paying it can only buy this ticket.

        Raises:
            InvoiceMismatch: the invoice is for something else.
        """
        competition = await self.rest.competition(self.competition_id)
        ticket = await self.rest.request_ticket(self.competition_id)
        check_ticket_invoice(ticket, competition.terms.entry_fee_sats)
        self.secrets.ticket_id = ticket.id
        return ticket

    async def ticket(self) -> Ticket:
        """The player's ticket as it is now."""
        return await self.rest.ticket(self.competition_id, self.secrets.ticket_id)

    async def enter(self, observations: Sequence[ExpectedObservation]) -> Entry:
        """Submits the entry on the paid ticket; the ephemeral key leaves only encrypted."""
        coordinator = await self.rest.coordinator()
        competition = await self.rest.competition(self.competition_id)
        async with KeymeldClient(coordinator.keymeld_url) as keymeld:
            enclaves = await keymeld.enclaves()
        registration = register_player(
            self.secrets.ticket_id,
            self.secrets.ephemeral_secret,
            keygen_session_ids=competition.keygen_session_ids,
            enclaves=enclaves,
        )
        entry = await self.rest.create_entry(
            Entry(
                competition_id=self.competition_id,
                ticket_id=self.secrets.ticket_id,
                expected_observations=list(observations),
                ephemeral_pubkey=self.ephemeral_pubkey.hex(),
                payout_hash=self.payout_hash.hex(),
                ephemeral_private_key_encrypted=self._backup(self.secrets.ephemeral_secret),
                payout_preimage_encrypted=self._backup(self.secrets.payout_preimage),
                keymeld=KeymeldRegistration(
                    auth_pubkeys={name: key.hex() for name, key in registration.auth_pubkeys.items()},
                    ciphertexts=[
                        EnclaveCiphertext(
                            enclave_id=enclave,
                            key_epoch=registration.enclave_key_epochs[enclave],
                            encrypted_private_key=ciphertext,
                        )
                        for enclave, ciphertext in registration.encrypted_private_keys.items()
                    ],
                ),
            )
        )
        self.secrets.entry_id = entry.id
        return entry

    # Signing

    async def sign_release(self) -> Entry:
        """Signs the release of the player's escrow: valid only long after the player could claw back.

        Raises:
            ContractMismatch: the escrow is not the player's, or not of the whole ticket price.
        """
        competition = await self.rest.competition(self.competition_id)
        contract = await self.rest.contract(self.competition_id)
        coin = self._own_escrow(competition, contract)
        release = release_transaction(
            coin.outpoint,
            coin.value_sats,
            coin.escrow,
            bytes.fromhex(contract.release_script_pubkey_hex),
            contract.release_fee_rate_sats_per_vb,
        )
        signature = sign_release(self.secrets.ephemeral_secret, release, coin.value_sats, coin.escrow)
        return await self.rest.submit_signatures(
            self.secrets.entry_id, escrow_release_signature=signature.hex()
        )

    async def sign_funding(self) -> Entry:
        """Signs the escrow over to the contract, after the contract and all its signatures were checked.

        Raises:
            ContractMismatch: names the first thing that is not as agreed.
        """
        competition = await self.rest.competition(self.competition_id)
        contract = await self.rest.contract(self.competition_id, include_signatures=True)
        coin = self._own_escrow(competition, contract)
        dlc = self.check_contract(competition, contract)
        transaction, index = _funding_input(contract, dlc, coin)
        signature = coin.escrow.sign(
            self.secrets.ephemeral_secret, coin.escrow.sighash(transaction, index, coin.value_sats)
        )
        return await self.rest.submit_signatures(self.secrets.entry_id, funding_signature=signature.hex())

    def check_contract(self, competition: Competition, contract: GetContractResponse) -> TicketedDLC:
        """The contract, rebuilt from the agreed terms and compared; every signature verified.

        Raises:
            ContractMismatch: names the first difference.
        """
        parameters = _parse_parameters(contract)
        expected = self._expected_parameters(competition, contract, parameters)
        _compare(parameters, expected)
        txid, _, vout = contract.funding_outpoint.partition(":")
        try:
            dlc = TicketedDLC(expected, (txid, int(vout)))
            signatures = ContractSignatures()
            for item in contract.signatures:
                (signatures.split if ":" in item.key else signatures.outcome)[item.key] = item.signature
            dlc.verify_signatures(signatures)
        except (ContractError, ValueError) as error:
            raise ContractMismatch("signatures", str(error)) from error
        return dlc

    # Being paid

    async def payout(self) -> Payout:
        """The player's prize.

        Raises:
            ApiError: nothing won, or no outcome yet.
        """
        return await self.rest.payout(self.competition_id, self.secrets.entry_id)

    async def request_payout(self, payment_request: str) -> Payout:
        """Asks for the prize. The invoice must have the payout hash as its payment hash: being paid reveals
        the payout preimage, nothing is given in advance.

        Raises:
            InvoiceMismatch: it has another payment hash.
        """
        if bolt11.decode(payment_request).payment_hash != self.payout_hash:
            raise InvoiceMismatch("the payout's invoice must use the payout preimage")
        return await self.rest.request_payout(self.competition_id, self.secrets.entry_id, payment_request)

    async def hand_over_key(self) -> Payout:
        """Gives the ephemeral key of a paid entry, so that the coordinator can close with one transaction."""
        return await self.rest.hand_over_key(
            self.competition_id, self.secrets.entry_id, self.secrets.ephemeral_secret.hex()
        )

    # Its own facts

    @property
    def ephemeral_pubkey(self) -> bytes:
        """33 bytes."""
        return public_key(self.secrets.ephemeral_secret)

    @property
    def payout_hash(self) -> bytes:
        """32 bytes."""
        return hashlib.sha256(self.secrets.payout_preimage).digest()

    def _backup(self, secret: bytes) -> str:
        return nip44.encrypt(self.key, self.key.public_hex, secret.hex())

    def _own_escrow(self, competition: Competition, contract: GetContractResponse) -> EscrowCoin:
        """The player's escrow, found where the coordinator says it is and checked."""
        mine = next((p for p in contract.players if p.entry_id == self.secrets.entry_id), None)
        if mine is None:
            raise ContractMismatch("players", "this entry is not among them")
        for name, ours, theirs in (
            ("ephemeral_pubkey", self.ephemeral_pubkey.hex(), mine.ephemeral_pubkey),
            ("payout_hash", self.payout_hash.hex(), mine.payout_hash),
            ("ticket_id", self.secrets.ticket_id, mine.ticket_id),
        ):
            if ours != theirs:
                raise ContractMismatch(f"players[{mine.player_index}].{name}", f"is {theirs}, not {ours}")
        fee_sats = competition.terms.entry_fee_sats
        try:
            escrow = Escrow(
                bytes.fromhex(mine.escrow_coordinator_pubkey),
                self.ephemeral_pubkey,
                bytes.fromhex(mine.ticket_hash),
            )
            return EscrowBatch.find(
                bytes.fromhex(contract.escrow_transaction_hex),
                mine.escrow_vout,
                TicketEscrow(mine.ticket_id, escrow, fee_sats),
            )
        except (ContractError, ValueError) as error:
            raise ContractMismatch("escrow", str(error)) from error

    def _expected_parameters(
        self, competition: Competition, contract: GetContractResponse, parameters: ContractParameters
    ) -> ContractParameters:
        """What the parameters must be, by the terms and the announced players."""
        terms = competition.terms
        players = [
            ContractPlayer(
                bytes.fromhex(player.ephemeral_pubkey),
                bytes.fromhex(player.ticket_hash),
                bytes.fromhex(player.payout_hash),
            )
            for player in contract.players
        ]
        try:
            return competition_parameters(
                bytes.fromhex(competition.market_maker_pubkey),
                players,
                terms.number_of_places_win,
                EventLock(parameters.event.locking_points, parameters.event.expiry),
                terms.fee_rate_sats_per_vb * _SATS_PER_KWU_OF_ONE_SAT_PER_VB,
                funding_value_sats(terms, len(players)),
                terms.relative_locktime_blocks,
            )
        except (ContractError, ValueError) as error:
            raise ContractMismatch("parameters", str(error)) from error


def check_ticket_invoice(ticket: Ticket, entry_fee_sats: int) -> None:
    """Whether paying the ticket's invoice buys this ticket and nothing else.

    Raises:
        InvoiceMismatch: says what differs.
    """
    try:
        invoice = bolt11.decode(ticket.payment_request)
    except bolt11.Bolt11Error as error:
        raise InvoiceMismatch(f"the invoice cannot be read: {error}") from error
    if invoice.payment_hash.hex() != ticket.ticket_hash:
        raise InvoiceMismatch("the invoice's payment hash is not the ticket hash")
    if invoice.amount_msats != entry_fee_sats * 1000:
        raise InvoiceMismatch(f"the invoice does not ask for the entry fee of {entry_fee_sats} sats")


def check_announcement(
    parameters: ContractParameters, oracle_pubkey: bytes, nonce_point: bytes, places: int
) -> None:
    """Whether the locking points are the oracle's, from key and nonce that the player fetched itself.

    Args:
        parameters: of the contract.
        oracle_pubkey: 32 bytes x-only.
        nonce_point: 33 bytes.
        places: how many places win.

    Raises:
        ContractMismatch: names the first locking point that differs.
    """
    messages = map(outcome_message, rankings(len(parameters.players), places))
    expected = locking_points(oracle_pubkey, nonce_point, messages)
    for index, (ours, theirs) in enumerate(zip(expected, parameters.event.locking_points, strict=False)):
        if ours != theirs:
            raise ContractMismatch(f"event.locking_points[{index}]", "is not the oracle's")
    if len(expected) != len(parameters.event.locking_points):
        raise ContractMismatch("event.locking_points", f"there must be {len(expected)}")


def funding_value_sats(terms: CompetitionTerms, entries: int) -> int:
    """What the contract must hold with this many entries (proto CompetitionTerms)."""
    share = terms.entry_fee_sats - terms.entry_fee_sats * terms.coordinator_fee_percent // 100
    return terms.total_competition_pool_sats or entries * share


def _parse_parameters(contract: GetContractResponse) -> ContractParameters:
    try:
        return ContractParameters.from_json(contract.parameters_json)
    except ContractError as error:
        raise ContractMismatch("parameters_json", str(error)) from error


def _compare(parameters: ContractParameters, expected: ContractParameters) -> None:
    ours: dict[str, Any] = expected.to_dict()
    theirs: dict[str, Any] = parameters.to_dict()
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ContractMismatch(name, "is not what the terms and the players give")


def _funding_input(
    contract: GetContractResponse, dlc: TicketedDLC, coin: EscrowCoin
) -> tuple[Transaction, int]:
    """The funding transaction and the index of the player's input in it.

    Raises:
        ContractMismatch: it does not pay the contract, or does not spend the player's escrow.
    """
    try:
        transaction = transaction_of_psbt(contract.funding_psbt)
    except (ContractError, ValueError) as error:
        raise ContractMismatch("funding_psbt", str(error)) from error
    if OutPoint(transaction.txid, 0) != dlc.funding_outpoint:
        raise ContractMismatch("funding_psbt", "is another transaction than the contract spends")
    output = transaction.outputs[0]
    if output.script_pubkey != funding_script_pubkey(dlc.parameters):
        raise ContractMismatch("funding_psbt", "does not pay to the contract's key")
    if output.value_sats != dlc.parameters.funding_value:
        raise ContractMismatch("funding_psbt", "does not pay the contract's whole value")
    for index, spending in enumerate(transaction.inputs):
        if spending.outpoint == coin.outpoint:
            return transaction, index
    raise ContractMismatch("funding_psbt", "does not spend this player's escrow")
