"""What an enclave does and refuses, asked directly: keys, approvals, nonces that sign once, tweaks."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from coordinator.contract import adaptor, schnorr
from coordinator.contract.musig2 import key_agg, key_sort
from coordinator.contract.secp import tagged_hash
from coordinator_client.keymeld import SessionCredentials, SigningItem, UserCredentials, new_uuid7, seal_item
from coordinator_client.keymeld.batch import open_result
from coordinator_client.keymeld.client import decrypt_aggregate_key
from coordinator_client.keymeld.crypto import ecies_encrypt
from coordinator_client.keymeld.protocol import BatchResult, ProtocolError
from coordinator_devnet.keymeld.enclave import Enclave, EnclaveRefused, perform
from coordinator_devnet.keymeld.sealing import MASTER_KEY_VARIABLE, Sealer, SealingError, master_key
from coordinator_devnet.keymeld.tweaks import apply_tweak

SESSION = new_uuid7()
SIGNING = new_uuid7()
CREDENTIALS = SessionCredentials(bytes(range(32)))
MESSAGE = bytes(range(32))


class World:
    """Two enclaves with one user each, and a complete keygen session."""

    def __init__(self, *, need_approval: bool = False) -> None:
        self.users = {new_uuid7(): UserCredentials(PrivateKey().secret) for _ in range(2)}
        self.enclaves = [Enclave(index, bytes([index]) * 32, {}) for index in (1, 2)]
        self.keys = [bytes.fromhex(enclave.generate_key(1)["public_key"]) for enclave in self.enclaves]
        self.seals: list[str] = []
        self.sealed_secrets: list[str] = []
        self.public_keys = {user: own.public_key.hex() for user, own in self.users.items()}
        for enclave, key, user in zip(self.enclaves, self.keys, self.users, strict=True):
            secret = ecies_encrypt(key, CREDENTIALS.seed).hex()
            self.sealed_secrets.append(enclave.adopt_session(SESSION, 1, secret)["sealed"])
            request = self.registration(user, key)
            self.seals.append(enclave.register(SESSION, self.sealed_secrets[-1], 1, request)["sealed"])
        for enclave, sealed_secret, sealed, user in zip(
            self.enclaves, self.sealed_secrets, self.seals, self.users, strict=True
        ):
            enclave.load(
                SESSION,
                sealed_secret,
                self.public_keys,
                {user: sealed},
                list(self.users) if need_approval else [],
                {},
            )
        self.context = key_agg(key_sort([own.public_key for own in self.users.values()]))

    def registration(self, user: str, key: bytes, **changed: Any) -> dict[str, Any]:
        own = self.users[user]
        data = {"participant_public_keys": {user: list(own.public_key)}}
        request = {
            "user_id": user,
            "encrypted_private_key": own.encrypt_to_enclave(key),
            "public_key": own.public_key.hex(),
            "encrypted_session_data": CREDENTIALS.encrypt(
                json.dumps(data).encode(), "keygen_participant_session"
            ),
            "auth_pubkey": own.auth_pubkey(SESSION).hex(),
        }
        return request | changed

    def approvals(self) -> dict[str, str]:
        return {user: own.sign(SESSION, SIGNING, user) for user, own in self.users.items()}

    def nonces(self, round_id: str, item: SigningItem, **sealing: Any) -> list[list[str]]:
        items = [seal_item(CREDENTIALS, item, **sealing).to_json()]
        return [
            enclave.nonces(round_id, SESSION, SIGNING, items, self.approvals())["nonces"]
            for enclave in self.enclaves
        ]

    def sign(self, item: SigningItem, round_id: str = "round", **sealing: Any) -> bytes:
        nonces = self.nonces(round_id, item, **sealing)
        aggregated = self.enclaves[0].aggregate_nonces(round_id, nonces)["aggregate_nonces"]
        partials = [enclave.partials(round_id, aggregated)["partials"] for enclave in self.enclaves]
        (result,) = self.enclaves[0].finish(round_id, partials)["results"]
        return open_result(CREDENTIALS, BatchResult.from_json(result), item)


PLAIN = SigningItem("item", MESSAGE, None)


def test_two_enclaves_sign_together() -> None:
    world = World(need_approval=True)
    assert schnorr.verify(world.context.xonly, MESSAGE, world.sign(PLAIN))
    point = PrivateKey().public_key.format()
    item = SigningItem("item", MESSAGE, None, adaptor_id="adaptor", adaptor_point=point)
    signature = world.sign(item, "another round")
    assert adaptor.verify_adaptor(world.context.xonly, MESSAGE, point, signature)
    encrypted = world.enclaves[1].aggregate(SESSION, "")["aggregate_public_key"]
    assert decrypt_aggregate_key(CREDENTIALS, encrypted) == world.context.point


def test_a_rounds_nonces_sign_once_and_rounds_never_share_any() -> None:
    world = World()
    first = world.nonces("first", PLAIN)
    second = world.nonces("second", PLAIN)
    assert not {nonce for of in first for nonce in of} & {nonce for of in second for nonce in of}
    aggregated = world.enclaves[0].aggregate_nonces("first", first)["aggregate_nonces"]
    other = world.enclaves[0].aggregate_nonces("second", second)["aggregate_nonces"]
    world.enclaves[0].partials("first", aggregated)
    for aggregate in (aggregated, other):
        with pytest.raises(EnclaveRefused, match="has been signed"):
            world.enclaves[0].partials("first", aggregate)
    with pytest.raises(EnclaveRefused, match="used once"):
        world.nonces("first", PLAIN)
    world.enclaves[0].forget("first")
    with pytest.raises(EnclaveRefused, match="not known here"):
        world.enclaves[0].partials("first", aggregated)


def test_a_restarted_enclave_knows_no_round() -> None:
    world = World()
    aggregated = world.enclaves[0].aggregate_nonces("round", world.nonces("round", PLAIN))["aggregate_nonces"]
    reborn = Enclave(1, bytes([1]) * 32, {})
    with pytest.raises(EnclaveRefused, match="not known here") as refused:
        reborn.partials("round", aggregated)
    assert refused.value.kind == "unknown_round"


def test_no_key_signs_without_its_owners_approval() -> None:
    world = World(need_approval=True)
    items = [seal_item(CREDENTIALS, PLAIN).to_json()]
    first, second = world.users
    forged = {first: world.users[second].sign(SESSION, SIGNING, first)}
    elsewhere = {first: world.users[first].sign(SESSION, new_uuid7(), first)}
    for approvals in ({}, forged, elsewhere):
        with pytest.raises(EnclaveRefused, match="has not approved") as refused:
            world.enclaves[0].nonces("round", SESSION, SIGNING, items, approvals)
        assert refused.value.kind == "auth"


def test_registration_checks_key_auth_key_and_addressee() -> None:
    world = World()
    user, stranger = world.users
    enclave, sealed_secret, key = world.enclaves[0], world.sealed_secrets[0], world.keys[0]
    other = world.users[stranger]
    for changed, text in [
        ({"public_key": other.public_key.hex()}, "does not belong"),
        ({"encrypted_private_key": other.encrypt_to_enclave(key)}, "does not belong"),
        ({"auth_pubkey": other.auth_pubkey(SESSION).hex()}, "auth public key"),
        ({"encrypted_private_key": world.users[user].encrypt_to_enclave(world.keys[1])}, "not encrypted to"),
        ({"encrypted_private_key": "zz"}, "not encrypted to"),
        ({"encrypted_session_data": CREDENTIALS.encrypt(b"{}", "message")}, "context"),
    ]:
        with pytest.raises(EnclaveRefused, match=text):
            enclave.register(SESSION, sealed_secret, 1, world.registration(user, key, **changed))
    with pytest.raises(EnclaveRefused, match="no key of epoch 2"):
        enclave.register(SESSION, sealed_secret, 2, world.registration(user, key))


@pytest.mark.parametrize(
    "changed",
    [
        {"message_hash": [0] * 32},
        {"subset_id": "unknown"},
        {"signing_mode": {"type": "regular", "encrypted_message": CREDENTIALS.encrypt(b"x", "message")}},
        {"encrypted_taproot_tweak": CREDENTIALS.encrypt(b'"Twist"', "session_data")},
        {"encrypted_taproot_tweak": CREDENTIALS.encrypt(b"?", "session_data")},
    ],
)
def test_items_that_are_not_what_they_say_are_refused(changed: dict[str, Any]) -> None:
    world = World()
    item = {**seal_item(CREDENTIALS, PLAIN).to_json(), **changed}
    answer = perform(
        world.enclaves[0],
        "nonces",
        {"round_id": "r", "session_id": SESSION, "signing_id": SIGNING, "items": [item], "approvals": {}},
    )
    assert answer["refused"]["kind"] == "invalid"


def test_a_wrong_partial_signature_is_an_error_and_not_a_signature() -> None:
    world = World()
    aggregated = world.enclaves[0].aggregate_nonces("round", world.nonces("round", PLAIN))["aggregate_nonces"]
    partials = [enclave.partials("round", aggregated)["partials"] for enclave in world.enclaves]
    partials[1] = ["00" * 31 + "01"]
    (result,) = world.enclaves[0].finish("round", partials)["results"]
    assert result["signature"] is None
    assert "does not verify" in result["error"]


@pytest.mark.parametrize(
    "tweak",
    [b'{"type":"unspendable_taproot"}', b'"UnspendableTaproot"'],
)
def test_taproot_tweaked_keys_sign(tweak: bytes) -> None:
    world = World()
    signature = world.sign(PLAIN, tweak=tweak)
    tweaked = world.context.tweaked(tagged_hash("TapTweak", world.context.xonly), xonly=True)
    assert schnorr.verify(tweaked.xonly, MESSAGE, signature)
    assert not schnorr.verify(world.context.xonly, MESSAGE, signature)


def test_every_spelling_of_a_tweak() -> None:
    context = key_agg([PrivateKey().public_key.format()])
    number = list(MESSAGE)
    for tagged, plain, expected in [
        ({"type": "none"}, "None", context),
        (
            {"type": "taproot_with_merkle_root", "merkle_root": number},
            {"TaprootWithMerkleRoot": {"merkle_root": number}},
            context.tweaked(tagged_hash("TapTweak", context.xonly, MESSAGE), xonly=True),
        ),
        (
            {"type": "plain_tweak", "tweak": number},
            {"PlainTweak": {"tweak": number}},
            context.tweaked(MESSAGE, xonly=False),
        ),
        (
            {"type": "x_only_tweak", "tweak": number},
            {"XOnlyTweak": {"tweak": number}},
            context.tweaked(MESSAGE, xonly=True),
        ),
    ]:
        assert apply_tweak(context, json.dumps(tagged).encode()) == expected
        assert apply_tweak(context, json.dumps(plain).encode()) == expected
    with pytest.raises(ProtocolError):
        apply_tweak(context, b'{"type":"plain_tweak","tweak":[1]}')


def test_what_is_sealed_opens_only_in_its_place() -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(b"secret", "private key", "session", "user")
    assert sealer.open(sealed, "private key", "session", "user") == b"secret"
    for other, place in [
        (sealer, ("private key", "session", "other")),
        (sealer, ("private key", "sessionuser", "")),
        (Sealer(bytes([1]) * 32), ("private key", "session", "user")),
    ]:
        with pytest.raises(SealingError):
            other.open(sealed, *place)


def test_the_master_key_is_made_once_and_for_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MASTER_KEY_VARIABLE, raising=False)
    key = master_key(tmp_path / "keymeld")
    assert key == master_key(tmp_path / "keymeld")
    assert stat.S_IMODE(os.stat(tmp_path / "keymeld" / "master.key").st_mode) == 0o600
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "11" * 32)
    assert master_key(tmp_path / "keymeld") == bytes([0x11]) * 32
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "11")
    with pytest.raises(SealingError):
        master_key(tmp_path)
