"""The coordinator's LND adapter against real LND nodes: what devnet's Lightning claims to be, LND is.

Skipped unless COORDINATOR_LND_PROGRAMS names a folder with lnd, lncli, btcd and btcctl.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
import pytest_asyncio

from coordinator.adapters.lnd import LndLightning
from coordinator.ports.lightning import (
    HtlcState,
    InvalidPaymentRequest,
    Invoice,
    InvoiceState,
    InvoiceStateError,
    Payment,
    PaymentState,
)
from support.lightning import drain
from support.real_lnd import PROGRAMS, STARTING_SECONDS, RealLightning, real_lightning
from support.world import until

pytestmark = [
    pytest.mark.skipif(not PROGRAMS, reason="a development check: COORDINATOR_LND_PROGRAMS is not set"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]

PRICE_MSATS = 50_000_123


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lightning(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealLightning]:
    async with real_lightning(tmp_path_factory.mktemp("lnd")) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="module")
async def coordinator(lightning: RealLightning) -> AsyncIterator[LndLightning]:
    client = lightning.coordinator.client()
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def player(lightning: RealLightning) -> AsyncIterator[LndLightning]:
    client = lightning.player.client()
    yield client
    await client.aclose()


async def hold(node: LndLightning, payment_hash: bytes, **changes: int) -> Invoice:
    terms = {"expiry_seconds": 600, "cltv_expiry_blocks": 288, **changes}
    return await node.add_hold_invoice(payment_hash, PRICE_MSATS, memo="ticket", **terms)


def paying(node: LndLightning, payment_request: str) -> asyncio.Task[list[Payment]]:
    return asyncio.create_task(drain(node.pay(payment_request, fee_limit_msats=0, timeout_seconds=30)))


async def invoice_in(node: LndLightning, payment_hash: bytes, state: InvoiceState) -> Invoice:
    async def wait() -> Invoice:
        async for invoice in node.subscribe_invoice(payment_hash):
            if invoice.state is state:
                return invoice
        raise AssertionError(f"never {state}")

    return await asyncio.wait_for(wait(), 30)


async def balance_becomes(node: LndLightning, balance_msats: int) -> None:
    """Of the node that did not open the channel: the other's balance also carries the commitment's fee."""

    async def equal() -> bool:
        return await node.balance_msats() == balance_msats

    await until(equal, 30)


async def test_a_held_payment_is_settled(
    lightning: RealLightning, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage = secrets.token_bytes(32)
    payment_hash = sha256(preimage).digest()
    invoice = await hold(coordinator, payment_hash)
    assert (invoice.state, invoice.value_msats, invoice.preimage) == (InvoiceState.OPEN, PRICE_MSATS, None)
    assert await hold(coordinator, payment_hash) == invoice
    with pytest.raises(InvoiceStateError):
        await coordinator.settle_invoice(preimage)
    before = await coordinator.balance_msats()
    payment = paying(player, invoice.payment_request)
    accepted = await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)
    assert accepted.amount_paid_msats == PRICE_MSATS
    assert [htlc.state for htlc in accepted.htlcs] == [HtlcState.ACCEPTED]
    height = (await coordinator.info()).block_height
    assert accepted.htlcs[0].accept_height == height
    assert 288 <= accepted.htlcs[0].expiry_height - height <= 288 + 3
    await coordinator.settle_invoice(preimage)
    await coordinator.settle_invoice(preimage)
    last = (await payment)[-1]
    assert (last.state, last.preimage) == (PaymentState.SUCCEEDED, preimage)
    settled = await coordinator.lookup_invoice(payment_hash)
    assert settled is not None
    assert (settled.state, settled.preimage) == (InvoiceState.SETTLED, preimage)
    await balance_becomes(coordinator, before + PRICE_MSATS)
    with pytest.raises(InvoiceStateError):
        await coordinator.cancel_invoice(payment_hash)
    # Paid once: asked again, the node says what became of it.
    assert (await paying(player, invoice.payment_request))[-1].state is PaymentState.SUCCEEDED


async def test_a_held_payment_is_given_back(coordinator: LndLightning, player: LndLightning) -> None:
    preimage = secrets.token_bytes(32)
    payment_hash = sha256(preimage).digest()
    invoice = await hold(coordinator, payment_hash)
    before = await coordinator.balance_msats()
    payment = paying(player, invoice.payment_request)
    await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)
    tracked = await player.track_payment(payment_hash)
    assert tracked is not None
    assert tracked.state is PaymentState.IN_FLIGHT
    await coordinator.cancel_invoice(payment_hash)
    await coordinator.cancel_invoice(payment_hash)
    last = (await payment)[-1]
    assert last.state is PaymentState.FAILED
    assert last.failure_reason == "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
    canceled = await coordinator.lookup_invoice(payment_hash)
    assert canceled is not None
    assert (canceled.state, canceled.amount_paid_msats) == (InvoiceState.CANCELED, 0)
    assert [htlc.state for htlc in canceled.htlcs] == [HtlcState.CANCELED]
    with pytest.raises(InvoiceStateError):
        await coordinator.settle_invoice(preimage)
    await balance_becomes(coordinator, before)


async def test_what_the_node_does_not_know(coordinator: LndLightning) -> None:
    unknown = secrets.token_bytes(32)
    assert await coordinator.lookup_invoice(unknown) is None
    assert await coordinator.track_payment(unknown) is None
    await coordinator.cancel_invoice(unknown)
    with pytest.raises(InvalidPaymentRequest):
        await coordinator.decode("lnsb1nonsense")


async def test_a_payout_is_decoded_and_paid(
    lightning: RealLightning, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage = secrets.token_bytes(32)
    made = await lightning.player.call("addinvoice", "--amt=40000", f"--preimage={preimage.hex()}")
    decoded = await coordinator.decode(made["payment_request"])
    assert decoded.payment_hash == sha256(preimage).digest()
    assert decoded.amount_msats == 40_000_000
    before = await coordinator.balance_msats()
    payments = await paying(coordinator, made["payment_request"])
    assert payments[-1].state is PaymentState.SUCCEEDED
    assert payments[-1].preimage == preimage
    await balance_becomes(coordinator, before - 40_000_000)
    tracked = await coordinator.track_payment(decoded.payment_hash)
    assert tracked == payments[-1]


async def test_a_payout_that_finds_no_way_fails_for_good(
    lightning: RealLightning, coordinator: LndLightning
) -> None:
    made = await lightning.player.call("addinvoice", "--amt=9000000")
    payments = await paying(coordinator, made["payment_request"])
    assert payments[-1].state is PaymentState.FAILED
    assert payments[-1].failure_reason in (
        "FAILURE_REASON_INSUFFICIENT_BALANCE",
        "FAILURE_REASON_NO_ROUTE",
    )


async def test_an_invoice_runs_out(coordinator: LndLightning, player: LndLightning) -> None:
    payment_hash = sha256(secrets.token_bytes(32)).digest()
    invoice = await hold(coordinator, payment_hash, expiry_seconds=1)
    await invoice_in(coordinator, payment_hash, InvoiceState.CANCELED)
    with pytest.raises(InvalidPaymentRequest):
        await paying(player, invoice.payment_request)


async def test_a_node_that_restarts_keeps_what_it_holds(
    lightning: RealLightning, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage = secrets.token_bytes(32)
    payment_hash = sha256(preimage).digest()
    invoice = await hold(coordinator, payment_hash)
    payment = paying(player, invoice.payment_request)
    await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)
    await lightning.coordinator.stop()
    await lightning.coordinator.start()
    await until(lightning.connected, STARTING_SECONDS)
    await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)
    await coordinator.settle_invoice(preimage)
    assert (await payment)[-1].state is PaymentState.SUCCEEDED


async def test_lnd_gives_back_what_would_run_out(
    lightning: RealLightning, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage = secrets.token_bytes(32)
    payment_hash = sha256(preimage).digest()
    invoice = await hold(coordinator, payment_hash, cltv_expiry_blocks=40)
    payment = paying(player, invoice.payment_request)
    accepted = await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)
    left = accepted.htlcs[0].expiry_height - await lightning.btcd.height()
    await lightning.mine(left - 13)
    assert (await invoice_in(coordinator, payment_hash, InvoiceState.ACCEPTED)).preimage is None
    await lightning.mine(2)
    await invoice_in(coordinator, payment_hash, InvoiceState.CANCELED)
    assert (await payment)[-1].state is PaymentState.FAILED
