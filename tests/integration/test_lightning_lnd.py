"""The coordinator's LND adapter against devnet nodes, over TLS sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.adapters.lnd import LndLightning
from coordinator.ports.lightning import (
    HtlcState,
    InvalidPaymentRequest,
    Invoice,
    InvoiceNotFound,
    InvoiceState,
    InvoiceStateError,
    LightningError,
    LightningUnavailable,
    Payment,
    PaymentState,
)
from coordinator_devnet.lightning import LightningNetwork
from support.lightning import Chain, Clock, drain, lightning_network, lnd, new_preimage

PRICE_MSATS = 50_000_123
START_MSATS = 200_000_000


@pytest.fixture
def chain() -> Chain:
    return Chain(500)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def network(tmp_path: Path, chain: Chain, clock: Clock) -> AsyncIterator[LightningNetwork]:
    async with lightning_network(
        tmp_path, height=chain, clock=clock, initial_balance_msats=START_MSATS, inbound_msats=START_MSATS
    ) as network:
        yield network


@pytest.fixture
async def coordinator(network: LightningNetwork) -> AsyncIterator[LndLightning]:
    async with lnd(network["coordinator"]) as client:
        yield client


@pytest.fixture
async def player(network: LightningNetwork) -> AsyncIterator[LndLightning]:
    async with lnd(network["player"]) as client:
        yield client


async def hold(node: LndLightning, payment_hash: bytes, amount_msats: int = PRICE_MSATS) -> Invoice:
    return await node.add_hold_invoice(
        payment_hash, amount_msats, memo="ticket", expiry_seconds=600, cltv_expiry_blocks=288
    )


class Paying:
    """A payment under way in the background."""

    def __init__(self, node: LndLightning, payment_request: str, **options: int) -> None:
        self._task = asyncio.create_task(
            drain(node.pay(payment_request, **{"fee_limit_msats": 0, "timeout_seconds": 5, **options}))
        )

    async def states(self) -> list[Payment]:
        return await asyncio.wait_for(self._task, 10)


async def until(node: LndLightning, payment_hash: bytes, state: InvoiceState) -> Invoice:
    async def wait() -> Invoice:
        async for invoice in node.subscribe_invoice(payment_hash):
            if invoice.state is state:
                return invoice
        raise AssertionError(f"never {state}")

    return await asyncio.wait_for(wait(), 10)


async def balances(*nodes: LndLightning) -> list[int]:
    return [await node.balance_msats() for node in nodes]


async def test_info(network: LightningNetwork, coordinator: LndLightning, chain: Chain) -> None:
    info = await coordinator.info()
    assert info.pubkey == network["coordinator"].credentials.pubkey.hex()
    assert (info.alias, info.block_height, info.synced, info.network) == ("coordinator", 500, True, "regtest")
    chain.height = 501
    assert (await coordinator.info()).block_height == 501
    chain.height = None
    info = await coordinator.info()
    assert (info.block_height, info.synced) == (501, False)


async def test_hold_invoice_is_paid_and_settled(
    network: LightningNetwork, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage, payment_hash = new_preimage()
    invoice = await hold(coordinator, payment_hash)
    assert invoice.state is InvoiceState.OPEN
    assert invoice.value_msats == PRICE_MSATS
    assert invoice.htlcs == ()
    assert invoice.preimage is None
    assert invoice.payment_request.startswith("lnbcrt500001230p1")

    paying = Paying(player, invoice.payment_request)
    accepted = await until(coordinator, payment_hash, InvoiceState.ACCEPTED)
    [htlc] = accepted.htlcs
    assert (htlc.amount_msats, htlc.accept_height, htlc.expiry_height) == (PRICE_MSATS, 500, 788)
    assert htlc.state is HtlcState.ACCEPTED
    assert accepted.amount_paid_msats == PRICE_MSATS
    assert accepted.preimage is None
    assert await balances(coordinator, player) == [START_MSATS, START_MSATS - PRICE_MSATS]
    payment = await player.track_payment(payment_hash)
    assert payment is not None
    assert (payment.state, payment.preimage) == (PaymentState.IN_FLIGHT, None)

    await coordinator.settle_invoice(preimage)
    settled = await until(coordinator, payment_hash, InvoiceState.SETTLED)
    assert settled.preimage == preimage
    assert settled.htlcs[0].state is HtlcState.SETTLED
    states = await paying.states()
    assert [payment.state for payment in states] == [PaymentState.IN_FLIGHT, PaymentState.SUCCEEDED]
    assert states[-1].preimage == preimage
    assert (states[-1].amount_msats, states[-1].fee_msats) == (PRICE_MSATS, 0)
    assert await balances(coordinator, player) == [START_MSATS + PRICE_MSATS, START_MSATS - PRICE_MSATS]
    supply = network.supply()
    assert supply.total_msats == supply.funded_msats == 2 * START_MSATS


async def test_hold_invoice_is_paid_and_canceled(coordinator: LndLightning, player: LndLightning) -> None:
    preimage, payment_hash = new_preimage()
    paying = Paying(player, (await hold(coordinator, payment_hash)).payment_request)
    await until(coordinator, payment_hash, InvoiceState.ACCEPTED)
    await coordinator.cancel_invoice(payment_hash)
    canceled = await until(coordinator, payment_hash, InvoiceState.CANCELED)
    assert canceled.amount_paid_msats == 0
    assert canceled.htlcs[0].state is HtlcState.CANCELED
    states = await paying.states()
    assert states[-1].state is PaymentState.FAILED
    assert states[-1].failure_reason == "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
    assert await balances(coordinator, player) == [START_MSATS, START_MSATS]

    # What is canceled stays so, and cannot be paid again.
    await coordinator.cancel_invoice(payment_hash)
    with pytest.raises(InvoiceStateError):
        await coordinator.settle_invoice(preimage)
    again = await drain(player.pay(canceled.payment_request, fee_limit_msats=0, timeout_seconds=5))
    assert again[-1].state is PaymentState.FAILED
    assert await balances(coordinator, player) == [START_MSATS, START_MSATS]


async def test_settling_rules(coordinator: LndLightning, player: LndLightning) -> None:
    preimage, payment_hash = new_preimage()
    with pytest.raises(InvoiceNotFound):
        await coordinator.settle_invoice(preimage)
    invoice = await hold(coordinator, payment_hash)
    with pytest.raises(InvoiceStateError):
        await coordinator.settle_invoice(preimage)
    assert (await coordinator.lookup_invoice(payment_hash)) == invoice

    paying = Paying(player, invoice.payment_request)
    await until(coordinator, payment_hash, InvoiceState.ACCEPTED)
    await coordinator.settle_invoice(preimage)
    await coordinator.settle_invoice(preimage)
    with pytest.raises(InvoiceStateError):
        await coordinator.cancel_invoice(payment_hash)
    await paying.states()
    assert await balances(coordinator, player) == [START_MSATS + PRICE_MSATS, START_MSATS - PRICE_MSATS]


async def test_canceling_rules(coordinator: LndLightning) -> None:
    _, payment_hash = new_preimage()
    await coordinator.cancel_invoice(payment_hash)
    assert await coordinator.lookup_invoice(payment_hash) is None
    await hold(coordinator, payment_hash)
    await coordinator.cancel_invoice(payment_hash)
    await coordinator.cancel_invoice(payment_hash)
    states = [invoice.state async for invoice in coordinator.subscribe_invoice(payment_hash)]
    assert states == [InvoiceState.CANCELED]


async def test_adding_a_hold_invoice_is_idempotent(coordinator: LndLightning) -> None:
    _, payment_hash = new_preimage()
    first = await hold(coordinator, payment_hash)
    assert await hold(coordinator, payment_hash) == first
    many = await asyncio.gather(*(hold(coordinator, new_preimage()[1]) for _ in range(3)))
    assert len({invoice.payment_request for invoice in many}) == 3
    with pytest.raises(InvoiceStateError):
        await hold(coordinator, payment_hash, PRICE_MSATS + 1)

    _, raced_hash = new_preimage()
    raced = await asyncio.gather(*(hold(coordinator, raced_hash) for _ in range(5)))
    assert len({invoice.payment_request for invoice in raced}) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"amount_msats": 0},
        {"amount_msats": -1},
        {"memo": "x" * 640},
        {"expiry_seconds": 31_536_001},
        {"cltv_expiry_blocks": 17},
        {"cltv_expiry_blocks": 65_536},
        {"payment_hash": b"short"},
    ],
)
async def test_hold_invoices_that_are_refused(coordinator: LndLightning, values: dict[str, object]) -> None:
    arguments = {
        "payment_hash": new_preimage()[1],
        "amount_msats": 1,
        "memo": "",
        "expiry_seconds": 60,
        "cltv_expiry_blocks": 80,
        **values,
    }
    with pytest.raises(LightningError) as refused:
        await coordinator.add_hold_invoice(**arguments)
    assert not isinstance(refused.value, LightningUnavailable)


async def test_subscribing_to_an_unknown_invoice(coordinator: LndLightning) -> None:
    with pytest.raises(InvoiceNotFound):
        await anext(aiter(coordinator.subscribe_invoice(bytes(32))))


async def test_decode(network: LightningNetwork, coordinator: LndLightning, player: LndLightning) -> None:
    _, payment_hash = new_preimage()
    invoice = await hold(coordinator, payment_hash)
    decoded = await player.decode(invoice.payment_request)
    assert decoded.payment_hash == payment_hash
    assert decoded.destination == network["coordinator"].credentials.pubkey.hex()
    assert decoded.amount_msats == PRICE_MSATS
    assert decoded.expires_at == invoice.expires_at == decoded.created_at + 600
    assert decoded.description == "ticket"
    assert decoded.min_final_cltv_blocks == 288
    for text in (
        "",
        "lnbcrt1",
        invoice.payment_request[:-1],
        invoice.payment_request.replace("bcrt", "bc", 1),
    ):
        with pytest.raises(InvalidPaymentRequest):
            await player.decode(text)
    mainnet = "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaztrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"  # noqa: E501
    with pytest.raises(InvalidPaymentRequest, match="not for current active network"):
        await player.decode(mainnet)


async def test_payout_to_a_player(
    network: LightningNetwork, coordinator: LndLightning, player: LndLightning
) -> None:
    preimage, payment_hash = new_preimage()
    request = network["player"].add_invoice(value_msats=PRICE_MSATS, preimage=preimage).payment_request
    states = await drain(coordinator.pay(request, fee_limit_msats=0, timeout_seconds=5))
    assert [payment.state for payment in states] == [PaymentState.IN_FLIGHT, PaymentState.SUCCEEDED]
    assert states[-1].preimage == preimage
    assert await balances(coordinator, player) == [START_MSATS - PRICE_MSATS, START_MSATS + PRICE_MSATS]

    # Paying again yields the payment that was made.
    again = await drain(coordinator.pay(request, fee_limit_msats=0, timeout_seconds=5))
    assert again == states[-1:]
    assert await balances(coordinator, player) == [START_MSATS - PRICE_MSATS, START_MSATS + PRICE_MSATS]
    assert await coordinator.track_payment(payment_hash) == states[-1]


async def test_paying_while_it_is_in_flight_tracks_it(
    coordinator: LndLightning, player: LndLightning, clock: Clock
) -> None:
    preimage, payment_hash = new_preimage()
    invoice = await hold(player, payment_hash)
    first = Paying(coordinator, invoice.payment_request)
    await until(player, payment_hash, InvoiceState.ACCEPTED)
    # Even once the request has expired: what is in flight is not refused, but tracked.
    clock.ahead_seconds = 3600
    second = Paying(coordinator, invoice.payment_request)
    await asyncio.sleep(0.2)
    assert await balances(coordinator, player) == [START_MSATS - PRICE_MSATS, START_MSATS]
    await player.settle_invoice(preimage)
    assert (await first.states())[-1] == (await second.states())[-1]
    assert await balances(coordinator, player) == [START_MSATS - PRICE_MSATS, START_MSATS + PRICE_MSATS]


async def test_paying_many_times_at_once_pays_once(
    network: LightningNetwork, coordinator: LndLightning, player: LndLightning
) -> None:
    request = network["player"].add_invoice(value_msats=PRICE_MSATS).payment_request
    payments = [Paying(coordinator, request) for _ in range(5)]
    for paying in payments:
        assert (await paying.states())[-1].state is PaymentState.SUCCEEDED
    assert await balances(coordinator, player) == [START_MSATS - PRICE_MSATS, START_MSATS + PRICE_MSATS]


async def test_payment_never_attempted(coordinator: LndLightning) -> None:
    assert await coordinator.track_payment(bytes(32)) is None


async def test_payments_that_fail(
    network: LightningNetwork, coordinator: LndLightning, player: LndLightning
) -> None:
    async def reason(node: LndLightning, request: str) -> str | None:
        last = (await drain(node.pay(request, fee_limit_msats=0, timeout_seconds=5)))[-1]
        assert last.state is PaymentState.FAILED
        assert last.preimage is None
        return last.failure_reason

    too_much = network["player"].add_invoice(value_msats=START_MSATS + 1).payment_request
    assert await reason(coordinator, too_much) == "FAILURE_REASON_INSUFFICIENT_BALANCE"
    third = await network.add_node("third", balance_msats=2 * START_MSATS)
    more_than_the_payee_can_receive = network["player"].add_invoice(value_msats=START_MSATS + 1)
    async with lnd(third) as rich:
        assert (
            await reason(rich, more_than_the_payee_can_receive.payment_request) == "FAILURE_REASON_NO_ROUTE"
        )
        assert await rich.balance_msats() == 2 * START_MSATS

        # A payment that failed is tried anew, and may then succeed.
        exact = network["player"].add_invoice(value_msats=START_MSATS).payment_request
        occupied = network["player"].add_invoice(value_msats=1).payment_request
        await drain(coordinator.pay(occupied, fee_limit_msats=0, timeout_seconds=5))
        assert await reason(rich, exact) == "FAILURE_REASON_NO_ROUTE"
        back = network["coordinator"].add_invoice(value_msats=1).payment_request
        await drain(player.pay(back, fee_limit_msats=0, timeout_seconds=5))
        retried = await drain(rich.pay(exact, fee_limit_msats=0, timeout_seconds=5))
        assert retried[-1].state is PaymentState.SUCCEEDED
    supply = network.supply()
    assert supply.total_msats == supply.funded_msats == 4 * START_MSATS


async def test_payments_that_are_refused(
    network: LightningNetwork, coordinator: LndLightning, clock: Clock
) -> None:
    open_amount = network["player"].add_invoice(value_msats=0).payment_request
    fixed = network["player"].add_invoice(value_msats=1000, expiry_seconds=60).payment_request
    own = network["coordinator"].add_invoice(value_msats=1000).payment_request
    refused: list[tuple[str, int | None]] = [
        (open_amount, None),
        (fixed, 999),
        ("lnbcrt1", None),
        (own, None),
    ]
    for request, amount_msats in refused:
        with pytest.raises(InvalidPaymentRequest):
            await drain(
                coordinator.pay(request, fee_limit_msats=0, timeout_seconds=5, amount_msats=amount_msats)
            )
    clock.ahead_seconds = 61
    with pytest.raises(InvalidPaymentRequest, match="invoice expired"):
        await drain(coordinator.pay(fixed, fee_limit_msats=0, timeout_seconds=5))
    assert await coordinator.balance_msats() == START_MSATS

    paid = await drain(coordinator.pay(open_amount, fee_limit_msats=0, timeout_seconds=5, amount_msats=777))
    assert (paid[-1].state, paid[-1].amount_msats) == (PaymentState.SUCCEEDED, 777)
    assert await coordinator.balance_msats() == START_MSATS - 777


async def test_fees(tmp_path: Path) -> None:
    async with (
        lightning_network(tmp_path, base_fee_msats=1_000, initial_balance_msats=START_MSATS) as network,
        lnd(network["coordinator"]) as coordinator,
        lnd(network["player"]) as player,
    ):
        request = network["player"].add_invoice(value_msats=PRICE_MSATS).payment_request
        [failed] = await drain(coordinator.pay(request, fee_limit_msats=999, timeout_seconds=5))
        assert failed.failure_reason == "FAILURE_REASON_NO_ROUTE"
        paid = await drain(coordinator.pay(request, fee_limit_msats=1_000, timeout_seconds=5))
        assert (paid[-1].state, paid[-1].fee_msats) == (PaymentState.SUCCEEDED, 1_000)
        assert await balances(coordinator, player) == [
            START_MSATS - PRICE_MSATS - 1_000,
            START_MSATS + PRICE_MSATS,
        ]

        _, payment_hash = new_preimage()
        paying = Paying(
            coordinator, (await hold(player, payment_hash)).payment_request, fee_limit_msats=1_000
        )
        await until(player, payment_hash, InvoiceState.ACCEPTED)
        assert network.supply().in_flight_msats == PRICE_MSATS + 1_000
        await player.cancel_invoice(payment_hash)
        assert (await paying.states())[-1].fee_msats == 0
        supply = network.supply()
        assert (supply.routing_fees_msats, supply.in_flight_msats) == (1_000, 0)
        assert supply.total_msats == supply.funded_msats


async def test_open_invoice_expires_by_time(coordinator: LndLightning, clock: Clock) -> None:
    _, payment_hash = new_preimage()
    await hold(coordinator, payment_hash)
    clock.ahead_seconds = 590
    await asyncio.sleep(0.2)
    invoice = await coordinator.lookup_invoice(payment_hash)
    assert invoice is not None
    assert invoice.state is InvoiceState.OPEN
    clock.ahead_seconds = 602
    await until(coordinator, payment_hash, InvoiceState.CANCELED)


async def test_accepted_invoice_expires_by_height_only(
    coordinator: LndLightning, player: LndLightning, chain: Chain, clock: Clock
) -> None:
    preimage, payment_hash = new_preimage()
    paying = Paying(player, (await hold(coordinator, payment_hash)).payment_request)
    accepted = await until(coordinator, payment_hash, InvoiceState.ACCEPTED)
    clock.ahead_seconds = 86_400
    chain.height = accepted.htlcs[0].expiry_height - 13
    await asyncio.sleep(0.2)
    invoice = await coordinator.lookup_invoice(payment_hash)
    assert invoice is not None
    assert invoice.state is InvoiceState.ACCEPTED
    # LND gives an HTLC back 12 blocks before it expires.
    chain.height += 1
    with pytest.raises(InvoiceStateError):
        await coordinator.settle_invoice(preimage)
    assert (await until(coordinator, payment_hash, InvoiceState.CANCELED)).htlcs[
        0
    ].state is HtlcState.CANCELED
    assert (await paying.states())[-1].state is PaymentState.FAILED
    assert await balances(coordinator, player) == [START_MSATS, START_MSATS]


async def test_payer_does_not_start_without_a_chain(tmp_path: Path) -> None:
    async with (
        lightning_network(tmp_path, height=Chain(None)) as network,
        lnd(network["player"]) as player,
    ):
        assert (await player.info()).synced is False
        request = network["coordinator"].add_invoice(value_msats=1000).payment_request
        with pytest.raises(LightningUnavailable):
            await drain(player.pay(request, fee_limit_msats=0, timeout_seconds=5))


async def test_unreachable_node(tmp_path: Path) -> None:
    async with lightning_network(tmp_path) as network, lnd(network["coordinator"]) as coordinator:
        await coordinator.info()
        _, payment_hash = new_preimage()
        await hold(coordinator, payment_hash)
        subscription = aiter(coordinator.subscribe_invoice(payment_hash))
        await anext(subscription)
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0.1)
        await network.stop()
        with pytest.raises(LightningUnavailable):
            await asyncio.wait_for(waiting, 5)
        for call in (
            coordinator.info(),
            coordinator.balance_msats(),
            coordinator.lookup_invoice(payment_hash),
            coordinator.track_payment(payment_hash),
            coordinator.cancel_invoice(payment_hash),
            coordinator.settle_invoice(payment_hash),
            coordinator.decode("lnbcrt1"),
        ):
            with pytest.raises(LightningUnavailable):
                await asyncio.wait_for(call, 10)


async def test_wrong_certificate_or_macaroon(network: LightningNetwork) -> None:
    node, other = network["coordinator"], network["player"]
    stranger = LndLightning(
        node.address, tls_certificate=node.tls_cert_path.read_bytes(), macaroon_hex=other.macaroon_hex
    )
    with pytest.raises(LightningError, match="verification failed"):
        await stranger.info()
    with pytest.raises(LightningError, match="verification failed"):
        await stranger.track_payment(bytes(32))
    await stranger.aclose()
    deceived = LndLightning(
        node.address, tls_certificate=other.tls_cert_path.read_bytes(), macaroon_hex=node.macaroon_hex
    )
    with pytest.raises(LightningUnavailable):
        await deceived.info()
    await deceived.aclose()


async def test_secrets_are_not_shown(coordinator: LndLightning, player: LndLightning) -> None:
    preimage, payment_hash = new_preimage()
    paying = Paying(player, (await hold(coordinator, payment_hash)).payment_request)
    await until(coordinator, payment_hash, InvoiceState.ACCEPTED)
    await coordinator.settle_invoice(preimage)
    settled = await until(coordinator, payment_hash, InvoiceState.SETTLED)
    for shown in (repr(settled), repr(await paying.states())):
        assert repr(preimage) not in shown
        assert preimage.hex() not in shown
