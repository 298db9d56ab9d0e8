"""An asynchronous client of a keymeld service: one method a call, typed answers, typed errors."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, TypeVar

import httpx

from coordinator_client.bounded import bounded

from .batch import NO_TWEAK, NO_TWEAK_TAGGED, SigningItem, seal_request
from .crypto import (
    AGGREGATE_PUBLIC_KEY,
    KEYGEN_PARTICIPANT_SESSION,
    KEYGEN_SESSION,
    SUBSET_AGGREGATE,
    TAPROOT_TWEAK,
    SessionCredentials,
    UserCredentials,
    ecies_encrypt,
)
from .errors import (
    KeymeldAuthError,
    KeymeldBadResponse,
    KeymeldConflict,
    KeymeldCryptoError,
    KeymeldError,
    KeymeldExpired,
    KeymeldLimitError,
    KeymeldRejected,
    KeymeldUnavailable,
    KeymeldUnknownSession,
    KeymeldUnreadable,
)
from .protocol import (
    Enclave,
    Fields,
    InitializeRequest,
    Json,
    KeygenState,
    ProtocolError,
    RegisterRequest,
    Reservation,
    ReserveRequest,
    SigningState,
    Slot,
    SubsetDefinition,
)

T = TypeVar("T")

SESSION_SIGNATURE_HEADER: Final = "X-Session-Signature"
USER_SIGNATURE_HEADER: Final = "X-User-Signature"

_GET_ATTEMPTS: Final = 4


def backoff(
    *, first_seconds: float = 0.05, longest_seconds: float = 2.0, factor: float = 1.6, jitter: float = 0.25
) -> Iterator[float]:
    """Endless growing delays, each varied by up to `jitter` of itself so that many pollers spread out."""
    delay = first_seconds
    while True:
        yield delay * (1 + random.uniform(-jitter, jitter))
        delay = min(delay * factor, longest_seconds)


class KeymeldClient:
    """Talks to one keymeld service. Use as an async context manager, or call `close`.

    Every method raises a `KeymeldError`: `KeymeldUnavailable` is worth a retry, the others are not.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float = 15.0,
        tagged_tweaks: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            base_url: where the service is, without `/api/v1`.
            timeout_seconds: of a single request.
            tagged_tweaks: write tweaks as `{"type": "none"}` instead of `"None"`.
            transport: another way to reach it, e.g. in-process.
        """
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/api/v1",
            timeout=timeout_seconds,
            transport=transport,
            event_hooks=bounded(),
        )
        self.tweak = NO_TWEAK_TAGGED if tagged_tweaks else NO_TWEAK
        """As it is written to this service."""

    async def __aenter__(self) -> "KeymeldClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # The service itself.

    async def health(self) -> bool:
        """Whether the service answers and has a healthy enclave; never raises."""
        try:
            answer = Fields(await self._get("/health"), "health")
            return answer.text("status") == "healthy" and answer.integer("healthy_enclaves", 1) > 0
        except (KeymeldError, ProtocolError):
            return False

    async def enclaves(self) -> tuple[Enclave, ...]:
        """Every enclave with its key."""
        return _parsed(
            lambda answer: Fields(answer, "enclaves").items("enclaves", Enclave.from_json),
            await self._get("/enclaves"),
        )

    async def enclave_public_key(self, enclave_id: str) -> Enclave:
        """One enclave with its key."""
        return _parsed(Enclave.from_json, await self._get(f"/enclaves/{enclave_id}/public-key"))

    # Keygen.

    async def reserve(
        self,
        keygen_session_id: str,
        credentials: SessionCredentials,
        *,
        coordinator_user_id: str,
        expected_participants: Sequence[str],
        subsets: Sequence[SubsetDefinition] = (),
        timeout_secs: int,
        max_signing_sessions: int | None = None,
    ) -> Reservation:
        """Open a keygen session under an id of the caller's (UUIDv7).

        Raises:
            KeymeldConflict: the id is taken.
            KeymeldLimitError: too many subsets.
        """
        request = ReserveRequest(
            keygen_session_id=keygen_session_id,
            coordinator_user_id=coordinator_user_id,
            expected_participants=tuple(expected_participants),
            timeout_secs=timeout_secs,
            encrypted_taproot_tweak=credentials.encrypt(self.tweak, TAPROOT_TWEAK),
            max_signing_sessions=max_signing_sessions,
            subset_definitions=tuple(subsets),
        )
        return _parsed(Reservation.from_json, await self._post("/keygen/reserve", request.to_json()))

    async def initialize(
        self,
        keygen_session_id: str,
        credentials: SessionCredentials,
        coordinator: UserCredentials,
        reservation: Reservation,
    ) -> None:
        """Give the session's enclave the session secret, sealed to its key."""
        enclave_key = reservation.coordinator_public_key
        coordinator_key = coordinator.encrypt_to_enclave(enclave_key)
        enclave_data = {"coordinator_private_key": coordinator_key, "session_secret": credentials.seed.hex()}
        session_data = {"coordinator_pubkey": list(coordinator.public_key), "aggregate_pubkey": None}
        request = InitializeRequest(
            coordinator_pubkey=coordinator.public_key,
            coordinator_encrypted_private_key=coordinator_key,
            session_public_key=credentials.public_key,
            encrypted_session_secret=ecies_encrypt(enclave_key, credentials.seed).hex(),
            encrypted_session_data=credentials.encrypt(json.dumps(session_data).encode(), KEYGEN_SESSION),
            encrypted_enclave_data=ecies_encrypt(enclave_key, json.dumps(enclave_data).encode()).hex(),
            enclave_key_epoch=reservation.coordinator_key_epoch,
        )
        await self._post(f"/keygen/{keygen_session_id}/initialize", request.to_json())

    async def slots(self, keygen_session_id: str) -> tuple[Slot, ...]:
        """Every participant's place and enclave, and whether it is registered."""
        return _parsed(
            lambda answer: Fields(answer, "slots").items("available_slots", Slot.from_json),
            await self._get(f"/keygen/{keygen_session_id}/slots"),
        )

    async def register_participant(
        self,
        keygen_session_id: str,
        credentials: SessionCredentials,
        *,
        user_id: str,
        public_key: bytes,
        auth_pubkey: bytes,
        encrypted_private_key: str,
        enclave: Enclave,
        require_signing_approval: bool,
    ) -> None:
        """Register a participant by a ciphertext of his key, which may be somebody else's.

        Raises:
            KeymeldConflict: he is registered.
        """
        session_data = {"participant_public_keys": {user_id: list(public_key)}}
        request = RegisterRequest(
            keygen_session_id=keygen_session_id,
            user_id=user_id,
            encrypted_private_key=encrypted_private_key,
            public_key=public_key,
            encrypted_session_data=credentials.encrypt(
                json.dumps(session_data).encode(), KEYGEN_PARTICIPANT_SESSION
            ),
            enclave_public_key=enclave.public_key,
            enclave_key_epoch=enclave.key_epoch,
            require_signing_approval=require_signing_approval,
            auth_pubkey=auth_pubkey,
        )
        await self._post(
            f"/keygen/{keygen_session_id}/participants",
            request.to_json(),
            {SESSION_SIGNATURE_HEADER: credentials.sign(keygen_session_id)},
        )

    async def register_own_key(
        self,
        keygen_session_id: str,
        credentials: SessionCredentials,
        user: UserCredentials,
        *,
        user_id: str,
        require_signing_approval: bool = False,
    ) -> None:
        """Register with one's own private key, in the slot that bears `user_id`.

        Raises:
            KeymeldUnknownSession: the session has no such slot.
            KeymeldConflict: it is claimed.
        """
        slot = next((slot for slot in await self.slots(keygen_session_id) if slot.user_id == user_id), None)
        if slot is None:
            raise KeymeldUnknownSession(f"keygen session {keygen_session_id} has no slot for {user_id}")
        enclave = await self.enclave_public_key(slot.enclave_id)
        await self.register_participant(
            keygen_session_id,
            credentials,
            user_id=user_id,
            public_key=user.public_key,
            auth_pubkey=user.auth_pubkey(keygen_session_id),
            encrypted_private_key=user.encrypt_to_enclave(enclave.public_key),
            enclave=enclave,
            require_signing_approval=require_signing_approval,
        )

    async def keygen_status(self, keygen_session_id: str, credentials: SessionCredentials) -> KeygenState:
        """Where the session stands, with its (encrypted) keys once it is complete."""
        path = f"/keygen/{keygen_session_id}/status"
        return _parsed(
            KeygenState.from_json,
            await self._get(path, lambda: {SESSION_SIGNATURE_HEADER: credentials.sign(keygen_session_id)}),
        )

    # Signing.

    async def create_signing(
        self,
        signing_session_id: str,
        keygen_session_id: str,
        credentials: SessionCredentials,
        items: Sequence[SigningItem],
        *,
        timeout_secs: int,
    ) -> None:
        """Start a signing session of one batch under an id of the caller's (UUIDv7).

        Raises:
            KeymeldConflict: the id is taken.
            KeymeldLimitError: too many items.
        """
        body = seal_request(
            credentials,
            items,
            signing_session_id=signing_session_id,
            keygen_session_id=keygen_session_id,
            timeout_secs=timeout_secs,
            tweak=self.tweak,
        )
        await self.post_signing(keygen_session_id, credentials, body)

    async def post_signing(
        self, keygen_session_id: str, credentials: SessionCredentials, body: bytes
    ) -> None:
        """`create_signing` with what `seal_request` made, maybe in another process.

        Raises:
            KeymeldConflict: the id is taken.
            KeymeldLimitError: too many items.
        """
        headers = {SESSION_SIGNATURE_HEADER: credentials.sign(keygen_session_id)}
        await self._send("POST", "/signing", body, headers)

    async def approve(
        self, signing_session_id: str, keygen_session_id: str, user: UserCredentials, *, user_id: str
    ) -> None:
        """Let one's key sign that session's items."""
        signature = user.sign(keygen_session_id, signing_session_id, user_id)
        await self._post(
            f"/signing/{signing_session_id}/approve/{user_id}", None, {USER_SIGNATURE_HEADER: signature}
        )

    async def signing_status(
        self, signing_session_id: str, keygen_session_id: str, user: UserCredentials, *, user_id: str
    ) -> SigningState:
        """Where the session stands, with its (encrypted) signatures once it is complete."""
        return parse_signing_state(
            await self.signing_answer(signing_session_id, keygen_session_id, user, user_id=user_id)
        )

    async def signing_answer(
        self, signing_session_id: str, keygen_session_id: str, user: UserCredentials, *, user_id: str
    ) -> bytes:
        """The answer that `signing_status` parses: with all signatures of a batch it is large."""
        return await self._get_content(
            f"/signing/{signing_session_id}/status/{user_id}",
            lambda: {USER_SIGNATURE_HEADER: user.sign(keygen_session_id, signing_session_id, user_id)},
        )

    # HTTP.

    async def _get(self, path: str, headers: Callable[[], dict[str, str]] = dict) -> object:
        return _json(await self._get_content(path, headers), f"GET {path}")

    async def _get_content(self, path: str, headers: Callable[[], dict[str, str]]) -> bytes:
        """GET with a few retries; `headers` makes fresh ones each time, for a signature counts once."""
        delays = backoff(first_seconds=0.1)
        for attempt in range(1, _GET_ATTEMPTS + 1):
            try:
                return await self._send("GET", path, None, headers())
            except KeymeldUnavailable:
                if attempt == _GET_ATTEMPTS:
                    raise
            await asyncio.sleep(next(delays))
        raise AssertionError("unreachable")

    async def _post(self, path: str, body: Json | None, headers: dict[str, str] | None = None) -> object:
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return _json(await self._send("POST", path, content, headers or {}), f"POST {path}")

    async def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        try:
            response = await self._http.request(method, path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise KeymeldUnavailable(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from None
        if response.is_success:
            return response.content
        raise _error(response)


def parse_signing_state(answer: bytes) -> SigningState:
    """What `KeymeldClient.signing_answer` gave.

    Raises:
        KeymeldBadResponse: it is no signing session's status.
    """
    return _parsed(SigningState.from_json, _json(answer, "the signing status"))


def decrypt_aggregate_key(credentials: SessionCredentials, encrypted: str) -> bytes:
    """A 33-byte aggregate or subset aggregate key as `keygen_status` gives it.

    Raises:
        KeymeldBadResponse: it does not decrypt to a compressed point.
    """
    try:
        key = credentials.decrypt(encrypted, AGGREGATE_PUBLIC_KEY, SUBSET_AGGREGATE)
    except KeymeldCryptoError as error:
        raise KeymeldBadResponse(f"the aggregate key: {error}") from None
    if len(key) != 33:
        raise KeymeldBadResponse(f"the aggregate key has {len(key)} bytes")
    return key


def _json(content: bytes, what: str) -> object:
    if not content:
        return {}
    try:
        return json.loads(content)
    except ValueError:
        raise KeymeldUnreadable(f"{what}: the answer is not JSON") from None


def _parsed(parse: Callable[[object], T], answer: object) -> T:
    try:
        return parse(answer)
    except ProtocolError as error:
        raise KeymeldUnreadable(str(error)) from None


_BY_STATUS: Final[dict[int, type[KeymeldError]]] = {
    401: KeymeldAuthError,
    403: KeymeldAuthError,
    404: KeymeldUnknownSession,
    408: KeymeldUnavailable,
    409: KeymeldConflict,
    410: KeymeldExpired,
    413: KeymeldLimitError,
    425: KeymeldUnavailable,
    429: KeymeldUnavailable,
}

# The service answers 400 to most refusals; what tells them apart is the text.
_BY_TEXT: Final[tuple[tuple[str, type[KeymeldError]], ...]] = (
    ("already exists", KeymeldConflict),
    ("already registered", KeymeldConflict),
    ("already initialized", KeymeldConflict),
    ("exceeds maximum", KeymeldLimitError),
    ("too many", KeymeldLimitError),
    ("expired", KeymeldExpired),
    ("nonce already used", KeymeldAuthError),
    ("signature validation failed", KeymeldAuthError),
    ("signature verification failed", KeymeldAuthError),
)


def _error(response: httpx.Response) -> KeymeldError:
    text = _error_text(response)
    kind = _BY_STATUS.get(response.status_code)
    if kind is None and response.status_code >= 500:
        kind = KeymeldUnavailable
    if kind is None:
        lowered = text.lower()
        kind = next((found for needle, found in _BY_TEXT if needle in lowered), KeymeldRejected)
    return kind(text, status=response.status_code)


def _error_text(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:200] or response.reason_phrase
    if isinstance(body, dict):
        error = body.get("error", body.get("message"))
        if isinstance(error, dict):
            error = error.get("message")
        if isinstance(error, str):
            return error
    return response.reason_phrase
