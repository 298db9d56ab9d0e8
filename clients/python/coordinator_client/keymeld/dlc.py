"""A ticketed DLC on keymeld: which subsets, which sessions, which batches.

The key of an outcome depends only on *who* wins, not in what order, so there is one subset for each set of
winners.
The service holds a limited number of subsets in a keygen session and of items in a signing session: sets are
spread over several keygen sessions of the same keys, and items over batches.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from coordinator.contract.dlc import SigningJob
from coordinator.contract.musig2 import key_agg, key_sort

from .batch import SigningItem
from .errors import KeymeldLimitError
from .ids import derived_uuid7, uuid7_ms
from .protocol import MAX_ITEMS_PER_BATCH, MAX_SUBSETS_PER_KEYGEN, SubsetDefinition

Winners = tuple[int, ...]
"""Player indices, ascending."""


@dataclass(frozen=True, slots=True)
class KeymeldLimits:
    """What the service accepts, and how much is under way at once."""

    subsets_per_keygen: int = MAX_SUBSETS_PER_KEYGEN
    items_per_batch: int = MAX_ITEMS_PER_BATCH
    parallel_batches: int = 6

    def __post_init__(self) -> None:
        if min(self.subsets_per_keygen, self.items_per_batch, self.parallel_batches) < 1:
            raise ValueError("keymeld limits are at least 1")


def needed_sessions(winner_sets: int, limits: KeymeldLimits) -> int:
    """How many keygen sessions hold that many sets of winners; one at least, for the group itself."""
    return max(1, -(-winner_sets // limits.subsets_per_keygen))


def distinct_winner_sets(sets: Iterable[Sequence[int]], players: int) -> tuple[Winners, ...]:
    """The sets that need a subset, sorted, each once. A set of all players is the group and needs none.

    Raises:
        ValueError: a set is empty, names a player twice or one that does not exist.
    """
    distinct = set()
    for winners in sets:
        ordered = tuple(sorted(winners))
        if not ordered or len(set(ordered)) != len(ordered) or not 0 <= ordered[0] <= ordered[-1] < players:
            raise ValueError(f"{winners} is not a set of winners among {players} players")
        if len(ordered) < players:
            distinct.add(ordered)
    return tuple(sorted(distinct))


def subset_id(keygen_session_id: str, winners: Winners) -> str:
    """What a set of winners is called in a keygen session: everybody can compute it."""
    parts = (keygen_session_id, "subset", ",".join(map(str, winners)))
    return derived_uuid7(parts, uuid7_ms(keygen_session_id))


@dataclass(frozen=True, slots=True)
class Layout:
    """Which keygen session holds which sets of winners."""

    sessions: tuple[tuple[str, tuple[Winners, ...]], ...]
    """(keygen session id, its sets), only sessions that are used."""
    users: tuple[str, ...]
    """User ids in player index order."""
    coordinator: str
    session_of: Mapping[Winners, int]
    """Set of winners -> index in `sessions`."""

    def subset_id(self, winners: Winners) -> str:
        """The set's subset id, derived from its session's: it is found again after a crash."""
        return subset_id(self.sessions[self.session_of[winners]][0], winners)

    def subset_definitions(self, session: int) -> tuple[SubsetDefinition, ...]:
        """The session's subsets: the coordinator with each set's winners."""
        return tuple(
            [
                SubsetDefinition(
                    self.subset_id(winners), (self.coordinator, *(self.users[player] for player in winners))
                )
                for winners in self.sessions[session][1]
            ]
        )

    def participants(self) -> tuple[str, ...]:
        """Everybody whose key is in the group: the coordinator, then the players."""
        return (self.coordinator, *self.users)


def lay_out(
    winner_sets: Iterable[Sequence[int]],
    *,
    session_ids: Sequence[str],
    coordinator: str,
    users: Sequence[str],
    limits: KeymeldLimits,
) -> Layout:
    """Spread the sets of winners over the keygen sessions given, filling one after the other.

    Raises:
        KeymeldLimitError: the sessions cannot hold them; says how many would.
        ValueError: a set of winners or the users are not sound.
    """
    if len({coordinator, *users}) != len(users) + 1:
        raise ValueError("the participants' ids are not all different")
    if len(set(session_ids)) != len(session_ids):
        raise ValueError("the keygen session ids are not all different")
    sets = distinct_winner_sets(winner_sets, len(users))
    needed = needed_sessions(len(sets), limits)
    if needed > len(session_ids):
        capacity = len(session_ids) * limits.subsets_per_keygen
        raise KeymeldLimitError(
            f"{len(sets)} sets of winners need {needed} keygen sessions of {limits.subsets_per_keygen} each; "
            f"the {len(session_ids)} given hold {capacity}"
        )
    size = limits.subsets_per_keygen
    sessions = tuple(
        [(session_ids[index], sets[index * size : (index + 1) * size]) for index in range(needed)]
    )
    session_of = {winners: index for index, (_, held) in enumerate(sessions) for winners in held}
    return Layout(sessions, tuple(users), coordinator, session_of)


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The keys signatures are verified under, aggregated here and not taken from the service."""

    players: int
    group: bytes
    """33 bytes: market maker and all players."""
    subsets: Mapping[Winners, bytes]

    @classmethod
    def aggregate(
        cls, market_maker: bytes, players: Sequence[bytes], winner_sets: Iterable[Winners]
    ) -> "GroupKeys":
        """BIP327 KeyAgg over the sorted keys of the group and of the market maker with every set of winners.

        Raises:
            coordinator.contract.errors.ContractError: a key is not a point.
        """
        return cls(
            players=len(players),
            group=key_agg(key_sort([market_maker, *players])).point,
            subsets={
                winners: key_agg(key_sort([market_maker, *(players[player] for player in winners)])).point
                for winners in winner_sets
            },
        )

    def of_job(self, job: SigningJob) -> bytes:
        """The 33-byte key a job's signature is valid under."""
        winners = job_winners(job, self.players)
        return self.group if winners is None else self.subsets[winners]


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that one signing session signs."""

    keygen: int
    """Index of the keygen session."""
    index: int
    """Index among the keygen session's batches."""
    jobs: tuple[SigningJob, ...]

    def pack(self, layout: Layout) -> "PackedBatch":
        """The batch in one piece."""
        rows = [
            (job.key, job.message.hex(), job.adaptor_point and job.adaptor_point.hex(), job.winners)
            for job in self.jobs
        ]
        return PackedBatch(
            keygen=self.keygen,
            index=self.index,
            count=len(self.jobs),
            keygen_session_id=layout.sessions[self.keygen][0],
            players=len(layout.users),
            rows=json.dumps(rows, separators=(",", ":")).encode(),
        )


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch with all that its items depend on, and without an object for each job: a contract's batches
    are kept in memory until they are signed, and each is sent to other processes.
    """

    keygen: int
    index: int
    count: int
    """Number of jobs."""
    keygen_session_id: str
    players: int
    """Number of players of the contract."""
    rows: bytes = field(repr=False)

    def unpack(self) -> Batch:
        """The batch again."""
        jobs = [
            SigningJob(
                key,
                bytes.fromhex(message),
                None if point is None else bytes.fromhex(point),
                None if winners is None else tuple(winners),
            )
            for key, message, point, winners in json.loads(self.rows)
        ]
        return Batch(self.keygen, self.index, tuple(jobs))

    def items(self, signing_session_id: str) -> list[tuple[SigningJob, SigningItem]]:
        """Each job with the item that signs it in that session, as `batch_items` makes it."""
        jobs = self.unpack().jobs
        items = _items(jobs, self.keygen_session_id, self.players, signing_session_id)
        return list(zip(jobs, items.values(), strict=True))


def job_winners(job: SigningJob, players: int) -> Winners | None:
    """Whose key signs: a set of winners, ascending, or `None` for the whole group."""
    if job.winners is None or len(job.winners) == players:
        return None
    return tuple(sorted(job.winners))


def cut_batches(jobs: Iterable[SigningJob], layout: Layout, limits: KeymeldLimits) -> tuple[Batch, ...]:
    """Batches in an order and of a content that depend on nothing but the arguments.

    Whole-group jobs, which any session can sign, go to the first.

    Raises:
        KeymeldLimitError: a job's set of winners is in no session.
    """
    queues: list[list[SigningJob]] = [[] for _ in layout.sessions]
    for job in jobs:
        winners = job_winners(job, len(layout.users))
        if winners is not None and winners not in layout.session_of:
            raise KeymeldLimitError(f"job {job.key}: no keygen session has a subset for winners {winners}")
        queues[0 if winners is None else layout.session_of[winners]].append(job)
    batches = []
    for keygen, queue in enumerate(queues):
        rest = iter(queue)
        index = 0
        while chunk := tuple(islice(rest, limits.items_per_batch)):
            batches.append(Batch(keygen, index, chunk))
            index += 1
    return tuple(batches)


def batch_items(batch: Batch, layout: Layout, signing_session_id: str) -> dict[str, SigningItem]:
    """Job key -> the item that signs it in that session; ids are derived, so results find their job."""
    keygen_session_id = layout.sessions[batch.keygen][0]
    return _items(batch.jobs, keygen_session_id, len(layout.users), signing_session_id)


def _items(
    jobs: Iterable[SigningJob], keygen_session_id: str, players: int, signing_session_id: str
) -> dict[str, SigningItem]:
    at = uuid7_ms(signing_session_id)
    items = {}
    for job in jobs:
        winners = job_winners(job, players)
        adaptor = job.adaptor_point is not None
        items[job.key] = SigningItem(
            batch_item_id=derived_uuid7((signing_session_id, "item", job.key), at),
            message=job.message,
            subset_id=None if winners is None else subset_id(keygen_session_id, winners),
            adaptor_id=derived_uuid7((signing_session_id, "adaptor", job.key), at) if adaptor else None,
            adaptor_point=job.adaptor_point,
        )
    return items
