"""What a player keeps: its secrets, and what it agreed to when it asked for its ticket.

Everything that the coordinator says later is judged by the agreement. An answer that came before any money
moved cannot be made up afterwards.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.contract.network import Network
from coordinator_client.jsonform import from_json, to_json
from coordinator_client.nostr import NostrKey
from coordinator_client.proto.coordinator.v1 import CompetitionTerms, ExpectedObservation


@dataclass(frozen=True, slots=True)
class Agreement:
    """The terms of one ticket, as shown before it was paid.

    Attributes:
        competition_id: UUIDv7; also the event's id at the oracle.
        terms: the competition's.
        market_maker_pubkey: the coordinator's key in the contract, 33 bytes.
        keygen_session_ids: keymeld's, all of them.
        network: which bitcoin it is about.
        oracle_url: of the oracle that is to decide.
        ticket_id: UUIDv7.
        ticket_hash: 32 bytes: payment hash of the ticket's invoice.
        htlc_blocks: for how many blocks from its payment on the invoice may be settled. None: unknown.
        height: the tip's when the ticket was requested, by the player's own explorer. None: unknown.
        requested_at: unix seconds by the player's own clock when the ticket was requested. None: unknown.
    """

    competition_id: str
    terms: CompetitionTerms
    market_maker_pubkey: bytes
    keygen_session_ids: tuple[str, ...]
    network: Network
    oracle_url: str
    ticket_id: str
    ticket_hash: bytes
    htlc_blocks: int | None = None
    height: int | None = None
    requested_at: int | None = None

    @property
    def pool_share_sats(self) -> int:
        """What one entry brings into the contract: its fee without the coordinator's part, rounded down."""
        terms = self.terms
        return terms.entry_fee_sats - terms.entry_fee_sats * terms.coordinator_fee_percent // 100

    def funding_value_sats(self, entries: int) -> int:
        """What the contract must hold with this many entries (proto CompetitionTerms)."""
        return self.terms.total_competition_pool_sats or entries * self.pool_share_sats

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "competition_id": self.competition_id,
            "terms": to_json(self.terms),
            "market_maker_pubkey": self.market_maker_pubkey.hex(),
            "keygen_session_ids": list(self.keygen_session_ids),
            "network": self.network.value,
            "oracle_url": self.oracle_url,
            "ticket_id": self.ticket_id,
            "ticket_hash": self.ticket_hash.hex(),
            "htlc_blocks": self.htlc_blocks,
            "height": self.height,
            "requested_at": self.requested_at,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Agreement:
        """What `to_json` gave."""
        return cls(
            competition_id=plain["competition_id"],
            terms=from_json(CompetitionTerms, plain["terms"]),
            market_maker_pubkey=bytes.fromhex(plain["market_maker_pubkey"]),
            keygen_session_ids=tuple(plain["keygen_session_ids"]),
            network=Network(plain["network"]),
            oracle_url=plain["oracle_url"],
            ticket_id=plain["ticket_id"],
            ticket_hash=bytes.fromhex(plain["ticket_hash"]),
            htlc_blocks=plain.get("htlc_blocks"),
            height=plain.get("height"),
            requested_at=plain.get("requested_at"),
        )


@dataclass(slots=True)
class PlayerSecrets:
    """What a player must keep for one competition. The caller stores it whenever a call of `Player` changed
    it, and before the ticket is paid.

    With these, the public contract, the ticket preimage (which the Lightning wallet has once the payment is
    settled) and the oracle's attestation a winner gets the prize without the coordinator
    (docs/recovery.md). Its repr shows no secret.
    """

    nostr_secret: bytes = field(repr=False)
    ephemeral_secret: bytes = field(repr=False)
    payout_preimage: bytes = field(repr=False)
    agreement: Agreement | None = None
    entry_id: str = ""
    observations: tuple[ExpectedObservation, ...] = ()
    """What was predicted, to compare with what the oracle has."""
    approves: bool = False
    """Its key signs only what it approved (docs/keymeld.md)."""
    approved_keygens: tuple[str, ...] = ()
    """keymeld's keygen sessions in which it was asked for its approval, and gave it."""

    @classmethod
    def generate(cls, key: NostrKey | None = None) -> PlayerSecrets:
        """Fresh secrets, for the given or a new Nostr key."""
        key = key or NostrKey.generate()
        return cls(key.secret_bytes, NostrKey.generate().secret_bytes, secrets.token_bytes(32))

    @property
    def ticket_id(self) -> str:
        """UUIDv7, or empty before there is a ticket."""
        return self.agreement.ticket_id if self.agreement else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for storage: keep them as safe as money."""
        return {
            "nostr_secret": self.nostr_secret.hex(),
            "ephemeral_secret": self.ephemeral_secret.hex(),
            "payout_preimage": self.payout_preimage.hex(),
            "agreement": self.agreement.to_json() if self.agreement else None,
            "entry_id": self.entry_id,
            "observations": [to_json(observation) for observation in self.observations],
            "approves": self.approves,
            "approved_keygens": list(self.approved_keygens),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> PlayerSecrets:
        """What `to_json` gave."""
        return cls(
            bytes.fromhex(plain["nostr_secret"]),
            bytes.fromhex(plain["ephemeral_secret"]),
            bytes.fromhex(plain["payout_preimage"]),
            Agreement.from_json(plain["agreement"]) if plain["agreement"] else None,
            plain["entry_id"],
            tuple(from_json(ExpectedObservation, observation) for observation in plain["observations"]),
            plain.get("approves", False),
            tuple(plain.get("approved_keygens", ())),
        )


def observation_set(observations: Sequence[ExpectedObservation]) -> frozenset[tuple[str, str, str]]:
    """Predictions to compare with others: (station, metric, over|par|under)."""
    return frozenset((o.station, o.metric, (o.prediction.name or "").lower()) for o in observations)
