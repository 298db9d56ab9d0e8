"""MuSig2 against the published BIP327 vectors."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.contract import musig2
from coordinator.contract.errors import InvalidContribution, NonceReuse, SigningError
from coordinator.contract.schnorr import verify
from coordinator.contract.secp import public_key
from support.vectors import load


def unhex(values: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def pick(values: Sequence[bytes], indices: Sequence[int]) -> list[bytes]:
    return [values[i] for i in indices]


def tweaked(context: musig2.KeyAggContext, tweaks: Sequence[bytes], xonly: Sequence[bool]):
    for tweak, is_xonly in zip(tweaks, xonly, strict=True):
        context = context.tweaked(tweak, xonly=is_xonly)
    return context


def assert_raises(error: dict[str, Any], call: Any) -> None:
    if error["type"] == "invalid_contribution":
        with pytest.raises(InvalidContribution) as caught:
            call()
        assert (caught.value.signer, caught.value.contribution) == (error["signer"], error["contrib"])
    else:
        with pytest.raises(SigningError) as caught:
            call()
        assert error["message"] in str(caught.value)


def test_key_sort() -> None:
    data = load("bip327_key_sort.json")
    assert musig2.key_sort(unhex(data["pubkeys"])) == unhex(data["sorted_pubkeys"])


def test_key_agg() -> None:
    data = load("bip327_key_agg.json")
    keys, tweaks = unhex(data["pubkeys"]), unhex(data["tweaks"])
    assert data["valid_test_cases"]
    assert data["error_test_cases"]
    for case in data["valid_test_cases"]:
        assert musig2.key_agg(pick(keys, case["key_indices"])).xonly == bytes.fromhex(case["expected"])
    for case in data["error_test_cases"]:

        def call(case: Any = case) -> None:
            context = musig2.key_agg(pick(keys, case["key_indices"]))
            tweaked(context, pick(tweaks, case["tweak_indices"]), case["is_xonly"])

        assert_raises(case["error"], call)


def test_nonce_gen() -> None:
    cases = load("bip327_nonce_gen.json")["test_cases"]
    assert cases
    for case in cases:
        given = {key: None if case[key] is None else bytes.fromhex(case[key]) for key in case}
        secnonce, pubnonce = musig2.nonce_gen(
            given["pk"],
            secret=given["sk"],
            aggregate_key=given["aggpk"],
            message=given["msg"],
            extra=given["extra_in"],
            rand=given["rand_"],
        )
        assert pubnonce == given["expected_pubnonce"]
        k1, k2 = secnonce._take()
        assert k1.to_bytes(32, "big") + k2.to_bytes(32, "big") + secnonce.pubkey == given["expected_secnonce"]


def test_nonce_agg() -> None:
    data = load("bip327_nonce_agg.json")
    nonces = unhex(data["pnonces"])
    for case in data["valid_test_cases"]:
        assert musig2.nonce_agg(pick(nonces, case["pnonce_indices"])) == bytes.fromhex(case["expected"])
    for case in data["error_test_cases"]:
        assert_raises(case["error"], lambda case=case: musig2.nonce_agg(pick(nonces, case["pnonce_indices"])))


def test_sign_verify() -> None:
    data = load("bip327_sign_verify.json")
    secret = bytes.fromhex(data["sk"])
    keys, nonces, secnonces = (unhex(data[name]) for name in ("pubkeys", "pnonces", "secnonces"))
    aggnonces, messages = unhex(data["aggnonces"]), unhex(data["msgs"])
    for case in data["valid_test_cases"]:
        group, given = pick(keys, case["key_indices"]), pick(nonces, case["nonce_indices"])
        aggnonce, signer = aggnonces[case["aggnonce_index"]], case["signer_index"]
        assert musig2.nonce_agg(given) == aggnonce
        session = musig2.Session(aggnonce, musig2.key_agg(group), messages[case["msg_index"]])
        psig = musig2.sign(musig2.SecNonce(secnonces[0]), secret, session)
        assert psig == bytes.fromhex(case["expected"])
        assert musig2.partial_sig_verify(psig, given[signer], group[signer], session)
    for case in data["sign_error_test_cases"]:

        def sign(case: Any = case) -> None:
            session = musig2.Session(
                aggnonces[case["aggnonce_index"]],
                musig2.key_agg(pick(keys, case["key_indices"])),
                messages[case["msg_index"]],
            )
            musig2.sign(musig2.SecNonce(secnonces[case["secnonce_index"]]), secret, session)

        assert_raises(case["error"], sign)
    for case in [*data["verify_fail_test_cases"], *data["verify_error_test_cases"]]:
        group, given = pick(keys, case["key_indices"]), pick(nonces, case["nonce_indices"])

        def check(case: Any = case, group: Any = group, given: Any = given) -> bool:
            session = musig2.Session(
                musig2.nonce_agg(given), musig2.key_agg(group), messages[case["msg_index"]]
            )
            signer = case["signer_index"]
            return musig2.partial_sig_verify(
                bytes.fromhex(case["sig"]), given[signer], group[signer], session
            )

        if "error" in case:
            assert_raises(case["error"], check)
        else:
            assert not check(), case["comment"]


def test_tweaks() -> None:
    data = load("bip327_tweak.json")
    secret, message, aggnonce = (bytes.fromhex(data[name]) for name in ("sk", "msg", "aggnonce"))
    keys, nonces, tweaks = (unhex(data[name]) for name in ("pubkeys", "pnonces", "tweaks"))
    for case in [*data["valid_test_cases"], *data["error_test_cases"]]:

        def sign(case: Any = case) -> bytes:
            context = tweaked(
                musig2.key_agg(pick(keys, case["key_indices"])),
                pick(tweaks, case["tweak_indices"]),
                case["is_xonly"],
            )
            session = musig2.Session(aggnonce, context, message)
            psig = musig2.sign(musig2.SecNonce(bytes.fromhex(data["secnonce"])), secret, session)
            signer = case["signer_index"]
            assert musig2.partial_sig_verify(
                psig, nonces[case["nonce_indices"][signer]], keys[case["key_indices"][signer]], session
            )
            return psig

        if "error" in case:
            assert_raises(case["error"], sign)
        else:
            assert sign() == bytes.fromhex(case["expected"]), case["comment"]


def test_sig_agg() -> None:
    data = load("bip327_sig_agg.json")
    message = bytes.fromhex(data["msg"])
    keys, nonces, tweaks, psigs = (unhex(data[name]) for name in ("pubkeys", "pnonces", "tweaks", "psigs"))
    for case in [*data["valid_test_cases"], *data["error_test_cases"]]:
        aggnonce = bytes.fromhex(case["aggnonce"])
        assert musig2.nonce_agg(pick(nonces, case["nonce_indices"])) == aggnonce
        context = tweaked(
            musig2.key_agg(pick(keys, case["key_indices"])),
            pick(tweaks, case["tweak_indices"]),
            case["is_xonly"],
        )
        session = musig2.Session(aggnonce, context, message)
        given = pick(psigs, case["psig_indices"])
        if "error" in case:
            assert_raises(
                case["error"], lambda given=given, session=session: musig2.partial_sig_agg(given, session)
            )
        else:
            signature = musig2.partial_sig_agg(given, session)
            assert signature == bytes.fromhex(case["expected"])
            assert verify(context.xonly, message, signature)


# BIP327's own repository has this file as bip-0327/vectors/det_sign_vectors.json; these are its first, third
# and fourth valid cases (randomness, other nonces, key order, tweak, message, public nonce, signature).
DETERMINISTIC_SECRET = "7fb9e0e687ada1eebf7ecfe2f21e73ebdb51a7d450948dfe8d76d7f2d1007671"
DETERMINISTIC_KEYS = [
    "03935f972da013f80ae011890fa89b67a27b7be6ccb24d3274d18b2d4067f261a9",
    "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
    "02dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
]
GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
DETERMINISTIC = [
    (
        "00" * 32,
        "0337c87821afd50a8644d820a8f3e02e499c931865c2360fb43d0a0d20dafe07ea0287bf891d2a6deaebadc909352aa9405d"
        "1428c15f4b75f04dae642a95c2548480",
        [0, 1, 2],
        [],
        "f95466d086770e689964664219266fe5ed215c92ae20bab5c9d79addddf3c0cf",
        "03d96275257c2fccbb6eeb77bddf51d3c88c26ee1626c6cda8999b9d34f4ba13a60309be2bf883c6abe907fa822d9ca166d5"
        "1a3dcc28910c57528f6983fc378b7843",
        "41ea65093f71d084785b20dc26a887cd941c9597860a21660cbdb9cc2113cad3",
    ),
    (
        "ff" * 32,
        GENERATOR * 2,
        [1, 2, 0],
        [],
        "26" * 38,
        "024fa8d774f0c8743faa77afb4d08ee5a013c2e8eead8a6f08a77ddd2d28266db803050905e8c994477f3f2981861a2e3791"
        "ef558626e645fbf5aa131c5d6447c2c2",
        "fee28a56b8556b7632e42a84122c51a4861b1f2dec7e81b632195e56a52e3e13",
    ),
    (
        "00" * 32,
        "032de2662628c90b03f5e720284eb52ff7d71f4284f627b68a853d78c78e1ffe9303e4c5524e83ffe1493b9077cf1ca6beb2"
        "090c93d930321071ad40b2f44e599046",
        [0, 1, 2],
        ["e8f791ff9225a2af0102afff4a9a723d9612a682a25ebe79802b263cdfcd83bb"],
        "f95466d086770e689964664219266fe5ed215c92ae20bab5c9d79addddf3c0cf",
        "031e07c0d11a0134e55db1fc16095adcbd564236194374aa882bfb3c78273bf673039d0336e8ca6288c00bfc1f8b59456352"
        "9c98661172b9bc1be85c23a4ce1f616b",
        "7b1246c5889e59cb0375fa395cc86ac42d5d7d59fd8eab4fdf1dcab2b2f006ea",
    ),
]


@pytest.mark.parametrize("case", DETERMINISTIC)
def test_deterministic_sign(case: Any) -> None:
    rand, others, order, tweaks, message, nonce, psig = case
    assert musig2.deterministic_sign(
        bytes.fromhex(DETERMINISTIC_SECRET),
        bytes.fromhex(others),
        pick(unhex(DETERMINISTIC_KEYS), order),
        [(bytes.fromhex(tweak), True) for tweak in tweaks],
        bytes.fromhex(message),
        bytes.fromhex(rand),
    ) == (bytes.fromhex(nonce), bytes.fromhex(psig))


@pytest.mark.parametrize("others", ["04" + GENERATOR[2:] + GENERATOR, "00" * 33 + GENERATOR])
def test_deterministic_sign_refuses_bad_other_nonces(others: str) -> None:
    with pytest.raises(InvalidContribution) as caught:
        musig2.deterministic_sign(
            bytes.fromhex(DETERMINISTIC_SECRET),
            bytes.fromhex(others),
            unhex(DETERMINISTIC_KEYS),
            [],
            bytes(32),
            bytes(32),
        )
    assert (caught.value.signer, caught.value.contribution) == (None, "aggothernonce")


SECRET = bytes(31) + b"\x07"


def test_a_secret_nonce_signs_once() -> None:
    key = public_key(SECRET)
    secnonce, pubnonce = musig2.nonce_gen(key, secret=SECRET)
    session = musig2.Session(musig2.nonce_agg([pubnonce]), musig2.key_agg([key]), bytes(32))
    assert not secnonce.used
    psig = musig2.sign(secnonce, SECRET, session)
    assert verify(session.context.xonly, bytes(32), musig2.partial_sig_agg([psig], session))
    assert secnonce.used
    with pytest.raises(NonceReuse):
        musig2.sign(secnonce, SECRET, session)


def test_a_failed_signature_spends_the_nonce_too() -> None:
    key = public_key(SECRET)
    secnonce, pubnonce = musig2.nonce_gen(key)
    session = musig2.Session(musig2.nonce_agg([pubnonce]), musig2.key_agg([key]), bytes(32))
    with pytest.raises(SigningError):
        musig2.sign(secnonce, bytes(31) + b"\x08", session)
    with pytest.raises(NonceReuse):
        musig2.sign(secnonce, SECRET, session)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_secret_nonce_cannot_be_copied_or_read(duplicate: Any) -> None:
    secnonce, _ = musig2.nonce_gen(public_key(SECRET))
    with pytest.raises(NonceReuse):
        duplicate(secnonce)
    assert bytes(secnonce._data).hex() not in repr(secnonce)


def test_an_aggregate_secret_needs_every_secret() -> None:
    secrets = {public_key(bytes((i,)) * 32): bytes((i,)) * 32 for i in (1, 2, 3)}
    keys = list(secrets)
    context = musig2.key_agg([*keys, keys[0]]).tweaked(bytes((9,)) * 32, xonly=True)
    assert public_key(musig2.aggregate_secret(context, secrets)) == context.point
    with pytest.raises(SigningError, match="missing"):
        musig2.aggregate_secret(context, {keys[0]: secrets[keys[0]]})
    with pytest.raises(SigningError, match="another's"):
        musig2.aggregate_secret(context, {**secrets, keys[2]: bytes((4,)) * 32})
