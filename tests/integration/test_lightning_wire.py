"""Devnet nodes as seen on the wire: LND's error codes and texts, streams, pages."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.lnd import invoices_pb2, lightning_pb2, router_pb2
from coordinator_devnet.lightning import LightningNetwork
from support.lightning import Chain, Stubs, lightning_network, new_preimage

START_MSATS = 10_000_000
OPEN, SETTLED, CANCELED, ACCEPTED = (
    lightning_pb2.Invoice.OPEN,
    lightning_pb2.Invoice.SETTLED,
    lightning_pb2.Invoice.CANCELED,
    lightning_pb2.Invoice.ACCEPTED,
)
IN_FLIGHT, SUCCEEDED, FAILED = (
    lightning_pb2.Payment.IN_FLIGHT,
    lightning_pb2.Payment.SUCCEEDED,
    lightning_pb2.Payment.FAILED,
)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[LightningNetwork]:
    async with lightning_network(tmp_path, height=Chain(700), initial_balance_msats=START_MSATS) as network:
        yield network


@pytest.fixture
async def payee(network: LightningNetwork) -> AsyncIterator[Stubs]:
    async with Stubs(network["coordinator"]) as stubs:
        yield stubs


@pytest.fixture
async def payer(network: LightningNetwork) -> AsyncIterator[Stubs]:
    async with Stubs(network["player"]) as stubs:
        yield stubs


async def refused(call: Awaitable[Any], code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), caught.value.details()) == (code, text)


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in stream]


async def hold(payee: Stubs, **values: Any) -> tuple[bytes, bytes, invoices_pb2.AddHoldInvoiceResp]:
    preimage, payment_hash = new_preimage()
    request = invoices_pb2.AddHoldInvoiceRequest(**{"hash": payment_hash, "value_msat": 1_000, **values})
    return preimage, payment_hash, await payee.invoices.AddHoldInvoice(request, metadata=payee.metadata)


def send(payer: Stubs, **values: Any) -> Any:
    request = router_pb2.SendPaymentRequest(**{"timeout_seconds": 5, **values})
    return payer.router.SendPaymentV2(request, metadata=payer.metadata)


def direct(
    network: LightningNetwork, payment_hash: bytes, secret: bytes, amount_msats: int
) -> dict[str, Any]:
    """A payment without a payment request, so that the payer can deviate from it."""
    return {
        "dest": network["coordinator"].credentials.pubkey,
        "payment_hash": payment_hash,
        "payment_addr": secret,
        "amt_msat": amount_msats,
        "final_cltv_delta": 80,
    }


async def lookup(payee: Stubs, payment_hash: bytes) -> lightning_pb2.Invoice:
    return await payee.invoices.LookupInvoiceV2(
        invoices_pb2.LookupInvoiceMsg(payment_hash=payment_hash), metadata=payee.metadata
    )


async def wait_for_state(payee: Stubs, payment_hash: bytes, state: int) -> lightning_pb2.Invoice:
    stream = payee.invoices.SubscribeSingleInvoice(
        invoices_pb2.SubscribeSingleInvoiceRequest(r_hash=payment_hash), metadata=payee.metadata
    )
    async for invoice in stream:
        if invoice.state == state:
            stream.cancel()
            return invoice
    raise AssertionError("the stream ended")


async def test_macaroon_is_needed_on_every_kind_of_call(network: LightningNetwork) -> None:
    node = network["coordinator"]
    wrong = "verification failed: signature mismatch after caveat verification"
    async with Stubs(node, macaroon_hex="00" * 78) as stubs:
        request = lightning_pb2.GetInfoRequest()
        await refused(
            stubs.lightning.GetInfo(request, metadata=stubs.metadata), grpc.StatusCode.UNKNOWN, wrong
        )
        await refused(stubs.lightning.GetInfo(request), grpc.StatusCode.UNKNOWN, "expected 1 macaroon, got 0")
        await refused(all_of(send(stubs, payment_request="x")), grpc.StatusCode.UNKNOWN, wrong)
        twice = (*stubs.metadata, *stubs.metadata)
        await refused(
            stubs.lightning.GetInfo(request, metadata=twice),
            grpc.StatusCode.UNKNOWN,
            "expected 1 macaroon, got 2",
        )


async def test_errors_of_invoices(payee: Stubs, payer: Stubs) -> None:
    unknown, found = grpc.StatusCode.UNKNOWN, grpc.StatusCode.NOT_FOUND
    lost = "unable to locate invoice"

    def settle(preimage: bytes) -> Any:
        return payee.invoices.SettleInvoice(
            invoices_pb2.SettleInvoiceMsg(preimage=preimage), metadata=payee.metadata
        )

    def cancel(payment_hash: bytes) -> Any:
        return payee.invoices.CancelInvoice(
            invoices_pb2.CancelInvoiceMsg(payment_hash=payment_hash), metadata=payee.metadata
        )

    await refused(settle(bytes(32)), unknown, lost)
    await refused(cancel(bytes(32)), unknown, lost)
    await refused(lookup(payee, bytes(32)), found, lost)
    await refused(
        payee.lightning.LookupInvoice(lightning_pb2.PaymentHash(r_hash=bytes(32)), metadata=payee.metadata),
        found,
        lost,
    )
    await refused(settle(b"short"), unknown, "invalid preimage length of 5, want 32")
    await refused(cancel(b"short"), unknown, "invalid hash length of 5, want 32")
    await refused(hold(payee, hash=b""), unknown, "invalid hash length of 0, want 32")
    await refused(
        hold(payee, value=1, value_msat=1000), unknown, "sat and msat arguments are mutually exclusive"
    )

    preimage, payment_hash, added = await hold(payee)
    await refused(hold(payee, hash=payment_hash), unknown, "invoice with payment hash already exists")
    await refused(settle(preimage), unknown, "invoice still open")
    stream = send(payer, payment_request=added.payment_request)
    await wait_for_state(payee, payment_hash, ACCEPTED)
    await settle(preimage)
    await settle(preimage)
    await refused(cancel(payment_hash), unknown, "invoice already settled")
    assert (await all_of(stream))[-1].status == SUCCEEDED

    preimage, payment_hash, _ = await hold(payee)
    await cancel(payment_hash)
    await cancel(payment_hash)
    await refused(settle(preimage), unknown, "invoice already canceled")


async def test_errors_of_payments(network: LightningNetwork, payee: Stubs, payer: Stubs) -> None:
    unknown, exists = grpc.StatusCode.UNKNOWN, grpc.StatusCode.ALREADY_EXISTS
    preimage, payment_hash, added = await hold(payee)
    request = added.payment_request

    def pay(**values: Any) -> Awaitable[Any]:
        return all_of(send(payer, **values))

    await refused(
        pay(payment_request=request, timeout_seconds=0), unknown, "timeout_seconds must be specified"
    )
    await refused(
        pay(payment_request=request, amt=1),
        unknown,
        "amount must not be specified when paying a non-zero amount invoice",
    )
    await refused(
        pay(payment_request=request, dest=bytes(33)),
        unknown,
        "dest, payment_hash, final_cltv_delta and payment_request cannot appear together",
    )
    await refused(pay(payment_request=request[:-1]), unknown, "invalid checksum")
    await refused(
        pay(dest=b"x", payment_hash=bytes(32), amt=1), unknown, "invalid vertex length of 1, want 33"
    )
    *_, open_amount = await hold(payee, value_msat=0)
    await refused(
        pay(payment_request=open_amount.payment_request),
        unknown,
        "amount must be specified when paying a zero amount invoice",
    )
    *_, too_long = await hold(payee, cltv_expiry=2017)
    await refused(
        pay(payment_request=too_long.payment_request), unknown, "cltv limit 2016 should be greater than 2017"
    )
    own = network["player"].add_invoice(value_msats=1).payment_request
    await refused(pay(payment_request=own), unknown, "self-payments not allowed")
    await refused(
        all_of(
            payer.router.TrackPaymentV2(
                router_pb2.TrackPaymentRequest(payment_hash=payment_hash), metadata=payer.metadata
            )
        ),
        grpc.StatusCode.NOT_FOUND,
        "payment isn't initiated",
    )

    stream = send(payer, payment_request=request)
    await wait_for_state(payee, payment_hash, ACCEPTED)
    await refused(pay(payment_request=request), exists, "payment is in transition")
    await payee.invoices.SettleInvoice(
        invoices_pb2.SettleInvoiceMsg(preimage=preimage), metadata=payee.metadata
    )
    await all_of(stream)
    await refused(pay(payment_request=request), exists, "invoice is already paid")


async def test_underpaid_and_overpaid(network: LightningNetwork, payee: Stubs, payer: Stubs) -> None:
    preimage, payment_hash, added = await hold(payee, value_msat=1_000)
    secret = added.payment_addr
    for changed in (
        direct(network, payment_hash, secret, 999),
        direct(network, payment_hash, bytes(32), 1_000),
        direct(network, payment_hash, b"", 1_000),
        direct(network, bytes(32), secret, 1_000),
        {**direct(network, payment_hash, secret, 1_000), "final_cltv_delta": 79},
    ):
        last = (await all_of(send(payer, **changed)))[-1]
        assert last.status == FAILED
        assert last.failure_reason == lightning_pb2.FAILURE_REASON_INCORRECT_PAYMENT_DETAILS
        assert last.htlcs[0].failure.code == lightning_pb2.Failure.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS
    assert (await lookup(payee, payment_hash)).state == OPEN

    stream = send(payer, **direct(network, payment_hash, secret, 1_500))
    accepted = await wait_for_state(payee, payment_hash, ACCEPTED)
    assert (accepted.value_msat, accepted.amt_paid_msat, accepted.htlcs[0].amt_msat) == (1_000, 1_500, 1_500)
    await payee.invoices.SettleInvoice(
        invoices_pb2.SettleInvoiceMsg(preimage=preimage), metadata=payee.metadata
    )
    assert (await all_of(stream))[-1].value_msat == 1_500
    balance = await payee.lightning.ChannelBalance(
        lightning_pb2.ChannelBalanceRequest(), metadata=payee.metadata
    )
    assert balance.local_balance.msat == START_MSATS + 1_500


async def test_invoice_that_is_held_takes_no_second_payment(
    network: LightningNetwork, payee: Stubs, payer: Stubs
) -> None:
    _, payment_hash, added = await hold(payee)
    send(payer, payment_request=added.payment_request)
    await wait_for_state(payee, payment_hash, ACCEPTED)
    async with Stubs(await network.add_node("second")) as second:
        last = (await all_of(send(second, payment_request=added.payment_request)))[-1]
        assert last.failure_reason == lightning_pb2.FAILURE_REASON_INCORRECT_PAYMENT_DETAILS
    held = await lookup(payee, payment_hash)
    assert (held.state, len(held.htlcs), held.amt_paid_msat) == (ACCEPTED, 1, 1_000)


async def test_payment_to_a_stranger_finds_no_route(payer: Stubs) -> None:
    _, payment_hash = new_preimage()
    [last] = await all_of(
        send(payer, dest=b"\x02" + b"\x11" * 32, payment_hash=payment_hash, amt_msat=1, final_cltv_delta=80)
    )
    assert (last.status, last.failure_reason) == (FAILED, lightning_pb2.FAILURE_REASON_NO_ROUTE)


async def test_payment_goes_on_when_its_stream_is_dropped(payee: Stubs, payer: Stubs) -> None:
    preimage, payment_hash, added = await hold(payee)
    stream = send(payer, payment_request=added.payment_request)
    assert (await anext(aiter(stream))).status == IN_FLIGHT
    stream.cancel()
    await wait_for_state(payee, payment_hash, ACCEPTED)
    tracking = router_pb2.TrackPaymentRequest(payment_hash=payment_hash)
    quiet = router_pb2.TrackPaymentRequest(payment_hash=payment_hash, no_inflight_updates=True)
    streams = [
        asyncio.create_task(all_of(payer.router.TrackPaymentV2(request, metadata=payer.metadata)))
        for request in (tracking, quiet)
    ]
    await asyncio.sleep(0.2)
    await payee.invoices.SettleInvoice(
        invoices_pb2.SettleInvoiceMsg(preimage=preimage), metadata=payee.metadata
    )
    seen = [[payment.status for payment in await stream] for stream in streams]
    assert seen == [[IN_FLIGHT, SUCCEEDED], [SUCCEEDED]]


async def test_unsettled_balances(payee: Stubs, payer: Stubs) -> None:
    _, payment_hash, added = await hold(payee, value_msat=2_000_000)
    before = await payee.lightning.ChannelBalance(
        lightning_pb2.ChannelBalanceRequest(), metadata=payee.metadata
    )
    send(payer, payment_request=added.payment_request)
    await wait_for_state(payee, payment_hash, ACCEPTED)
    mine, theirs = [
        await stubs.lightning.ChannelBalance(lightning_pb2.ChannelBalanceRequest(), metadata=stubs.metadata)
        for stubs in (payee, payer)
    ]
    assert theirs.local_balance.msat == START_MSATS - 2_000_000
    assert theirs.unsettled_local_balance == lightning_pb2.Amount(sat=2_000, msat=2_000_000)
    assert mine.local_balance.msat == START_MSATS
    assert mine.unsettled_remote_balance.msat == 2_000_000
    assert mine.remote_balance.msat == before.remote_balance.msat - 2_000_000
    assert mine.balance == START_MSATS // 1000


async def test_single_invoice_stream(payee: Stubs, payer: Stubs) -> None:
    """An invoice that is unknown is waited for, each change is sent, and the final state ends the stream."""
    preimage, payment_hash = new_preimage()
    stream = asyncio.create_task(
        all_of(
            payee.invoices.SubscribeSingleInvoice(
                invoices_pb2.SubscribeSingleInvoiceRequest(r_hash=payment_hash), metadata=payee.metadata
            )
        )
    )
    await asyncio.sleep(0.2)
    *_, added = await hold(payee, hash=payment_hash)
    paying = send(payer, payment_request=added.payment_request)
    await wait_for_state(payee, payment_hash, ACCEPTED)
    await payee.invoices.SettleInvoice(
        invoices_pb2.SettleInvoiceMsg(preimage=preimage), metadata=payee.metadata
    )
    assert [invoice.state for invoice in await asyncio.wait_for(stream, 5)] == [OPEN, ACCEPTED, SETTLED]
    await all_of(paying)


async def test_stream_of_all_invoices_resumes_by_index(payee: Stubs, payer: Stubs) -> None:
    async def take(count: int, **after: int) -> list[tuple[int, int, int]]:
        stream = payee.lightning.SubscribeInvoices(
            lightning_pb2.InvoiceSubscription(**after), metadata=payee.metadata
        )
        messages = aiter(stream)
        seen = [await asyncio.wait_for(anext(messages), 5) for _ in range(count)]
        stream.cancel()
        return [(invoice.add_index, invoice.settle_index, invoice.state) for invoice in seen]

    live = asyncio.create_task(take(4))
    await asyncio.sleep(0.2)
    requests = [
        await payee.lightning.AddInvoice(
            lightning_pb2.Invoice(value_msat=1_000 + number), metadata=payee.metadata
        )
        for number in range(2)
    ]
    for added in reversed(requests):
        await all_of(send(payer, payment_request=added.payment_request))
    assert await live == [(1, 0, OPEN), (2, 0, OPEN), (2, 1, SETTLED), (1, 2, SETTLED)]
    assert await take(1, add_index=1) == [(2, 1, SETTLED)]
    assert await take(1, settle_index=1) == [(1, 2, SETTLED)]


async def test_pages(payee: Stubs, payer: Stubs) -> None:
    added = [
        await payee.lightning.AddInvoice(
            lightning_pb2.Invoice(value=1, memo=f"number {number}"), metadata=payee.metadata
        )
        for number in range(5)
    ]
    for number in (0, 1, 2):
        await all_of(send(payer, payment_request=added[number].payment_request))
    too_much = await payee.lightning.AddInvoice(
        lightning_pb2.Invoice(value_msat=START_MSATS * 2), metadata=payee.metadata
    )
    await all_of(send(payer, payment_request=too_much.payment_request))

    async def invoices(**query: Any) -> list[int]:
        response = await payee.lightning.ListInvoices(
            lightning_pb2.ListInvoiceRequest(**query), metadata=payee.metadata
        )
        return [invoice.add_index for invoice in response.invoices]

    assert await invoices() == [1, 2, 3, 4, 5, 6]
    assert await invoices(index_offset=2, num_max_invoices=2) == [3, 4]
    assert await invoices(reversed=True, num_max_invoices=2) == [5, 6]
    assert await invoices(reversed=True, index_offset=3, num_max_invoices=9) == [1, 2]
    assert await invoices(pending_only=True) == [4, 5, 6]

    async def payments(**query: Any) -> lightning_pb2.ListPaymentsResponse:
        return await payer.lightning.ListPayments(
            lightning_pb2.ListPaymentsRequest(**query), metadata=payer.metadata
        )

    assert [payment.status for payment in (await payments()).payments] == [SUCCEEDED] * 3
    everything = await payments(include_incomplete=True, count_total_payments=True)
    assert [payment.status for payment in everything.payments] == [SUCCEEDED] * 3 + [FAILED]
    assert everything.total_num_payments == 4
    page = await payments(index_offset=everything.first_index_offset, max_payments=1)
    assert [payment.payment_index for payment in page.payments] == [everything.payments[1].payment_index]


async def test_settled_invoice_and_payment_in_full(
    network: LightningNetwork, payee: Stubs, payer: Stubs
) -> None:
    preimage, payment_hash = new_preimage()
    added = await payee.lightning.AddInvoice(
        lightning_pb2.Invoice(value=7, r_preimage=preimage, memo="prize", expiry=90, cltv_expiry=40),
        metadata=payee.metadata,
    )
    assert added.r_hash == payment_hash
    first, last = await all_of(send(payer, payment_request=added.payment_request))
    assert (first.status, first.payment_preimage) == (IN_FLIGHT, "00" * 32)
    assert last.status == SUCCEEDED
    assert last.payment_hash == payment_hash.hex()
    assert last.payment_preimage == preimage.hex()
    assert (last.value_sat, last.value_msat, last.fee_msat) == (7, 7_000, 0)
    assert last.htlcs[0].preimage == preimage
    assert last.htlcs[0].route.hops[-1].pub_key == network["coordinator"].credentials.pubkey.hex()
    invoice = await payee.lightning.LookupInvoice(
        lightning_pb2.PaymentHash(r_hash=payment_hash), metadata=payee.metadata
    )
    assert (invoice.state, invoice.r_preimage, invoice.amt_paid_msat) == (SETTLED, preimage, 7_000)
    assert (invoice.memo, invoice.expiry, invoice.cltv_expiry) == ("prize", 90, 40)
    assert (invoice.htlcs[0].accept_height, invoice.htlcs[0].expiry_height) == (700, 740)
    by_address = await payee.invoices.LookupInvoiceV2(
        invoices_pb2.LookupInvoiceMsg(payment_addr=added.payment_addr), metadata=payee.metadata
    )
    assert by_address == invoice
    decoded = await payer.lightning.DecodePayReq(
        lightning_pb2.PayReqString(pay_req=added.payment_request), metadata=payer.metadata
    )
    assert decoded.payment_addr == added.payment_addr
    assert {bit: feature.is_required for bit, feature in decoded.features.items()} == {
        8: True,
        14: True,
        17: False,
    }
