"""What every request goes through before a servicer sees it: metadata, text, page tokens, kinds of events."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.metadata import CallMetadata
from coordinator.api.paging import MAX_PAGE_SIZE, page_size, page_token, position_of
from coordinator.api.services.event import KindFilter
from coordinator.api.text import check_text
from coordinator.domain.errors import InvalidInput
from coordinator.v1 import competition_pb2, entry_pb2


def violations(error: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [violation.field for violation in error.value.violations]


def test_text_without_nul_passes() -> None:
    check_text(entry_pb2.CreateEntryRequest(entry=entry_pb2.Entry(id="é\n", payout_hash="aa")))


def test_nul_is_refused_wherever_it_hides() -> None:
    request = entry_pb2.CreateEntryRequest(
        entry=entry_pb2.Entry(
            ephemeral_private_key_encrypted="a\x00",
            expected_observations=[
                entry_pb2.ExpectedObservation(station="KORD"),
                entry_pb2.ExpectedObservation(station="\x00"),
            ],
            keymeld=entry_pb2.KeymeldRegistration(auth_pubkeys={"session": "\x00"}),
        )
    )
    with pytest.raises(InvalidInput) as error:
        check_text(request)
    assert sorted(violations(error)) == [
        "entry.ephemeral_private_key_encrypted",
        "entry.expected_observations[1].station",
        "entry.keymeld.auth_pubkeys",
    ]
    terms = competition_pb2.CompetitionTerms(locations=["KORD", "K\x00"])
    with pytest.raises(InvalidInput) as error:
        check_text(competition_pb2.CreateCompetitionRequest(terms=terms))
    assert violations(error) == ["terms.locations[1]"]


def test_metadata_that_must_be_one_is_refused_twice() -> None:
    for key in ("authorization", "x-session-token", "x-coordinator-gateway", "x-http-url", "idempotency-key"):
        with pytest.raises(InvalidInput) as error:
            CallMetadata([(key, "a"), (key, "b")])
        assert violations(error) == [key]
    assert CallMetadata([("user-agent", "a"), ("user-agent", "b")]).get("user-agent") == ""


def test_a_request_id_is_the_callers_if_it_is_sane() -> None:
    assert CallMetadata.request_id_of([("x-request-id", "abc-1")]) == "abc-1"
    for given_id in ("", "a b", "a\n[fake] line", "é", "x" * 129):
        made = CallMetadata.request_id_of([("x-request-id", given_id)])
        assert made != given_id
        assert len(made) == 32


def test_page_sizes() -> None:
    assert [page_size(n) for n in (0, 1, 200, 201, 2**31 - 1)] == [50, 1, 200, MAX_PAGE_SIZE, MAX_PAGE_SIZE]
    with pytest.raises(InvalidInput) as error:
        page_size(-1)
    assert violations(error) == ["page_size"]


@given(st.integers(0, 2**63 - 1), st.text(max_size=40))
def test_page_tokens_come_back_as_they_were(number: int, text: str) -> None:
    token = page_token("list", (number, text))
    assert position_of("list", token) == (number, text)
    with pytest.raises(InvalidInput):
        position_of("another list", token)


@given(st.text(min_size=1, max_size=60))
def test_no_text_but_a_token_is_a_token(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        position_of("list", text)
    assert violations(error) == ["page_token"]


@pytest.mark.parametrize("content", [[1], [1, 2, 3, 4], {"a": 1}, "text", 5, None, [None, None, None]])
def test_json_that_is_no_position_is_refused(content: object) -> None:
    token = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    with pytest.raises(InvalidInput):
        position_of("list", token)


@pytest.mark.parametrize("number", [-1, 2**63, True, 1.5, "1"])
def test_a_position_that_the_store_cannot_compare_is_refused(number: object) -> None:
    named = json.loads(base64.urlsafe_b64decode(page_token("list", (1, "a")) + "=="))[0]
    token = base64.urlsafe_b64encode(json.dumps([named, number, "a"]).encode()).decode().rstrip("=")
    with pytest.raises(InvalidInput):
        position_of("list", token)


def test_kinds_are_exact_or_whole_groups() -> None:
    assert KindFilter([])("anything.at_all")
    exact = KindFilter(["ticket.paid"])
    assert exact("ticket.paid")
    assert not exact("ticket.paid_twice")
    assert not exact("ticket")
    group = KindFilter(["ticket.*", "entry.submitted"])
    assert group("ticket.reserved")
    assert group("entry.submitted")
    assert not group("entry.updated")
    assert not group("tickets.sold")


@pytest.mark.parametrize("kind", ["", "*", ".*", "Ticket.paid", "ticket.**", "ticket.", "a b", "ticket.*.x"])
def test_what_is_no_kind_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput) as error:
        KindFilter(["ticket.paid", kind])
    assert violations(error) == ["kinds[1]"]


def test_there_is_a_limit_to_kinds() -> None:
    with pytest.raises(InvalidInput):
        KindFilter(["a.b"] * 51)
