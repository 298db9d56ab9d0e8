"""States: stored and loaded they are the same, and money is split without losing a satoshi."""

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain import states
from coordinator.domain.competition import (
    Announcement,
    Attestation,
    Broadcast,
    Coin,
    EscrowPlan,
    Facts,
    FundingPlan,
    RosterPlayer,
)
from coordinator.domain.states import STATES, CompetitionStatus
from coordinator.domain.terms import Terms
from coordinator.store.codec import CodecError, from_plain, to_plain
from support.terms import TERMS

NUMBERS = st.integers(0, 2**53)
TEXTS = st.text(max_size=20)
BYTES = st.binary(max_size=40)

for record in (
    Terms,
    Coin,
    RosterPlayer,
    EscrowPlan,
    FundingPlan,
    Announcement,
    Attestation,
    Broadcast,
    Facts,
):
    st.register_type_strategy(record, lambda kind: st.builds(kind, **fields_of(kind)))


def fields_of(kind: type) -> dict[str, st.SearchStrategy[object]]:
    """A strategy for every field, by its annotation."""
    hints = typing.get_type_hints(kind)
    return {field.name: strategy_of(hints[field.name]) for field in dataclasses.fields(kind)}


def strategy_of(hint: object) -> st.SearchStrategy[typing.Any]:
    origin = typing.get_origin(hint)
    if hint is int:
        return NUMBERS
    if hint is str:
        return TEXTS
    if hint is bytes:
        return BYTES
    if hint is float:
        return st.floats(0, 1000)
    if hint is bool:
        return st.booleans()
    if origin is tuple:
        return st.lists(strategy_of(typing.get_args(hint)[0]), max_size=3).map(tuple)
    if origin is not None and type(None) in typing.get_args(hint):
        inner = next(a for a in typing.get_args(hint) if a is not type(None))
        return st.none() | strategy_of(inner)
    return st.from_type(hint)  # type: ignore[arg-type]


ANY_STATE = st.sampled_from(sorted(STATES)).flatmap(
    lambda name: st.builds(STATES[name], **fields_of(STATES[name]))
)


@given(ANY_STATE)
def test_a_state_survives_storing(status: CompetitionStatus) -> None:
    assert from_plain(type(status), to_plain(status)) == status


@given(ANY_STATE, st.data())
def test_a_stored_state_that_lacks_or_adds_a_field_is_refused(
    status: CompetitionStatus, data: st.DataObject
) -> None:
    plain = to_plain(status)
    with pytest.raises(CodecError):
        from_plain(type(status), plain | {"surprise": 1})
    del plain["facts"]
    with pytest.raises(CodecError):
        from_plain(type(status), plain)


@given(st.builds(EscrowPlan, **fields_of(EscrowPlan)), st.data())
def test_an_escrow_planned_before_its_release_had_a_choice_waits_for_288_blocks(
    plan: EscrowPlan, data: st.DataObject
) -> None:
    plain = to_plain(plan)
    assert from_plain(EscrowPlan, plain) == plan
    del plain["release_blocks"]
    assert from_plain(EscrowPlan, plain) == dataclasses.replace(plan, release_blocks=288)
    # Only this one may be missing.
    del plain[data.draw(st.sampled_from(sorted(plain)))]
    with pytest.raises(CodecError):
        from_plain(EscrowPlan, plain)


@given(ANY_STATE)
def test_only_states_before_funding_can_end_with_refunds(status: CompetitionStatus) -> None:
    refundable = isinstance(status, states.CANCELLABLE)
    assert refundable == hasattr(status, "cancel") == hasattr(status, "fail")
    assert refundable != hasattr(status, "funding_broadcast") or status.name in ("failed", "cancelled")
    if isinstance(status, states.CANCELLABLE):
        assert status.cancel("why").cancelled_in == status.name
        assert status.fail("why").failed_in == status.name


@given(
    fee=st.integers(1_000, 100_000_000),
    percent=st.integers(0, 50),
    entries=st.integers(2, 100),
)
def test_the_pool_is_what_players_pay_less_the_coordinators_part(
    fee: int, percent: int, entries: int
) -> None:
    terms = dataclasses.replace(TERMS, entry_fee_sats=fee, coordinator_fee_percent=percent)
    assert terms.pool_share_sats + terms.coordinator_fee_sats == fee
    assert 0 <= terms.coordinator_fee_sats * 100 <= fee * percent
    assert terms.funding_value_sats(entries) == entries * terms.pool_share_sats


@given(ANY_STATE)
def test_the_transaction_that_refunds_after_the_expiry_is_called_so(status: CompetitionStatus) -> None:
    if not isinstance(status, states.OutcomeBroadcasted | states.ExpiryBroadcasted | states.Completed):
        return
    refunded = status.name == "expiry_broadcasted" or getattr(status, "attestation", None) is None
    roles = [role for role, _ in status.broadcasts]
    assert roles[:2] == ["funding", "expiry" if refunded else "outcome"]
