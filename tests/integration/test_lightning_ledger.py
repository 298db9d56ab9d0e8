"""The devnet's Lightning ledger: events in any order make or lose no millisatoshi, nor does a crash."""

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator_devnet.lightning.ledger import Ledger, LedgerError, PaymentExists
from coordinator_devnet.lightning.records import HtlcState, InvoiceState, PaymentState

NODES = ("coordinator", "alice", "bob")
FUNDS_MSATS = 1_000
INBOUND_MSATS = 700
FEE_MSATS = 3


class Clock:
    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


def opened(path: Path, clock: Clock) -> Ledger:
    return Ledger(path, clock=clock, hold_expiry_delta_blocks=12)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = opened(path, clock)
    for name in NODES:
        ledger.add_node(name, balance_msats=FUNDS_MSATS, capacity_msats=FUNDS_MSATS + INBOUND_MSATS)
    yield ledger
    ledger.close()


def secret_of(preimage: bytes) -> bytes:
    return sha256(b"secret" + preimage).digest()


def add(ledger: Ledger, clock: Clock, node: str, preimage: bytes, value_msats: int, *, hold: bool) -> None:
    ledger.add_invoice(
        node,
        payment_hash=sha256(preimage).digest(),
        preimage=None if hold else preimage,
        memo="",
        description_hash=None,
        value_msats=value_msats,
        created_at=int(clock.now),
        expiry_seconds=100,
        cltv_expiry_blocks=40,
        payment_secret=secret_of(preimage),
        payment_request="",
    )


def start(
    ledger: Ledger,
    payer: str,
    payee: str,
    preimage: bytes,
    amount_msats: int,
    height: int,
    fee_msats: int = 0,
) -> None:
    ledger.start_payment(
        payer,
        payee=payee,
        destination=b"\x02" * 33,
        payment_hash=sha256(preimage).digest(),
        payment_secret=secret_of(preimage),
        payment_request="",
        amount_msats=amount_msats,
        fee_msats=fee_msats,
        fee_limit_msats=fee_msats,
        expiry_height=height + 40,
    )


def test_crash_between_locking_and_delivering_an_htlc(ledger: Ledger, path: Path, clock: Clock) -> None:
    preimage = b"p" * 32
    payment_hash = sha256(preimage).digest()
    add(ledger, clock, "coordinator", preimage, 400, hold=True)
    start(ledger, "alice", "coordinator", preimage, 400, 100)
    assert ledger.payment("alice", payment_hash).htlcs[0].state is HtlcState.SENT
    assert ledger.balances("alice").local_msats == FUNDS_MSATS - 400

    # The file as another process finds it: nothing was flushed by closing.
    restarted = opened(path, clock)
    with pytest.raises(PaymentExists):
        start(restarted, "alice", "coordinator", preimage, 400, 100)
    restarted.deliver(100)
    invoice = restarted.invoice("coordinator", payment_hash)
    assert (invoice.state, invoice.htlcs[0].accept_height) == (InvoiceState.ACCEPTED, 100)
    restarted.deliver(101)
    assert len(restarted.invoice("coordinator", payment_hash).htlcs) == 1
    restarted.settle_invoice("coordinator", preimage)
    assert restarted.balances("coordinator").local_msats == FUNDS_MSATS + 400
    restarted.close()


def test_htlc_delivered_too_late_is_given_back(ledger: Ledger, clock: Clock) -> None:
    preimage = b"p" * 32
    payment_hash = sha256(preimage).digest()
    add(ledger, clock, "coordinator", preimage, 400, hold=True)
    start(ledger, "alice", "coordinator", preimage, 400, 100)
    ledger.deliver(130)
    assert ledger.payment("alice", payment_hash).state is PaymentState.FAILED
    assert ledger.invoice("coordinator", payment_hash).state is InvoiceState.OPEN
    assert ledger.balances("alice").local_msats == FUNDS_MSATS


def test_a_failed_call_changes_nothing_and_tells_nobody(ledger: Ledger, clock: Clock) -> None:
    preimage = b"p" * 32
    payment_hash = sha256(preimage).digest()
    add(ledger, clock, "coordinator", preimage, 400, hold=True)
    with ledger.invoice_changes("coordinator") as changes:
        with pytest.raises(LedgerError):
            ledger.settle_invoice("coordinator", preimage)
        with pytest.raises(LedgerError):
            add(ledger, clock, "coordinator", preimage, 500, hold=True)
        assert changes.empty()
    assert ledger.invoice("coordinator", payment_hash).value_msats == 400


preimages = st.integers(1, 2).map(lambda number: bytes([number]) * 32)
nodes = st.sampled_from(NODES)
# Payments deviate little from what is asked for, and mostly arrive, so that runs reach the later states.
pay = st.tuples(
    st.just("pay"),
    nodes,
    preimages,
    st.sampled_from([0, 0, 0, 1, -1, 300]),
    st.sampled_from([True, True, False]),
)
events = st.one_of(
    st.tuples(st.just("invoice"), nodes, preimages, st.integers(0, 900), st.booleans()),
    pay,
    pay,
    pay,
    st.tuples(st.just("deliver")),
    st.tuples(st.just("settle"), preimages),
    st.tuples(st.just("settle"), preimages),
    st.tuples(st.just("cancel"), preimages),
    st.tuples(st.just("blocks"), st.integers(1, 30)),
    st.tuples(st.just("time"), st.integers(1, 60)),
    st.tuples(st.just("crash")),
)


def owners(ledger: Ledger, preimage: bytes) -> list[str]:
    """The nodes that have an invoice for this preimage."""
    return [name for name in NODES if ledger.find_invoice(name, sha256(preimage).digest()) is not None]


@settings(max_examples=80, deadline=None)
@given(happened=st.lists(events, min_size=10, max_size=40))
def test_money_is_neither_made_nor_lost(
    tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[object, ...]]
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    ledger = opened(path, clock)
    for name in NODES:
        ledger.add_node(name, balance_msats=FUNDS_MSATS, capacity_msats=FUNDS_MSATS + INBOUND_MSATS)
    height = 100
    try:
        for event in happened:
            try:
                match event:
                    case ("invoice", str(node), bytes(preimage), int(value_msats), bool(hold)):
                        add(ledger, clock, node, preimage, value_msats, hold=hold)
                    case ("pay", str(payer), bytes(preimage), int(extra_msats), bool(arrives)):
                        for payee in owners(ledger, preimage)[-1:]:
                            invoice = ledger.invoice(payee, sha256(preimage).digest())
                            amount_msats = max(1, invoice.value_msats + extra_msats)
                            if payer != payee:
                                start(ledger, payer, payee, preimage, amount_msats, height, FEE_MSATS)
                        if arrives:
                            ledger.deliver(height)
                    case ("deliver",):
                        ledger.deliver(height)
                    case ("settle", bytes(preimage)):
                        for node in owners(ledger, preimage):
                            ledger.settle_invoice(node, preimage)
                    case ("cancel", bytes(preimage)):
                        for node in owners(ledger, preimage):
                            ledger.cancel_invoice(node, sha256(preimage).digest())
                    case ("blocks", int(count)):
                        height += count
                        ledger.expire(height)
                    case ("time", int(seconds)):
                        clock.now += seconds
                        ledger.expire(height)
                    case ("crash",):
                        ledger.close()
                        ledger = opened(path, clock)
                    case other:
                        raise AssertionError(other)
            except LedgerError:
                pass
            check(ledger)
    finally:
        ledger.close()


def check(ledger: Ledger) -> None:
    supply = ledger.supply()
    assert supply.funded_msats == len(NODES) * FUNDS_MSATS
    assert supply.total_msats == supply.funded_msats
    for name in NODES:
        balances = ledger.balances(name)
        assert balances.local_msats >= 0
        assert balances.remote_msats >= 0
        for invoice in ledger.invoices(name):
            held = [htlc for htlc in invoice.htlcs if htlc.state is HtlcState.ACCEPTED]
            taken = [htlc for htlc in invoice.htlcs if htlc.state is HtlcState.SETTLED]
            assert (len(held), len(taken)) == {
                InvoiceState.OPEN: (0, 0),
                InvoiceState.ACCEPTED: (1, 0),
                InvoiceState.SETTLED: (0, 1),
                InvoiceState.CANCELED: (0, 0),
            }[invoice.state]
            assert all(htlc.amount_msats >= invoice.value_msats for htlc in held + taken)
        for payment in ledger.payments(name):
            states = {htlc.state for htlc in payment.htlcs}
            match payment.state:
                case PaymentState.IN_FLIGHT:
                    assert states <= {HtlcState.SENT, HtlcState.ACCEPTED}
                    assert payment.preimage is None
                case PaymentState.SUCCEEDED:
                    assert states == {HtlcState.SETTLED}
                    assert payment.preimage is not None
                    assert sha256(payment.preimage).digest() == payment.payment_hash
                case PaymentState.FAILED:
                    assert states <= {HtlcState.CANCELED}
                    assert payment.preimage is None
