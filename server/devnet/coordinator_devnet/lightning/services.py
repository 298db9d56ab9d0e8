"""LND's gRPC services `lnrpc.Lightning`, `invoicesrpc.Invoices` and `routerrpc.Router` for one devnet node.

Errors carry LND's texts and codes: most of LND's errors are plain Go errors, which gRPC reports as UNKNOWN.
"""

from __future__ import annotations  # some of gRPC's generics exist for type checkers only

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

import grpc

from coordinator.lnd import (
    invoices_pb2,
    invoices_pb2_grpc,
    lightning_pb2,
    lightning_pb2_grpc,
    router_pb2,
    router_pb2_grpc,
)
from coordinator_client import bolt11

from .ledger import InvoiceNotFound, LedgerError, PaymentExists, PaymentNotFound
from .node import Node, PaymentIntent
from .records import Htlc, HtlcState, Invoice, InvoiceState, Payment, PaymentState

VERSION = "0.20.0-beta.devnet"
NO_PREIMAGE = bytes(32)
_FEATURE_NAMES = {8: "tlv-onion", 14: "payment-addr", 16: "multi-path-payments"}

Context = grpc.aio.ServicerContext[Any, Any]
ChainView = Callable[[], Awaitable[tuple[int, bool]]]
"""The height of the chain's tip, and whether it is up to date."""


class Macaroons(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when running
    """Refuses calls that do not carry the node's macaroon, as LND does."""

    def __init__(self, macaroon_hex: str) -> None:
        self._macaroon = macaroon_hex.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Let the call pass, or answer it with an error."""
        handler = await continuation(details)
        sent = [value for key, value in details.invocation_metadata or () if key == "macaroon"]
        if handler is None or (len(sent) == 1 and hmac.compare_digest(_ascii(sent[0]), self._macaroon)):
            return handler
        error = (
            "verification failed: signature mismatch after caveat verification"
            if len(sent) == 1
            else f"expected 1 macaroon, got {len(sent)}"
        )

        async def refuse(_request: Any, context: Context) -> None:
            await context.abort(grpc.StatusCode.UNKNOWN, error)

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


class LightningService(lightning_pb2_grpc.LightningServicer):
    """`lnrpc.Lightning`."""

    def __init__(self, node: Node, chain_view: ChainView) -> None:
        self._node = node
        self._ledger = node.ledger
        self._chain_view = chain_view

    async def WalletBalance(
        self, request: lightning_pb2.WalletBalanceRequest, context: Context
    ) -> lightning_pb2.WalletBalanceResponse:
        """Nothing: devnet nodes have channels only."""
        return lightning_pb2.WalletBalanceResponse()

    async def ChannelBalance(
        self, request: lightning_pb2.ChannelBalanceRequest, context: Context
    ) -> lightning_pb2.ChannelBalanceResponse:
        """What the node can send and receive, and what is locked."""
        balances = self._ledger.balances(self._node.name)
        return lightning_pb2.ChannelBalanceResponse(
            balance=balances.local_msats // 1000,
            local_balance=_amount(balances.local_msats),
            remote_balance=_amount(balances.remote_msats),
            unsettled_local_balance=_amount(balances.outgoing_msats),
            unsettled_remote_balance=_amount(balances.incoming_msats),
            pending_open_local_balance=_amount(0),
            pending_open_remote_balance=_amount(0),
        )

    async def GetInfo(
        self, request: lightning_pb2.GetInfoRequest, context: Context
    ) -> lightning_pb2.GetInfoResponse:
        """The node's identity and its view of the chain."""
        height, synced = await self._chain_view()
        pubkey = self._node.credentials.pubkey.hex()
        return lightning_pb2.GetInfoResponse(
            version=VERSION,
            identity_pubkey=pubkey,
            alias=self._node.name,
            num_active_channels=1,
            num_peers=1,
            block_height=height,
            synced_to_chain=synced,
            synced_to_graph=synced,
            testnet=self._node.network == "testnet",
            chains=[lightning_pb2.Chain(chain="bitcoin", network=self._node.network)],
            uris=[f"{pubkey}@{self._node.address}"],
            wallet_synced=synced,
        )

    async def AddInvoice(
        self, request: lightning_pb2.Invoice, context: Context
    ) -> lightning_pb2.AddInvoiceResponse:
        """Add an invoice that settles as soon as it is paid."""
        try:
            invoice = self._node.add_invoice(
                value_msats=_msats(request.value, request.value_msat),
                preimage=request.r_preimage or None,
                memo=request.memo,
                description_hash=request.description_hash or None,
                expiry_seconds=request.expiry,
                cltv_expiry_blocks=request.cltv_expiry,
            )
        except LedgerError as error:
            await _abort(context, error)
        return lightning_pb2.AddInvoiceResponse(
            r_hash=invoice.payment_hash,
            payment_request=invoice.payment_request,
            add_index=invoice.add_index,
            payment_addr=invoice.payment_secret,
        )

    async def ListInvoices(
        self, request: lightning_pb2.ListInvoiceRequest, context: Context
    ) -> lightning_pb2.ListInvoiceResponse:
        """Invoices in pages by `add_index`."""
        page = _page(
            [
                invoice
                for invoice in self._ledger.invoices(self._node.name)
                if not (request.pending_only and invoice.state.final)
                and _within(invoice.created_at, request.creation_date_start, request.creation_date_end)
            ],
            index=lambda invoice: invoice.add_index,
            offset=request.index_offset,
            limit=request.num_max_invoices or 100,
            reverse=request.reversed,
        )
        return lightning_pb2.ListInvoiceResponse(
            invoices=map(invoice_message, page),
            first_index_offset=page[0].add_index if page else 0,
            last_index_offset=page[-1].add_index if page else 0,
        )

    async def LookupInvoice(
        self, request: lightning_pb2.PaymentHash, context: Context
    ) -> lightning_pb2.Invoice:
        """The invoice for a hash."""
        try:
            payment_hash = request.r_hash or bytes.fromhex(request.r_hash_str)
        except ValueError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return await _lookup(self._node, payment_hash, context)

    async def SubscribeInvoices(
        self, request: lightning_pb2.InvoiceSubscription, context: Context
    ) -> AsyncIterator[lightning_pb2.Invoice]:
        """Invoices as they are added and settled; those after the given indexes first."""
        last_add, last_settle = request.add_index, request.settle_index
        with self._ledger.invoice_changes(self._node.name) as queue:
            known = self._ledger.invoices(self._node.name)
            if last_add:
                for invoice in known:
                    if invoice.add_index > last_add:
                        last_add = invoice.add_index
                        yield invoice_message(invoice)
            if last_settle:
                for invoice in sorted(known, key=lambda invoice: invoice.settle_index or 0):
                    if (invoice.settle_index or 0) > last_settle:
                        last_settle = invoice.settle_index or 0
                        yield invoice_message(invoice)
            while True:
                change = await queue.get()
                assert isinstance(change, Invoice)
                if change.state is InvoiceState.OPEN or (change.settle_index or 0) > last_settle:
                    yield invoice_message(change)

    async def DecodePayReq(
        self, request: lightning_pb2.PayReqString, context: Context
    ) -> lightning_pb2.PayReq:
        """What a payment request says."""
        try:
            decoded = self._node.decode(request.pay_req)
        except LedgerError as error:
            await _abort(context, error)
        return lightning_pb2.PayReq(
            destination=decoded.payee.hex(),
            payment_hash=decoded.payment_hash.hex(),
            num_satoshis=(decoded.amount_msats or 0) // 1000,
            timestamp=decoded.created_at,
            expiry=decoded.expiry_seconds,
            description=decoded.description or "",
            description_hash=(decoded.description_hash or b"").hex(),
            cltv_expiry=decoded.min_final_cltv_blocks,
            route_hints=[_route_hint(route) for route in decoded.routes],
            payment_addr=decoded.payment_secret or b"",
            num_msat=decoded.amount_msats or 0,
            features=_features(decoded.features),
        )

    async def ListPayments(
        self, request: lightning_pb2.ListPaymentsRequest, context: Context
    ) -> lightning_pb2.ListPaymentsResponse:
        """Payments in pages by `payment_index`."""
        payments = self._ledger.payments(self._node.name)
        page = _page(
            [
                payment
                for payment in payments
                if (request.include_incomplete or payment.state is PaymentState.SUCCEEDED)
                and _within(
                    payment.created_ns // 10**9, request.creation_date_start, request.creation_date_end
                )
            ],
            index=lambda payment: payment.id,
            offset=request.index_offset,
            limit=request.max_payments or len(payments),
            reverse=request.reversed,
        )
        return lightning_pb2.ListPaymentsResponse(
            payments=map(payment_message, page),
            first_index_offset=page[0].id if page else 0,
            last_index_offset=page[-1].id if page else 0,
            total_num_payments=len(payments) if request.count_total_payments else 0,
        )


class InvoicesService(invoices_pb2_grpc.InvoicesServicer):
    """`invoicesrpc.Invoices`: hold invoices."""

    def __init__(self, node: Node, chain_view: ChainView) -> None:
        self._node = node
        self._ledger = node.ledger
        self._chain_view = chain_view

    async def AddHoldInvoice(
        self, request: invoices_pb2.AddHoldInvoiceRequest, context: Context
    ) -> invoices_pb2.AddHoldInvoiceResp:
        """Add an invoice whose preimage is not known here."""
        try:
            invoice = self._node.add_invoice(
                value_msats=_msats(request.value, request.value_msat),
                payment_hash=request.hash,
                memo=request.memo,
                description_hash=request.description_hash or None,
                expiry_seconds=request.expiry,
                cltv_expiry_blocks=request.cltv_expiry,
            )
        except LedgerError as error:
            await _abort(context, error)
        return invoices_pb2.AddHoldInvoiceResp(
            payment_request=invoice.payment_request,
            add_index=invoice.add_index,
            payment_addr=invoice.payment_secret,
        )

    async def SettleInvoice(
        self, request: invoices_pb2.SettleInvoiceMsg, context: Context
    ) -> invoices_pb2.SettleInvoiceResp:
        """Take the held HTLC by revealing the preimage."""
        if len(request.preimage) != 32:
            await context.abort(
                grpc.StatusCode.UNKNOWN, f"invalid preimage length of {len(request.preimage)}, want 32"
            )
        # An HTLC that has just expired must be canceled before it could be settled.
        await self._chain_view()
        try:
            self._ledger.settle_invoice(self._node.name, request.preimage)
        except LedgerError as error:
            await _abort(context, error)
        return invoices_pb2.SettleInvoiceResp()

    async def CancelInvoice(
        self, request: invoices_pb2.CancelInvoiceMsg, context: Context
    ) -> invoices_pb2.CancelInvoiceResp:
        """Cancel the invoice and give the held HTLC back."""
        await _check_hash(request.payment_hash, context)
        try:
            self._ledger.cancel_invoice(self._node.name, request.payment_hash)
        except LedgerError as error:
            await _abort(context, error)
        return invoices_pb2.CancelInvoiceResp()

    async def LookupInvoiceV2(
        self, request: invoices_pb2.LookupInvoiceMsg, context: Context
    ) -> lightning_pb2.Invoice:
        """The invoice for a payment hash or a payment address."""
        match request.WhichOneof("invoice_ref"):
            case "payment_hash":
                payment_hash = request.payment_hash
            case "payment_addr":
                payment_hash = next(
                    (
                        invoice.payment_hash
                        for invoice in self._ledger.invoices(self._node.name)
                        if invoice.payment_secret == request.payment_addr
                    ),
                    bytes(32),
                )
            case _:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invoice ref must be set")
        return await _lookup(self._node, payment_hash, context)

    async def SubscribeSingleInvoice(
        self, request: invoices_pb2.SubscribeSingleInvoiceRequest, context: Context
    ) -> AsyncIterator[lightning_pb2.Invoice]:
        """The invoice now and upon each change until a final state; one that is unknown is waited for."""
        await _check_hash(request.r_hash, context)
        with self._ledger.invoice_changes(self._node.name, request.r_hash) as queue:
            invoice = self._ledger.find_invoice(self._node.name, request.r_hash)
            while True:
                if invoice is not None:
                    yield invoice_message(invoice)
                    if invoice.state.final:
                        return
                change = await queue.get()
                assert isinstance(change, Invoice)
                invoice = change


class RouterService(router_pb2_grpc.RouterServicer):
    """`routerrpc.Router`: sending payments."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ledger = node.ledger

    async def SendPaymentV2(
        self, request: router_pb2.SendPaymentRequest, context: Context
    ) -> AsyncIterator[lightning_pb2.Payment]:
        """Pay; the payment goes on if the stream is dropped."""
        if request.timeout_seconds <= 0:
            await context.abort(grpc.StatusCode.UNKNOWN, "timeout_seconds must be specified")
        if request.amp:
            await context.abort(grpc.StatusCode.UNKNOWN, "AMP is not supported")
        try:
            intent = PaymentIntent(
                payment_request=request.payment_request,
                amount_msats=_msats(request.amt, request.amt_msat),
                fee_limit_msats=_msats(request.fee_limit_sat, request.fee_limit_msat),
                cltv_limit_blocks=request.cltv_limit,
                destination=request.dest,
                payment_hash=request.payment_hash,
                payment_secret=request.payment_addr or None,
                final_cltv_blocks=request.final_cltv_delta,
            )
            payment_hash = (
                self._node.decode(request.payment_request).payment_hash
                if request.payment_request
                else request.payment_hash
            )
            with self._ledger.payment_changes(self._node.name, payment_hash) as queue:
                await self._node.pay(intent)
                while True:
                    payment = await queue.get()
                    assert isinstance(payment, Payment)
                    in_flight = payment.state is PaymentState.IN_FLIGHT
                    if not (in_flight and request.no_inflight_updates):
                        yield payment_message(payment)
                    if not in_flight:
                        return
        except LedgerError as error:
            await _abort(context, error)

    async def TrackPaymentV2(
        self, request: router_pb2.TrackPaymentRequest, context: Context
    ) -> AsyncIterator[lightning_pb2.Payment]:
        """The payment as it is, then upon each change until it is final."""
        await _check_hash(request.payment_hash, context)
        with self._ledger.payment_changes(self._node.name, request.payment_hash) as queue:
            try:
                payment = self._ledger.payment(self._node.name, request.payment_hash)
            except PaymentNotFound as error:
                await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
            while True:
                in_flight = payment.state is PaymentState.IN_FLIGHT
                if not (in_flight and request.no_inflight_updates):
                    yield payment_message(payment)
                if not in_flight:
                    return
                change = await queue.get()
                assert isinstance(change, Payment)
                payment = change


def invoice_message(invoice: Invoice) -> lightning_pb2.Invoice:
    """The invoice as LND shows it."""
    return lightning_pb2.Invoice(
        memo=invoice.memo,
        r_preimage=invoice.preimage or b"",
        r_hash=invoice.payment_hash,
        value=invoice.value_msats // 1000,
        value_msat=invoice.value_msats,
        settled=invoice.state is InvoiceState.SETTLED,
        creation_date=invoice.created_at,
        settle_date=invoice.settled_at or 0,
        payment_request=invoice.payment_request,
        description_hash=invoice.description_hash or b"",
        expiry=invoice.expiry_seconds,
        cltv_expiry=invoice.cltv_expiry_blocks,
        add_index=invoice.add_index,
        settle_index=invoice.settle_index or 0,
        amt_paid=invoice.amount_paid_msats,
        amt_paid_sat=invoice.amount_paid_msats // 1000,
        amt_paid_msat=invoice.amount_paid_msats,
        state=lightning_pb2.Invoice.InvoiceState.Value(invoice.state),
        htlcs=map(_invoice_htlc, invoice.htlcs),
        features=_features(bolt11.decode(invoice.payment_request).features),
        payment_addr=invoice.payment_secret,
    )


def payment_message(payment: Payment) -> lightning_pb2.Payment:
    """The payment as LND shows it."""
    return lightning_pb2.Payment(
        payment_hash=payment.payment_hash.hex(),
        value=payment.amount_msats // 1000,
        creation_date=payment.created_ns // 10**9,
        fee=payment.fee_msats // 1000,
        payment_preimage=(payment.preimage or NO_PREIMAGE).hex(),
        value_sat=payment.amount_msats // 1000,
        value_msat=payment.amount_msats,
        payment_request=payment.payment_request,
        status=lightning_pb2.Payment.PaymentStatus.Value(payment.state),
        fee_sat=payment.fee_msats // 1000,
        fee_msat=payment.fee_msats,
        creation_time_ns=payment.created_ns,
        htlcs=[_attempt(htlc, payment) for htlc in payment.htlcs],
        payment_index=payment.id,
        failure_reason=lightning_pb2.PaymentFailureReason.Value(payment.failure or "FAILURE_REASON_NONE"),
    )


def _invoice_htlc(htlc: Htlc) -> lightning_pb2.InvoiceHTLC:
    return lightning_pb2.InvoiceHTLC(
        htlc_index=htlc.id,
        amt_msat=htlc.amount_msats,
        accept_height=htlc.accept_height or 0,
        accept_time=htlc.accepted_at or 0,
        resolve_time=(htlc.resolved_ns or 0) // 10**9,
        expiry_height=htlc.expiry_height,
        state=lightning_pb2.InvoiceHTLCState.Value(htlc.state),
        mpp_total_amt_msat=htlc.amount_msats,
    )


def _attempt(htlc: Htlc, payment: Payment) -> lightning_pb2.HTLCAttempt:
    status = {HtlcState.SETTLED: "SUCCEEDED", HtlcState.CANCELED: "FAILED"}.get(htlc.state, "IN_FLIGHT")
    return lightning_pb2.HTLCAttempt(
        attempt_id=htlc.id,
        status=lightning_pb2.HTLCAttempt.HTLCStatus.Value(status),
        route=lightning_pb2.Route(
            total_time_lock=htlc.expiry_height,
            total_fees_msat=htlc.fee_msats,
            total_amt_msat=htlc.amount_msats + htlc.fee_msats,
            hops=[
                lightning_pb2.Hop(
                    expiry=htlc.expiry_height,
                    amt_to_forward_msat=htlc.amount_msats,
                    pub_key=payment.destination.hex(),
                    mpp_record=lightning_pb2.MPPRecord(
                        payment_addr=htlc.payment_secret or b"", total_amt_msat=htlc.amount_msats
                    ),
                )
            ],
        ),
        attempt_time_ns=htlc.sent_ns,
        resolve_time_ns=htlc.resolved_ns or 0,
        failure=lightning_pb2.Failure(code=lightning_pb2.Failure.FailureCode.Value(htlc.failure))
        if htlc.failure
        else None,
        preimage=(payment.preimage or b"") if htlc.state is HtlcState.SETTLED else b"",
    )


def _features(bits: Iterable[int]) -> dict[int, lightning_pb2.Feature]:
    return {
        bit: lightning_pb2.Feature(
            name=_FEATURE_NAMES.get(bit - bit % 2, "unknown"),
            is_required=bit % 2 == 0,
            is_known=bit - bit % 2 in _FEATURE_NAMES,
        )
        for bit in bits
    }


def _route_hint(route: Iterable[bolt11.RouteHop]) -> lightning_pb2.RouteHint:
    return lightning_pb2.RouteHint(
        hop_hints=[
            lightning_pb2.HopHint(
                node_id=hop.pubkey.hex(),
                chan_id=hop.short_channel_id,
                fee_base_msat=hop.fee_base_msats,
                fee_proportional_millionths=hop.fee_proportional_millionths,
                cltv_expiry_delta=hop.cltv_expiry_delta_blocks,
            )
            for hop in route
        ]
    )


def _amount(msats: int) -> lightning_pb2.Amount:
    return lightning_pb2.Amount(sat=msats // 1000, msat=msats)


def _msats(sats: int, msats: int) -> int:
    """One amount from two fields that exclude each other."""
    if sats and msats:
        raise LedgerError("sat and msat arguments are mutually exclusive")
    if sats < 0 or msats < 0:
        raise LedgerError("amount cannot be negative")
    return sats * 1000 or msats


_Item = TypeVar("_Item")


def _page(
    items: list[_Item], *, index: Callable[[_Item], int], offset: int, limit: int, reverse: bool
) -> list[_Item]:
    """LND's pagination: the items after the offset, or the last ones before it; always oldest first."""
    if reverse:
        before = [item for item in items if not offset or index(item) < offset]
        return before[-limit:] if limit else []
    return [item for item in items if index(item) > offset][:limit]


def _within(moment: int, start: int, end: int) -> bool:
    return moment >= start and (not end or moment <= end)


def _ascii(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def _lookup(node: Node, payment_hash: bytes, context: Context) -> lightning_pb2.Invoice:
    await _check_hash(payment_hash, context)
    try:
        return invoice_message(node.ledger.invoice(node.name, payment_hash))
    except InvoiceNotFound as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))


async def _check_hash(payment_hash: bytes, context: Context) -> None:
    if len(payment_hash) != 32:
        await context.abort(grpc.StatusCode.UNKNOWN, f"invalid hash length of {len(payment_hash)}, want 32")


async def _abort(context: Context, error: LedgerError) -> NoReturn:
    code = grpc.StatusCode.ALREADY_EXISTS if isinstance(error, PaymentExists) else grpc.StatusCode.UNKNOWN
    await context.abort(code, str(error))
