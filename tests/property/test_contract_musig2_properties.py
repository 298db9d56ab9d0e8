"""Properties of MuSig2 and its adaptor signatures, for groups of any size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.contract import adaptor, musig2, schnorr
from coordinator.contract.secp import N, add, negate, public_key, scalar_bytes

scalars = st.integers(1, N - 1).map(scalar_bytes)
groups = st.lists(scalars, min_size=1, max_size=6)
messages = st.binary(min_size=32, max_size=32)
tweaks = st.lists(st.tuples(scalars, st.booleans()), max_size=3)


def sign(
    secrets: list[bytes], message: bytes, tweaks: list[tuple[bytes, bool]], point: bytes | None
) -> tuple[musig2.Session, list[bytes]]:
    ordered = sorted(secrets, key=public_key)
    keys = [public_key(secret) for secret in ordered]
    context = musig2.key_agg(keys)
    for tweak, xonly in tweaks:
        context = context.tweaked(tweak, xonly=xonly)
    nonces = [
        musig2.nonce_gen(key, secret=secret, aggregate_key=context.xonly, message=message)
        for key, secret in zip(keys, ordered, strict=True)
    ]
    session = musig2.Session(musig2.nonce_agg([public for _, public in nonces]), context, message, point)
    psigs = []
    for secret, key, (secnonce, pubnonce) in zip(ordered, keys, nonces, strict=True):
        psig = musig2.sign(secnonce, secret, session)
        assert musig2.partial_sig_verify(psig, pubnonce, key, session)
        wrong = scalar_bytes(int.from_bytes(psig, "big") + 1)
        assert not musig2.partial_sig_verify(wrong, pubnonce, key, session)
        psigs.append(psig)
    return session, psigs


@given(groups, messages, tweaks)
@settings(max_examples=25, deadline=None)
def test_a_group_signs_as_one_key(secrets, message, tweaks) -> None:
    session, psigs = sign(secrets, message, tweaks, None)
    signature = musig2.partial_sig_agg(psigs, session)
    assert schnorr.verify(session.context.xonly, message, signature)
    assert not schnorr.verify(session.context.xonly, bytes(a ^ 1 for a in message), signature)
    by_key = {public_key(secret): secret for secret in secrets}
    assert public_key(musig2.aggregate_secret(session.context, by_key)) == session.context.point


@given(groups, messages, tweaks, scalars, scalars)
@settings(max_examples=25, deadline=None)
def test_an_adaptor_signature_completes_with_its_secret_only(secrets, message, tweaks, t, other) -> None:
    point = public_key(t)
    session, psigs = sign(secrets, message, tweaks, point)
    key_x = session.context.xonly
    presignature = adaptor.aggregate(psigs, session)
    assert len(presignature) == 65
    assert adaptor.verify_adaptor(key_x, message, point, presignature)
    signature = adaptor.adapt(presignature, t)
    assert schnorr.verify(key_x, message, signature)
    assert adaptor.extract(presignature, signature, point) == t
    if other != t:
        assert not adaptor.verify_adaptor(key_x, message, public_key(other), presignature)
        assert not schnorr.verify(key_x, message, adaptor.adapt(presignature, other))


@given(scalars, messages, scalars, st.binary(min_size=32, max_size=32))
@settings(max_examples=25, deadline=None)
def test_a_single_signer_makes_adaptor_signatures_too(secret, message, t, aux) -> None:
    point, key_x = public_key(t), public_key(secret)[1:]
    presignature = adaptor.sign(secret, message, point, aux)
    assert adaptor.verify_adaptor(key_x, message, point, presignature)
    signature = adaptor.adapt(presignature, t)
    assert schnorr.verify(key_x, message, signature)
    assert adaptor.extract(presignature, signature, point) == t


@given(scalars, messages, scalars, st.integers(0, 64), st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_a_changed_adaptor_signature_is_refused(secret, message, t, index, flip) -> None:
    presignature = bytearray(adaptor.sign(secret, message, public_key(t)))
    presignature[index] ^= flip
    assert not adaptor.verify_adaptor(public_key(secret)[1:], message, public_key(t), bytes(presignature))


@given(scalars, messages, scalars)
@settings(max_examples=10, deadline=None)
def test_the_sign_of_the_nonce_counts(secret, message, t) -> None:
    """Adding 2*(R or -R)'s log to s' gives a signature of the right x but the wrong sign: refused."""
    point = public_key(t)
    presignature = adaptor.sign(secret, message, point)
    flipped = negate(presignature[:33]) + presignature[33:]
    assert not adaptor.verify_adaptor(public_key(secret)[1:], message, point, flipped)
    # Under the point that keeps R + T, the flipped nonce fails for its sign alone.
    same_sum = add(presignature[:33], point, presignature[:33])
    assert add(flipped[:33], same_sum) == add(presignature[:33], point)
    assert not adaptor.verify_adaptor(public_key(secret)[1:], message, same_sum, flipped)
