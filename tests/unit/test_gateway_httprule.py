"""Requests from google.api.http annotations."""

from typing import Any

import pytest

from coordinator.v1 import competition_pb2, entry_pb2, event_pb2, keymeld_pb2, wallet_pb2
from coordinator_gateway import api, httprule
from coordinator_gateway.httprule import Binding, HttpRuleError, PathTemplate
from coordinator_gateway.jsoncodec import FieldViolation, InvalidFieldsError

BINDINGS = {
    (binding.verb, binding.path.text): binding
    for service in api.services()
    for binding in httprule.bindings(service)
}
LIST = BINDINGS["GET", "/api/v1/competitions"]
CREATE = BINDINGS["POST", "/api/v1/competitions"]
CANCEL = BINDINGS["POST", "/api/v1/competitions/{competition_id}/cancel"]
CREATE_ENTRY = BINDINGS["POST", "/api/v1/entries"]
WATCH = BINDINGS["GET", "/api/v1/events"]


def refused(
    binding: Binding, path: dict[str, str], query: str = "", body: bytes = b""
) -> list[FieldViolation]:
    with pytest.raises(InvalidFieldsError) as caught:
        binding.request(path, query, body)
    return list(caught.value.violations)


class TestPathTemplate:
    @pytest.mark.parametrize(
        ("template", "path", "values"),
        [
            ("/a/{id}", "/a/x y", {"id": "x y"}),
            ("/a/{id}", "/a/", None),
            ("/a/{id}", "/a/x/", None),
            ("/a/{id}", "/a/x/y", None),
            ("/a/{id}/b/{e.f}", "/a/1/b/2", {"id": "1", "e.f": "2"}),
            ("/a/{name=shelves/*/books/*}", "/a/shelves/1/books/2", {"name": "shelves/1/books/2"}),
            ("/a/{name=**}", "/a/x/y", {"name": "x/y"}),
            ("/a/*/b", "/a/x/b", {}),
            ("/a/{id}:cancel", "/a/x:cancel", {"id": "x"}),
            ("/a.b/{id}", "/aXb/1", None),
        ],
    )
    def test_matching(self, template: str, path: str, values: dict[str, str] | None) -> None:
        assert PathTemplate(template).match(path) == values

    @pytest.mark.parametrize("template", ["a/{id}", "/{id}/{id}", "/{", "/{1x}", "/{a={b}}"])
    def test_malformed(self, template: str) -> None:
        with pytest.raises(HttpRuleError):
            PathTemplate(template)

    def test_expanding(self) -> None:
        assert PathTemplate("/a/{x.y}/b").expand({"x.y": "1"}) == "/a/1/b"


def test_every_method_has_a_binding() -> None:
    bound = {binding.method.full_name for binding in BINDINGS.values()}
    assert bound == {method.full_name for service in api.services() for method in service.methods}
    assert ("POST", "/api/competitions/{competition_id}/keymeld/join") in BINDINGS
    assert ("GET", "/api/v1/competitions/{competition_id}/events") in BINDINGS


class TestQuery:
    def test_repeated_enums_and_numbers(self) -> None:
        message = LIST.request({}, "states=created&page_size=7&states=COMPETITION_STATE_FAILED", b"")
        assert message == competition_pb2.ListCompetitionsRequest(
            page_size=7,
            states=[competition_pb2.COMPETITION_STATE_CREATED, competition_pb2.COMPETITION_STATE_FAILED],
        )

    def test_booleans_and_optional_numbers(self) -> None:
        message = WATCH.request({}, "after_sequence=0&include_snapshot=true&kinds=a.%2A", b"")
        assert message == event_pb2.WatchRequest(after_sequence=0, include_snapshot=True, kinds=["a.*"])

    def test_nested_fields(self) -> None:
        # No method of the API has a message in its query; a GET on the creation's request shows the rule.
        binding = Binding(CREATE.method, "GET", PathTemplate("/x"), "", "")
        message: Any = binding.request(
            {}, "terms.name=n&terms.locations=A&terms.locations=B&terms.signing_at=2027-01-15T08:00:00Z", b""
        )
        assert message.terms.name == "n"
        assert list(message.terms.locations) == ["A", "B"]
        assert message.terms.signing_at.seconds == 1_800_000_000

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("page_size=x", "page_size"),
            ("page_size=", "page_size"),
            ("page_size=1&page_size=2", "page_size"),
            ("states=nowhere", "states[0]"),
            ("pagesize=1", "pagesize"),
            ("page_size.x=1", "page_size.x"),
            ("page_token=%ff", ""),
        ],
    )
    def test_what_does_not_fit(self, query: str, field: str) -> None:
        assert [violation.field for violation in refused(LIST, {}, query)] == [field]

    def test_a_message_without_a_text_form(self) -> None:
        binding = Binding(CREATE.method, "GET", PathTemplate("/x"), "", "")
        assert refused(binding, {}, "terms=x")[0].field == "terms"

    def test_nothing_beside_a_whole_body(self) -> None:
        assert refused(CANCEL, {"competition_id": "c"}, "reason=x")[0].field == "reason"


class TestBody:
    def test_all_fields(self) -> None:
        message = CANCEL.request({"competition_id": "c"}, "", b'{"reason":"rain"}')
        assert message == competition_pb2.CancelCompetitionRequest(competition_id="c", reason="rain")

    def test_none_given(self) -> None:
        assert CANCEL.request({"competition_id": "c"}, "", b"") == competition_pb2.CancelCompetitionRequest(
            competition_id="c"
        )

    def test_one_field(self) -> None:
        message = CREATE_ENTRY.request(
            {}, "", b'{"ticket_id":"t","expected_observations":[{"prediction":"par"}]}'
        )
        assert message == entry_pb2.CreateEntryRequest(
            entry=entry_pb2.Entry(ticket_id="t", expected_observations=[{"prediction": "PREDICTION_PAR"}])
        )

    def test_paths_start_at_the_body(self) -> None:
        found = refused(CREATE_ENTRY, {}, "", b'{"keymeld":{"ciphertexts":[{"key_epoch":"?"}]}}')
        assert [violation.field for violation in found] == ["keymeld.ciphertexts[0].key_epoch"]

    def test_not_where_there_is_none(self) -> None:
        assert "no body" in refused(LIST, {}, "", b"{}")[0].description

    def test_the_path_may_be_repeated_but_not_contradicted(self) -> None:
        assert CANCEL.request({"competition_id": "c"}, "", b'{"competition_id":"c"}')
        found = refused(CANCEL, {"competition_id": "c"}, "", b'{"competition_id":"d"}')
        assert found == [FieldViolation("competition_id", "differs from the path")]


def test_response_body() -> None:
    response = competition_pb2.CreateCompetitionResponse(competition=competition_pb2.Competition(id="c"))
    assert CREATE.response_json(response)["id"] == "c"
    assert LIST.response_json(competition_pb2.ListCompetitionsResponse())["competitions"] == []


def test_annotations_that_do_not_fit() -> None:
    method = keymeld_pb2.DESCRIPTOR.services_by_name["KeymeldService"].methods_by_name["Join"]
    for path, body, response_body in (("/{nothing}", "*", ""), ("/x", "nothing", ""), ("/x", "*", "nothing")):
        with pytest.raises(HttpRuleError):
            Binding(method, "POST", PathTemplate(path), body, response_body)


def test_query_fields_are_those_left() -> None:
    assert [field.name for field in LIST.query_fields()] == ["page_size", "page_token", "states"]
    assert CANCEL.query_fields() == []
    outputs = BINDINGS["GET", "/api/v1/wallet/outputs"]
    assert outputs.method.input_type.full_name == wallet_pb2.ListOutputsRequest.DESCRIPTOR.full_name
