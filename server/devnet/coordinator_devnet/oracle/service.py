"""The oracle itself: announces events, takes entries, scores them, and attests once."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.adapters.weather_wire import rfc3339, unix_seconds
from coordinator.contract import rankings
from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.errors import ContractError
from coordinator.contract.points import PointList
from coordinator.domain.ids import is_uuid7
from coordinator.domain.scoring import RankedEntry, entry_points, rank_entries, winning_ranking
from coordinator.ports.oracle import EntrySubmission, ObservationWindow, Reading, ScoringConfig
from coordinator_client.nostr import hex_to_npub

from .errors import Conflict, InvalidRequest, NotFound, NotYours, WrongSeed
from .keys import OracleKeys
from .source import Source, Subject
from .store import EventRow, EventStore
from .weather import WeatherSource

log = logging.getLogger(__name__)

MAX_ENTRIES = 100
MAX_OUTCOMES = 1_000_000
_MAX_LOCKTIME = 2**32 - 1
_SCORING = ScoringConfig()


@dataclass(frozen=True, slots=True)
class Event:
    """An event with all that follows from it at some time."""

    id: str
    coordinator: str
    """The coordinator's public key, hex."""
    signing_at: int
    window: ObservationWindow
    subject: Subject
    number_of_values_per_entry: int
    number_of_places_win: int
    total_allowed_entries: int
    expiry: int
    nonce_point: bytes
    locking_points: PointList
    entries: tuple[EntrySubmission, ...]
    """In index order."""
    withheld: bool
    outcome: int | None
    attestation: bytes | None
    status: str


class OracleService:
    """The oracle over one data directory.

    Args:
        data_dir: made if needed; holds the database and, where no seed is given, a random one.
        seed: 32 bytes that the key and all nonces come from.
        expiry_after_seconds: time between signing date and expiry of new events.
        clock: unix seconds.
        poll_seconds: how often to look for events to attest.

    Raises:
        WrongSeed: the directory belongs to an oracle with another key.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        seed: bytes | None = None,
        expiry_after_seconds: int = 86_400,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
    ) -> None:
        if expiry_after_seconds < 1:
            raise ValueError("expiry_after_seconds must be at least 1")
        folder = Path(data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._keys = OracleKeys(_stored_seed(folder / "seed") if seed is None else seed)
        self._store = EventStore(folder / "oracle.sqlite3")
        key = self._keys.public_key.hex()
        if self._store.setting("public_key", key) != key:
            raise WrongSeed(f"{folder} belongs to an oracle with another key: its seed is not the one given")
        self.source: Source = WeatherSource(clock)
        self._clock = clock
        self._expiry_after_seconds = expiry_after_seconds
        self._poll_seconds = poll_seconds
        self._creating: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._loop: asyncio.Task[None] | None = None

    @property
    def public_key(self) -> bytes:
        """33 bytes, compressed."""
        return self._keys.public_key

    @property
    def npub(self) -> str:
        """The key as Nostr writes it."""
        return hex_to_npub(self._keys.public_key[1:].hex())

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    async def start(self) -> None:
        """Start to attest events as they come due."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._attest_forever())

    async def stop(self) -> None:
        """Stop; nothing is lost."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None

    async def create_event(self, coordinator: str, body: Mapping[str, Any]) -> Event:
        """Announce an event for a coordinator (public key, hex). Asked again, returns the same event.

        Raises:
            InvalidRequest: a rule is broken.
            Conflict: another event has the id.
        """
        row = self._new_row(coordinator, body)
        # Announcing takes a while: a request repeated meanwhile waits instead of doing it twice.
        async with self._creating[row.id]:
            existing = await asyncio.to_thread(self._store.get, row.id)
            if existing is None:
                announced = await asyncio.to_thread(self._announced, row)
                await asyncio.to_thread(self._store.add, announced)
                existing = await self._row(row.id)
        self._creating.pop(row.id, None)
        if (existing.coordinator, existing.content) != (row.coordinator, row.content):
            raise Conflict(f"another event has the id {row.id}")
        return self._event(existing)

    async def get_event(self, event_id: str) -> Event:
        """One event; raises `NotFound`."""
        return self._event(await self._row(event_id))

    async def list_events(self, limit: int = 100) -> list[Event]:
        """Events, newest first."""
        return [self._event(row) for row in await asyncio.to_thread(self._store.newest, limit)]

    async def add_entries(self, coordinator: str, event_id: str, body: Mapping[str, Any]) -> Event:
        """Take all entries of an event at once. The same again changes nothing.

        Raises:
            InvalidRequest: a rule is broken, or the window is over.
            NotFound, NotYours: no such event, or another coordinator's.
            Conflict: other entries are there.
        """
        event = await self.get_event(event_id)
        if event.coordinator != coordinator:
            raise NotYours(f"event {event_id} belongs to another coordinator")
        entries = self._parse_entries(event, body)
        if not event.entries and self.now() >= event.window.end_at:
            raise InvalidRequest("entries are taken until the observation window ends only")
        text = _canonical([{"id": entry.id} | self.source.entry_json(entry) for entry in entries])
        if await asyncio.to_thread(self._store.set_entries, event_id, text) != text:
            raise Conflict(f"event {event_id} has other entries")
        return await self.get_event(event_id)

    async def attest(self, event_id: str, ranking: Sequence[int] | None) -> Event:
        """Attest to a ranking of entry indices (best first), or to the refund of all with None. At any time,
        even for a withheld event; the same again changes nothing.

        Raises:
            InvalidRequest: not an outcome of the event.
            NotFound: no such event.
            Conflict: the event is attested to another outcome.
        """
        event = await self.get_event(event_id)
        total, places = event.total_allowed_entries, event.number_of_places_win
        try:
            outcome = rankings.index_of(total, places, range(total) if ranking is None else ranking)
        except ContractError as error:
            raise InvalidRequest(f"not an outcome of the event: {error}") from None
        decided = await asyncio.to_thread(self._store.decide, event_id, outcome, by_itself=False)
        if decided != outcome:
            raise Conflict(f"event {event_id} is attested to another outcome; two would give away the key")
        log.info("attested event %s to outcome %d on demand", event_id, outcome)
        return await self.get_event(event_id)

    async def withhold(self, event_id: str) -> Event:
        """Never attest to the event by itself.

        Raises:
            NotFound: no such event.
            Conflict: it is attested already.
        """
        await self._row(event_id)
        if not await asyncio.to_thread(self._store.withhold, event_id):
            raise Conflict(f"event {event_id} is attested already")
        return await self.get_event(event_id)

    async def attest_due(self) -> int:
        """Score and attest every event whose signing date has come; returns how many."""
        attested = 0
        for row in await asyncio.to_thread(self._store.due, self.now()):
            event = self._event(row)
            points = self.points(event, self.readings(event))
            ranking = winning_ranking(points, event.number_of_places_win, _SCORING.tiebreaker)
            outcome = rankings.index_of(event.total_allowed_entries, event.number_of_places_win, ranking)
            decided = await asyncio.to_thread(self._store.decide, event.id, outcome, by_itself=True)
            if decided == outcome:
                attested += 1
                log.info("attested event %s to ranking %s", event.id, ranking)
        return attested

    def readings(self, event: Event) -> tuple[Reading, ...]:
        """What is known about the event's subject now."""
        return self.source.readings(event.subject.source_ids, event.window, self.now())

    def points(self, event: Event, readings: Sequence[Reading]) -> dict[str, int]:
        """Entry id -> points."""
        metrics = [self.source.metrics[name] for name in event.subject.metrics]
        return {
            entry.id: entry_points(entry.observations, readings, metrics, _SCORING) for entry in event.entries
        }

    def scores(self, event: Event, readings: Sequence[Reading]) -> dict[str, RankedEntry]:
        """Entry id -> its place, once the window has started; empty before."""
        if self.now() < event.window.start_at:
            return {}
        points = self.points(event, readings)
        return {entry.id: entry for entry in rank_entries(points, _SCORING.tiebreaker)}

    async def _attest_forever(self) -> None:
        while True:
            try:
                await self.attest_due()
            except Exception:
                # One bad moment (a locked database, a full disk) must not end all attesting.
                log.exception("cannot attest; trying again")
            await asyncio.sleep(self._poll_seconds)

    async def _row(self, event_id: str) -> EventRow:
        row = await asyncio.to_thread(self._store.get, event_id)
        if row is None:
            raise NotFound(f"no event {event_id}")
        return row

    def _new_row(self, coordinator: str, body: Mapping[str, Any]) -> EventRow:
        """The event that is asked for, not announced yet."""
        event_id = body.get("id")
        if not isinstance(event_id, str) or not is_uuid7(event_id):
            raise InvalidRequest("id must be a UUIDv7")
        start_at, end_at = _time(body, "start_observation_date"), _time(body, "end_observation_date")
        signing_at = _time(body, "signing_date")
        if not start_at < end_at <= signing_at:
            raise InvalidRequest("the start must come before the end, and the end not after the signing date")
        expiry = signing_at + self._expiry_after_seconds
        if expiry > _MAX_LOCKTIME:
            raise InvalidRequest("the signing date is too far ahead for a lock time")
        total = _integer(body, "total_allowed_entries", 2, MAX_ENTRIES)
        places = _integer(body, "number_of_places_win", 1, rankings.MAX_PLACES)
        try:
            outcomes = rankings.count(total, places)
        except ContractError as error:
            raise InvalidRequest(str(error)) from None
        if outcomes > MAX_OUTCOMES:
            raise InvalidRequest(f"{outcomes} outcomes are too many, the most are {MAX_OUTCOMES}")
        subject = self.source.parse_subject(body)
        most_values = len(subject.source_ids) * len(subject.metrics)
        content = {
            "id": event_id,
            "signing_at": signing_at,
            "start_at": start_at,
            "end_at": end_at,
            "source_ids": subject.source_ids,
            "metrics": subject.metrics,
            "number_of_values_per_entry": _integer(body, "number_of_values_per_entry", 1, most_values),
            "number_of_places_win": places,
            "total_allowed_entries": total,
        }
        return EventRow(
            id=event_id,
            coordinator=coordinator,
            content=_canonical(content),
            signing_at=signing_at,
            expiry=expiry,
            nonce_point=b"",
            locking_points=b"",
            entries=None,
            withheld=False,
            outcome=None,
        )

    def _announced(self, row: EventRow) -> EventRow:
        content = json.loads(row.content)
        nonce_point = self._keys.nonce_point(_digest(row))
        points = locking_points(
            self._keys.public_key,
            nonce_point,
            map(
                outcome_message,
                rankings.rankings(content["total_allowed_entries"], content["number_of_places_win"]),
            ),
        )
        return EventRow(
            id=row.id,
            coordinator=row.coordinator,
            content=row.content,
            signing_at=row.signing_at,
            expiry=row.expiry,
            nonce_point=nonce_point,
            locking_points=points.packed,
            entries=None,
            withheld=False,
            outcome=None,
        )

    def _event(self, row: EventRow) -> Event:
        content = json.loads(row.content)
        total, places = content["total_allowed_entries"], content["number_of_places_win"]
        attestation = None
        if row.outcome is not None:
            message = outcome_message(rankings.ranking_at(total, places, row.outcome))
            attestation = self._keys.attest(_digest(row), message)
        now = self.now()
        if attestation is not None:
            status = "signed"
        elif now < content["start_at"]:
            status = "live"
        else:
            status = "running" if now < content["end_at"] else "completed"
        return Event(
            id=row.id,
            coordinator=row.coordinator,
            signing_at=row.signing_at,
            window=ObservationWindow(content["start_at"], content["end_at"]),
            subject=Subject(tuple(content["source_ids"]), tuple(content["metrics"])),
            number_of_values_per_entry=content["number_of_values_per_entry"],
            number_of_places_win=places,
            total_allowed_entries=total,
            expiry=row.expiry,
            nonce_point=row.nonce_point,
            locking_points=PointList.from_packed(row.locking_points),
            entries=tuple(map(self.source.parse_entry, json.loads(row.entries or "[]"))),
            withheld=bool(row.withheld),
            outcome=row.outcome,
            attestation=attestation,
            status=status,
        )

    def _parse_entries(self, event: Event, body: Mapping[str, Any]) -> list[EntrySubmission]:
        """All entries in index order."""
        listed = body.get("entries")
        if body.get("event_id") != event.id or not isinstance(listed, list):
            raise InvalidRequest("event_id must be the event's, and entries a list")
        if len(listed) != event.total_allowed_entries:
            raise InvalidRequest(f"the event takes exactly {event.total_allowed_entries} entries")
        entries = {}
        for item in listed:
            if not isinstance(item, dict) or item.get("event_id") != event.id:
                raise InvalidRequest("each entry is an object with the event's event_id")
            entry = self.source.parse_entry(item)
            if not is_uuid7(entry.id):
                raise InvalidRequest("an entry's id must be a UUIDv7")
            if entry.id in entries:
                raise InvalidRequest(f"entry {entry.id} is there twice")
            _check_predictions(event, entry)
            entries[entry.id] = entry
        return [entries[entry_id] for entry_id in sorted(entries)]


def _check_predictions(event: Event, entry: EntrySubmission) -> None:
    keys = [(choice.source_id, choice.metric) for choice in entry.observations]
    if not 1 <= len(keys) <= event.number_of_values_per_entry:
        raise InvalidRequest(
            f"entry {entry.id} must make 1 to {event.number_of_values_per_entry} predictions"
        )
    if len(set(keys)) != len(keys):
        raise InvalidRequest(f"entry {entry.id} predicts something twice")
    for source_id, metric in keys:
        if source_id not in event.subject.source_ids or metric not in event.subject.metrics:
            raise InvalidRequest(f"entry {entry.id} predicts {metric} of {source_id}: not part of the event")


def _digest(row: EventRow) -> bytes:
    return hashlib.sha256(f"{row.coordinator}\n{row.content}".encode()).digest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _time(body: Mapping[str, Any], field: str) -> int:
    try:
        at = unix_seconds(body[field])
        rfc3339(at)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise InvalidRequest(f"{field} must be a time in RFC 3339") from None
    return at


def _integer(body: Mapping[str, Any], field: str, low: int, high: int) -> int:
    value = body.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"{field} must be a whole number from {low} to {high}")
    return value


def _stored_seed(path: Path) -> bytes:
    """The seed in a file that only its owner may read, made if it is not there."""
    if not path.exists():
        # mkstemp makes it readable by its owner only; the link appears whole or not at all.
        descriptor, written = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(written, path)
        os.unlink(written)
    return bytes.fromhex(path.read_text())
