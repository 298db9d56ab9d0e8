"""What the service refuses over HTTP, and as which error the client reports it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from coincurve import PrivateKey

from coordinator_client.keymeld import (
    Enclave,
    KeymeldAuthError,
    KeymeldBadResponse,
    KeymeldClient,
    KeymeldConflict,
    KeymeldError,
    KeymeldExpired,
    KeymeldLimitError,
    KeymeldRejected,
    KeymeldUnavailable,
    KeymeldUnknownSession,
    SessionCredentials,
    SigningItem,
    SigningStatus,
    SubsetDefinition,
    UserCredentials,
    new_uuid7,
)
from coordinator_client.keymeld.batch import open_item, seal_item
from coordinator_client.keymeld.protocol import SigningRequest
from coordinator_devnet.keymeld import ServiceLimits
from support.keymeld import Running, running

WRONG = SessionCredentials(bytes([9]) * 32)


@dataclass
class World:
    """A coordinator and two players around a service."""

    keymeld: Running
    client: KeymeldClient
    credentials: SessionCredentials
    users: dict[str, UserCredentials]
    session: str

    @property
    def coordinator(self) -> str:
        return next(iter(self.users))

    async def reserve(self, *, subsets: list[SubsetDefinition] | None = None, timeout_secs: int = 60) -> None:
        reservation = await self.client.reserve(
            self.session,
            self.credentials,
            coordinator_user_id=self.coordinator,
            expected_participants=list(self.users),
            subsets=subsets or [],
            timeout_secs=timeout_secs,
        )
        await self.client.initialize(
            self.session, self.credentials, self.users[self.coordinator], reservation
        )

    async def register(self, user: str, *, approval: bool = False) -> None:
        await self.client.register_own_key(
            self.session,
            self.credentials,
            self.users[user],
            user_id=user,
            require_signing_approval=approval,
        )

    async def complete(self, *, approvers: tuple[int, ...] = ()) -> None:
        await self.reserve()
        for index, user in enumerate(self.users):
            await self.register(user, approval=index in approvers)

    async def sign(self, items: int = 1, *, credentials: SessionCredentials | None = None) -> str:
        signing = new_uuid7()
        await self.client.create_signing(
            signing,
            self.session,
            credentials or self.credentials,
            [SigningItem(new_uuid7(), bytes([1]) * 32, None) for _ in range(items)],
            timeout_secs=60,
        )
        return signing

    async def status(self, signing: str, user: str | None = None) -> SigningStatus:
        user = user or self.coordinator
        state = await self.client.signing_status(signing, self.session, self.users[user], user_id=user)
        return state.status

    async def wait(self, signing: str) -> SigningStatus:
        async with asyncio.timeout(20):
            while (status := await self.status(signing)) not in (
                SigningStatus.COMPLETED,
                SigningStatus.FAILED,
            ):
                await asyncio.sleep(0.02)
        return status


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    limits = ServiceLimits(subsets_per_keygen=2, items_per_batch=3)
    async with running(tmp_path, limits=limits) as keymeld, KeymeldClient(keymeld.url) as client:
        users = {new_uuid7(): UserCredentials(PrivateKey().secret) for _ in range(3)}
        yield World(keymeld, client, SessionCredentials.generate(), users, new_uuid7())


async def test_the_wrong_session_secret_opens_nothing(world: World) -> None:
    await world.complete()
    with pytest.raises(KeymeldAuthError) as refused:
        await world.client.keygen_status(world.session, WRONG)
    assert refused.value.status == 401
    with pytest.raises(KeymeldAuthError):
        await world.sign(credentials=WRONG)
    state = await world.client.keygen_status(world.session, world.credentials)
    assert state.aggregate_public_key is not None
    assert world.credentials.decrypt(state.aggregate_public_key, "aggregate_public_key")


async def test_only_who_reserved_can_initialize(world: World) -> None:
    reservation = await world.client.reserve(
        world.session,
        world.credentials,
        coordinator_user_id=world.coordinator,
        expected_participants=list(world.users),
        timeout_secs=60,
    )
    with pytest.raises(KeymeldAuthError, match="not made with this session secret"):
        await world.client.initialize(world.session, WRONG, world.users[world.coordinator], reservation)
    with pytest.raises(KeymeldUnknownSession):
        await world.client.keygen_status(world.session, world.credentials)
    await world.client.initialize(
        world.session, world.credentials, world.users[world.coordinator], reservation
    )
    with pytest.raises(KeymeldConflict):
        await world.client.initialize(
            world.session, world.credentials, world.users[world.coordinator], reservation
        )


async def test_another_users_signature_is_refused(world: World) -> None:
    await world.complete(approvers=(1,))
    signing = await world.sign()
    _, first, second = world.users
    with pytest.raises(KeymeldAuthError):
        await world.client.approve(signing, world.session, world.users[second], user_id=first)
    with pytest.raises(KeymeldAuthError):
        await world.client.signing_status(signing, world.session, world.users[second], user_id=first)
    stranger = new_uuid7()
    with pytest.raises(KeymeldUnknownSession):
        await world.client.approve(
            signing, world.session, UserCredentials(PrivateKey().secret), user_id=stranger
        )
    assert await world.status(signing) == SigningStatus.COLLECTING_PARTICIPANTS
    await world.client.approve(signing, world.session, world.users[first], user_id=first)
    assert await world.wait(signing) == SigningStatus.COMPLETED


async def test_participants_see_what_they_are_to_approve_and_nobody_else_does(world: World) -> None:
    await world.complete(approvers=(1,))
    signing = new_uuid7()
    items = [
        SigningItem(new_uuid7(), bytes([1]) * 32, None),
        SigningItem(new_uuid7(), bytes([2]) * 32, None, new_uuid7(), PrivateKey().public_key.format()),
    ]
    await world.client.create_signing(signing, world.session, world.credentials, items, timeout_secs=60)
    for user, key in world.users.items():
        state = await world.client.signing_status(signing, world.session, key, user_id=user)
        shown = state.batch_items()
        assert [open_item(world.credentials, item) for item in shown] == items
        with pytest.raises(KeymeldBadResponse):
            open_item(WRONG, shown[0])
    stranger = UserCredentials(PrivateKey().secret)
    with pytest.raises(KeymeldAuthError):
        await world.client.signing_status(signing, world.session, stranger, user_id=world.coordinator)
    # Approved and signed, it is still the same.
    approver = list(world.users)[1]
    await world.client.approve(signing, world.session, world.users[approver], user_id=approver)
    assert await world.wait(signing) == SigningStatus.COMPLETED
    state = await world.client.signing_status(signing, world.session, world.users[approver], user_id=approver)
    assert [open_item(world.credentials, item) for item in state.batch_items()] == items


async def test_a_header_counts_once_even_after_a_restart(world: World, tmp_path: Path) -> None:
    await world.complete()
    signing = await world.sign()
    await world.wait(signing)
    user = world.coordinator
    session_header = {"X-Session-Signature": world.credentials.sign(world.session)}
    user_header = {"X-User-Signature": world.users[user].sign(world.session, signing, user)}
    calls = [
        (f"/api/v1/keygen/{world.session}/status", session_header),
        (f"/api/v1/signing/{signing}/status/{user}", user_header),
    ]
    async with httpx.AsyncClient(base_url=world.keymeld.url) as http:
        for path, header in calls:
            assert (await http.get(path, headers=header)).status_code == 200
            again = await http.get(path, headers=header)
            assert again.status_code == 401
            assert again.json()["error"] == {
                "type": "unauthorized",
                "message": "Nonce already used",
                "code": 401,
            }
            assert (await http.get(path)).status_code == 401
    await world.keymeld.service.stop()
    async with running(tmp_path) as reborn, httpx.AsyncClient(base_url=reborn.url) as http:
        for path, header in calls:
            assert (await http.get(path, headers=header)).status_code == 401
    await world.keymeld.service.start()


async def test_participants_register_once_and_strangers_never(world: World) -> None:
    await world.reserve()
    _, first, _ = world.users
    await world.register(first)
    with pytest.raises(KeymeldConflict):
        await world.register(first)
    stranger = new_uuid7()
    world.users[stranger] = UserCredentials(PrivateKey().secret)
    with pytest.raises(KeymeldUnknownSession):
        await world.register(stranger)
    slots = await world.client.slots(world.session)
    assert [slot.user_id for slot in slots if slot.claimed] == [first]


async def test_a_key_for_another_enclave_epoch_or_user_is_refused(world: World) -> None:
    await world.reserve()
    _, first, second = world.users
    slot = next(slot for slot in await world.client.slots(world.session) if slot.user_id == first)
    enclaves = {enclave.enclave_id: enclave for enclave in await world.client.enclaves()}
    right = enclaves[slot.enclave_id]
    other = next(enclave for enclave in enclaves.values() if enclave != right)
    own = world.users[first]

    async def register(enclave: Enclave, encrypted: str, auth_pubkey: bytes) -> None:
        await world.client.register_participant(
            world.session,
            world.credentials,
            user_id=first,
            public_key=own.public_key,
            auth_pubkey=auth_pubkey,
            encrypted_private_key=encrypted,
            enclave=enclave,
            require_signing_approval=False,
        )

    good, auth = own.encrypt_to_enclave(right.public_key), own.auth_pubkey(world.session)
    for enclave, encrypted, auth_pubkey in [
        (other, own.encrypt_to_enclave(other.public_key), auth),
        (Enclave(right.enclave_id, right.public_key, right.key_epoch + 1, True), good, auth),
        (right, own.encrypt_to_enclave(other.public_key), auth),
        (right, world.users[second].encrypt_to_enclave(right.public_key), auth),
        (right, good, world.users[second].auth_pubkey(world.session)),
    ]:
        with pytest.raises(KeymeldRejected):
            await register(enclave, encrypted, auth_pubkey)
    await register(right, good, auth)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda users: [(users[0], users[1])] * 3, KeymeldLimitError, "3 exceeds maximum of 2"),
        (lambda users: [(users[0], new_uuid7())], KeymeldRejected, "not in expected_participants"),
        (lambda users: [(users[0], users[0])], KeymeldRejected, "at least 2 different"),
        (lambda users: [(users[0],)], KeymeldRejected, "at least 2 different"),
    ],
)
async def test_subsets_are_checked(world: World, make: object, error: type[KeymeldError], text: str) -> None:
    members = make(list(world.users))  # type: ignore[operator]
    with pytest.raises(error, match=text):
        await world.reserve(subsets=[SubsetDefinition(new_uuid7(), tuple(names)) for names in members])
    subset = SubsetDefinition(new_uuid7(), tuple(world.users))
    with pytest.raises(KeymeldRejected, match="Duplicate subset_id"):
        await world.reserve(subsets=[subset, subset])


async def test_session_ids_are_uuid7_and_taken_once(world: World) -> None:
    await world.reserve()
    with pytest.raises(KeymeldConflict):
        await world.reserve()
    world.session = "0192d3a0-0000-4000-8000-000000000001"
    with pytest.raises(KeymeldRejected, match="version 7"):
        await world.reserve()


async def test_batches_are_checked(world: World) -> None:
    with pytest.raises(KeymeldUnknownSession):
        await world.sign()
    await world.reserve()
    with pytest.raises(KeymeldRejected, match="not completed"):
        await world.sign()
    for user in world.users:
        await world.register(user)
    with pytest.raises(KeymeldLimitError, match="4 exceeds maximum of 3"):
        await world.sign(4)
    with pytest.raises(KeymeldRejected, match="empty"):
        await world.sign(0)
    unknown = [SigningItem(new_uuid7(), bytes(32), new_uuid7())]
    with pytest.raises(KeymeldRejected, match="is not of keygen session"):
        await world.client.create_signing(
            new_uuid7(), world.session, world.credentials, unknown, timeout_secs=60
        )
    twice = [SigningItem(new_uuid7(), bytes(32), None)] * 2
    with pytest.raises(KeymeldRejected, match="Duplicate"):
        await world.client.create_signing(
            new_uuid7(), world.session, world.credentials, twice, timeout_secs=60
        )
    with pytest.raises(KeymeldRejected, match="Timeout"):
        await world.client.create_signing(
            new_uuid7(), world.session, world.credentials, twice[:1], timeout_secs=0
        )
    signing = await world.sign(3)
    assert await world.wait(signing) == SigningStatus.COMPLETED
    with pytest.raises(KeymeldConflict):
        await world.client.create_signing(
            signing, world.session, world.credentials, twice[:1], timeout_secs=60
        )


async def test_an_item_that_lies_fails_its_session(world: World) -> None:
    await world.complete()
    signing = new_uuid7()
    honest = seal_item(world.credentials, SigningItem(new_uuid7(), bytes(32), None)).to_json()
    body = SigningRequest(signing, world.session, 60, ()).to_json()
    async with httpx.AsyncClient(base_url=world.keymeld.url) as http:
        answer = await http.post(
            "/api/v1/signing",
            json={**body, "batch_items": [{**honest, "message_hash": [7] * 32}]},
            headers={"X-Session-Signature": world.credentials.sign(world.session)},
        )
    assert answer.status_code == 200
    assert await world.wait(signing) == SigningStatus.FAILED
    state = await world.client.signing_status(
        signing, world.session, world.users[world.coordinator], user_id=world.coordinator
    )
    assert "not the one hashed" in (state.batch_results[0].error or "")
    assert state.batch_results[0].signature is None


async def test_sessions_expire(world: World) -> None:
    await world.reserve(timeout_secs=1)
    await asyncio.sleep(2.1)
    with pytest.raises(KeymeldExpired) as refused:
        await world.register(world.coordinator)
    assert refused.value.status == 410
    assert (await world.client.keygen_status(world.session, world.credentials)).status == "failed"

    world.session = new_uuid7()
    await world.complete(approvers=(1,))
    signing = new_uuid7()
    item = SigningItem(new_uuid7(), bytes(32), None)
    await world.client.create_signing(signing, world.session, world.credentials, [item], timeout_secs=1)
    await asyncio.sleep(2.1)
    assert await world.status(signing) == SigningStatus.FAILED
    user = list(world.users)[1]
    with pytest.raises(KeymeldExpired):
        await world.client.approve(signing, world.session, world.users[user], user_id=user)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/v1/keygen/reserve", "{", 400),
        ("POST", "/api/v1/keygen/reserve", "[]", 400),
        ("POST", "/api/v1/keygen/reserve", '{"keygen_session_id": 1}', 400),
        ("POST", "/api/v1/signing", "{}", 400),
        ("POST", "/api/v1/signing", " " * 5_000_000, 413),
        ("GET", "/api/v1/keygen/none/status", None, 404),
        ("GET", "/api/v1/enclaves/99/public-key", None, 404),
        ("GET", "/api/v1/nothing", None, 404),
        ("GET", "/api/v1/signing", None, 405),
        ("POST", "/devnet/keymeld/faults", '{"kind": "earthquake"}', 400),
        ("POST", "/devnet/keymeld/faults", '{"kind": "error", "status": 200}', 400),
    ],
)
async def test_errors_are_json(world: World, method: str, path: str, body: str | None, status: int) -> None:
    async with httpx.AsyncClient(base_url=world.keymeld.url) as http:
        answer = await http.request(method, path, content=body)
    assert answer.status_code == status
    error = json.loads(answer.text)["error"]
    assert error["code"] == status
    assert error["message"]


async def test_the_client_reports_what_is_no_keymeld() -> None:
    answers = iter(
        [
            httpx.Response(200, text="<html>"),
            httpx.Response(200, json={"enclaves": [{}]}),
            httpx.Response(400, json={"error": "Too many subset definitions"}),
            httpx.Response(400, json={"error_code": "x", "message": "Keygen session already exists"}),
            httpx.Response(418, text="teapot"),
        ]
    )
    transport = httpx.MockTransport(lambda request: next(answers))
    async with KeymeldClient("http://keymeld", transport=transport) as client:
        for error in (
            KeymeldBadResponse,
            KeymeldBadResponse,
            KeymeldLimitError,
            KeymeldConflict,
            KeymeldRejected,
        ):
            with pytest.raises(error):
                await client.enclaves()
    down = KeymeldClient("http://127.0.0.1:1", timeout_seconds=1)
    with pytest.raises(KeymeldUnavailable):
        await down.slots(new_uuid7())
    assert not await down.health()
    await down.close()
