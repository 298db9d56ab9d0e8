"""Which subsets, sessions and batches a contract needs, and what a player makes at entry time."""

import json
from math import comb

import pytest
from coincurve import PrivateKey

from coordinator_client.keymeld import (
    KeymeldCryptoError,
    KeymeldLimitError,
    KeymeldUnavailable,
    PlayerRegistration,
    UserCredentials,
    register_player,
)
from coordinator_client.keymeld.crypto import ecies_decrypt
from coordinator_client.keymeld.dlc import (
    GroupKeys,
    KeymeldLimits,
    batch_items,
    cut_batches,
    distinct_winner_sets,
    lay_out,
    needed_sessions,
)
from coordinator_client.keymeld.ids import derived_uuid7, is_uuid7, new_uuid7
from coordinator_client.keymeld.protocol import Enclave, ProtocolError
from support.contract import competition

SESSIONS = tuple(derived_uuid7(("session", str(index)), 1_700_000_000_000) for index in range(3))


def test_one_subset_for_each_set_of_winners_and_none_for_everybody() -> None:
    contract = competition(5, 3).dlc
    sets = distinct_winner_sets((contract.winners(outcome) for outcome in contract.outcomes()), 5)
    assert len(sets) == comb(5, 3)
    assert sorted(contract.winner_sets()) == list(sets)
    assert distinct_winner_sets([(1, 0), (0, 1), (2, 1, 0)], 3) == ((0, 1),)


@pytest.mark.parametrize("winners", [(), (0, 0), (5,), (-1, 2)])
def test_what_is_no_set_of_winners_is_refused(winners: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not a set of winners"):
        distinct_winner_sets([winners], 5)


def test_eleven_entries_fit_one_session_and_twelve_do_not() -> None:
    limits = KeymeldLimits()
    assert needed_sessions(0, limits) == 1
    assert needed_sessions(comb(11, 3), limits) == 1
    assert needed_sessions(comb(12, 3), limits) == 2
    assert needed_sessions(comb(25, 3), limits) == 12


def test_sets_are_spread_over_the_sessions_given() -> None:
    users = [f"user {index}" for index in range(5)]
    layout = lay_out(
        competition(5, 3).dlc.winner_sets(),
        session_ids=SESSIONS,
        coordinator="coordinator",
        users=users,
        limits=KeymeldLimits(subsets_per_keygen=4),
    )
    assert [len(sets) for _, sets in layout.sessions] == [4, 4, 2]
    definitions = [definition for index in range(3) for definition in layout.subset_definitions(index)]
    assert len({definition.subset_id for definition in definitions}) == 10
    assert all(is_uuid7(definition.subset_id) for definition in definitions)
    assert definitions[0].participants == ("coordinator", "user 0", "user 1", "user 2")
    assert layout.participants() == ("coordinator", *users)


def test_too_few_sessions_are_refused_with_the_numbers() -> None:
    with pytest.raises(KeymeldLimitError, match="10 sets of winners need 3 keygen sessions of 4 each; the 2"):
        lay_out(
            competition(5, 3).dlc.winner_sets(),
            session_ids=SESSIONS[:2],
            coordinator="coordinator",
            users=list("abcde"),
            limits=KeymeldLimits(subsets_per_keygen=4),
        )


def test_batches_cover_every_job_once_and_are_the_same_every_time() -> None:
    contract = competition(5, 3).dlc
    limits = KeymeldLimits(subsets_per_keygen=4, items_per_batch=30)
    layout = lay_out(
        contract.winner_sets(), session_ids=SESSIONS, coordinator="mm", users=list("abcde"), limits=limits
    )
    batches = cut_batches(contract.signing_jobs(), layout, limits)
    assert batches == cut_batches(contract.signing_jobs(), layout, limits)
    assert sorted(job.key for batch in batches for job in batch.jobs) == sorted(
        job.key for job in contract.signing_jobs()
    )
    assert max(len(batch.jobs) for batch in batches) == 30
    assert len({(batch.keygen, batch.index) for batch in batches}) == len(batches)
    for batch in batches:
        for job in batch.jobs:
            if job.winners is not None:
                assert layout.session_of[job.winners] == batch.keygen


def test_items_name_subset_and_adaptor_by_derived_ids() -> None:
    contract = competition(3, 2).dlc
    layout = lay_out(
        contract.winner_sets(),
        session_ids=SESSIONS,
        coordinator="mm",
        users=list("abc"),
        limits=KeymeldLimits(),
    )
    (batch,) = cut_batches(contract.signing_jobs(), layout, KeymeldLimits())
    items = batch_items(batch, layout, SESSIONS[1])
    assert items == batch_items(batch, layout, SESSIONS[1])
    assert items["att0"].batch_item_id != batch_items(batch, layout, SESSIONS[2])["att0"].batch_item_id
    assert items["att0"].adaptor_point == contract.adaptor_point("att0")
    assert items["att0"].subset_id is None
    assert items["exp"].adaptor_id is None
    winners = contract.winners("att0")
    assert items[f"att0:p{winners[0]}"].subset_id == layout.subset_id(winners)
    everybody = [job.key for job in contract.signing_jobs() if job.key.startswith("exp:")]
    assert everybody
    assert all(items[key].subset_id is None for key in everybody)


def test_jobs_of_unknown_winners_are_refused() -> None:
    contract = competition(3, 2).dlc
    layout = lay_out(
        [(0, 1)], session_ids=SESSIONS, coordinator="mm", users=list("abc"), limits=KeymeldLimits()
    )
    with pytest.raises(KeymeldLimitError, match="no keygen session has a subset"):
        cut_batches(contract.signing_jobs(), layout, KeymeldLimits())


def test_keys_are_those_of_the_contract() -> None:
    made = competition(4, 2)
    players = [PrivateKey(key).public_key.format() for key in made.player_secrets]
    market_maker = PrivateKey(made.market_maker_secret).public_key.format()
    keys = GroupKeys.aggregate(market_maker, players, made.dlc.winner_sets())
    for job in made.dlc.signing_jobs():
        assert keys.of_job(job) == made.dlc.aggregate_key(job.winners)


def test_a_registration_is_for_every_enclave_and_session_and_survives_json() -> None:
    enclaves = [PrivateKey() for _ in range(3)]
    listed = [
        Enclave(str(index), key.public_key.format(), index + 7, True) for index, key in enumerate(enclaves)
    ]
    secret = PrivateKey().secret
    made = register_player(new_uuid7(), secret, keygen_session_ids=SESSIONS, enclaves=listed)
    assert made.auth_pubkeys.keys() == set(SESSIONS)
    assert made.auth_pubkeys[SESSIONS[0]] == UserCredentials(secret).auth_pubkey(SESSIONS[0])
    for index, key in enumerate(enclaves):
        sealed = bytes.fromhex(made.encrypted_private_keys[str(index)])
        assert ecies_decrypt(key.secret, sealed) == secret
        assert made.enclave_key_epochs[str(index)] == index + 7
    text = json.dumps(made.to_json())
    assert PlayerRegistration.from_json(json.loads(text)) == made
    assert secret.hex() not in text


def test_a_registration_needs_an_enclave_a_key_and_whole_json() -> None:
    with pytest.raises(KeymeldUnavailable):
        register_player(new_uuid7(), PrivateKey().secret, keygen_session_ids=SESSIONS, enclaves=[])
    enclave = Enclave("1", PrivateKey().public_key.format(), 1, True)
    with pytest.raises(KeymeldCryptoError):
        register_player(new_uuid7(), bytes(32), keygen_session_ids=SESSIONS, enclaves=[enclave])
    made = register_player(
        new_uuid7(), PrivateKey().secret, keygen_session_ids=SESSIONS, enclaves=[enclave]
    ).to_json()
    for broken in (
        {**made, "enclave_key_epochs": {}},
        {**made, "enclave_key_epochs": {"1": "1"}},
        {**made, "public_key": "02"},
        {**made, "auth_pubkeys": {SESSIONS[0]: "xx"}},
        {name: value for name, value in made.items() if name != "user_id"},
    ):
        with pytest.raises(ProtocolError):
            PlayerRegistration.from_json(broken)
