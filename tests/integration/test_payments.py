"""Paying winners while the way to the node, or the node's answers, fail: never twice, and never lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.errors import InvalidInput, PreconditionFailed, ServiceUnavailable
from coordinator.operations import payouts
from coordinator.ports.lightning import LightningError, LightningUnavailable, PaymentState
from coordinator.store.models import IntentRow, PaymentAttemptRow, PayoutRow
from coordinator_devnet.lightning.http import create_app
from coordinator_devnet.lightning.records import Invoice
from support.chain import serving
from support.wire import Wire, wire_to
from support.world import FAUCET_SATS, World, WorldPlayer, running_outside, until


@dataclass
class Won:
    """A world whose outcome is confirmed; player 1 won the first prize."""

    world: World
    wire: Wire
    competition_id: str
    winner: WorldPlayer
    amount_sats: int = 0

    def invoice(self, *, hold: bool = False, **options: Any) -> Invoice:
        """Of the winner's node; held: it stays in flight until the node settles or cancels."""
        node = self.world.lightning[self.winner.name]
        value_msats = self.amount_sats * 1000
        if hold:
            return node.add_invoice(value_msats=value_msats, payment_hash=self.payout_hash, **options)
        return node.add_invoice(value_msats=value_msats, **options)

    @property
    def payout_hash(self) -> bytes:
        return sha256(self.winner.payout_preimage).digest()

    def at_the_payee(self, invoice: Invoice) -> Invoice:
        """The invoice as the winner's node has it now."""
        return self.world.lightning.ledger.invoice(self.winner.name, invoice.payment_hash)

    async def request(self, payment_request: str) -> PayoutRow:
        return await payouts.request_payout(
            self.world.core,
            self.world.contracts,
            self.competition_id,
            self.winner.entry_id,
            payment_request,
            self.winner.payout_preimage.hex(),
            "",
            self.winner.pubkey,
        )

    async def state(self) -> str:
        return (await PayoutRow.get(entry_id=self.winner.entry_id)).state

    async def is_in(self, *states: str) -> None:
        async def reached() -> bool:
            return await self.state() in states

        await until(reached)

    async def received_sats(self) -> int:
        return sum(
            invoice.amount_paid_msats // 1000
            for invoice in self.world.lightning.ledger.invoices(self.winner.name)
            if invoice.state == "SETTLED"
        )


@asynccontextmanager
async def won(folder: Path, **settings: object) -> AsyncIterator[Won]:
    """A world whose core reaches its Lightning node over a wire."""
    async with running_outside(folder, **settings) as world, wire_to(world.settings.lnd_address) as wire:
        world.settings = replace(world.settings, lnd_address=wire.address)
        await world.restart()
        await world.chain.faucet(await world.core.wallet.receive_address(), FAUCET_SATS)
        await world.chain.mine()
        players = await world.new_players(3)
        competition_id = await world.create()
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        await world.oracle.attest(competition_id, (1, 0))
        await world.outcome_confirmed(competition_id)
        case = Won(world, wire, competition_id, players[1])
        payout = await payouts.get_payout(
            world.core, world.contracts, competition_id, case.winner.entry_id, case.winner.pubkey
        )
        case.amount_sats = payout.amount_sats
        yield case


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Won]:
    async with won(tmp_path) as running:
        yield running


class Faults:
    """Makes a core's `pay` fail after the node has taken the payment, or before it was asked."""

    def __init__(self, case: Won, monkeypatch: pytest.MonkeyPatch) -> None:
        self._case = case
        self._patch = monkeypatch
        self.sent = 0

    def lose_answers(self, error: LightningError) -> None:
        lightning = self._case.world.core.lightning
        real = lightning.pay

        async def pay(*args: Any, **options: Any) -> AsyncIterator[Any]:
            self.sent += 1
            async for _ in real(*args, **options):
                raise error
            yield

        self._patch.setattr(lightning, "pay", pay)

    def refuse(self, error: LightningError) -> None:
        async def pay(*args: Any, **options: Any) -> AsyncIterator[Any]:
            self.sent += 1
            raise error
            yield

        self._patch.setattr(self._case.world.core.lightning, "pay", pay)


@pytest.mark.parametrize(
    "error",
    [
        LightningUnavailable("UNAVAILABLE: Socket closed"),
        # What gRPC says of a stream that broke off, and of nothing that LND did.
        LightningError("UNKNOWN: Stream removed"),
    ],
    ids=["unavailable", "unknown"],
)
async def test_a_lost_answer_leaves_the_payment_in_flight(
    case: Won, monkeypatch: pytest.MonkeyPatch, error: LightningError
) -> None:
    """The node took the payment, the answer was lost: it is tracked, over a restart too, and paid once."""
    faults = Faults(case, monkeypatch)
    faults.lose_answers(error)
    held = case.invoice(hold=True)
    await case.request(held.payment_request)

    async def arrived() -> bool:
        return case.at_the_payee(held).state == "ACCEPTED"

    await until(arrived)
    await case.is_in("in_flight")
    other = case.invoice()
    with pytest.raises(PreconditionFailed, match="in_flight"):
        await case.request(other.payment_request)
    await case.world.restart()
    assert await case.state() == "in_flight"
    with pytest.raises(PreconditionFailed, match="in_flight"):
        await case.request(other.payment_request)
    case.world.lightning.ledger.settle_invoice(case.winner.name, case.winner.payout_preimage)
    await case.is_in("paid")
    assert faults.sent == 1
    assert await case.received_sats() == case.amount_sats
    attempt = await PaymentAttemptRow.get()
    assert (attempt.state, attempt.payment_hash) == ("paid", held.payment_hash.hex())
    assert (await IntentRow.get(key=f"pay:{held.payment_hash.hex()}")).status == "done"


async def test_a_failed_payment_frees_the_payout_for_another_invoice(case: Won) -> None:
    """In flight, then cancelled by the payee while the core cannot reach its node: noticed, and recorded."""
    held = case.invoice(hold=True)
    await case.request(held.payment_request)

    async def arrived() -> bool:
        return case.at_the_payee(held).state == "ACCEPTED"

    await until(arrived)
    await case.wire.cut()
    case.world.lightning.ledger.cancel_invoice(case.winner.name, held.payment_hash)
    assert await case.state() == "in_flight"
    await case.wire.start()
    await case.is_in("failed")
    row = await PayoutRow.get(entry_id=case.winner.entry_id)
    assert "the payee refused it" in row.failure_reason
    second = case.invoice()
    await case.request(second.payment_request)
    await case.is_in("paid")
    attempts = {row.payment_hash: row.state for row in await PaymentAttemptRow.all()}
    assert attempts == {held.payment_hash.hex(): "failed", second.payment_hash.hex(): "paid"}
    assert await case.received_sats() == case.amount_sats
    with pytest.raises(PreconditionFailed):
        await case.request(case.invoice().payment_request)


async def test_a_refusal_that_cannot_be_read_is_tried_again_and_not_taken_for_a_failure(
    case: Won, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(case, monkeypatch)
    faults.refuse(LightningError("UNKNOWN: something that nobody has seen before"))
    invoice = case.invoice()
    await case.request(invoice.payment_request)

    async def tried_twice() -> bool:
        return faults.sent >= 2

    await until(tried_twice)
    assert await case.state() == "in_flight"
    monkeypatch.undo()
    await case.is_in("paid")
    assert await case.received_sats() == case.amount_sats


async def test_an_invoice_that_runs_out_before_it_could_be_sent_fails_for_good(
    case: Won, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is away until the invoice has expired: nothing was sent, so another one may be given."""
    monkeypatch.setattr(payouts, "MIN_INVOICE_SECONDS", 0)
    real = case.world.core.lightning.pay
    invoice = case.invoice(expiry_seconds=3)
    Faults(case, monkeypatch).refuse(LightningUnavailable("UNAVAILABLE"))
    await case.request(invoice.payment_request)
    await case.is_in("in_flight")

    async def expired() -> bool:
        return case.at_the_payee(invoice).state == "CANCELED"

    await until(expired)
    monkeypatch.setattr(case.world.core.lightning, "pay", real)
    await case.is_in("failed")
    assert "expired" in (await PayoutRow.get(entry_id=case.winner.entry_id)).failure_reason
    await case.request(case.invoice().payment_request)
    await case.is_in("paid")


async def test_a_payment_may_not_outlive_the_time_before_the_prize_is_on_chain(case: Won) -> None:
    """The limit is computed when the payment is sent, not when it was asked for."""
    seen: list[int] = []
    lightning = case.world.core.lightning
    real = lightning.pay

    async def pay(*args: Any, **options: Any) -> AsyncIterator[Any]:
        seen.append(options["cltv_limit_blocks"])
        async for payment in real(*args, **options):
            yield payment

    lightning.pay = pay  # type: ignore[method-assign]
    await case.wire.cut()
    await case.wire.start()
    tip = (await case.world.core.chain.tip()).height
    status = (await case.world.core.competitions.load(case.competition_id)).status
    confirmed_height = status.outcome_broadcast.block_height  # type: ignore[union-attr]
    await case.request(case.invoice().payment_request)
    await case.is_in("paid")
    assert seen == [confirmed_height + 2 * 144 - tip - 12]
    payment = await lightning.track_payment(
        bytes.fromhex((await PayoutRow.get(entry_id=case.winner.entry_id)).payment_hash)
    )
    assert payment is not None
    assert payment.state is PaymentState.SUCCEEDED


@asynccontextmanager
async def addressed(case: Won) -> AsyncIterator[str]:
    """The winner's Lightning address on devnet."""
    async with serving(create_app(case.world.lightning)) as base_url:
        yield f"{case.winner.name}@{base_url.removeprefix('http://')}"


async def test_a_winner_is_paid_to_a_lightning_address(case: Won) -> None:
    async with addressed(case) as address:
        with pytest.raises(InvalidInput) as missing:
            await payouts.request_payout(
                case.world.core,
                case.world.contracts,
                case.competition_id,
                case.winner.entry_id,
                address,
                "",
                "",
                case.winner.pubkey,
            )
        assert [violation.field for violation in missing.value.violations] == ["payout_preimage"]
        assert await PaymentAttemptRow.all().count() == 0
        first = await case.request(f"lightning:{address.upper()}")
        assert first.destination == address
        await case.is_in("paid")
        again = await case.request(address)
        assert again.payment_hash == first.payment_hash
    assert await case.received_sats() == case.amount_sats
    (attempt,) = await PaymentAttemptRow.all()
    assert (attempt.payment_request, attempt.state) == (first.payment_request, "paid")


async def test_an_address_is_asked_again_only_after_its_payment_failed(
    case: Won, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = case.world.lightning[case.winner.name]
    add_invoice = node.add_invoice
    preimage = b"\x31" * 32

    def hold(**options: Any) -> Invoice:
        return add_invoice(**options, payment_hash=sha256(preimage).digest())

    monkeypatch.setattr(node, "add_invoice", hold)
    async with addressed(case) as address:
        first = await case.request(address)
        payment_hash = bytes.fromhex(first.payment_hash)

        async def arrived() -> bool:
            return case.world.lightning.ledger.invoice(case.winner.name, payment_hash).state == "ACCEPTED"

        await until(arrived)
        monkeypatch.undo()
        assert (await case.request(address)).payment_hash == first.payment_hash
        case.world.lightning.ledger.cancel_invoice(case.winner.name, payment_hash)
        await case.is_in("failed")
        second = await case.request(address)
        assert second.payment_hash != first.payment_hash
        await case.is_in("paid")
    attempts = {row.payment_hash: row.state for row in await PaymentAttemptRow.all()}
    assert attempts == {first.payment_hash: "failed", second.payment_hash: "paid"}
    assert await case.received_sats() == case.amount_sats


async def test_of_two_requests_at_once_one_is_paid(case: Won) -> None:
    """Each with an invoice of its own, or by asking the same address twice."""
    requests = [case.request(case.invoice().payment_request) for _ in range(4)]
    results = await asyncio.gather(*requests, return_exceptions=True)
    taken = [result for result in results if isinstance(result, PayoutRow)]
    refused = [result for result in results if isinstance(result, PreconditionFailed)]
    assert (len(taken), len(refused)) == (1, 3)
    await case.is_in("paid")
    assert await PaymentAttemptRow.all().count() == 1
    assert await case.received_sats() == case.amount_sats


async def test_an_address_that_cannot_be_asked_changes_nothing(case: Won) -> None:
    for text, error in (
        ("me@127.0.0.1:1", ServiceUnavailable),
        ("lnurl1nonsense", InvalidInput),
        ("me@pay example", InvalidInput),
    ):
        with pytest.raises(error):
            await case.request(text)
    async with addressed(case) as address:
        with pytest.raises(InvalidInput, match="knows no such name"):
            await case.request("nobody" + address[len(case.winner.name) :])
    assert await PayoutRow.all().count() == 0
