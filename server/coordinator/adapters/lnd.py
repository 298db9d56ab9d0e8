"""The Lightning port over LND's gRPC API.

LND reports most failures as gRPC code UNKNOWN with a text (plain Go errors), so the texts of its `invoices`,
`channeldb` and `rpcserver` packages are part of what is matched here.
"""

from __future__ import annotations  # some of gRPC's generics exist for type checkers only

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from hashlib import sha256
from typing import TypeVar

import grpc

from coordinator.lnd import (
    invoices_pb2,
    invoices_pb2_grpc,
    lightning_pb2,
    lightning_pb2_grpc,
    router_pb2,
    router_pb2_grpc,
)
from coordinator.ports.lightning import (
    DecodedInvoice,
    HtlcState,
    InvalidPaymentRequest,
    Invoice,
    InvoiceHtlc,
    InvoiceNotFound,
    InvoiceState,
    InvoiceStateError,
    Lightning,
    LightningError,
    LightningUnavailable,
    NodeInfo,
    Payment,
    PaymentNotFound,
    PaymentState,
)

# CANCELLED and INTERNAL come from a server that is going down; whether the call took effect is unknown then.
_UNAVAILABLE_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_UNAVAILABLE_TEXTS = (
    "in the process of starting",
    "wallet locked",
    "waiting to start",
    "chain backend is still syncing",
    "shutting down",
)
_NOT_FOUND_TEXTS = ("unable to locate invoice", "there are no existing invoices")
_NEVER_ATTEMPTED_TEXT = "payment isn't initiated"
_INVOICE_EXISTS_TEXT = "invoice with payment hash already exists"
_ALREADY_SETTLED_TEXT = "invoice already settled"
_ALREADY_CANCELED_TEXT = "invoice already canceled"
_STILL_OPEN_TEXT = "invoice still open"
_PAYMENT_EXISTS_TEXTS = ("payment is in transition", "invoice is already paid", "payment already exists")
_UNPAYABLE_TEXTS = (
    "invoice expired",
    "amount must be specified",
    "amount must not be specified",
    "self-payments",
    "cltv limit",
)
# LND takes no greater limit for a route (its option `max-cltv-expiry`).
_MAX_CLTV_BLOCKS = 2016

_INVOICE_STATES = {
    lightning_pb2.Invoice.OPEN: InvoiceState.OPEN,
    lightning_pb2.Invoice.ACCEPTED: InvoiceState.ACCEPTED,
    lightning_pb2.Invoice.SETTLED: InvoiceState.SETTLED,
    lightning_pb2.Invoice.CANCELED: InvoiceState.CANCELED,
}
_HTLC_STATES = {
    lightning_pb2.ACCEPTED: HtlcState.ACCEPTED,
    lightning_pb2.SETTLED: HtlcState.SETTLED,
    lightning_pb2.CANCELED: HtlcState.CANCELED,
}
_PAYMENT_STATES = {
    lightning_pb2.Payment.SUCCEEDED: PaymentState.SUCCEEDED,
    lightning_pb2.Payment.FAILED: PaymentState.FAILED,
}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class LndLightning(Lightning):
    """A Lightning node that speaks LND's gRPC.

    Args:
        address: `host:port` of LND's RPC listener.
        tls_certificate: LND's `tls.cert`, PEM.
        macaroon_hex: a macaroon that allows invoices and payments, hex.
        timeout_seconds: how long a call may take; streams last as long as they need.
    """

    def __init__(
        self, address: str, *, tls_certificate: bytes, macaroon_hex: str, timeout_seconds: float = 30
    ) -> None:
        self._metadata = (("macaroon", macaroon_hex),)
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.aio.secure_channel(
            address,
            grpc.ssl_channel_credentials(tls_certificate),
            options=[
                # A stream may be silent for days: without pings a dead connection would never be noticed.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                # What grpcio goes by; without it an unanswered ping counts for nothing for a minute.
                ("grpc.http2.ping_timeout_ms", 10_000),
                ("grpc.http2.max_pings_without_data", 0),
                # Reconnect to a node that was restarted within seconds rather than minutes.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5_000),
            ],
        )
        self._lightning = lightning_pb2_grpc.LightningStub(self._channel)
        self._invoices = invoices_pb2_grpc.InvoicesStub(self._channel)
        self._router = router_pb2_grpc.RouterStub(self._channel)

    async def aclose(self) -> None:
        """Close the connection, once nothing uses it any more."""
        await self._channel.close(None)

    async def info(self) -> NodeInfo:
        """See `Lightning.info`."""
        response = await self._call(self._lightning.GetInfo, lightning_pb2.GetInfoRequest())
        return NodeInfo(
            pubkey=response.identity_pubkey,
            alias=response.alias,
            block_height=response.block_height,
            synced=response.synced_to_chain,
            version=response.version,
            network=response.chains[0].network if response.chains else "",
        )

    async def balance_msats(self) -> int:
        """See `Lightning.balance_msats`."""
        response = await self._call(self._lightning.ChannelBalance, lightning_pb2.ChannelBalanceRequest())
        return response.local_balance.msat

    async def add_hold_invoice(
        self,
        payment_hash: bytes,
        amount_msats: int,
        *,
        memo: str,
        expiry_seconds: int,
        cltv_expiry_blocks: int,
    ) -> Invoice:
        """See `Lightning.add_hold_invoice`."""
        _check_32_bytes(payment_hash)
        if amount_msats <= 0:
            raise LightningError("the amount of a hold invoice must be positive")
        if (existing := await self.lookup_invoice(payment_hash)) is not None:
            return _same_amount(existing, amount_msats)
        try:
            await self._call(
                self._invoices.AddHoldInvoice,
                invoices_pb2.AddHoldInvoiceRequest(
                    memo=memo,
                    hash=payment_hash,
                    value_msat=amount_msats,
                    expiry=expiry_seconds,
                    cltv_expiry=cltv_expiry_blocks,
                ),
            )
        except LightningError as error:
            # Two callers may add it at once: the second finds what the first made.
            if _INVOICE_EXISTS_TEXT not in str(error):
                raise
        if (invoice := await self.lookup_invoice(payment_hash)) is None:
            raise LightningError("the node lost the invoice that it added")
        return _same_amount(invoice, amount_msats)

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        """See `Lightning.lookup_invoice`."""
        _check_32_bytes(payment_hash)
        request = invoices_pb2.LookupInvoiceMsg(payment_hash=payment_hash)
        try:
            return _invoice(await self._call(self._invoices.LookupInvoiceV2, request), payment_hash)
        except InvoiceNotFound:
            return None

    async def subscribe_invoice(self, payment_hash: bytes) -> AsyncIterator[Invoice]:
        """See `Lightning.subscribe_invoice`."""
        _check_32_bytes(payment_hash)
        # Looked up first: LND waits silently for an invoice that it does not know. Where the connection is
        # lost, the look-up waits for it and goes out with the first that is there again.
        lookup = invoices_pb2.LookupInvoiceMsg(payment_hash=payment_hash)
        answer = await self._call(self._invoices.LookupInvoiceV2, lookup, wait_for_ready=True)
        last = _invoice(answer, payment_hash)
        yield last
        if last.state in (InvoiceState.SETTLED, InvoiceState.CANCELED):
            return
        request = invoices_pb2.SubscribeSingleInvoiceRequest(r_hash=payment_hash)
        async with aclosing(self._stream(self._invoices.SubscribeSingleInvoice, request)) as messages:
            async for message in messages:
                invoice = _invoice(message, payment_hash)
                if invoice != last:
                    last = invoice
                    yield invoice
                if invoice.state in (InvoiceState.SETTLED, InvoiceState.CANCELED):
                    return
        raise LightningUnavailable("the node ended the subscription before the invoice was final")

    async def settle_invoice(self, preimage: bytes) -> None:
        """See `Lightning.settle_invoice`."""
        _check_32_bytes(preimage)
        try:
            await self._call(self._invoices.SettleInvoice, invoices_pb2.SettleInvoiceMsg(preimage=preimage))
        except InvoiceStateError as error:
            if _ALREADY_SETTLED_TEXT not in str(error):
                raise

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """See `Lightning.cancel_invoice`."""
        _check_32_bytes(payment_hash)
        try:
            await self._call(
                self._invoices.CancelInvoice, invoices_pb2.CancelInvoiceMsg(payment_hash=payment_hash)
            )
        except InvoiceNotFound:
            pass
        except InvoiceStateError as error:
            if _ALREADY_CANCELED_TEXT not in str(error):
                raise

    async def decode(self, payment_request: str) -> DecodedInvoice:
        """See `Lightning.decode`."""
        try:
            message = await self._call(
                self._lightning.DecodePayReq, lightning_pb2.PayReqString(pay_req=payment_request)
            )
        except LightningUnavailable:
            raise
        except LightningError as error:
            raise InvalidPaymentRequest(str(error)) from error
        return DecodedInvoice(
            payment_hash=_hash_of(message.payment_hash),
            destination=message.destination,
            amount_msats=message.num_msat or None,
            created_at=message.timestamp,
            expires_at=message.timestamp + message.expiry,
            description=message.description,
            min_final_cltv_blocks=message.cltv_expiry,
        )

    async def pay(
        self,
        payment_request: str,
        *,
        fee_limit_msats: int,
        timeout_seconds: int,
        amount_msats: int | None = None,
        cltv_limit_blocks: int | None = None,
    ) -> AsyncIterator[Payment]:
        """See `Lightning.pay`."""
        decoded = await self.decode(payment_request)
        if decoded.amount_msats is None and not amount_msats:
            raise InvalidPaymentRequest("the payment request names no amount")
        if decoded.amount_msats is not None and amount_msats not in (None, decoded.amount_msats):
            raise InvalidPaymentRequest("the payment request names another amount")
        # Asked first, since LND would refuse an expired request even if it is just being paid.
        payment = await self.track_payment(decoded.payment_hash)
        if payment is None or payment.state is PaymentState.FAILED:
            request = router_pb2.SendPaymentRequest(
                payment_request=payment_request,
                amt_msat=(amount_msats or 0) if decoded.amount_msats is None else 0,
                fee_limit_msat=fee_limit_msats,
                timeout_seconds=timeout_seconds,
                cltv_limit=min(cltv_limit_blocks or 0, _MAX_CLTV_BLOCKS),
            )
            try:
                sending = self._payments(self._router.SendPaymentV2, request, decoded.payment_hash)
                async for payment in sending:
                    yield payment
                return
            except _PaymentExists:
                pass  # Somebody else has started it in between.
        async for payment in self.follow_payment(decoded.payment_hash):
            yield payment

    async def track_payment(self, payment_hash: bytes) -> Payment | None:
        """See `Lightning.track_payment`."""
        _check_32_bytes(payment_hash)
        request = router_pb2.TrackPaymentRequest(payment_hash=payment_hash)
        try:
            tracking = self._payments(self._router.TrackPaymentV2, request, payment_hash)
            # The node tells at once where a payment stands; only what follows may take its time.
            async with aclosing(tracking) as payments, asyncio.timeout(self._timeout_seconds):
                return await anext(payments)
        except PaymentNotFound:
            return None
        except TimeoutError:
            raise LightningUnavailable("the node does not say where the payment stands") from None

    async def follow_payment(self, payment_hash: bytes) -> AsyncIterator[Payment]:
        """See `Lightning.follow_payment`."""
        _check_32_bytes(payment_hash)
        request = router_pb2.TrackPaymentRequest(payment_hash=payment_hash)
        async for payment in self._payments(self._router.TrackPaymentV2, request, payment_hash):
            yield payment

    async def _payments(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[_Request, lightning_pb2.Payment],
        request: _Request,
        payment_hash: bytes,
    ) -> AsyncGenerator[Payment, None]:
        """The payment's states until the final one."""
        async with aclosing(self._stream(method, request)) as messages:
            async for message in messages:
                payment = _payment(message, payment_hash)
                yield payment
                if payment.state is not PaymentState.IN_FLIGHT:
                    return
        raise LightningUnavailable("the node ended the stream before the payment was final")

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        wait_for_ready: bool = False,
    ) -> _Response:
        with _typed_errors():
            answer = await method(
                request,
                metadata=self._metadata,
                timeout=self._timeout_seconds,
                wait_for_ready=wait_for_ready,
            )
        return _readable(answer)

    async def _stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[_Request, _Response], request: _Request
    ) -> AsyncGenerator[_Response, None]:
        with _typed_errors():
            call = method(request, metadata=self._metadata)
            try:
                async for message in call:
                    yield _readable(message)
            finally:
                call.cancel()


class _PaymentExists(LightningError):
    """The payment is in flight or has succeeded."""


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _typed(error) from error


def _typed(error: grpc.aio.AioRpcError) -> LightningError:
    code, text = error.code(), error.details() or ""
    message = f"{code.name}: {text}"

    def says(*texts: str) -> bool:
        return any(known in text for known in texts)

    if code in _UNAVAILABLE_CODES or says(*_UNAVAILABLE_TEXTS):
        return LightningUnavailable(message)
    if says(*_NOT_FOUND_TEXTS):
        return InvoiceNotFound(message)
    if says(_ALREADY_SETTLED_TEXT, _ALREADY_CANCELED_TEXT, _STILL_OPEN_TEXT):
        return InvoiceStateError(message)
    if code is grpc.StatusCode.ALREADY_EXISTS or says(*_PAYMENT_EXISTS_TEXTS):
        return _PaymentExists(message)
    if says(_NEVER_ATTEMPTED_TEXT):
        return PaymentNotFound(message)
    if says(*_UNPAYABLE_TEXTS):
        return InvalidPaymentRequest(message)
    return LightningError(message)


def _readable(message: _Response | None) -> _Response:
    """gRPC gives None, with a line in the log, for what is no message of the promised kind."""
    if message is None:
        raise LightningUnavailable("the node's answer cannot be read")
    return message


def _hash_of(text: str) -> bytes:
    """A payment hash in hex, as an answer must have it."""
    with suppress(ValueError):
        if len(payment_hash := bytes.fromhex(text)) == 32:
            return payment_hash
    raise LightningUnavailable("the node's answer names no payment hash")


def _check_asked(answered: bytes, payment_hash: bytes) -> None:
    """Money is moved by what an answer says: one to another question must not be taken for it."""
    if answered != payment_hash:
        raise LightningUnavailable(f"asked for {payment_hash.hex()}, the node answered with another")


def _invoice(message: lightning_pb2.Invoice, payment_hash: bytes) -> Invoice:
    _check_asked(message.r_hash, payment_hash)
    state = _INVOICE_STATES[message.state]
    return Invoice(
        payment_hash=message.r_hash,
        payment_request=message.payment_request,
        state=state,
        value_msats=message.value_msat,
        # LND leaves the amount of HTLCs that were given back in a canceled invoice.
        amount_paid_msats=0 if state is InvoiceState.CANCELED else message.amt_paid_msat,
        htlcs=tuple(
            InvoiceHtlc(
                amount_msats=htlc.amt_msat,
                accept_height=htlc.accept_height,
                expiry_height=htlc.expiry_height,
                state=_HTLC_STATES[htlc.state],
            )
            for htlc in message.htlcs
        ),
        expires_at=message.creation_date + message.expiry,
        preimage=_preimage(message.r_preimage, message.r_hash),
    )


def _payment(message: lightning_pb2.Payment, payment_hash: bytes) -> Payment:
    _check_asked(_hash_of(message.payment_hash), payment_hash)
    # Whatever is not known to have failed may still succeed, and must not be paid again.
    state = _PAYMENT_STATES.get(message.status, PaymentState.IN_FLIGHT)
    return Payment(
        payment_hash=payment_hash,
        state=state,
        amount_msats=message.value_msat,
        fee_msats=message.fee_msat,
        preimage=_preimage(bytes.fromhex(message.payment_preimage), payment_hash),
        failure_reason=lightning_pb2.PaymentFailureReason.Name(message.failure_reason)
        if state is PaymentState.FAILED
        else None,
    )


def _preimage(claimed: bytes, payment_hash: bytes) -> bytes | None:
    """The preimage; where it is not known LND sends zeros or nothing."""
    return claimed if sha256(claimed).digest() == payment_hash else None


def _same_amount(invoice: Invoice, amount_msats: int) -> Invoice:
    if invoice.value_msats != amount_msats:
        raise InvoiceStateError(
            f"the invoice for {invoice.payment_hash.hex()} is of {invoice.value_msats} msats,"
            f" not {amount_msats}"
        )
    return invoice


def _check_32_bytes(data: bytes) -> None:
    if len(data) != 32:
        raise LightningError(f"a hash or preimage has 32 bytes, not {len(data)}")
