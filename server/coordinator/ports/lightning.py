"""What the coordinator needs from a Lightning node.

Payments to the coordinator arrive on *hold invoices*: the payer's HTLC is accepted (locked) without revealing
the preimage, and is later settled by preimage or cancelled. Amounts are in millisatoshis (`_msats`), times in
seconds since the epoch (`_at`), timelocks in blocks or as absolute block heights (`_height`). Hashes and
preimages are 32 raw bytes.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class LightningError(Exception):
    """The Lightning node refused or could not do what was asked."""


class LightningUnavailable(LightningError):
    """The node cannot be reached or is not ready; whether the call took effect is unknown, so retry."""


class InvoiceNotFound(LightningError):
    """The node has no invoice for this payment hash."""


class InvoiceStateError(LightningError):
    """The invoice is in a state in which the request is impossible."""


class InvalidPaymentRequest(LightningError):
    """The node cannot decode the payment request, or looked at it and will not pay it: nothing was sent."""


class PaymentNotFound(LightningError):
    """The node was never asked for a payment with this hash."""


class InvoiceState(StrEnum):
    """Where an invoice stands; settled and canceled are final."""

    OPEN = "open"
    ACCEPTED = "accepted"
    SETTLED = "settled"
    CANCELED = "canceled"


class HtlcState(StrEnum):
    """Where one HTLC that pays to an invoice stands; settled and canceled are final."""

    ACCEPTED = "accepted"
    SETTLED = "settled"
    CANCELED = "canceled"


class PaymentState(StrEnum):
    """Where an outgoing payment stands; only a failed one may be attempted again."""

    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class InvoiceHtlc:
    """One HTLC that pays to an invoice.

    `expiry_height` is the block height at which the payer can take the money back: the preimage must never be
    revealed so late that the HTLC cannot be claimed on chain before it.
    """

    amount_msats: int
    accept_height: int
    expiry_height: int
    state: HtlcState


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of this node. The `preimage` is known to the node only once a hold invoice is settled."""

    payment_hash: bytes
    payment_request: str
    state: InvoiceState
    value_msats: int
    amount_paid_msats: int
    htlcs: tuple[InvoiceHtlc, ...]
    expires_at: int
    preimage: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Payment:
    """An outgoing payment, identified by its payment hash; `preimage`, the proof, comes with success."""

    payment_hash: bytes
    state: PaymentState
    amount_msats: int
    fee_msats: int
    preimage: bytes | None = field(repr=False)
    failure_reason: str | None


@dataclass(frozen=True, slots=True)
class DecodedInvoice:
    """What a payment request (BOLT 11) says. `amount_msats` is None when the payer chooses the amount.

    `destination` is the payee's node key: 33 bytes compressed, in hex.
    """

    payment_hash: bytes
    destination: str
    amount_msats: int | None
    created_at: int
    expires_at: int
    description: str
    min_final_cltv_blocks: int


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """The node itself: its key, how far it has followed the chain, and the network it is on."""

    pubkey: str
    alias: str
    block_height: int
    synced: bool
    version: str
    network: str


class Lightning(Protocol):
    """A Lightning node of the coordinator. Every method may raise `LightningUnavailable`."""

    async def info(self) -> NodeInfo:
        """The node's identity and how far it has followed the chain."""
        ...

    async def balance_msats(self) -> int:
        """What the node's channels can send now (local balance, without what is in flight)."""
        ...

    async def add_hold_invoice(
        self,
        payment_hash: bytes,
        amount_msats: int,
        *,
        memo: str,
        expiry_seconds: int,
        cltv_expiry_blocks: int,
    ) -> Invoice:
        """Add a hold invoice, or return the one that exists with this hash and amount.

        Args:
            payment_hash: SHA256 of a preimage the node need not know.
            amount_msats: exact price, positive.
            memo: description shown to the payer.
            expiry_seconds: how long the invoice can be paid, from now.
            cltv_expiry_blocks: how many blocks the last HTLC must at least be locked for.

        Raises:
            InvoiceStateError: an invoice with this hash and another amount exists.
            LightningError: the node refuses the invoice.
        """
        ...

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        """The invoice for this hash, or None if the node has none."""
        ...

    def subscribe_invoice(self, payment_hash: bytes) -> AsyncIterator[Invoice]:
        """The invoice as it is now, then again upon each change; ends after a final state.

        Raises:
            InvoiceNotFound: the node has no invoice for this hash.
        """
        ...

    async def settle_invoice(self, preimage: bytes) -> None:
        """Reveal the preimage and so take the accepted HTLC; one that is settled already counts as done.

        The node may accept this after the HTLC's expiry height: callers check `Invoice.htlcs` first.

        Raises:
            InvoiceNotFound: the node has no invoice for this preimage's hash.
            InvoiceStateError: the invoice is canceled, or no HTLC is accepted on it.
        """
        ...

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """Cancel the invoice and fail any accepted HTLC back; canceled already or unknown counts as done.

        Raises:
            InvoiceStateError: the invoice is settled.
        """
        ...

    async def decode(self, payment_request: str) -> DecodedInvoice:
        """Decode a payment request.

        Raises:
            InvalidPaymentRequest: the string is not one, or is of another network.
        """
        ...

    def pay(
        self,
        payment_request: str,
        *,
        fee_limit_msats: int,
        timeout_seconds: int,
        amount_msats: int | None = None,
        cltv_limit_blocks: int | None = None,
    ) -> AsyncIterator[Payment]:
        """Pay, yielding the payment's state as it changes; the last one is succeeded or failed.

        A payment request that is already in flight or paid is not paid again: its payment is tracked instead.
        One that failed before is tried anew.

        Args:
            payment_request: BOLT 11 string.
            fee_limit_msats: most that routing may cost.
            timeout_seconds: how long new routes are tried; one HTLC that is out may take longer.
            amount_msats: needed exactly when the request names no amount.
            cltv_limit_blocks: for how many blocks from now an HTLC of it may be out; None: as the node likes.

        Raises:
            InvalidPaymentRequest: the string cannot be decoded, is expired, the amount does not fit it, or it
                takes more blocks than allowed. This call sent nothing; another one before may have.
            LightningError: anything else, the node being lost among it. Whether the payment is in flight is
                unknown: track it by its hash.
        """
        ...

    async def track_payment(self, payment_hash: bytes) -> Payment | None:
        """The payment's current state, or None if it was never attempted."""
        ...

    def follow_payment(self, payment_hash: bytes) -> AsyncIterator[Payment]:
        """The payment as it is now, then again upon each change; the last one is succeeded or failed.

        Raises:
            PaymentNotFound: it was never attempted.
        """
        ...
