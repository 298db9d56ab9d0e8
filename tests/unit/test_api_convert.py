"""Names in the store and names in the API are the same names."""

import typing

import pytest

from coordinator.api import convert
from coordinator.domain.states import CANCELLABLE, STATES
from coordinator.domain.terms import Terms
from coordinator.operations.entries import COMPARISONS
from coordinator.store.tickets import PayoutState, TicketState
from coordinator.v1 import competition_pb2, entry_pb2, payout_pb2, ticket_pb2


def names(enum: typing.Any, prefix: str) -> set[str]:
    return {name.removeprefix(prefix).lower() for name, _ in enum.items()} - {"unspecified"}


def test_every_state_has_its_value() -> None:
    assert STATES.keys() == names(competition_pb2.CompetitionState, "COMPETITION_STATE_")
    assert all(convert.state_name(convert.state_of(name)) == name for name in STATES)
    assert set(TicketState) == names(ticket_pb2.TicketState, "TICKET_STATE_")
    assert set(PayoutState) == names(payout_pb2.PayoutState, "PAYOUT_STATE_")
    assert COMPARISONS.keys() == names(entry_pb2.Prediction, "PREDICTION_")


def test_groups_of_states_are_what_their_names_say() -> None:
    """`convert` reads fields of whole groups of states; each member has them."""
    for group, field in (
        (convert.FUNDED, "funding_broadcast"),
        (convert.ANNOUNCED, "announcement"),
        (convert.ESCROWED, "escrow_broadcast"),
    ):
        with_field = {state for state in STATES.values() if _has_record(state, field)}
        assert set(group) == with_field
    assert set(convert.OPEN) == {state for state in CANCELLABLE if "roster" not in state.__dataclass_fields__}


def _has_record(state: type, field: str) -> bool:
    """Whether the state has this field, as a record and not as a mere flag."""
    hint = typing.get_type_hints(state).get(field)
    return hint is not None and hint is not bool


def test_terms_survive_the_way_through_a_message() -> None:
    terms = Terms("n", 1000, 3, 7, 10, 5, 2, 4, ("A", "B"), ("temp_high",), 10, 20, 30, 144, 2)
    assert convert.terms_from(convert.terms_message(terms)) == terms


@pytest.mark.parametrize("value", [0, 99, -1])
def test_an_unknown_prediction_becomes_nothing_that_is_accepted(value: int) -> None:
    message = entry_pb2.ExpectedObservation(station="KORD", metric="temp_high", prediction=value)
    (observation,) = convert.observations_from([message])
    assert observation.prediction not in COMPARISONS


def test_never_is_an_absent_time() -> None:
    assert convert.timestamp(None) is None
    assert convert.timestamp(0) is None
    assert convert.timestamp(5).seconds == 5
