"""The records that competition states are made of.

All are immutable and hold plain values (ints, text, bytes, tuples of these), so that they can be stored and
compared. `_at` is unix seconds, `_sats` satoshis, txids are the usual reversed hex.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.contract.escrow import LEAST_RELEASE_BLOCKS
from coordinator.domain.terms import Terms


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known from creation on and never changes."""

    competition_id: str
    terms: Terms
    created_at: int
    keygen_session_ids: tuple[str, ...]
    keymeld_coordinator_user_id: str
    market_maker_pubkey: bytes


@dataclass(frozen=True, slots=True)
class RosterPlayer:
    """One player of a closed competition; its place in the roster is its player index."""

    ticket_id: str
    entry_id: str
    ephemeral_pubkey: bytes
    ticket_hash: bytes
    payout_hash: bytes
    escrow_coordinator_pubkey: bytes


@dataclass(frozen=True, slots=True)
class Coin:
    """A wallet output that a transaction spends. `branch` and `index` are its BIP86 derivation."""

    txid: str
    vout: int
    value_sats: int
    branch: int
    index: int


@dataclass(frozen=True, slots=True)
class EscrowPlan:
    """The escrow transaction as decided, before it is broadcast.

    `transaction` is unsigned; its txid is final since it only spends taproot coins. Escrow i is output i and
    belongs to player i. `release_blocks` is the relative lock of every escrow's release (`domain.htlcs`).
    """

    transaction: bytes
    txid: str
    coins: tuple[Coin, ...]
    fee_sats: int
    escrow_value_sats: int
    release_script_pubkey: bytes
    release_fee_rate_sats_per_vb: int
    planned_at: int
    # Plans stored before it was one of their numbers do not have it: players signed this one for them.
    release_blocks: int = LEAST_RELEASE_BLOCKS


@dataclass(frozen=True, slots=True)
class Announcement:
    """The oracle's commitment, every locking point of which was recomputed and found equal."""

    oracle_pubkey: bytes
    nonce_point: bytes
    expiry: int | None


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """The funding transaction as decided: escrows and top-up coins in, funding output and change out.

    `change_script_pubkey` is where change goes, also when it would be dust (`change_value_sats` is 0 then).
    """

    txid: str
    unsigned_transaction: bytes
    funding_value_sats: int
    coins: tuple[Coin, ...]
    fee_rate_sats_per_vb: float
    change_script_pubkey: bytes
    change_value_sats: int
    fee_sats: int


@dataclass(frozen=True, slots=True)
class Attestation:
    """What the oracle gave, and the outcome whose locking point it opens."""

    secret: bytes
    outcome: int
    winners: tuple[int, ...]
    attested_at: int


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A transaction of the contract that was sent, and the block it was seen in."""

    txid: str
    transaction: bytes
    broadcast_at: int
    block_height: int | None
