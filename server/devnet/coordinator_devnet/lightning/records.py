"""What the devnet's Lightning network knows: invoices, HTLCs, payments. Rows of the ledger, frozen.

States carry LND's names. Amounts are in millisatoshis; `_at` is in seconds, `_ns` in nanoseconds since the
epoch.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class InvoiceState(StrEnum):
    """An invoice's state: OPEN, for hold invoices ACCEPTED, then SETTLED or CANCELED for good."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    SETTLED = "SETTLED"
    CANCELED = "CANCELED"

    @property
    def final(self) -> bool:
        """Whether the state never changes again."""
        return self in (InvoiceState.SETTLED, InvoiceState.CANCELED)


class HtlcState(StrEnum):
    """An HTLC's state: SENT is locked at the payer and on its way, ACCEPTED is held by the payee."""

    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    SETTLED = "SETTLED"
    CANCELED = "CANCELED"


class PaymentState(StrEnum):
    """A payment's state; SUCCEEDED and FAILED are final, but a failed one may be started anew."""

    IN_FLIGHT = "IN_FLIGHT"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class FailureReason(StrEnum):
    """Why a payment failed, by LND's names (`lnrpc.PaymentFailureReason`)."""

    TIMEOUT = "FAILURE_REASON_TIMEOUT"
    NO_ROUTE = "FAILURE_REASON_NO_ROUTE"
    INCORRECT_PAYMENT_DETAILS = "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
    INSUFFICIENT_BALANCE = "FAILURE_REASON_INSUFFICIENT_BALANCE"


@dataclass(frozen=True, slots=True)
class Htlc:
    """One HTLC from payer to payee; the payer gave up `amount_msats + fee_msats`."""

    id: int
    payment_id: int
    payer: str
    payee: str
    payment_hash: bytes
    payment_secret: bytes | None
    amount_msats: int
    fee_msats: int
    expiry_height: int
    state: HtlcState
    sent_ns: int
    accept_height: int | None = None
    accepted_at: int | None = None
    resolved_ns: int | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of `node`. The preimage of a hold invoice is unknown until it is settled."""

    node: str
    add_index: int
    payment_hash: bytes
    preimage: bytes | None = field(repr=False)
    hold: bool
    memo: str
    description_hash: bytes | None
    value_msats: int
    created_at: int
    expiry_seconds: int
    cltv_expiry_blocks: int
    payment_secret: bytes
    payment_request: str
    state: InvoiceState
    amount_paid_msats: int
    settle_index: int | None
    settled_at: int | None
    htlcs: tuple[Htlc, ...] = ()


@dataclass(frozen=True, slots=True)
class Payment:
    """An outgoing payment of `node`."""

    id: int
    node: str
    payment_hash: bytes
    payment_request: str
    destination: bytes
    amount_msats: int
    fee_msats: int
    created_ns: int
    state: PaymentState
    preimage: bytes | None = field(repr=False)
    failure: FailureReason | None = None
    htlcs: tuple[Htlc, ...] = ()


@dataclass(frozen=True, slots=True)
class Balances:
    """A node's channels, in total: `capacity = local + outgoing + incoming + remote`."""

    capacity_msats: int
    local_msats: int
    outgoing_msats: int
    incoming_msats: int

    @property
    def remote_msats(self) -> int:
        """What the node can still receive."""
        return self.capacity_msats - self.local_msats - self.outgoing_msats - self.incoming_msats


@dataclass(frozen=True, slots=True)
class Supply:
    """All money in the network; `total_msats` always equals `funded_msats`, what its nodes began with."""

    funded_msats: int
    balances_msats: int
    in_flight_msats: int
    routing_fees_msats: int

    @property
    def total_msats(self) -> int:
        """Every millisatoshi that exists, wherever it is."""
        return self.balances_msats + self.in_flight_msats + self.routing_fees_msats
