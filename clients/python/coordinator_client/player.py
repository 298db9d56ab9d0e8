"""A player in one competition: pays, enters, and signs only what it has rebuilt and compared itself.

Trust is placed in nobody: the invoice is checked against the ticket, the escrow against the player's own key,
the contract against the terms as agreed at the ticket and against the oracle's own announcement, every
signature against the contract. What does not hold raises `CheckFailed` before anything is paid or signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import httpx

from coordinator.contract.errors import ContractError
from coordinator.contract.escrow import release_transaction, sign_release
from coordinator.contract.network import Network
from coordinator.contract.parameters import Player as ContractEntry
from coordinator.contract.secp import public_key
from coordinator_client import bolt11
from coordinator_client.agreement import Agreement, PlayerSecrets, observation_set
from coordinator_client.contract_check import (
    PAYER_PADDING_BLOCKS,
    check_contract,
    check_funding,
    check_htlc,
    check_invoice,
    own_escrow,
    rebuild_contract,
    settleable_blocks,
    shown_release_blocks,
)
from coordinator_client.errors import ClientError, ContractMismatch, InvoiceMismatch, MalformedAnswer
from coordinator_client.keymeld import (
    KeymeldClient,
    KeymeldCryptoError,
    SessionCredentials,
    register_player,
)
from coordinator_client.keymeld.approval import (
    Approver,
    SigningApproval,
    check_bypass,
    contract_ready,
)
from coordinator_client.keymeld.joining import register_keys
from coordinator_client.nostr import NostrKey, nip44
from coordinator_client.oracle import Announcement, fetch_announcement
from coordinator_client.proto.coordinator.v1 import (
    EnclaveCiphertext,
    Entry,
    ExpectedObservation,
    KeymeldRegistration,
    Payout,
    Ticket,
)
from coordinator_client.rest import RestClient

__all__ = ["Agreement", "NoTicket", "Player", "PlayerSecrets"]


class NoTicket(ClientError):
    """It takes a ticket that this player has requested."""


class Player:
    """The player's side of one competition over REST, keymeld and the oracle. Use as an async context
    manager.

    Every method may be called again after an interruption. `secrets` changes with `request_ticket` and
    `enter`: store it then.
    """

    def __init__(
        self,
        base_url: str,
        competition_id: str,
        player_secrets: PlayerSecrets,
        *,
        oracle_url: str = "",
        oracle_pubkey: bytes = b"",
        check_oracle: bool = True,
        chain_url: str = "",
        approve: bool = False,
        register: bool = False,
    ) -> None:
        """
        Args:
            base_url: the coordinator's.
            competition_id: UUIDv7.
            player_secrets: new ones, or those stored before.
            oracle_url: where the player asks the oracle; empty: where the coordinator says it is.
            oracle_pubkey: 32 bytes x-only, if the player knows which oracle is to decide.
            check_oracle: False: the oracle cannot be reached from here; its locking points are taken on the
                coordinator's word.
            chain_url: Esplora API of an explorer that the player trusts, to know how far its payment's time
                has run down. Empty: the player's clock must do.
            approve: the player's key shall sign only what `approve_signing` reviewed, also where the
                competition leaves that to each player.
            register: the player registers its key with keymeld itself (`register_keys`), so that nobody can
                leave out that it wants to approve. Implies `approve`.
        """
        self.competition_id = competition_id
        self.secrets = player_secrets
        self.key = NostrKey(player_secrets.nostr_secret)
        self.rest = RestClient(base_url, self.key)
        self._oracle_url = oracle_url
        self._oracle_pubkey = oracle_pubkey
        self._check_oracle = check_oracle
        self._chain_url = chain_url
        self._approve = approve or register
        self._register = register

    async def __aenter__(self) -> Player:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rest.aclose()

    # Entering

    async def request_ticket(self) -> Ticket:
        """Reserves a place. The invoice was checked: paying it can only buy this ticket.

        Store `secrets` before paying it: they hold what was agreed.

        Raises:
            InvoiceMismatch: the invoice is for something else.
        """
        coordinator = await self.rest.coordinator()
        competition = await self.rest.competition(self.competition_id)
        ticket = await self.rest.request_ticket(self.competition_id)
        try:
            agreement = Agreement(
                competition_id=self.competition_id,
                terms=competition.terms,
                market_maker_pubkey=bytes.fromhex(competition.market_maker_pubkey),
                keygen_session_ids=tuple(competition.keygen_session_ids),
                network=Network(coordinator.network),
                oracle_url=coordinator.oracle_url,
                ticket_id=ticket.id,
                ticket_hash=bytes.fromhex(ticket.ticket_hash),
            )
        except ValueError as error:
            raise MalformedAnswer(f"the ticket's terms cannot be read: {error}") from None
        invoice = check_invoice(ticket.payment_request, agreement)
        self.secrets.agreement = replace(
            agreement,
            htlc_blocks=invoice.min_final_cltv_blocks + PAYER_PADDING_BLOCKS,
            height=await self._height(),
            requested_at=int(time.time()),
        )
        return ticket

    async def ticket(self) -> Ticket:
        """The player's ticket as it is now.

        Raises:
            NoTicket: none was requested.
        """
        return await self.rest.ticket(self.competition_id, self.agreement.ticket_id)

    async def enter(self, observations: Sequence[ExpectedObservation]) -> Entry:
        """Submits the entry on the paid ticket; the ephemeral key leaves only encrypted. If the ticket has
        its entry already, that one.

        Raises:
            NoTicket: none was requested.
            ContractMismatch: the ticket's entry is not with this player's keys.
        """
        agreement = self.agreement
        self.secrets.observations = tuple(observations)
        ticket = await self.ticket()
        if ticket.entry_id:
            entry = await self.rest.entry(ticket.entry_id)
        else:
            entry = await self.rest.create_entry(await self._new_entry(agreement, observations))
        if (entry.ephemeral_pubkey, entry.payout_hash) != (
            self.ephemeral_pubkey.hex(),
            self.payout_hash.hex(),
        ):
            raise ContractMismatch("entry", f"{entry.id} has other keys than this player's")
        self.secrets.entry_id = entry.id
        return entry

    # Signing

    async def sign_release(
        self, *, htlc_blocks_left: int | None = None, trust_not_settled_late: bool = False
    ) -> Entry:
        """Signs the release of the player's escrow: valid only long after the player could claw back.

        That is checked: from the last block in which the payment may be settled on, the clawback's 144 blocks
        must be left before the release is valid.

        Args:
            htlc_blocks_left: blocks until the payment of the ticket runs out by itself, as the player's
                wallet knows it. None: what the invoice asked for is taken, which is right for a payment over
                one hop, less the blocks since then: by the player's explorer (`chain_url`) or, without one,
                those that its clock says must have come (docs/escrow.md).
            trust_not_settled_late: sign although the payment outlives the escrow's protection, trusting that
                the coordinator does not settle it without funding the contract: the entry fee is at stake
                (docs/escrow.md).

        Raises:
            ContractMismatch: the escrow is not the player's, or not of the whole ticket price, or its release
                has a lock that none may have.
            UnsafeHtlc: the payment outlives the escrow's protection.
        """
        contract = await self.rest.contract(self.competition_id)
        release_blocks = shown_release_blocks(contract)
        if htlc_blocks_left is None:
            htlc_blocks_left = settleable_blocks(self.agreement, await self._height(), int(time.time()))
        if htlc_blocks_left is not None and not trust_not_settled_late:
            check_htlc(htlc_blocks_left, release_blocks)
        coin = own_escrow(contract, self.agreement, self._entry)
        try:
            release = release_transaction(
                coin.outpoint,
                coin.value_sats,
                coin.escrow,
                bytes.fromhex(contract.release_script_pubkey_hex),
                contract.release_fee_rate_sats_per_vb,
                release_blocks,
            )
            signature = sign_release(
                self.secrets.ephemeral_secret, release, coin.value_sats, coin.escrow, release_blocks
            )
        except (ContractError, ValueError) as error:
            raise ContractMismatch("release", str(error)) from error
        return await self.rest.submit_signatures(
            self.secrets.entry_id, escrow_release_signature=signature.hex()
        )

    async def register_keys(self) -> None:
        """Puts the player's key into keymeld's sessions, until the keys of all players are made: for who was
        made with `register=True`. The competition waits for it for a while only.

        Raises:
            SigningEnded: the competition ended before.
            Unavailable, KeymeldError: coordinator or keymeld do not answer.
        """
        credentials = await self._session_credentials()
        coordinator = await self.rest.coordinator()
        async with KeymeldClient(coordinator.keymeld_url) as keymeld:
            await register_keys(self.rest, keymeld, self.agreement, self.secrets, credentials)

    async def approve_signing(self, *, accept_coordinators_word: bool = False) -> SigningApproval:
        """Lets the player's key sign, once the contract is there, until everything is signed.

        The contract is rebuilt, and every signature that is asked for compared with it, before its session is
        approved. `secrets` changes: store it.

        Args:
            accept_coordinators_word: approve also where keymeld does not show what its sessions hold, so that
                only the coordinator's list of it can be compared.

        Raises:
            SigningMismatch: names the first signature that the contract does not have, and both hashes.
                Nothing of that session was approved.
            ContractMismatch: the contract is not as agreed.
            ApprovalBypassed: keymeld would let the key sign without asking.
            SessionNotShown: keymeld does not show what its sessions hold.
            SigningEnded: the competition ended before everything was signed.
            Unavailable, KeymeldError: coordinator, oracle or keymeld do not answer.
        """
        await contract_ready(self.rest, self.competition_id)
        contract = await self.rest.contract(self.competition_id)
        announcement = await self._announcement()
        predicted = observation_set(self.secrets.observations)
        dlc = await asyncio.to_thread(
            rebuild_contract, contract, self.agreement, self._entry, announcement, predicted
        )
        credentials = await self._session_credentials()
        coordinator = await self.rest.coordinator()
        async with KeymeldClient(coordinator.keymeld_url) as keymeld:
            approver = Approver(
                self.rest,
                keymeld,
                self.agreement,
                self.secrets,
                dlc,
                credentials,
                accept_coordinators_word=accept_coordinators_word,
            )
            return await approver.run()

    async def sign_funding(self) -> Entry:
        """Signs the escrow over to the contract, after the contract and all its signatures were checked.

        Raises:
            ContractMismatch: names the first thing that is not as agreed.
            ApprovalBypassed: the player's key was to sign only what the player approved, and keymeld has a
                session with it in which nothing was.
            Unavailable, KeymeldError: coordinator, oracle or keymeld do not answer.
        """
        agreement = self.agreement
        if self.secrets.approves:
            coordinator = await self.rest.coordinator()
            async with KeymeldClient(coordinator.keymeld_url) as keymeld:
                await check_bypass(keymeld, agreement, self.secrets)
        contract = await self.rest.contract(self.competition_id, include_signatures=True)
        announcement = await self._announcement()
        predicted = observation_set(self.secrets.observations)
        coin = own_escrow(contract, agreement, self._entry)
        dlc = await asyncio.to_thread(
            check_contract, contract, agreement, self._entry, announcement, predicted
        )
        transaction, index = check_funding(contract, dlc, coin)
        signature = coin.escrow.sign(
            self.secrets.ephemeral_secret, coin.escrow.sighash(transaction, index, coin.value_sats)
        )
        return await self.rest.submit_signatures(self.secrets.entry_id, funding_signature=signature.hex())

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
            InvoiceMismatch: it has another payment hash, or cannot be read.
        """
        try:
            invoice = bolt11.decode(payment_request)
        except bolt11.Bolt11Error as error:
            raise InvoiceMismatch(f"the invoice cannot be read: {error}") from error
        if invoice.payment_hash != self.payout_hash:
            raise InvoiceMismatch("the payout's invoice must use the payout preimage")
        return await self.rest.request_payout(self.competition_id, self.secrets.entry_id, payment_request)

    async def request_payout_to(self, address: str) -> Payout:
        """Asks for the prize to be paid to a Lightning address (name@domain) or an LNURL-pay code.

        The invoice is made there, so the payout preimage is handed over in advance: with it the coordinator
        could take the prize on chain and not pay. `request_payout` needs no such trust.

        Raises:
            ApiError: it is no such address, or what it answers must not be paid.
            Unavailable: it does not answer; asking again helps.
        """
        return await self.rest.request_payout(
            self.competition_id,
            self.secrets.entry_id,
            address,
            payout_preimage=self.secrets.payout_preimage.hex(),
        )

    async def hand_over_key(self) -> Payout:
        """Gives the ephemeral key of a paid entry, so that the coordinator can close with one transaction."""
        return await self.rest.hand_over_key(
            self.competition_id, self.secrets.entry_id, self.secrets.ephemeral_secret.hex()
        )

    # Its own facts

    @property
    def agreement(self) -> Agreement:
        """What was agreed at the ticket.

        Raises:
            NoTicket: none was requested.
        """
        if self.secrets.agreement is None:
            raise NoTicket("this player has requested no ticket yet")
        return self.secrets.agreement

    @property
    def ephemeral_pubkey(self) -> bytes:
        """33 bytes."""
        return public_key(self.secrets.ephemeral_secret)

    @property
    def payout_hash(self) -> bytes:
        """32 bytes."""
        return hashlib.sha256(self.secrets.payout_preimage).digest()

    @property
    def _entry(self) -> ContractEntry:
        return ContractEntry(self.ephemeral_pubkey, self.agreement.ticket_hash, self.payout_hash)

    async def _session_credentials(self) -> SessionCredentials:
        """The session secret, which the coordinator shares with the players."""
        joined = await self.rest.join_keymeld(self.competition_id, self.secrets.entry_id)
        try:
            seed = nip44.decrypt(self.key, joined.coordinator_pubkey, joined.encrypted_session_secret)
            return SessionCredentials(bytes.fromhex(seed))
        except (KeymeldCryptoError, ValueError):
            raise MalformedAnswer("keymeld/join: the session secret cannot be read") from None

    async def _announcement(self) -> Announcement | None:
        """The oracle's own word, unless it is not to be asked."""
        if not self._check_oracle:
            return None
        announcement = await fetch_announcement(
            self._oracle_url or self.agreement.oracle_url, self.competition_id
        )
        if self._oracle_pubkey and announcement.oracle_pubkey != self._oracle_pubkey:
            raise ContractMismatch("event", "another oracle than the expected one is to decide")
        return announcement

    async def _new_entry(self, agreement: Agreement, observations: Sequence[ExpectedObservation]) -> Entry:
        coordinator = await self.rest.coordinator()
        status = await self.rest.keymeld_status(self.competition_id)
        self.secrets.approves = status.approval_required or self._approve
        async with KeymeldClient(coordinator.keymeld_url) as keymeld:
            enclaves = await keymeld.enclaves()
        registration = register_player(
            agreement.ticket_id,
            self.secrets.ephemeral_secret,
            keygen_session_ids=agreement.keygen_session_ids,
            enclaves=enclaves,
            require_signing_approval=self.secrets.approves,
        )
        return Entry(
            competition_id=self.competition_id,
            ticket_id=agreement.ticket_id,
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
                    if not self._register
                ],
                require_signing_approval=registration.require_signing_approval,
            ),
        )

    async def _height(self) -> int | None:
        """The tip's, by the player's own explorer; None without one, or when it does not answer."""
        if not self._chain_url:
            return None
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                answer = await client.get(f"{self._chain_url.rstrip('/')}/blocks/tip/height")
                return int(answer.raise_for_status().text)
        except (httpx.HTTPError, ValueError):
            return None

    def _backup(self, secret: bytes) -> str:
        return nip44.encrypt(self.key, self.key.public_hex, secret.hex())
