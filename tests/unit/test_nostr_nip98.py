"""HTTP login by signed event (NIP-98): every reason to refuse, told apart."""

import base64
import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator_client.nostr import NostrEvent, NostrKey, event_id
from coordinator_client.nostr.nip98 import (
    MAX_HEADER_CHARACTERS,
    Nip98Error,
    Nip98Event,
    Nip98Reason,
    authorization,
    verify,
)

KEY = NostrKey(b"\x07" * 32)
URL = "https://coordinator.example/api/v1/entries?page=2"
NOW = 1_790_000_000
BODY = b'{"a":1}'


def header_of(event: NostrEvent) -> str:
    return "Nostr " + base64.b64encode(event.to_json().encode()).decode()


def login(tags: list[list[str]], *, kind: int = 27235, created_at: int = NOW) -> str:
    return header_of(KEY.sign_event(kind=kind, created_at=created_at, tags=tags))


def event_in(header: str) -> NostrEvent:
    return NostrEvent.from_json(base64.b64decode(header.removeprefix("Nostr ")))


def judge(header: str, *, url: str = URL, method: str = "POST", body: bytes | None = None, now: int = NOW):
    digest = None if body is None else hashlib.sha256(body).digest()
    return verify(header, url=url, method=method, body_sha256=digest, now=now)


def refused(header: str, **circumstances) -> Nip98Reason:
    with pytest.raises(Nip98Error) as refusal:
        judge(header, **circumstances)
    return refusal.value.reason


def test_a_login_with_a_body_is_accepted():
    header = authorization(KEY, URL, "post", BODY, created_at=NOW)
    assert judge(header, body=BODY) == Nip98Event(KEY.public_hex, event_in(header).id, NOW)
    assert judge(header.replace("Nostr", "nostr"), body=BODY).pubkey == KEY.public_hex


def test_a_login_without_a_body_is_accepted():
    assert judge(authorization(KEY, URL, "POST", None, created_at=NOW))
    assert judge(authorization(KEY, URL, "POST", b"", created_at=NOW), body=b"")


def test_the_time_defaults_to_now(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("coordinator_client.nostr.nip98.time.time", lambda: NOW + 0.9)
    assert judge(authorization(KEY, URL, "POST", None)).created_at == NOW


@pytest.mark.parametrize("age", [-60, 0, 60])
def test_a_minute_either_way_is_accepted(age: int):
    assert judge(authorization(KEY, URL, "POST", None, created_at=NOW - age))


def test_a_stale_or_future_event_is_refused():
    assert refused(authorization(KEY, URL, "POST", None, created_at=NOW - 61)) is Nip98Reason.STALE
    assert refused(authorization(KEY, URL, "POST", None, created_at=NOW + 61)) is Nip98Reason.FUTURE


def test_another_kind_is_refused():
    assert refused(login([["u", URL], ["method", "POST"]], kind=1)) is Nip98Reason.WRONG_KIND


def test_a_changed_event_is_refused():
    event = event_in(authorization(KEY, URL, "POST", None, created_at=NOW - 100))
    assert refused(header_of(dataclasses.replace(event, created_at=NOW))) is Nip98Reason.BAD_ID


def test_another_authors_signature_is_refused():
    event = event_in(authorization(KEY, URL, "POST", None, created_at=NOW))
    victim = NostrKey(b"\x08" * 32).public_hex
    forged_id = event_id(
        pubkey=victim,
        created_at=event.created_at,
        kind=event.kind,
        tags=event.tags,
        content=event.content,
    )
    forged = dataclasses.replace(event, pubkey=victim, id=forged_id)
    assert refused(header_of(forged)) is Nip98Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "signed",
    [
        "HTTPS://Coordinator.Example/api/v1/entries?page=2",
        "https://coordinator.example:443/api/v1/entries?page=2",
    ],
)
def test_case_of_host_and_default_port_do_not_matter(signed: str):
    assert judge(authorization(KEY, signed, "POST", None, created_at=NOW))


@pytest.mark.parametrize(
    "signed",
    [
        "http://coordinator.example/api/v1/entries?page=2",
        "https://coordinator.example:444/api/v1/entries?page=2",
        "https://other.example/api/v1/entries?page=2",
        "https://me@coordinator.example/api/v1/entries?page=2",
        "https://coordinator.example/api/v1/Entries?page=2",
        "https://coordinator.example/api/v1/entries/?page=2",
        "https://coordinator.example/api/v1/entries?page=3",
        "https://coordinator.example/api/v1/entries",
        "https://coordinator.example/api/v1/entries?page=2#top",
        "https://coordinator.example:x/api/v1/entries?page=2",
        "https://[/api/v1/entries?page=2",
        "",
    ],
)
def test_another_url_is_refused(signed: str):
    assert refused(authorization(KEY, signed, "POST", None, created_at=NOW)) is Nip98Reason.WRONG_URL


def test_a_grpc_url_is_compared_too():
    url = "grpc://Core.Example:50051/coordinator.v1.EntryService/CreateEntry"
    assert judge(
        authorization(
            KEY,
            url.lower().replace("entryservice/createentry", "EntryService/CreateEntry"),
            "POST",
            None,
            created_at=NOW,
        ),
        url=url,
    )
    other = url.replace("CreateEntry", "ListEntries")
    assert refused(authorization(KEY, other, "POST", None, created_at=NOW), url=url) is Nip98Reason.WRONG_URL


def test_another_method_is_refused():
    assert refused(authorization(KEY, URL, "GET", None, created_at=NOW)) is Nip98Reason.WRONG_METHOD


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ([["method", "POST"]], Nip98Reason.WRONG_URL),
        ([["u"], ["method", "POST"]], Nip98Reason.WRONG_URL),
        ([["u", URL], ["u", "https://elsewhere.example/"], ["method", "POST"]], Nip98Reason.WRONG_URL),
        ([["u", URL]], Nip98Reason.WRONG_METHOD),
        ([["u", URL], ["method", "POST"], ["method", "DELETE"]], Nip98Reason.WRONG_METHOD),
    ],
)
def test_url_and_method_must_be_there_once(tags: list[list[str]], reason: Nip98Reason):
    assert refused(login(tags)) is reason


def test_a_body_needs_its_hash():
    no_payload = authorization(KEY, URL, "POST", None, created_at=NOW)
    assert refused(no_payload, body=BODY) is Nip98Reason.MISSING_PAYLOAD


@pytest.mark.parametrize("payload", [hashlib.sha256(b"other").hexdigest(), "", "zz" * 32, " " * 64])
def test_another_bodys_hash_is_refused(payload: str):
    header = login([["u", URL], ["method", "POST"], ["payload", payload]])
    assert refused(header, body=BODY) is Nip98Reason.WRONG_PAYLOAD
    assert refused(header) is Nip98Reason.WRONG_PAYLOAD


def test_two_hashes_are_refused():
    digest = hashlib.sha256(BODY).hexdigest()
    header = login([["u", URL], ["method", "POST"], ["payload", digest], ["payload", "00" * 32]])
    assert refused(header, body=BODY) is Nip98Reason.WRONG_PAYLOAD


def test_a_bodys_hash_may_be_in_upper_case():
    digest = hashlib.sha256(BODY).hexdigest().upper()
    assert judge(login([["u", URL], ["method", "POST"], ["payload", digest]]), body=BODY)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Nostr",
        "Nostr ",
        "Bearer abc",
        "Basic " + base64.b64encode(b"{}").decode(),
        "Nostr !!!!",
        "Nostr é",
        "Nostr " + base64.b64encode(b"{}").decode(),
        "Nostr " + base64.b64encode(b"[" * 8000).decode(),
        "Nostr " + base64.b64encode(b"\xff\xff").decode(),
        "Nostr " + "A" * MAX_HEADER_CHARACTERS,
    ],
)
def test_what_is_no_login_is_malformed(header: str):
    assert refused(header) is Nip98Reason.MALFORMED


def test_escaped_text_that_is_no_unicode_is_malformed():
    event = event_in(authorization(KEY, URL, "POST", None, created_at=NOW))
    text = json.dumps({**event.to_dict(), "content": "\ud800"})
    assert refused("Nostr " + base64.b64encode(text.encode()).decode()) is Nip98Reason.MALFORMED


@given(st.text(max_size=200))
def test_no_header_crashes_the_verifier(text: str):
    assert refused(text) is Nip98Reason.MALFORMED


@given(st.integers(0, 10_000), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_character_gets_in_as_somebody_else(position: int, character: str):
    header = authorization(KEY, URL, "POST", BODY, created_at=NOW)
    at = position % len(header)
    changed = header[:at] + character + header[at + 1 :]
    try:
        accepted = judge(changed, body=BODY)
    except Nip98Error:
        return
    assert accepted.pubkey == KEY.public_hex
    assert accepted.id == event_in(header).id


def test_two_equal_requests_in_one_second_have_different_logins():
    logins = {event_in(authorization(KEY, URL, "GET", None, created_at=NOW)).id for _ in range(10)}
    assert len(logins) == 10
