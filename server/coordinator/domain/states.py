"""A competition's states, one frozen dataclass each, and the transitions between them.

A state holds exactly what is known in it. A transition is a method that takes what happened and returns the
next state, so that a type checker rejects a step that the diagram does not have:

    created → collecting_entries → awaiting_escrow → escrow_confirmed → event_created → entries_submitted →
    contract_created → awaiting_keygen → awaiting_signing → funding_ready → funding_broadcasted →
    funding_confirmed → funding_settled → awaiting_attestation → attested → outcome_broadcasted
    (or expiry_broadcasted) → delta_broadcasted → completed

Two steps lead back: funding_confirmed → funding_broadcasted, when a reorganisation takes the funding
transaction out of its block before all payments are settled; completed → delta_broadcasted, when a closing
transaction became void before it was buried. In every other funded state a transaction that falls out of the
chain is sent again, and `moved` says where it is. When the attestation comes late, both outcome and expiry
transaction are valid: outcome_broadcasted and expiry_broadcasted lead to each other; what is mined counts.

Any state before the funding transaction is broadcast can go to cancelled or failed. From then on the money is
in the contract and every way out is a transaction that is already signed: the runner retries, it never gives
up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from coordinator.domain.competition import (
    Announcement,
    Attestation,
    Broadcast,
    EscrowPlan,
    Facts,
    FundingPlan,
    RosterPlayer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What every state has."""

    name: ClassVar[str]
    facts: Facts


S = TypeVar("S", bound=_State)


def _next(state: _State, kind: type[S], **known: Any) -> S:
    """The next state: what is known already and belongs to it, and what has become known."""
    carried: dict[str, Any] = {
        item.name: getattr(state, item.name)
        for item in fields(kind)
        if item.name not in known and hasattr(state, item.name)
    }
    return kind(**carried, **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended(_State):
    """Ended before funding.

    `money_returned` becomes true when every hold invoice is cancelled and every escrow is back.
    """

    reason: str
    roster: tuple[RosterPlayer, ...] = ()
    escrow: EscrowPlan | None = None
    escrow_broadcast: bool = False
    release_txids: tuple[str, ...] = ()
    money_returned: bool = False

    def returned(self, release_txids: tuple[str, ...]) -> Self:
        """Nothing of anybody's is held any more."""
        return replace(self, release_txids=release_txids, money_returned=True)

    def releasing(self, release_txids: tuple[str, ...]) -> Self:
        """Some releases were broadcast."""
        return replace(self, release_txids=release_txids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(_Ended):
    """Called off by an admin or for want of entries."""

    name = "cancelled"
    cancelled_in: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Ended):
    """Could not go on; everybody is refunded as after a cancellation."""

    name = "failed"
    failed_in: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refundable(_State):
    """Not funded yet: it can still end with everybody refunded."""

    @property
    def _escrow_was_sent(self) -> bool:
        """Whether escrows may have to be released."""
        return False

    def cancel(self, reason: str) -> Cancelled:
        """An admin's order, or not enough entries when the window starts."""
        return _next(
            self,
            Cancelled,
            reason=reason,
            cancelled_in=self.name,
            escrow_broadcast=self._escrow_was_sent,
        )

    def fail(self, reason: str) -> Failed:
        """A step cannot succeed any more."""
        return _next(self, Failed, reason=reason, failed_in=self.name, escrow_broadcast=self._escrow_was_sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Created(_Refundable):
    """Announced; no entry yet."""

    name = "created"

    def first_entry(self) -> CollectingEntries:
        """Somebody entered."""
        return _next(self, CollectingEntries)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectingEntries(_Refundable):
    """At least one entry; open until full or until the window starts."""

    name = "collecting_entries"

    def close(self, roster: tuple[RosterPlayer, ...], *, deadline_at: int) -> AwaitingEscrow:
        """No more entries. `roster` is in order of ticket ids; that order is the player index."""
        return _next(self, AwaitingEscrow, roster=roster, deadline_at=deadline_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingEscrow(_Refundable):
    """Closed. Players sign the release of their escrow; then the escrow transaction is broadcast."""

    name = "awaiting_escrow"
    roster: tuple[RosterPlayer, ...]
    deadline_at: int
    escrow: EscrowPlan | None = None
    broadcast: Broadcast | None = None

    def planned(self, escrow: EscrowPlan) -> AwaitingEscrow:
        """The escrow transaction is decided, its coins are locked."""
        return replace(self, escrow=escrow)

    def broadcasted(self, broadcast: Broadcast) -> AwaitingEscrow:
        """The escrow transaction is on its way."""
        return replace(self, broadcast=broadcast)

    def confirmed(self, block_height: int) -> EscrowConfirmed:
        """The escrow transaction has its confirmations."""
        assert self.escrow is not None
        assert self.broadcast is not None
        return _next(
            self, EscrowConfirmed, escrow_broadcast=replace(self.broadcast, block_height=block_height)
        )

    @property
    def _escrow_was_sent(self) -> bool:
        return self.broadcast is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Escrowed(_State):
    """The escrow transaction is confirmed."""

    roster: tuple[RosterPlayer, ...]
    escrow: EscrowPlan
    escrow_broadcast: Broadcast


@dataclass(frozen=True, slots=True, kw_only=True)
class _BeforeFunding(_Escrowed, _Refundable):
    """Escrowed and not funded."""

    @property
    def _escrow_was_sent(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowConfirmed(_BeforeFunding):
    """The escrows are on chain."""

    name = "escrow_confirmed"

    def event_created(self, announcement: Announcement) -> EventCreated:
        """The oracle announced the event, and the announcement is right."""
        return _next(self, EventCreated, announcement=announcement)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCreated(_BeforeFunding):
    """The oracle committed to the event."""

    name = "event_created"
    announcement: Announcement

    def entries_submitted(self) -> EntriesSubmitted:
        """The oracle has the entries."""
        return _next(self, EntriesSubmitted)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesSubmitted(_BeforeFunding):
    """The oracle can score."""

    name = "entries_submitted"
    announcement: Announcement

    def contract_created(self, funding: FundingPlan) -> ContractCreated:
        """Parameters and funding transaction are fixed, its coins are locked."""
        return _next(self, ContractCreated, funding=funding)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contracted(_Escrowed):
    """The contract is fixed: everything else about it is rebuilt from these."""

    announcement: Announcement
    funding: FundingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContractedBeforeFunding(_BeforeFunding):
    """The contract is fixed and not funded yet."""

    announcement: Announcement
    funding: FundingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractCreated(_ContractedBeforeFunding):
    """Parameters fixed."""

    name = "contract_created"

    def start_keygen(self, *, started_at: int, deadline_at: int) -> AwaitingKeygen:
        """keymeld is asked to aggregate the keys."""
        return _next(self, AwaitingKeygen, started_at=started_at, deadline_at=deadline_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingKeygen(_ContractedBeforeFunding):
    """keymeld aggregates keys."""

    name = "awaiting_keygen"
    started_at: int
    deadline_at: int

    def keygen_completed(self, *, started_at: int, deadline_at: int) -> AwaitingSigning:
        """Every aggregate key that keymeld reports equals ours."""
        return _next(self, AwaitingSigning, started_at=started_at, deadline_at=deadline_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingSigning(_ContractedBeforeFunding):
    """keymeld signs outcomes and splits."""

    name = "awaiting_signing"
    started_at: int
    deadline_at: int

    def signed(self, *, deadline_at: int) -> FundingReady:
        """Every signature was verified and stored."""
        return _next(self, FundingReady, deadline_at=deadline_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingReady(_ContractedBeforeFunding):
    """The contract is signed; players sign the funding transaction until `deadline_at`."""

    name = "funding_ready"
    deadline_at: int

    def funding_broadcasted(self, broadcast: Broadcast) -> FundingBroadcasted:
        """All signatures are in; the completed transaction is recorded, then sent."""
        return _next(self, FundingBroadcasted, funding_broadcast=broadcast)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Funded(_Contracted):
    """The funding transaction was sent: from here on the contract decides."""

    funding_broadcast: Broadcast

    @property
    def broadcasts(self) -> tuple[tuple[str, Broadcast], ...]:
        """The transactions that the state stands on, with their roles; parents first."""
        refunded = getattr(self, "attestation", None) is None
        known = [
            ("expiry" if refunded and role == "outcome" else role, getattr(self, name, None))
            for name, role in _ROLES.items()
        ]
        return tuple((role, broadcast) for role, broadcast in known if broadcast is not None)

    def moved(self, txid: str, block_height: int | None) -> Self:
        """One of them is in this block now (None: in none, after a reorganisation)."""
        changes: dict[str, Any] = {
            name: replace(broadcast, block_height=block_height)
            for name in _ROLES
            if (broadcast := getattr(self, name, None)) is not None and broadcast.txid == txid
        }
        return replace(self, **changes)


_ROLES = {"funding_broadcast": "funding", "outcome_broadcast": "outcome", "split_broadcast": "split"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingBroadcasted(_Funded):
    """Waiting for the funding transaction's confirmations."""

    name = "funding_broadcasted"

    def confirmed(self, block_height: int) -> FundingConfirmed:
        """It has them."""
        return _next(
            self,
            FundingConfirmed,
            funding_broadcast=replace(self.funding_broadcast, block_height=block_height),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingConfirmed(_Funded):
    """The pot is locked; hold invoices may be settled now."""

    name = "funding_confirmed"

    def reorganised(self) -> FundingBroadcasted:
        """The funding transaction is not confirmed any more."""
        return _next(
            self, FundingBroadcasted, funding_broadcast=replace(self.funding_broadcast, block_height=None)
        )

    def settled(self) -> FundingSettled:
        """Every hold invoice is settled."""
        return _next(self, FundingSettled)


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingSettled(_Funded):
    """Paid for and locked."""

    name = "funding_settled"

    def await_attestation(self) -> AwaitingAttestation:
        """Nothing to do but wait for the oracle."""
        return _next(self, AwaitingAttestation)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingAttestation(_Funded):
    """Until the oracle attests, or until the expiry."""

    name = "awaiting_attestation"

    def attested(self, attestation: Attestation) -> Attested:
        """The oracle's attestation opens a locking point of the contract."""
        return _next(self, Attested, attestation=attestation)

    def expired(self, expiry_broadcast: Broadcast) -> ExpiryBroadcasted:
        """The expiry passed without an attestation; equal shares to all."""
        return _next(self, ExpiryBroadcasted, outcome_broadcast=expiry_broadcast)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested(_Funded):
    """The outcome is known."""

    name = "attested"
    attestation: Attestation

    def outcome_broadcasted(self, broadcast: Broadcast) -> OutcomeBroadcasted:
        """The outcome transaction is recorded, then sent."""
        return _next(self, OutcomeBroadcasted, outcome_broadcast=broadcast)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeBroadcasted(_Funded):
    """The attested outcome is on chain or on its way; winners may ask for their payout."""

    name = "outcome_broadcasted"
    attestation: Attestation
    outcome_broadcast: Broadcast

    def expired_instead(self, expiry_broadcast: Broadcast) -> ExpiryBroadcasted:
        """Somebody's expiry transaction took the outcome transaction's place: the attestation came late."""
        return _next(self, ExpiryBroadcasted, outcome_broadcast=expiry_broadcast)

    def closed(self, closing: Broadcast) -> Completed:
        """All winners were paid and handed over their keys: one transaction returns everything."""
        return _completed(self, self.attestation, None, (closing,))

    def split(self, split_broadcast: Broadcast, split_outcome: int | None = None) -> DeltaBroadcasted:
        """Delta blocks have passed: the split transaction is recorded, then sent; or a winner sent one."""
        return _split(self, self.attestation, split_broadcast, split_outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryBroadcasted(_Funded):
    """The expiry transaction is on chain or on its way; every player may ask for its share."""

    name = "expiry_broadcasted"
    outcome_broadcast: Broadcast

    def attested_instead(self, attestation: Attestation, outcome_broadcast: Broadcast) -> OutcomeBroadcasted:
        """Somebody's outcome transaction, which gives the attestation away, took the expiry's place."""
        return _next(self, OutcomeBroadcasted, attestation=attestation, outcome_broadcast=outcome_broadcast)

    def closed(self, closing: Broadcast) -> Completed:
        """All players were paid and handed over their keys."""
        return _completed(self, None, None, (closing,))

    def split(self, split_broadcast: Broadcast, split_outcome: int | None = None) -> DeltaBroadcasted:
        """Delta blocks have passed: the split transaction is recorded, then sent; or a winner sent one."""
        return _split(self, None, split_broadcast, split_outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaBroadcasted(_Funded):
    """The prizes lie in separate outputs: sold back, claimed by winners, or reclaimed after 2 * delta.

    `split_outcome` is the outcome whose split transaction it is, where a winner sent that of another ranking
    of the same winners (None: the attested one's).
    """

    name = "delta_broadcasted"
    attestation: Attestation | None
    outcome_broadcast: Broadcast
    split_broadcast: Broadcast
    closings: tuple[Broadcast, ...] = ()
    split_outcome: int | None = None

    def split_by_winner(self, split_broadcast: Broadcast, split_outcome: int | None) -> DeltaBroadcasted:
        """A winner's split transaction took the place of the recorded one, and voids what spent that."""
        return replace(self, split_broadcast=split_broadcast, split_outcome=split_outcome, closings=())

    def closing(self, broadcast: Broadcast) -> DeltaBroadcasted:
        """A transaction that takes back bought or unclaimed prizes is recorded, then sent."""
        return replace(self, closings=(*self.closings, broadcast))

    def closing_void(self, txid: str) -> DeltaBroadcasted:
        """A winner spent one of a closing transaction's inputs first; the others are to be taken anew."""
        return replace(self, closings=tuple(closing for closing in self.closings if closing.txid != txid))

    def completed(self) -> Completed:
        """Every split output is spent."""
        return _completed(self, self.attestation, self.split_broadcast, self.closings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(_Funded):
    """Every prize is paid or taken. `settled_on_chain` becomes true once that is buried in the chain."""

    name = "completed"
    attestation: Attestation | None
    outcome_broadcast: Broadcast
    split_broadcast: Broadcast | None
    closings: tuple[Broadcast, ...]
    split_outcome: int | None = None
    settled_on_chain: bool = False

    def settled(self) -> Completed:
        """What spends the contract's outputs is so deep in the chain that it stays."""
        return replace(self, settled_on_chain=True)

    def reopened(self, split_broadcast: Broadcast) -> DeltaBroadcasted:
        """A prize lies in an output of the split transaction that nothing spends any more."""
        return _next(self, DeltaBroadcasted, split_broadcast=split_broadcast)

    def split_by_winner(self, split_broadcast: Broadcast, split_outcome: int | None) -> DeltaBroadcasted:
        """A winner's split transaction came before the closing one, which is void with that."""
        return _next(
            self,
            DeltaBroadcasted,
            split_broadcast=split_broadcast,
            split_outcome=split_outcome,
            closings=(),
        )


def _split(
    state: OutcomeBroadcasted | ExpiryBroadcasted,
    attestation: Attestation | None,
    split_broadcast: Broadcast,
    split_outcome: int | None,
) -> DeltaBroadcasted:
    return _next(
        state,
        DeltaBroadcasted,
        attestation=attestation,
        split_broadcast=split_broadcast,
        split_outcome=split_outcome,
    )


def _completed(
    state: OutcomeBroadcasted | ExpiryBroadcasted | DeltaBroadcasted,
    attestation: Attestation | None,
    split_broadcast: Broadcast | None,
    closings: tuple[Broadcast, ...],
) -> Completed:
    return _next(
        state, Completed, attestation=attestation, split_broadcast=split_broadcast, closings=closings
    )


_BeforeContract: TypeAlias = (
    Created | CollectingEntries | AwaitingEscrow | EscrowConfirmed | EventCreated | EntriesSubmitted
)
_Unfunded: TypeAlias = ContractCreated | AwaitingKeygen | AwaitingSigning | FundingReady
Funded: TypeAlias = (
    FundingBroadcasted
    | FundingConfirmed
    | FundingSettled
    | AwaitingAttestation
    | Attested
    | OutcomeBroadcasted
    | ExpiryBroadcasted
    | DeltaBroadcasted
    | Completed
)
Cancellable: TypeAlias = _BeforeContract | _Unfunded
Contracted: TypeAlias = _Unfunded | Funded
CompetitionStatus: TypeAlias = Cancellable | Funded | Failed | Cancelled

# The same for isinstance.
_BEFORE_CONTRACT = (
    Created,
    CollectingEntries,
    AwaitingEscrow,
    EscrowConfirmed,
    EventCreated,
    EntriesSubmitted,
)
_UNFUNDED = (ContractCreated, AwaitingKeygen, AwaitingSigning, FundingReady)
_FUNDED = (
    FundingBroadcasted,
    FundingConfirmed,
    FundingSettled,
    AwaitingAttestation,
    Attested,
    OutcomeBroadcasted,
    ExpiryBroadcasted,
    DeltaBroadcasted,
    Completed,
)
CANCELLABLE = (*_BEFORE_CONTRACT, *_UNFUNDED)
CONTRACTED = (*_UNFUNDED, *_FUNDED)

STATES: dict[str, type[CompetitionStatus]] = {
    state.name: state for state in (*CANCELLABLE, *CONTRACTED, Failed, Cancelled)
}
TERMINAL = frozenset({"completed", "failed", "cancelled"})
