"""An agreed and fully signed competition as a player is shown it, made without any server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from coordinator.contract.dlc import TicketedDLC, funding_script_pubkey
from coordinator.contract.escrow import Escrow
from coordinator.contract.funding import (
    EscrowBatch,
    FundingTransaction,
    TicketEscrow,
    escrow_batch_outputs,
)
from coordinator.contract.network import Network
from coordinator.contract.parameters import Player
from coordinator.contract.secp import public_key
from coordinator.contract.tx import Input, Transaction
from coordinator.contract.utxo import Coin, OutPoint, Output
from coordinator_client.agreement import Agreement, PlayerSecrets
from coordinator_client.contract_check import SATS_PER_KWU_OF_ONE_SAT_PER_VB
from coordinator_client.oracle import Announcement
from coordinator_client.proto.coordinator.v1 import (
    CompetitionTerms,
    ContractPlayer,
    ContractSignature,
    ExpectedObservation,
    GetContractResponse,
    Prediction,
)
from support.contract import EXPIRY, Competition, competition, secret, sign_with_aggregate_keys

ENTRIES, PLACES, ME = 3, 2, 1
COMPETITION_ID = "0198a000-0000-7000-8000-000000000001"
TICKET_IDS = tuple(f"0198a000-0000-7000-8000-00000000010{i}" for i in range(ENTRIES))
ENTRY_FEE_SATS = 50_000
P2TR = b"\x51\x20" + bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
OBSERVATIONS = (ExpectedObservation("KORD", "temp_high", Prediction.OVER),)
PREDICTED = frozenset({("KORD", "temp_high", "over")})

TERMS = CompetitionTerms(
    name="Storms",
    entry_fee_sats=ENTRY_FEE_SATS,
    coordinator_fee_percent=10,
    total_allowed_entries=ENTRIES,
    min_entries=ENTRIES,
    number_of_places_win=PLACES,
    number_of_values_per_entry=1,
    locations=["KORD"],
    scoring_fields=["temp_high"],
    start_observation_at=datetime.fromtimestamp(EXPIRY - 300, UTC),
    end_observation_at=datetime.fromtimestamp(EXPIRY - 200, UTC),
    signing_at=datetime.fromtimestamp(EXPIRY - 100, UTC),
    relative_locktime_blocks=144,
    fee_rate_sats_per_vb=2,
)
RELEASE_BLOCKS = 455
FUNDING_VALUE_SATS = ENTRIES * 45_000


@dataclass(frozen=True)
class Agreed:
    """What both sides know."""

    competition: Competition
    agreement: Agreement
    secrets: PlayerSecrets
    entry: Player
    announcement: Announcement
    escrow_transaction: Transaction
    funding: FundingTransaction
    response: GetContractResponse

    def shown(self) -> GetContractResponse:
        """A copy of the coordinator's answer, to be changed."""
        return GetContractResponse().parse(bytes(self.response))


def agreed() -> Agreed:
    """Three players; this one has index 1."""
    terms_rate = TERMS.fee_rate_sats_per_vb * SATS_PER_KWU_OF_ONE_SAT_PER_VB
    contract = competition(
        ENTRIES,
        PLACES,
        seed="agreed",
        delta=TERMS.relative_locktime_blocks,
        fee_rate=terms_rate,
        funding_value=FUNDING_VALUE_SATS,
    )
    players = contract.parameters.players
    tickets = [
        TicketEscrow(
            TICKET_IDS[i],
            Escrow(public_key(secret("escrow", i)), players[i].pubkey, players[i].ticket_hash),
            ENTRY_FEE_SATS,
        )
        for i in range(ENTRIES)
    ]
    escrow_transaction = Transaction(
        (Input(OutPoint("cd" * 32, 0), 0xFFFFFFFE),), (*escrow_batch_outputs(tickets), Output(P2TR, 7_000))
    )
    funding = FundingTransaction.build(
        EscrowBatch.of(escrow_transaction.serialize(), tickets).coins,
        [Coin(OutPoint("ef" * 32, 1), 10_000, P2TR)],
        funding_script=funding_script_pubkey(contract.parameters),
        funding_value_sats=FUNDING_VALUE_SATS,
        change_script=P2TR,
        fee_rate_sat_vb=2,
    )
    dlc = TicketedDLC(contract.parameters, (funding.txid, 0))
    contract = Competition(**{**vars(contract), "dlc": dlc})
    signatures = sign_with_aggregate_keys(contract)
    response = GetContractResponse(
        parameters_json=contract.parameters.to_json(),
        players=[
            ContractPlayer(
                player_index=i,
                ticket_id=TICKET_IDS[i],
                entry_id=f"0198a000-0000-7000-8000-00000000020{i}",
                ephemeral_pubkey=players[i].pubkey.hex(),
                ticket_hash=players[i].ticket_hash.hex(),
                payout_hash=players[i].payout_hash.hex(),
                escrow_coordinator_pubkey=tickets[i].escrow.coordinator_pubkey.hex(),
                escrow_vout=i,
                escrow_value_sats=ENTRY_FEE_SATS,
            )
            for i in range(ENTRIES)
        ],
        escrow_transaction_hex=escrow_transaction.serialize().hex(),
        release_script_pubkey_hex=P2TR.hex(),
        release_fee_rate_sats_per_vb=2,
        release_blocks=RELEASE_BLOCKS,
        funding_psbt=str(funding.psbt().to_string()),  # type: ignore[no-untyped-call]
        funding_outpoint=str(funding.funding_outpoint),
        signatures=[
            ContractSignature(key, signature)
            for part in (signatures.outcome, signatures.split)
            for key, signature in part.items()
        ],
    )
    agreement = Agreement(
        competition_id=COMPETITION_ID,
        terms=TERMS,
        market_maker_pubkey=contract.parameters.market_maker,
        keygen_session_ids=("0198a000-0000-7000-8000-000000000301",),
        network=Network.REGTEST,
        oracle_url="https://oracle.test",
        ticket_id=TICKET_IDS[ME],
        ticket_hash=players[ME].ticket_hash,
    )
    return Agreed(
        competition=contract,
        agreement=agreement,
        secrets=PlayerSecrets(
            nostr_secret=b"\x21" * 32,
            ephemeral_secret=contract.player_secrets[ME],
            payout_preimage=contract.payout_preimages[ME],
            agreement=agreement,
            entry_id=response.players[ME].entry_id,
            observations=OBSERVATIONS,
        ),
        entry=players[ME],
        announcement=Announcement(
            oracle_pubkey=public_key(contract.oracle_secret)[1:],
            nonce_point=public_key(contract.oracle_nonce),
            expiry=EXPIRY,
            entries=dict.fromkeys(TICKET_IDS, PREDICTED),
        ),
        escrow_transaction=escrow_transaction,
        funding=funding,
        response=response,
    )


def hash_of(text: str) -> str:
    """32 bytes hex."""
    return sha256(text.encode()).hexdigest()
