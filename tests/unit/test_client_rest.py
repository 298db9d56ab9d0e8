"""The REST client: what it signs, what it repeats, and what it makes of refusals."""

import json

import httpx
import pytest

from coordinator_client import rest
from coordinator_client.errors import ApiError, FieldError, MalformedAnswer, Unavailable
from coordinator_client.proto.coordinator import v1
from coordinator_client.retry import retry_delay
from support.client import BASE, KEY, Handler, client, problem, signer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "retry_delay", lambda attempt: 0)


async def test_each_request_is_signed_for_itself() -> None:
    seen: list[tuple[httpx.Request, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        pubkey, event_id = signer(request)
        assert pubkey == KEY.public_hex
        seen.append((request, event_id))
        return httpx.Response(200, json={})

    async with client(answer) as api:
        await api.contract("c/1", include_signatures=True)
        await api.contract("c/1", include_signatures=True)
        await api.competitions(page_size=5, page_token="a b&c", states=["created", "completed"])
        await api.create_entry(v1.Entry(ticket_id="t", payout_hash="ü"))
        await api.update_entry("e", [v1.ExpectedObservation("KORD", "temp_high", v1.Prediction.OVER)])
    urls = [str(request.url).removeprefix(f"{BASE}/api/v1") for request, _ in seen]
    assert urls == [
        "/competitions/c%2F1/contract?include_signatures=true",
        "/competitions/c%2F1/contract?include_signatures=true",
        "/competitions?page_size=5&page_token=a+b%26c&states=created&states=completed",
        "/entries",
        "/entries/e",
    ]
    assert len({event_id for _, event_id in seen}) == len(seen)
    assert json.loads(seen[3][0].content) == {"ticket_id": "t", "payout_hash": "ü"}
    assert seen[4][0].method == "PATCH"


async def test_without_a_key_nothing_is_signed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json={"network": "regtest"})

    async with client(answer, None) as api:
        assert (await api.coordinator()).network == "regtest"


@pytest.mark.parametrize("trouble", ["connect", 502, 503, 504])
async def test_reads_are_tried_again_with_a_new_signature(trouble: str | int) -> None:
    events: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        events.append(signer(request)[1])
        if len(events) == 3:
            return httpx.Response(200, json={"id": "x"})
        if isinstance(trouble, int):
            return problem(trouble)
        raise httpx.ConnectError("refused", request=request)

    async with client(answer) as api:
        assert (await api.competition("x")).id == "x"
    assert len(set(events)) == 3


def late(requests: list[httpx.Request]) -> Handler:
    """Takes notes and never answers."""

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ReadTimeout("late", request=request)

    return answer


async def test_reads_give_up_in_the_end_and_writes_at_once() -> None:
    requests: list[httpx.Request] = []
    async with client(late(requests)) as api:
        with pytest.raises(Unavailable, match="ReadTimeout"):
            await api.competition("x")
        assert len(requests) == 4
        with pytest.raises(Unavailable):
            await api.submit_signatures("x", funding_signature="30")
        assert len(requests) == 5
    assert all("idempotency-key" not in request.headers for request in requests)


async def test_what_makes_something_is_repeated_with_one_idempotency_key() -> None:
    requests: list[httpx.Request] = []
    async with client(late(requests)) as api:
        for make in (
            lambda: api.request_ticket("x"),
            lambda: api.create_entry(v1.Entry()),
            lambda: api.request_payout("x", "y", "lnbc"),
        ):
            requests.clear()
            with pytest.raises(Unavailable):
                await make()
            keys = {request.headers["idempotency-key"] for request in requests}
            assert (len(requests), len(keys)) == (4, 1)
            assert len({signer(request)[1] for request in requests}) == 4


async def test_another_call_has_another_idempotency_key() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx.Response(200, json={"id": "x"})

    async with client(answer) as api:
        await api.request_ticket("x")
        await api.request_ticket("x")
    assert len(set(keys)) == 2


async def test_a_refusal_tells_reason_fields_and_when_to_try_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return problem(
            429,
            reason="COMPETITION_FULL",
            detail="every place is taken",
            errors=[{"field": "competition_id", "description": "is full"}],
            retry_after_seconds=12.5,
        )

    async with client(answer) as api:
        with pytest.raises(ApiError) as refused:
            await api.request_ticket("x")
    error = refused.value
    assert (error.status, error.reason, error.detail) == (429, "COMPETITION_FULL", "every place is taken")
    assert error.field_errors == (FieldError("competition_id", "is full"),)
    assert error.retry_after_seconds == 12.5
    assert "competition_id: is full" in str(error)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(404, text="<html>nginx</html>"), ApiError),
        (httpx.Response(400, json=["what"]), ApiError),
        (httpx.Response(400, json={"errors": "all", "reason": None}), ApiError),
        (httpx.Response(503, text="down"), Unavailable),
        (httpx.Response(200, text="<html>a portal</html>"), MalformedAnswer),
        (httpx.Response(200, json={"state": "unheard of"}), MalformedAnswer),
    ],
)
async def test_answers_of_something_else_are_errors_of_their_own(
    response: httpx.Response, error: type[Exception]
) -> None:
    async with client(lambda request: response) as api:
        with pytest.raises(error):
            await api.competition("x")


async def test_own_entries_are_read_page_by_page() -> None:
    pages = {"": (["a", "b"], "2"), "2": (["c"], "3"), "3": ([], "")}

    def answer(request: httpx.Request) -> httpx.Response:
        signer(request)
        ids, following = pages[request.url.params.get("page_token", "")]
        return httpx.Response(200, json={"entries": [{"id": i} for i in ids], "next_page_token": following})

    async with client(answer) as api:
        assert [entry.id async for entry in api.own_entries()] == ["a", "b", "c"]


async def test_health_never_raises() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with client(broken) as api:
        assert not await api.healthy()
    async with client(lambda request: httpx.Response(503)) as api:
        assert not await api.healthy()
    async with client(lambda request: httpx.Response(200)) as api:
        assert await api.healthy()


def test_waiting_grows_and_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for attempt in range(20):
        longest = min(0.2 * 2**attempt, 5)
        assert longest / 2 <= retry_delay(attempt) <= longest
