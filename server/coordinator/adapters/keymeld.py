"""The Keymeld port over a keymeld service's HTTP protocol.

Nothing is kept here between calls: which sessions exist, who is registered and what is signed, the service
is asked. Its keys and signatures are never taken on trust: keys are aggregated here too and compared,
signatures verified under them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from coordinator.adapters.keymeld_batches import (
    Answer,
    Keys,
    Sealing,
    pack_batches,
    read_answer,
    seal_batch,
)
from coordinator.contract.dlc import SigningJob
from coordinator.ports.keymeld import (
    ItemAsked,
    KeygenPlan,
    KeygenProgress,
    KeygenResult,
    KeymeldParticipant,
    KeymeldPortError,
    KeymeldRefused,
    KeymeldTimeout,
    KeymeldUnavailable,
    SessionAsked,
    SigningProgress,
)
from coordinator.workers import Workers
from coordinator_client.keymeld import (
    Enclave,
    KeygenStatus,
    KeymeldClient,
    KeymeldConflict,
    KeymeldError,
    KeymeldExpired,
    KeymeldUnknownSession,
    KeymeldUnreadable,
    SessionCredentials,
    SigningStatus,
    UserCredentials,
    backoff,
    decrypt_aggregate_key,
)
from coordinator_client.keymeld import KeymeldUnavailable as ServiceUnavailable
from coordinator_client.keymeld.dlc import (
    GroupKeys,
    KeymeldLimits,
    Layout,
    PackedBatch,
    lay_out,
)
from coordinator_client.keymeld.protocol import KeygenState, Reservation, Slot

T = TypeVar("T")

_PARALLEL_KEYGENS: Final = 4
_BATCH_TRIES: Final = 3
_UNAVAILABLE_SECONDS: Final = 30.0
_LONGEST_TIMEOUT_SECONDS: Final = 86_400
_SMALL_ANSWER_BYTES: Final = 16_384
_POLLS_A_SECOND: Final = 50


class KeymeldAdapter:
    """Implements `coordinator.ports.keymeld.Keymeld`."""

    def __init__(
        self,
        base_url: str,
        *,
        limits: KeymeldLimits | None = None,
        request_timeout_seconds: float = 15.0,
        tagged_tweaks: bool = False,
        workers: Workers | None = None,
    ) -> None:
        """
        Args:
            base_url: of the keymeld service, without `/api/v1`.
            limits: of the service, and how many batches are under way at once.
            request_timeout_seconds: of a single HTTP request.
            tagged_tweaks: see `KeymeldClient`.
            workers: where batches of big contracts are sealed, opened and verified; by default in threads.
        """
        self._workers = workers or Workers(0)
        self._limits = limits or KeymeldLimits()
        self._client = KeymeldClient(
            base_url, timeout_seconds=request_timeout_seconds, tagged_tweaks=tagged_tweaks
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def health(self) -> bool:
        """Whether the service answers and has a healthy enclave."""
        return await self._client.health()

    async def ensure_keygen(self, plan: KeygenPlan) -> KeygenProgress | KeygenResult:
        """See `coordinator.ports.keymeld.Keymeld.ensure_keygen`."""
        with _port_errors():
            keygen = _Keygen(self._client, plan, self._layout(plan))
            parallel = asyncio.Semaphore(_PARALLEL_KEYGENS)

            async def ensure(index: int) -> _SessionState:
                async with parallel:
                    return await keygen.ensure(index)

            states = await _all_or_first_error(
                [ensure(index) for index in range(len(keygen.layout.sessions))]
            )
            done = [state for state in states if state.status == KeygenStatus.COMPLETED]
            if len(done) < len(states):
                return _progress(plan, states)
            keys = await self._group_keys(keygen.coordinator.public_key, plan, keygen.layout)
            for state in states:
                await asyncio.to_thread(keygen.check_keys, state, keys)
            return KeygenResult(keys.group, keys.subsets)

    async def sign(
        self,
        plan: KeygenPlan,
        jobs: Collection[SigningJob],
        *,
        signing_session_id: Callable[[int, int, int], str],
        on_progress: Callable[[SigningProgress], Awaitable[None]],
        timeout_seconds: int,
        on_session: Callable[[SessionAsked], Awaitable[None]] | None = None,
    ) -> Mapping[str, bytes]:
        """See `coordinator.ports.keymeld.Keymeld.sign`."""
        with _port_errors():
            layout = self._layout(plan)
            coordinator = UserCredentials(plan.coordinator_private_key)
            timeout_secs = max(1, min(timeout_seconds, _LONGEST_TIMEOUT_SECONDS))
            signing = _Signing(
                client=self._client,
                workers=self._workers,
                credentials=SessionCredentials(plan.seed),
                sealing=Sealing(plan.seed, self._client.tweak, timeout_secs),
                coordinator=coordinator,
                coordinator_user_id=plan.coordinator_user_id,
                layout=layout,
                keys=Keys(coordinator.public_key, _public_keys(plan)),
                size=len(jobs),
                batches=await self._batches(jobs, layout),
                parallel_batches=self._limits.parallel_batches,
                required=frozenset(
                    [user.user_id for user in plan.participants if user.require_signing_approval]
                ),
                signing_session_id=signing_session_id,
                on_progress=on_progress,
                on_session=on_session,
            )
            try:
                async with asyncio.timeout(timeout_seconds) as limit:
                    return await signing.run()
            except TimeoutError:
                if not limit.expired():
                    raise
                raise KeymeldTimeout(f"not signed within {timeout_seconds} s: {signing.summary()}") from None

    async def cut(self, plan: KeygenPlan, jobs: Collection[SigningJob]) -> "CutBatches":
        """See `coordinator.ports.keymeld.Keymeld.cut`."""
        with _port_errors():
            batches = await self._batches(jobs, self._layout(plan))
            return CutBatches({(batch.keygen, batch.index): batch for batch in batches})

    async def _batches(self, jobs: Collection[SigningJob], layout: Layout) -> tuple[PackedBatch, ...]:
        return await self._workers.run_sized(len(jobs), pack_batches, jobs, layout, self._limits)

    async def _group_keys(self, market_maker: bytes, plan: KeygenPlan, layout: Layout) -> GroupKeys:
        winner_sets = tuple(layout.session_of)
        return await self._workers.run_sized(
            len(winner_sets), GroupKeys.aggregate, market_maker, _public_keys(plan), winner_sets
        )

    def _layout(self, plan: KeygenPlan) -> Layout:
        return lay_out(
            plan.winner_sets,
            session_ids=plan.session_ids,
            coordinator=plan.coordinator_user_id,
            users=[participant.user_id for participant in plan.participants],
            limits=self._limits,
        )


@dataclass(frozen=True, slots=True)
class CutBatches:
    """Implements `coordinator.ports.keymeld.Batches`."""

    batches: Mapping[tuple[int, int], PackedBatch]

    def items(self, keygen_index: int, batch_index: int, signing_session_id: str) -> list[ItemAsked]:
        """See `coordinator.ports.keymeld.Batches.items`."""
        batch = self.batches[keygen_index, batch_index]
        items = batch.items(signing_session_id)
        return [ItemAsked(item.batch_item_id, job, item.subset_id) for job, item in items]


@dataclass(frozen=True, slots=True)
class _SessionState:
    index: int
    status: KeygenStatus
    registered: frozenset[str]
    state: KeygenState | None = None


class _Keygen:
    """One call of `ensure_keygen`."""

    def __init__(self, client: KeymeldClient, plan: KeygenPlan, layout: Layout) -> None:
        self._client = client
        self._plan = plan
        self._credentials = SessionCredentials(plan.seed)
        self._enclaves: dict[str, Enclave] | None = None
        self.layout = layout
        self.coordinator = UserCredentials(plan.coordinator_private_key)

    async def ensure(self, index: int) -> _SessionState:
        """Do what is left of one session."""
        session_id = self.layout.sessions[index][0]
        try:
            state = await self._client.keygen_status(session_id, self._credentials)
        except KeymeldUnknownSession:
            # Not reserved, or reserved and not initialised: the service knows no key to check us by.
            await self._open(index)
            state = await self._client.keygen_status(session_id, self._credentials)
        if state.status == KeygenStatus.COLLECTING_PARTICIPANTS:
            await self._register_missing(session_id)
            state = await self._client.keygen_status(session_id, self._credentials)
        if state.status == KeygenStatus.FAILED:
            if time.time() >= state.expires_at:
                raise KeymeldTimeout(f"keygen session {session_id} expired before it was complete")
            raise KeymeldRefused(f"keygen session {session_id} failed")
        if state.status == KeygenStatus.COMPLETED:
            return _SessionState(index, state.status, frozenset(self.layout.participants()), state)
        slots = await self._client.slots(session_id)
        return _SessionState(index, state.status, frozenset([slot.user_id for slot in slots if slot.claimed]))

    async def _open(self, index: int) -> None:
        session_id = self.layout.sessions[index][0]
        try:
            reservation = await self._client.reserve(
                session_id,
                self._credentials,
                coordinator_user_id=self._plan.coordinator_user_id,
                expected_participants=self.layout.participants(),
                subsets=self.layout.subset_definitions(index),
                timeout_secs=max(1, min(self._plan.timeout_seconds, _LONGEST_TIMEOUT_SECONDS)),
            )
        except KeymeldConflict:
            reservation = await self._reservation(session_id)
        try:
            await self._client.initialize(session_id, self._credentials, self.coordinator, reservation)
        except KeymeldConflict:
            return  # initialised before a crash, or by the request whose answer was lost

    async def _reservation(self, session_id: str) -> Reservation:
        """What the answer to an earlier reservation said: the coordinator's slot names his enclave."""
        slots = await self._client.slots(session_id)
        own = next((slot for slot in slots if slot.user_id == self._plan.coordinator_user_id), None)
        if own is None:
            raise KeymeldRefused(f"keygen session {session_id} exists and is somebody else's")
        enclave = await self._enclave(own.enclave_id)
        return Reservation(enclave.enclave_id, enclave.public_key, enclave.key_epoch)

    async def _enclave(self, enclave_id: str) -> Enclave:
        if self._enclaves is None:
            self._enclaves = {enclave.enclave_id: enclave for enclave in await self._client.enclaves()}
        if enclave_id not in self._enclaves:
            raise KeymeldRefused(f"the service does not list its enclave {enclave_id}")
        return self._enclaves[enclave_id]

    async def _register_missing(self, session_id: str) -> None:
        slots = {slot.user_id: slot for slot in await self._client.slots(session_id)}
        if slots.keys() != set(self.layout.participants()):
            raise KeymeldRefused(f"keygen session {session_id} expects other participants")
        own = slots[self._plan.coordinator_user_id]
        if not own.claimed:
            enclave = await self._enclave(own.enclave_id)
            await self._register(
                session_id,
                enclave,
                user_id=own.user_id,
                public_key=self.coordinator.public_key,
                auth_pubkey=self.coordinator.auth_pubkey(session_id),
                encrypted_private_key=self.coordinator.encrypt_to_enclave(enclave.public_key),
                require_signing_approval=False,
            )
        for participant in self._plan.participants:
            slot = slots[participant.user_id]
            if not slot.claimed and not participant.registers_himself:
                await self._register_player(session_id, participant, slot)

    async def _register_player(self, session_id: str, player: KeymeldParticipant, slot: Slot) -> None:
        enclave = await self._enclave(slot.enclave_id)
        ciphertext = player.encrypted_private_keys.get(slot.enclave_id)
        auth_pubkey = player.auth_pubkeys.get(session_id)
        if ciphertext is None or auth_pubkey is None:
            raise KeymeldRefused(
                f"participant {player.user_id} has no key for enclave {slot.enclave_id} "
                f"in session {session_id}"
            )
        epoch = player.enclave_key_epochs.get(slot.enclave_id)
        if epoch != enclave.key_epoch:
            raise KeymeldRefused(
                f"participant {player.user_id} encrypted his key to enclave {slot.enclave_id}'s key of epoch "
                f"{epoch}, which is now {enclave.key_epoch}"
            )
        await self._register(
            session_id,
            enclave,
            user_id=player.user_id,
            public_key=player.public_key,
            auth_pubkey=auth_pubkey,
            encrypted_private_key=ciphertext,
            require_signing_approval=player.require_signing_approval,
        )

    async def _register(
        self,
        session_id: str,
        enclave: Enclave,
        *,
        user_id: str,
        public_key: bytes,
        auth_pubkey: bytes,
        encrypted_private_key: str,
        require_signing_approval: bool,
    ) -> None:
        try:
            await self._client.register_participant(
                session_id,
                self._credentials,
                user_id=user_id,
                public_key=public_key,
                auth_pubkey=auth_pubkey,
                encrypted_private_key=encrypted_private_key,
                enclave=enclave,
                require_signing_approval=require_signing_approval,
            )
        except KeymeldConflict:
            return  # registered by a request whose answer was lost, or by the player himself

    def check_keys(self, session: _SessionState, keys: GroupKeys) -> None:
        """Compare the service's aggregate keys with those aggregated here.

        Raises:
            KeymeldRefused: a key is missing or another.
        """
        session_id, winner_sets = self.layout.sessions[session.index]
        state = session.state
        if state is None or state.aggregate_public_key is None:
            raise KeymeldRefused(f"keygen session {session_id} is complete and has no aggregate key")
        if decrypt_aggregate_key(self._credentials, state.aggregate_public_key) != keys.group:
            raise KeymeldRefused(f"keygen session {session_id} aggregated another group key")
        for winners in winner_sets:
            encrypted = state.encrypted_subset_aggregates.get(self.layout.subset_id(winners))
            if (
                encrypted is None
                or decrypt_aggregate_key(self._credentials, encrypted) != keys.subsets[winners]
            ):
                raise KeymeldRefused(f"keygen session {session_id} has another key for winners {winners}")


@dataclass(slots=True)
class _Signing:
    """One call of `sign`."""

    client: KeymeldClient
    workers: Workers
    credentials: SessionCredentials
    sealing: Sealing
    coordinator: UserCredentials
    coordinator_user_id: str
    layout: Layout
    keys: Keys
    size: int
    batches: tuple[PackedBatch, ...]
    parallel_batches: int
    required: frozenset[str]
    signing_session_id: Callable[[int, int, int], str]
    on_progress: Callable[[SigningProgress], Awaitable[None]]
    on_session: Callable[[SessionAsked], Awaitable[None]] | None
    done: int = 0
    approved: dict[tuple[int, int], frozenset[str]] = field(default_factory=dict)
    reported: SigningProgress | None = None
    reporting: bool = False

    @property
    def at_once(self) -> int:
        """How many batches are under way side by side."""
        # A player approves every batch: were they created one after another, he would have to wait.
        return len(self.batches) if self.required else min(len(self.batches), self.parallel_batches)

    async def run(self) -> dict[str, bytes]:
        """Sign all batches and merge what they give."""
        parallel = asyncio.Semaphore(self.at_once)
        signatures: dict[str, bytes] = {}

        async def sign(batch: PackedBatch) -> None:
            async with parallel:
                signatures.update(await self._sign(batch))
            self.done += 1
            await self._report()

        await self._report()
        await _all_or_first_error([sign(batch) for batch in self.batches])
        return signatures

    def progress(self) -> SigningProgress:
        """How far it is."""
        everywhere = self.required if self.batches else frozenset()
        for batch in self.batches:
            everywhere &= self.approved.get((batch.keygen, batch.index), frozenset())
        missing = self.required - everywhere
        status = "collecting_participants" if missing else "signing"
        if self.done == len(self.batches):
            status, missing = "completed", frozenset()
        return SigningProgress(
            status, self.done, len(self.batches), tuple(sorted(everywhere)), tuple(sorted(missing))
        )

    def summary(self) -> str:
        """Progress in words."""
        progress = self.progress()
        waiting = f", not approved by {', '.join(progress.missing)}" if progress.missing else ""
        return f"{progress.batches_done} of {progress.batches_total} batches done{waiting}"

    async def _report(self) -> None:
        """Tell of progress. While one batch does, the others go on; the latest is told in the end."""
        if self.reporting:
            return
        self.reporting = True
        try:
            while (progress := self.progress()) != self.reported:
                self.reported = progress
                await self.on_progress(progress)
        finally:
            self.reporting = False

    async def _sign(self, batch: PackedBatch) -> Mapping[str, bytes]:
        """One batch, under the first attempt's session that gives good signatures."""
        tries = 0
        attempt = 0
        while True:
            signing_id = self.signing_session_id(batch.keygen, batch.index, attempt)
            fresh = await self._create(batch, signing_id)
            if self.on_session is not None:
                await self.on_session(
                    SessionAsked(
                        signing_id, batch.keygen_session_id, batch.keygen, batch.index, attempt, batch.count
                    )
                )
            answer = await self._wait(batch, signing_id)
            if answer.signatures is not None:
                return answer.signatures
            # Sessions that failed in an earlier call are passed over: this call has its own tries.
            tries += fresh
            attempt += 1
            if tries == _BATCH_TRIES:
                raise KeymeldRefused(
                    f"batch {batch.index} of keygen session {batch.keygen_session_id} failed "
                    f"{tries} times, last: {answer.problem}"
                )

    async def _create(self, batch: PackedBatch, signing_id: str) -> bool:
        """Create the session; false where it exists."""
        body = await self.workers.run_sized(self.size, seal_batch, batch, signing_id, self.sealing)
        try:
            await _while_unavailable(
                lambda: self.client.post_signing(batch.keygen_session_id, self.credentials, body)
            )
        except KeymeldConflict:
            return False
        return True

    async def _wait(self, batch: PackedBatch, signing_id: str) -> Answer:
        """Poll the session to its end, the less often the more sessions there are at once."""
        longest_seconds = max(0.4, self.at_once / _POLLS_A_SECOND)
        for delay in backoff(first_seconds=0.1, longest_seconds=longest_seconds):
            raw = await _while_unavailable(
                lambda: self.client.signing_answer(
                    signing_id,
                    batch.keygen_session_id,
                    self.coordinator,
                    user_id=self.coordinator_user_id,
                )
            )
            size = self.size if len(raw) > _SMALL_ANSWER_BYTES else 0
            answer = await self.workers.run_sized(
                size, read_answer, raw, batch, signing_id, self.sealing, self.keys
            )
            self.approved[batch.keygen, batch.index] = (
                self.required if answer.status == SigningStatus.COMPLETED else answer.approved
            )
            await self._report()
            if answer.ended:
                return answer
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")


def _progress(plan: KeygenPlan, states: Sequence[_SessionState]) -> KeygenProgress:
    order = (KeygenStatus.RESERVED, KeygenStatus.COLLECTING_PARTICIPANTS, KeygenStatus.COMPLETED)
    users = [participant.user_id for participant in plan.participants]
    everywhere = frozenset(users).intersection(*(state.registered for state in states))
    return KeygenProgress(
        status=min((state.status for state in states), key=order.index),
        sessions_done=sum(state.status == KeygenStatus.COMPLETED for state in states),
        sessions_total=len(states),
        registered=tuple([user for user in users if user in everywhere]),
        missing=tuple([user for user in users if user not in everywhere]),
    )


def _public_keys(plan: KeygenPlan) -> tuple[bytes, ...]:
    return tuple([participant.public_key for participant in plan.participants])


async def _while_unavailable(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call while the service is unavailable, for a while; every call must be harmless to repeat."""
    give_up_at = time.monotonic() + _UNAVAILABLE_SECONDS
    for delay in backoff(first_seconds=0.2, longest_seconds=5.0):
        try:
            return await call()
        except ServiceUnavailable:
            if time.monotonic() + delay > give_up_at:
                raise
        await asyncio.sleep(delay)
    raise AssertionError("unreachable")


async def _all_or_first_error(work: Sequence[Awaitable[T]]) -> list[T]:
    """All results in order; at the first error the rest is cancelled and that error raised by itself."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _port_errors() -> Iterator[None]:
    """The client's errors as the port's."""
    try:
        yield
    except KeymeldPortError:
        raise
    except (ServiceUnavailable, KeymeldUnreadable) as error:
        raise KeymeldUnavailable(str(error)) from error
    except KeymeldExpired as error:
        raise KeymeldTimeout(str(error)) from error
    except (KeymeldError, ValueError) as error:
        raise KeymeldRefused(str(error)) from error
