"""Event ids and signatures (NIP-01)."""

import dataclasses
import hashlib

import pytest

from coordinator_client.nostr import InvalidEvent, NostrEvent, NostrKey, event_id, verify_event

KEY = NostrKey(b"\x07" * 32)

# The example of NIP-98 in its first version (the tag was `url` then), signed by software that is not ours.
PUBLISHED = {
    "id": "fe964e758903360f28d8424d092da8494ed207cba823110be3a57dfe4b578734",
    "pubkey": "63fe6318dc58583cfe16810f86dd09e18bfd76aabc24a0081ce2856f330504ed",
    "content": "",
    "kind": 27235,
    "created_at": 1682327852,
    "tags": [["url", "https://api.snort.social/api/v1/n5sp/list"], ["method", "GET"]],
    "sig": "5ed9d8ec958bc854f997bdc24ac337d005af372324747efe4a00e24f4c30437f"
    "f4dd8308684bed467d9d6be3e5a517bb43b1732cc7d33949a3aaf86705c22184",
}


def test_a_published_event_verifies():
    event = NostrEvent.from_dict(PUBLISHED)
    verify_event(event)
    assert event.to_dict() == PUBLISHED


def test_the_id_is_the_hash_of_the_serialisation():
    # Written out by hand: NIP-01 escapes these seven characters and leaves all others as they are.
    text = '\\n\\"\\\\\\r\\t\\b\\f/é⚡</\x7f'
    content = '\n"\\\r\t\b\f/é⚡</\x7f'
    written = f'[0,"{KEY.public_hex}",5,1,[["e","x"],[]],"{text}"]'
    assert (
        event_id(pubkey=KEY.public_hex, created_at=5, kind=1, tags=[["e", "x"], []], content=content)
        == hashlib.sha256(written.encode()).hexdigest()
    )


def test_what_a_key_signs_verifies_and_survives_json():
    event = KEY.sign_event(kind=1, created_at=1700000000, tags=[["t", "rain"]], content="⛈ or not")
    verify_event(event)
    assert event.pubkey == KEY.public_hex
    assert NostrEvent.from_json(event.to_json()) == event
    assert event.tag_values("t") == ("rain",)


@pytest.mark.parametrize(
    "change",
    [
        {"content": "other"},
        {"created_at": 6},
        {"kind": 2},
        {"tags": (("a",),)},
        {"pubkey": NostrKey(b"\x08" * 32).public_hex},
        {"id": "00" * 32},
        {"sig": "00" * 64},
        {"sig": "ff" * 64},
    ],
)
def test_any_change_breaks_the_event(change: dict):
    event = KEY.sign_event(kind=1, created_at=5, content="this")
    with pytest.raises(InvalidEvent):
        verify_event(dataclasses.replace(event, **change))


def test_an_author_that_is_no_curve_point_does_not_verify():
    forged = {**PUBLISHED, "pubkey": "ff" * 32}
    event = NostrEvent.from_dict(forged)
    computed = event_id(
        pubkey=event.pubkey,
        created_at=event.created_at,
        kind=event.kind,
        tags=event.tags,
        content=event.content,
    )
    with pytest.raises(InvalidEvent, match="signature"):
        verify_event(dataclasses.replace(event, id=computed))


@pytest.mark.parametrize("missing", sorted(PUBLISHED))
def test_every_field_is_needed(missing: str):
    with pytest.raises(InvalidEvent, match=missing):
        NostrEvent.from_dict({name: value for name, value in PUBLISHED.items() if name != missing})


@pytest.mark.parametrize(
    "change",
    [
        {"id": "FE" * 32},
        {"id": 5},
        {"pubkey": "ab"},
        {"sig": None},
        {"kind": True},
        {"kind": 65536},
        {"kind": -1},
        {"created_at": 1.5},
        {"created_at": "1"},
        {"created_at": -1},
        {"tags": None},
        {"tags": ["u"]},
        {"tags": [["u", 1]]},
        {"content": None},
    ],
)
def test_fields_of_the_wrong_type_are_refused(change: dict):
    with pytest.raises(InvalidEvent):
        NostrEvent.from_dict({**PUBLISHED, **change})


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, b"\xff\xfe", '"x"'])
def test_what_is_no_event_is_refused(text: str | bytes):
    with pytest.raises(InvalidEvent):
        NostrEvent.from_json(text)


def test_text_that_is_no_unicode_cannot_be_signed():
    with pytest.raises(InvalidEvent):
        KEY.sign_event(kind=1, created_at=5, content="\ud800")
