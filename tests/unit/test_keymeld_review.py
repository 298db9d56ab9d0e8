"""What a player compares before its key signs: every way in which a signing session can differ from the
contract."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator_client.keymeld import KeymeldBadResponse, SessionCredentials, SigningItem, new_uuid7
from coordinator_client.keymeld.batch import NO_TWEAK_TAGGED, open_item, seal_item
from coordinator_client.keymeld.crypto import (
    ADAPTOR_CONFIGS,
    AGGREGATE_PUBLIC_KEY,
    SESSION_DATA,
    SUBSET_AGGREGATE,
)
from coordinator_client.keymeld.dlc import job_winners, subset_id
from coordinator_client.keymeld.protocol import AdaptorConfig, BatchItem, KeygenState, KeygenStatus
from coordinator_client.keymeld.review import AskedItem, SigningMismatch, check_keys, review, signing_sets
from support.contract import competition

DLC = competition(3, 2, seed="review").dlc
SECRET = SessionCredentials(b"\x05" * 32)
SESSION = new_uuid7()
STRANGER = SessionCredentials(b"\x06" * 32)


def asked() -> list[AskedItem]:
    items = []
    for job in DLC.signing_jobs():
        winners = job_winners(job, 3)
        adaptor = None if job.adaptor_point is None else new_uuid7()
        subset = None if winners is None else subset_id(SESSION, winners)
        item = SigningItem(new_uuid7(), job.message, subset, adaptor, job.adaptor_point)
        items.append(AskedItem(job.key, item))
    return items


LISTED = asked()
HELD = [seal_item(SECRET, one.item) for one in LISTED]
PLACES = {one.key: place for place, one in enumerate(LISTED)}


def test_what_the_contract_has_passes_with_and_without_the_services_word() -> None:
    review(SESSION, LISTED, HELD, SECRET, DLC)
    review(SESSION, LISTED, [], SECRET, DLC)
    tagged = [seal_item(SECRET, one.item, tweak=NO_TWEAK_TAGGED) for one in LISTED]
    review(SESSION, LISTED, list(reversed(tagged)), SECRET, DLC)
    assert signing_sets(LISTED, DLC) == {(0, 1), (0, 2), (1, 2)}


def other_point() -> bytes:
    point = DLC.adaptor_point("att0")
    assert point is not None
    return point


OTHER = b"\x66" * 32
CHANGES: list[tuple[str, str, Callable[[SigningItem], SigningItem], str, str]] = [
    (
        "att2",
        "sighash",
        lambda item: replace(item, message=OTHER),
        DLC.signing_job("att2").message.hex(),
        OTHER.hex(),
    ),
    (
        "att1:p2",
        "sighash",
        lambda item: replace(item, message=DLC.signing_job("att1:p0").message),
        DLC.signing_job("att1:p2").message.hex(),
        DLC.signing_job("att1:p0").message.hex(),
    ),
    (
        "att3",
        "adaptor_point",
        lambda item: replace(item, adaptor_point=other_point()),
        (DLC.adaptor_point("att3") or b"").hex(),
        other_point().hex(),
    ),
    (
        "att4",
        "adaptor_point",
        lambda item: replace(item, adaptor_point=None, adaptor_id=None),
        (DLC.adaptor_point("att4") or b"").hex(),
        "none",
    ),
    (
        "exp",
        "adaptor_point",
        lambda item: replace(item, adaptor_point=other_point(), adaptor_id=new_uuid7()),
        "none",
        other_point().hex(),
    ),
    (
        "att0:p0",
        "subset",
        lambda item: replace(item, subset_id=subset_id(SESSION, (1, 2))),
        subset_id(SESSION, (0, 1)),
        subset_id(SESSION, (1, 2)),
    ),
    (
        "att0:p1",
        "subset",
        lambda item: replace(item, subset_id=None),
        subset_id(SESSION, (0, 1)),
        "the whole group",
    ),
    (
        "att5",
        "subset",
        lambda item: replace(item, subset_id=subset_id(SESSION, (0, 1))),
        "the whole group",
        subset_id(SESSION, (0, 1)),
    ),
]


@pytest.mark.parametrize("in_list", [True, False], ids=["listed", "held"])
@pytest.mark.parametrize(("key", "field", "change", "expected", "was"), CHANGES)
def test_the_first_difference_is_named(
    key: str, field: str, change: Callable[[SigningItem], SigningItem], expected: str, was: str, in_list: bool
) -> None:
    """Whether the list lies and the service agrees, or only what the service holds is another."""
    place = PLACES[key]
    changed = change(LISTED[place].item)
    listed, held = list(LISTED), list(HELD)
    held[place] = seal_item(SECRET, changed)
    if in_list:
        listed[place] = AskedItem(key, changed)
    with pytest.raises(SigningMismatch) as refusal:
        review(SESSION, listed, held, SECRET, DLC)
    assert (refusal.value.key, refusal.value.field) == (key, field)
    assert (refusal.value.expected, refusal.value.asked) == (expected, was)
    for part in (key, expected, was):
        assert part in str(refusal.value)
    if in_list:
        with pytest.raises(SigningMismatch):
            review(SESSION, listed, [], SECRET, DLC)


def test_the_subsets_of_another_keygen_session_do_not_count() -> None:
    with pytest.raises(SigningMismatch) as refusal:
        review(new_uuid7(), LISTED, HELD, SECRET, DLC)
    assert refusal.value.field == "subset"


@pytest.mark.parametrize("key", ["att99", "att0:p2", "exp:p7", "", "nonsense", "att-1"])
def test_an_item_for_no_outcome_is_refused(key: str) -> None:
    with pytest.raises(SigningMismatch) as refusal:
        review(SESSION, [*LISTED, AskedItem(key, LISTED[0].item)], [], SECRET, DLC)
    assert (refusal.value.key, refusal.value.field) == (key, "item")


def test_more_less_and_twice_are_refused() -> None:
    extra = seal_item(SECRET, SigningItem(new_uuid7(), OTHER, None))
    with pytest.raises(SigningMismatch, match=OTHER.hex()):
        review(SESSION, LISTED, [*HELD, extra], SECRET, DLC)
    with pytest.raises(SigningMismatch, match="missing there") as missing:
        review(SESSION, LISTED, HELD[:-1], SECRET, DLC)
    assert missing.value.key == LISTED[-1].key
    with pytest.raises(SigningMismatch, match="that the coordinator lists"):
        review(SESSION, LISTED, [*HELD, HELD[0]], SECRET, DLC)
    with pytest.raises(SigningMismatch, match="there twice"):
        review(SESSION, [*LISTED, LISTED[0]], [], SECRET, DLC)


def spoiled(item: BatchItem, **changes: Any) -> BatchItem:
    return replace(item, **changes)


TWO_POINTS = AdaptorConfig(new_uuid7(), (other_point(), other_point())).to_json()
ADAPTOR = PLACES["att3"]
SPLIT = PLACES["att3:p1"]


@pytest.mark.parametrize(
    ("place", "changes", "words"),
    [
        (
            SPLIT,
            {"encrypted_taproot_tweak": SECRET.encrypt(b'"UnspendableTaproot"', SESSION_DATA)},
            "its key is tweaked",
        ),
        (
            ADAPTOR,
            {
                "encrypted_taproot_tweak": SECRET.encrypt(
                    json.dumps({"PlainTweak": {"tweak": [1] * 32}}).encode(), SESSION_DATA
                )
            },
            "its key is tweaked",
        ),
        (SPLIT, {"encrypted_taproot_tweak": SECRET.encrypt(b"None", SESSION_DATA)}, ""),
        (
            SPLIT,
            {"encrypted_message": SECRET.encrypt(OTHER.hex().encode(), SESSION_DATA)},
            "not the one hashed",
        ),
        (SPLIT, {"encrypted_message": STRANGER.encrypt(OTHER.hex().encode(), SESSION_DATA)}, ""),
        (SPLIT, {"encrypted_message": "00"}, ""),
        (
            ADAPTOR,
            {"encrypted_adaptor_configs": SECRET.encrypt(json.dumps([TWO_POINTS]).encode(), ADAPTOR_CONFIGS)},
            "exactly one adaptor point",
        ),
        (
            ADAPTOR,
            {"encrypted_adaptor_configs": SECRET.encrypt(b"[]", ADAPTOR_CONFIGS)},
            "exactly one adaptor",
        ),
        (ADAPTOR, {"encrypted_adaptor_configs": SECRET.encrypt(b"{}", ADAPTOR_CONFIGS)}, "not a list"),
        (ADAPTOR, {"encrypted_adaptor_configs": SECRET.encrypt(b"[[]]", ADAPTOR_CONFIGS)}, ""),
        (
            ADAPTOR,
            {
                "encrypted_adaptor_configs": SECRET.encrypt(
                    json.dumps(
                        [AdaptorConfig(new_uuid7(), (other_point(),), adaptor_type="Or").to_json()]
                    ).encode(),
                    ADAPTOR_CONFIGS,
                )
            },
            "exactly one adaptor point",
        ),
    ],
)
def test_items_that_cannot_be_read_or_want_more_are_refused_by_name(
    place: int, changes: dict[str, Any], words: str
) -> None:
    held = list(HELD)
    held[place] = spoiled(held[place], **changes)
    with pytest.raises(SigningMismatch) as refusal:
        review(SESSION, LISTED, held, SECRET, DLC)
    assert (refusal.value.key, refusal.value.field) == (LISTED[place].key, "item")
    assert words in str(refusal.value)
    with pytest.raises(KeymeldBadResponse):
        open_item(SECRET, held[place])


def test_opening_gives_what_was_sealed() -> None:
    for one, sealed in zip(LISTED, HELD, strict=True):
        assert open_item(SECRET, sealed) == one.item
        assert BatchItem.from_json(sealed.to_json()) == sealed


def state(**changes: Any) -> KeygenState:
    keys = {
        subset_id(SESSION, winners): SECRET.encrypt(DLC.aggregate_key(winners), SUBSET_AGGREGATE)
        for winners in signing_sets(LISTED, DLC)
    }
    group = SECRET.encrypt(DLC.aggregate_key(None), AGGREGATE_PUBLIC_KEY)
    made = KeygenState(KeygenStatus.COMPLETED, 4, 4, 0, group, keys)
    return replace(made, **changes)


def test_the_keys_that_sign_are_those_aggregated_here() -> None:
    sets = signing_sets(LISTED, DLC)
    check_keys(SESSION, state(), SECRET, DLC, sets)
    wrong_group = SECRET.encrypt(DLC.aggregate_key((0, 1)), AGGREGATE_PUBLIC_KEY)
    with pytest.raises(SigningMismatch, match="the group's key"):
        check_keys(SESSION, state(aggregate_public_key=wrong_group), SECRET, DLC, sets)
    with pytest.raises(SigningMismatch, match="missing"):
        check_keys(SESSION, state(aggregate_public_key=None), SECRET, DLC, sets)
    keys = dict(state().encrypted_subset_aggregates)
    keys[subset_id(SESSION, (0, 2))] = keys[subset_id(SESSION, (0, 1))]
    with pytest.raises(SigningMismatch, match=r"winners \(0, 2\)"):
        check_keys(SESSION, state(encrypted_subset_aggregates=keys), SECRET, DLC, sets)
    del keys[subset_id(SESSION, (0, 2))]
    with pytest.raises(SigningMismatch, match=r"winners \(0, 2\).*missing"):
        check_keys(SESSION, state(encrypted_subset_aggregates=keys), SECRET, DLC, sets)
    check_keys(SESSION, state(encrypted_subset_aggregates=keys), SECRET, DLC, [(0, 1)])
    with pytest.raises(KeymeldBadResponse):
        check_keys(SESSION, state(), STRANGER, DLC, sets)
