"""The keymeld service: keygen and signing sessions, driven to completion over its enclaves.

The service sees no key and no session secret: it stores what enclaves sealed, checks who may ask, and carries
nonces and partial signatures between enclaves. What it answers is persisted first, so a killed service goes
on where it was; only a signing round under way begins anew, with fresh nonces.
"""

import asyncio
import itertools
import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator_client.keymeld.crypto import verify_session_signature, verify_user_signature
from coordinator_client.keymeld.ids import is_uuid7
from coordinator_client.keymeld.protocol import (
    MAX_ITEMS_PER_BATCH,
    MAX_SUBSETS_PER_KEYGEN,
    InitializeRequest,
    KeygenStatus,
    RegisterRequest,
    ReserveRequest,
    SigningRequest,
    SigningStatus,
    Slot,
    SubsetDefinition,
)

from .enclave import EnclaveRefused
from .enclaves import EnclaveDown, EnclaveHandle
from .errors import ServiceError, bad_request, conflict, expired, not_found, unauthorized, unavailable
from .faults import FaultKind, Faults
from .sealing import enclave_sealing_key, master_key
from .store import Keygen, Participant, Signing, Store

logger = logging.getLogger(__name__)

_LONGEST_TIMEOUT_SECONDS: Final = 86_400
_LARGEST_GROUP: Final = 1000
_ROUND_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What the service accepts; the defaults are the real service's."""

    subsets_per_keygen: int = MAX_SUBSETS_PER_KEYGEN
    items_per_batch: int = MAX_ITEMS_PER_BATCH
    parallel_signings: int = 4
    """Signing sessions in their rounds at once; the others wait."""


class KeymeldService:
    """All sessions of one data directory. `start` before use, `stop` after."""

    def __init__(self, data_dir: Path, *, enclaves: int = 3, limits: ServiceLimits | None = None) -> None:
        """
        Args:
            data_dir: database and, unless in the environment, master key.
            enclaves: how many enclaves to run.
            limits: what to accept.
        """
        if enclaves < 1:
            raise ValueError("keymeld needs at least one enclave")
        self.limits = limits or ServiceLimits()
        self.faults = Faults()
        self._data_dir = data_dir
        self._enclave_ids = range(1, enclaves + 1)
        self._enclaves: dict[int, EnclaveHandle] = {}
        self._store = Store(data_dir / "keymeld.sqlite3")
        self._keygens: dict[str, Keygen] = {}
        self._signings: dict[str, Signing] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(self.limits.parallel_signings)
        self._started_at = 0

    async def start(self) -> None:
        """Open the database, start the enclaves, and go on with what was under way."""
        self._started_at = _now()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        master = master_key(self._data_dir)
        keys = await self._store.enclave_keys()
        for enclave_id in self._enclave_ids:
            handle = EnclaveHandle(enclave_id, enclave_sealing_key(master, enclave_id))
            self._enclaves[enclave_id] = handle
            for _, epoch, public_key, sealed in (key for key in keys if key[0] == enclave_id):
                handle.key_epoch, handle.public_key = epoch, public_key
                handle.sealed_keys[epoch] = sealed
        await asyncio.gather(*(self._first_key(handle) for handle in self._enclaves.values()))
        for signing_id in await self._store.open_signings():
            signing = await self._signing(signing_id)
            self._drive(signing, await self._keygen(signing.session_id))

    async def stop(self) -> None:
        """Stop at once; `start` on the same data directory goes on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(handle.stop() for handle in self._enclaves.values()))
        await self._store.close()
        self._keygens.clear()
        self._signings.clear()

    async def _first_key(self, handle: EnclaveHandle) -> None:
        if handle.key_epoch == 0:
            await self.rotate(handle.enclave_id)
        else:
            # Starts the process, so that it is healthy before anybody asks.
            await handle.ask("forget", round_id="")

    # Enclaves.

    async def rotate(self, enclave_id: int) -> None:
        """Give an enclave a key of the next epoch; registrations for the former are refused from now on."""
        handle = self._enclave(str(enclave_id))
        epoch = handle.key_epoch + 1
        answer = await handle.ask("generate_key", epoch=epoch)
        public_key = bytes.fromhex(answer["public_key"])
        await self._store.add_enclave_key(enclave_id, epoch, public_key, answer["sealed"], _now())
        handle.sealed_keys[epoch] = answer["sealed"]
        handle.key_epoch, handle.public_key = epoch, public_key

    def restart_enclaves(self) -> None:
        """Kill every enclave's process; each starts again when it is next needed."""
        for handle in self._enclaves.values():
            handle.kill()

    def _enclave(self, enclave_id: str) -> EnclaveHandle:
        handle = self._enclaves.get(int(enclave_id)) if enclave_id.isdecimal() else None
        if handle is None:
            raise not_found(f"enclave {enclave_id} does not exist")
        return handle

    async def _revive(self) -> None:
        """Start the enclaves that are not running: a dead one is otherwise noticed only when it is needed."""
        dead = [handle for handle in self._enclaves.values() if not handle.healthy]
        await asyncio.gather(*(handle.ask("forget", round_id="") for handle in dead), return_exceptions=True)

    async def enclaves(self) -> dict[str, Any]:
        """`GET /enclaves`."""
        await self._revive()
        handles = list(self._enclaves.values())
        return {
            "enclaves": [self._enclave_json(handle) for handle in handles],
            "total_enclaves": len(handles),
            "healthy_enclaves": sum(handle.healthy for handle in handles),
        }

    def enclave_public_key(self, enclave_id: str) -> dict[str, Any]:
        """`GET /enclaves/{id}/public-key`."""
        return self._enclave_json(self._enclave(enclave_id))

    def _enclave_json(self, handle: EnclaveHandle) -> dict[str, Any]:
        return {
            "enclave_id": handle.enclave_id,
            "public_key": handle.public_key.hex(),
            "key_epoch": handle.key_epoch,
            "healthy": handle.healthy,
            # Nothing here runs in attested hardware, and nothing pretends to.
            "attestation_document": "",
            "active_sessions": len(handle.loaded),
            "uptime_seconds": _now() - self._started_at,
            "timestamp": _now(),
        }

    async def health(self) -> dict[str, Any]:
        """`GET /health`."""
        await self._revive()
        total, active, participants = await self._store.counts()
        healthy = sum(handle.healthy for handle in self._enclaves.values())
        return {
            "status": "healthy" if healthy else "unhealthy",
            "version": "devnet",
            "active_sessions": active,
            "healthy_enclaves": healthy,
            "total_enclaves": len(self._enclaves),
            "database_stats": {
                "total_sessions": total,
                "active_sessions": active,
                "total_participants": participants,
            },
        }

    # Keygen.

    async def reserve(self, request: ReserveRequest) -> dict[str, Any]:
        """`POST /keygen/reserve`."""
        _check_id(request.keygen_session_id, "keygen_session_id")
        _check_timeout(request.timeout_secs)
        users = request.expected_participants
        if not 1 <= len(users) <= _LARGEST_GROUP or len(set(users)) != len(users):
            raise bad_request(f"Expected participants must be 1 to {_LARGEST_GROUP} different users")
        for user in (request.coordinator_user_id, *users):
            _check_id(user, "user id")
        if request.coordinator_user_id not in users:
            raise bad_request("The coordinator is not among the expected participants")
        self._check_subsets(request.subset_definitions, users)
        cycle = itertools.cycle(self._enclave_ids)
        slots = [(user, next(cycle)) for user in users]
        keygen = Keygen(
            session_id=request.keygen_session_id,
            coordinator_user_id=request.coordinator_user_id,
            coordinator_enclave=next(
                enclave for user, enclave in slots if user == request.coordinator_user_id
            ),
            slots=slots,
            subsets={subset.subset_id: list(subset.participants) for subset in request.subset_definitions},
            encrypted_taproot_tweak=request.encrypted_taproot_tweak,
            max_signing_sessions=request.max_signing_sessions,
            expires_at=_expiry(request.timeout_secs),
            enclave_epochs={number: handle.key_epoch for number, handle in self._enclaves.items()},
        )
        if not await self._store.add_keygen(keygen):
            raise conflict("Keygen session already exists")
        handle = self._enclaves[keygen.coordinator_enclave]
        return {
            "keygen_session_id": keygen.session_id,
            "coordinator_enclave_id": handle.enclave_id,
            "coordinator_public_key": handle.public_key.hex(),
            "coordinator_key_epoch": handle.key_epoch,
            "expected_participants": len(users),
            "expires_at": keygen.expires_at,
        }

    def _check_subsets(self, subsets: Sequence[SubsetDefinition], users: Sequence[str]) -> None:
        if len(subsets) > self.limits.subsets_per_keygen:
            raise bad_request(
                f"Too many subset definitions: {len(subsets)} exceeds maximum of "
                f"{self.limits.subsets_per_keygen}"
            )
        expected = set(users)
        seen = set()
        for subset in subsets:
            _check_id(subset.subset_id, "subset_id")
            if subset.subset_id in seen:
                raise bad_request(f"Duplicate subset_id: {subset.subset_id}")
            seen.add(subset.subset_id)
            members = set(subset.participants)
            if len(members) < 2 or len(members) != len(subset.participants):
                raise bad_request(f"Subset {subset.subset_id} needs at least 2 different participants")
            if strangers := members - expected:
                raise bad_request(
                    f"Subset {subset.subset_id} contains user {min(strangers)} "
                    "who is not in expected_participants"
                )

    async def initialize(self, session_id: str, request: InitializeRequest) -> dict[str, Any]:
        """`POST /keygen/{id}/initialize`."""
        async with self._lock(session_id):
            keygen = await self._keygen(session_id)
            _check_alive(keygen)
            if keygen.status != KeygenStatus.RESERVED:
                raise conflict("Keygen session already initialized")
            others = keygen.enclaves()[1:]
            opened = await self._ask(
                keygen.coordinator_enclave,
                "open_session",
                session_id=session_id,
                epoch=self._epoch(keygen.coordinator_enclave, request.enclave_key_epoch),
                request={
                    "coordinator_pubkey": request.coordinator_pubkey.hex(),
                    "coordinator_encrypted_private_key": request.coordinator_encrypted_private_key,
                    "session_public_key": request.session_public_key.hex(),
                    "encrypted_session_secret": request.encrypted_session_secret,
                    "encrypted_session_data": request.encrypted_session_data,
                    "encrypted_enclave_data": request.encrypted_enclave_data,
                },
                encrypted_taproot_tweak=keygen.encrypted_taproot_tweak,
                peers={str(other): self._enclaves[other].public_key.hex() for other in others},
            )
            adopted = await asyncio.gather(
                *(
                    self._ask(
                        other,
                        "adopt_session",
                        session_id=session_id,
                        epoch=self._enclaves[other].key_epoch,
                        encrypted_secret=opened["peers"][str(other)],
                    )
                    for other in others
                )
            )
            keygen.sealed_secrets = {keygen.coordinator_enclave: opened["sealed"]}
            keygen.sealed_secrets |= {
                other: answer["sealed"] for other, answer in zip(others, adopted, strict=True)
            }
            keygen.session_public_key = request.session_public_key
            keygen.status = KeygenStatus.COLLECTING_PARTICIPANTS
            await self._store.update_keygen(keygen)
        return {
            "keygen_session_id": session_id,
            "status": keygen.status,
            "session_public_key": list(keygen.session_public_key),
        }

    async def keygen_slots(self, session_id: str) -> dict[str, Any]:
        """`GET /keygen/{id}/slots`."""
        keygen = await self._keygen(session_id)
        slots = [
            Slot(user, str(enclave), index, user in keygen.participants).to_json()
            for index, (user, enclave) in enumerate(keygen.slots)
        ]
        return {
            "session_id": session_id,
            "available_slots": slots,
            "total_slots": len(slots),
            "claimed_slots": len(keygen.participants),
        }

    async def register(self, session_id: str, request: RegisterRequest, header: str | None) -> dict[str, Any]:
        """`POST /keygen/{id}/participants`."""
        if request.keygen_session_id != session_id:
            raise bad_request("The keygen session of path and body differ")
        await self._authenticate_session(session_id, header)
        async with self._lock(session_id):
            keygen = await self._keygen(session_id)
            _check_alive(keygen)
            enclave = keygen.enclave_of(request.user_id)
            if enclave is None:
                raise not_found(f"User {request.user_id} is not an expected participant")
            if request.user_id in keygen.participants:
                raise conflict(f"Participant {request.user_id} is already registered")
            if keygen.status != KeygenStatus.COLLECTING_PARTICIPANTS:
                raise bad_request("Keygen session is not accepting new participants")
            epoch = self._epoch(enclave, request.enclave_key_epoch)
            if request.enclave_public_key != self._enclaves[enclave].public_key:
                raise bad_request(f"The enclave public key is not that of enclave {enclave}")
            answer = await self._ask(
                enclave,
                "register",
                session_id=session_id,
                sealed_secret=keygen.sealed_secrets[enclave],
                epoch=epoch,
                request={
                    "user_id": request.user_id,
                    "encrypted_private_key": request.encrypted_private_key,
                    "public_key": request.public_key.hex(),
                    "encrypted_session_data": request.encrypted_session_data,
                    "auth_pubkey": request.auth_pubkey.hex(),
                },
            )
            participant = Participant(
                user_id=request.user_id,
                public_key=request.public_key,
                auth_pubkey=request.auth_pubkey,
                sealed_key=answer["sealed"],
                require_approval=request.require_signing_approval,
            )
            if not await self._store.add_participant(session_id, participant):
                raise conflict(f"Participant {request.user_id} is already registered")
            keygen.participants[request.user_id] = participant
            if len(keygen.participants) == len(keygen.slots):
                await self._complete(keygen)
        return {
            "keygen_session_id": session_id,
            "user_id": request.user_id,
            "status": keygen.status,
            "participants_registered": len(keygen.participants),
            "expected_participants": len(keygen.slots),
            "signer_index": next(i for i, (user, _) in enumerate(keygen.slots) if user == request.user_id),
            "assigned_enclave_id": enclave,
            "require_signing_approval": participant.require_approval,
        }

    async def _complete(self, keygen: Keygen) -> None:
        await self._load(keygen, keygen.coordinator_enclave)
        answer = await self._ask(
            keygen.coordinator_enclave,
            "aggregate",
            session_id=keygen.session_id,
            encrypted_taproot_tweak=keygen.encrypted_taproot_tweak,
        )
        keygen.aggregate_public_key = answer["aggregate_public_key"]
        keygen.encrypted_subset_aggregates = answer["encrypted_subset_aggregates"]
        keygen.status = KeygenStatus.COMPLETED
        await self._store.update_keygen(keygen)

    async def keygen_status(self, session_id: str, header: str | None) -> dict[str, Any]:
        """`GET /keygen/{id}/status`."""
        await self._authenticate_session(session_id, header)
        async with self._lock(session_id):
            keygen = await self._keygen(session_id)
            collecting = keygen.status == KeygenStatus.COLLECTING_PARTICIPANTS
            if collecting and len(keygen.participants) == len(keygen.slots):
                # Killed between the last registration and the aggregation.
                await self._complete(keygen)
            elif collecting and _now() >= keygen.expires_at:
                keygen.status = KeygenStatus.FAILED
                await self._store.update_keygen(keygen)
        return {
            "keygen_session_id": session_id,
            "status": keygen.status,
            "expected_participants": len(keygen.slots),
            "registered_participants": len(keygen.participants),
            "aggregate_public_key": keygen.aggregate_public_key,
            "expires_at": keygen.expires_at,
            "encrypted_subset_aggregates": keygen.encrypted_subset_aggregates,
        }

    # Signing.

    async def create_signing(self, request: SigningRequest, header: str | None) -> dict[str, Any]:
        """`POST /signing`."""
        _check_id(request.signing_session_id, "signing_session_id")
        _check_timeout(request.timeout_secs)
        self._check_items(request)
        await self._authenticate_session(request.keygen_session_id, header)
        keygen = await self._keygen(request.keygen_session_id)
        if keygen.status != KeygenStatus.COMPLETED:
            raise bad_request("Keygen session is not completed")
        for item in request.batch_items:
            if item.subset_id is not None and item.subset_id not in keygen.subsets:
                raise bad_request(f"Subset {item.subset_id} is not of keygen session {keygen.session_id}")
        limit = keygen.max_signing_sessions
        if limit is not None and await self._store.count_signings(keygen.session_id) >= limit:
            raise bad_request(f"Too many signing sessions: exceeds maximum of {limit}")
        signing = Signing(
            signing_id=request.signing_session_id,
            session_id=keygen.session_id,
            status=SigningStatus.COLLECTING_PARTICIPANTS,
            expires_at=_expiry(request.timeout_secs),
            items=[item.to_json() for item in request.batch_items],
        )
        if not await self._store.add_signing(signing):
            raise conflict("Signing session already exists")
        self._signings[signing.signing_id] = signing
        self._drive(signing, keygen)
        return {
            "signing_session_id": signing.signing_id,
            "keygen_session_id": signing.session_id,
            "status": signing.status,
            "participants_count": len(keygen.slots),
            "expires_at": signing.expires_at,
        }

    def _check_items(self, request: SigningRequest) -> None:
        items = request.batch_items
        if not items:
            raise bad_request("Batch items cannot be empty")
        if len(items) > self.limits.items_per_batch:
            raise bad_request(f"Batch size {len(items)} exceeds maximum of {self.limits.items_per_batch}")
        if len({item.batch_item_id for item in items}) != len(items):
            raise bad_request("Duplicate batch_item_id")

    async def approve(self, signing_id: str, user_id: str, header: str | None) -> dict[str, Any]:
        """`POST /signing/{id}/approve/{user_id}`."""
        signing, keygen = await self._authenticate_user(signing_id, user_id, header)
        if signing.status == SigningStatus.FAILED:
            raise expired("The signing session has failed or expired")
        if keygen.participants[user_id].require_approval and user_id not in signing.approvals:
            await self._store.add_approval(signing_id, user_id, header or "")
            signing.approvals[user_id] = header or ""
            self._drive(signing, keygen)
        return {"signing_session_id": signing_id, "user_id": user_id, "approved": True}

    async def signing_status(self, signing_id: str, user_id: str, header: str | None) -> dict[str, Any]:
        """`GET /signing/{id}/status/{user_id}`."""
        signing, keygen = await self._authenticate_user(signing_id, user_id, header)
        if signing.status == SigningStatus.COLLECTING_PARTICIPANTS and _now() >= signing.expires_at:
            await self._fail(signing, "the signing session expired")
        approvers = _approvers(keygen)
        return {
            "signing_session_id": signing_id,
            "keygen_session_id": signing.session_id,
            "status": signing.status,
            "participants_registered": len(keygen.participants),
            "expected_participants": len(keygen.slots),
            "expires_at": signing.expires_at,
            "participants_requiring_approval": sorted(approvers),
            "approved_participants": sorted(signing.approvals),
            # What is to be approved, as it was sent: encrypted with the session secret. Where nobody
            # approves, nobody reads it, and a hundred kilobytes at every poll are saved.
            "batch_items": signing.items if approvers else [],
            "batch_results": signing.results,
        }

    def _drive(self, signing: Signing, keygen: Keygen) -> None:
        """Run the session's rounds if it has its approvals and they are not running."""
        signing_id = signing.signing_id
        if signing_id not in self._tasks and not _approvers(keygen) - signing.approvals.keys():
            task = asyncio.create_task(self._sign(signing, keygen), name=f"keymeld-sign-{signing_id}")
            self._tasks[signing_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(signing_id, None))

    async def _sign(self, signing: Signing, keygen: Keygen) -> None:
        try:
            async with self._slots:
                await self._attempts(signing, keygen)
        except ServiceError as error:
            await self._fail(signing, str(error))
        except Exception:
            logger.exception("signing session %s failed", signing.signing_id)
            await self._fail(signing, "internal error")

    async def _attempts(self, signing: Signing, keygen: Keygen) -> None:
        for attempt in range(1, _ROUND_ATTEMPTS + 1):
            if _now() >= signing.expires_at:
                raise expired("the signing session expired")
            try:
                results = await self._round(signing, keygen)
                break
            except EnclaveDown as error:
                # Its nonces are gone; the others' are dropped too: a round's nonces sign once or never.
                logger.warning("signing session %s, attempt %d: %s", signing.signing_id, attempt, error)
            except EnclaveRefused as error:
                if error.kind not in ("unknown_session", "unknown_round"):
                    raise bad_request(str(error)) from None
        else:
            raise unavailable("the enclaves did not get through a signing round")
        signing.results = results
        failed = any(result["error"] is not None for result in results)
        signing.status = SigningStatus.FAILED if failed else SigningStatus.COMPLETED
        await self._store.update_signing(signing)
        self._signings.pop(signing.signing_id, None)

    async def _round(self, signing: Signing, keygen: Keygen) -> list[Any]:
        """Both MuSig2 rounds over the enclaves that hold a signer of this batch."""
        coordinator = keygen.coordinator_enclave
        enclaves = self._signing_enclaves(signing, keygen)
        signing.status = SigningStatus.INITIALIZING_SESSION
        await asyncio.gather(*(self._load(keygen, enclave) for enclave in enclaves))
        round_id = secrets.token_hex(16)
        try:
            signing.status = SigningStatus.DISTRIBUTING_NONCES
            nonces = await self._all(
                enclaves,
                "nonces",
                round_id=round_id,
                session_id=keygen.session_id,
                signing_id=signing.signing_id,
                items=signing.items,
                approvals=signing.approvals,
            )
            aggregated = await self._enclaves[coordinator].ask(
                "aggregate_nonces", round_id=round_id, nonces=[answer["nonces"] for answer in nonces]
            )
            signing.status = SigningStatus.FINALIZING_SIGNATURE
            partials = await self._all(
                enclaves, "partials", round_id=round_id, aggregate_nonces=aggregated["aggregate_nonces"]
            )
            finished = await self._enclaves[coordinator].ask(
                "finish",
                round_id=round_id,
                partials=[answer["partials"] for answer in partials],
                corrupt=self.faults.strike(signing.signing_id, FaultKind.WRONG_SIGNATURE) is not None,
            )
        finally:
            forgotten = (self._enclaves[enclave].ask("forget", round_id=round_id) for enclave in enclaves)
            await asyncio.gather(*forgotten, return_exceptions=True)
        results: list[Any] = finished["results"]
        return results

    async def _all(self, enclaves: Sequence[int], method: str, **arguments: Any) -> list[dict[str, Any]]:
        """Ask several enclaves at once; wait for all of them even where one fails."""
        answers = await asyncio.gather(
            *(self._enclaves[enclave].ask(method, **arguments) for enclave in enclaves),
            return_exceptions=True,
        )
        good = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            good.append(answer)
        return good

    def _signing_enclaves(self, signing: Signing, keygen: Keygen) -> list[int]:
        subsets = {item["subset_id"] for item in signing.items}
        if None in subsets:
            return keygen.enclaves()
        signers = {user for subset in subsets for user in keygen.subsets[subset]}
        holding = {enclave for user, enclave in keygen.slots if user in signers}
        return [enclave for enclave in keygen.enclaves() if enclave in holding | {keygen.coordinator_enclave}]

    async def _fail(self, signing: Signing, reason: str) -> None:
        logger.warning("signing session %s failed: %s", signing.signing_id, reason)
        signing.status = SigningStatus.FAILED
        signing.results = [
            {
                "batch_item_id": item["batch_item_id"],
                "signature": None,
                "adaptor_signatures": None,
                "error": reason,
            }
            for item in signing.items
        ]
        await self._store.update_signing(signing)
        self._signings.pop(signing.signing_id, None)

    # What is shared.

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    def _epoch(self, enclave: int, epoch: int) -> int:
        current = self._enclaves[enclave].key_epoch
        if epoch != current:
            raise bad_request(f"The key epoch {epoch} is not enclave {enclave}'s, which is {current}")
        return epoch

    async def _keygen(self, session_id: str) -> Keygen:
        keygen = self._keygens.get(session_id)
        if keygen is None:
            keygen = await self._store.keygen(session_id)
            if keygen is None:
                raise not_found("Keygen session not found")
            # Whoever loaded it meanwhile has the object everybody shares.
            keygen = self._keygens.setdefault(session_id, keygen)
        return keygen

    async def _signing(self, signing_id: str) -> Signing:
        signing = self._signings.get(signing_id)
        if signing is None:
            signing = await self._store.signing(signing_id)
            if signing is None:
                raise not_found("Signing session not found")
            if signing.status not in (SigningStatus.COMPLETED, SigningStatus.FAILED):
                signing = self._signings.setdefault(signing_id, signing)
        return signing

    async def _authenticate_session(self, session_id: str, header: str | None) -> None:
        keygen = await self._keygen(session_id)
        if keygen.status == KeygenStatus.RESERVED:
            raise not_found("Keygen session is not initialized")
        nonce = verify_session_signature(header or "", session_id, keygen.session_public_key)
        if nonce is None:
            raise unauthorized("Session signature validation failed")
        if not await self._store.use_nonce(session_id, nonce):
            raise unauthorized("Nonce already used")

    async def _authenticate_user(
        self, signing_id: str, user_id: str, header: str | None
    ) -> tuple[Signing, Keygen]:
        signing = await self._signing(signing_id)
        keygen = await self._keygen(signing.session_id)
        participant = keygen.participants.get(user_id)
        if participant is None:
            raise not_found(f"User {user_id} is not a participant")
        nonce = verify_user_signature(header or "", signing_id, user_id, participant.auth_pubkey)
        if nonce is None:
            raise unauthorized("User signature validation failed")
        if not await self._store.use_nonce(f"{signing_id}:{user_id}", nonce):
            raise unauthorized("Nonce already used")
        return signing, keygen

    async def _ask(self, enclave: int, method: str, **arguments: Any) -> dict[str, Any]:
        """Ask one enclave something that changes nothing in it, so that a dead one can be asked again."""
        try:
            try:
                return await self._enclaves[enclave].ask(method, **arguments)
            except EnclaveDown:
                return await self._enclaves[enclave].ask(method, **arguments)
        except EnclaveDown as error:
            raise unavailable(str(error)) from None
        except EnclaveRefused as error:
            raise unauthorized(str(error)) if error.kind == "auth" else bad_request(str(error)) from None

    async def _load(self, keygen: Keygen, enclave: int) -> None:
        """Have the complete session in the enclave's memory."""
        handle = self._enclaves[enclave]
        if handle.healthy and keygen.session_id in handle.loaded:
            return
        participants = keygen.participants
        await handle.ask(
            "load",
            session_id=keygen.session_id,
            sealed_secret=keygen.sealed_secrets[enclave],
            public_keys={user: participants[user].public_key.hex() for user, _ in keygen.slots},
            sealed_keys={
                user: participants[user].sealed_key for user, holder in keygen.slots if holder == enclave
            },
            need_approval=sorted(_approvers(keygen)),
            subsets=keygen.subsets,
        )
        handle.loaded.add(keygen.session_id)


def _approvers(keygen: Keygen) -> set[str]:
    return {user for user, participant in keygen.participants.items() if participant.require_approval}


def _now() -> int:
    return int(time.time())


def _expiry(timeout_secs: int) -> int:
    """Rounded up: a session lives at least as long as was asked."""
    return math.ceil(time.time()) + timeout_secs


def _check_id(value: str, what: str) -> None:
    if not is_uuid7(value):
        raise bad_request(f"{what} {value[:64]!r} is not a UUID of version 7")


def _check_timeout(timeout_secs: int) -> None:
    if not 1 <= timeout_secs <= _LONGEST_TIMEOUT_SECONDS:
        raise bad_request(f"Timeout must be between 1 and {_LONGEST_TIMEOUT_SECONDS} seconds")


def _check_alive(keygen: Keygen) -> None:
    if keygen.status != KeygenStatus.COMPLETED and _now() >= keygen.expires_at:
        raise expired("Keygen session expired")
