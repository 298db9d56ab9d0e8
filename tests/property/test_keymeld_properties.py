"""What holds of keymeld's encryption, layout and batches for any input."""

from itertools import combinations

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.contract.dlc import SigningJob
from coordinator_client.keymeld import KeymeldCryptoError, SessionCredentials
from coordinator_client.keymeld.crypto import ecies_decrypt, ecies_encrypt
from coordinator_client.keymeld.dlc import KeymeldLimits, cut_batches, lay_out, needed_sessions
from coordinator_client.keymeld.ids import derived_uuid7, is_uuid7

CREDENTIALS = SessionCredentials(bytes(range(32)))
ENCLAVE = PrivateKey(bytes(range(1, 33)))


@given(st.binary(max_size=300), st.text(min_size=1, max_size=40))
def test_session_encryption_opens_to_what_was_sealed(plaintext: bytes, context: str) -> None:
    assert CREDENTIALS.decrypt(CREDENTIALS.encrypt(plaintext, context), context) == plaintext


@given(st.binary(max_size=100), st.data())
def test_no_flipped_bit_goes_unnoticed(plaintext: bytes, data: st.DataObject) -> None:
    session_blob = bytearray.fromhex(CREDENTIALS.encrypt(plaintext, "message"))
    sealed = bytearray(ecies_encrypt(ENCLAVE.public_key.format(), plaintext))
    for blob in (session_blob, sealed):
        bit = data.draw(st.integers(0, 8 * len(blob) - 1))
        blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(KeymeldCryptoError):
        CREDENTIALS.decrypt(session_blob.hex(), "message")
    with pytest.raises(KeymeldCryptoError):
        ecies_decrypt(ENCLAVE.secret, bytes(sealed))


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(garbage: bytes) -> None:
    with pytest.raises(KeymeldCryptoError):
        CREDENTIALS.decrypt(garbage.hex(), "message")
    with pytest.raises(KeymeldCryptoError):
        ecies_decrypt(ENCLAVE.secret, garbage)


@given(st.lists(st.text(max_size=10), max_size=4), st.integers(0, (1 << 48) - 1))
def test_derived_ids_are_uuid7(parts: list[str], at: int) -> None:
    assert is_uuid7(derived_uuid7(tuple(parts), at))


@settings(deadline=None)
@given(st.integers(2, 8), st.data())
def test_every_set_and_job_finds_its_one_place(players: int, data: st.DataObject) -> None:
    places = data.draw(st.integers(1, players - 1))
    limits = KeymeldLimits(data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    sets = list(combinations(range(players), places))
    session_ids = [
        derived_uuid7((str(index),), 1_700_000_000_000) for index in range(needed_sessions(len(sets), limits))
    ]
    layout = lay_out(
        sets,
        session_ids=session_ids,
        coordinator="c",
        users=[str(index) for index in range(players)],
        limits=limits,
    )
    assert [winners for _, held in layout.sessions for winners in held] == sets
    assert all(len(held) <= limits.subsets_per_keygen for _, held in layout.sessions)
    jobs = [SigningJob(f"g{index}", bytes(32), None, None) for index in range(data.draw(st.integers(0, 20)))]
    jobs += [SigningJob(f"s{index}", bytes(32), None, winners) for index, winners in enumerate(sets)]
    batches = cut_batches(jobs, layout, limits)
    assert sorted(job.key for batch in batches for job in batch.jobs) == sorted(job.key for job in jobs)
    assert all(0 < len(batch.jobs) <= limits.items_per_batch for batch in batches)
