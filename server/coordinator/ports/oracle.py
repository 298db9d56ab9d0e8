"""What the coordinator needs from an oracle: announce an event, take the entries, score them, attest.

The port is generic: a source of prices or sports results is one more `SourceType` and an adapter. Times are
unix seconds; ids of events and entries are UUIDv7 in lower-case canonical form. The index of an entry is its
place among the event's entry ids, sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class OracleError(Exception):
    """The oracle could not do what was asked, or answered something that cannot be right."""


class OracleUnavailable(OracleError):
    """Nothing is known about the effect of the call: try again later (calls of `Oracle` may be repeated)."""


class OracleRefused(OracleError):
    """The oracle looked at the request and refuses it, and will refuse it again."""


class EventNotFound(OracleRefused):
    """The oracle has no event with this id."""


class AnnouncementMismatch(OracleError):
    """What the oracle announced is not what key, nonce and outcomes give; names the first difference."""


class Equivocation(OracleError):
    """The oracle published two attestations to one event. By the second it has given away its private key."""


class Comparison(StrEnum):
    """How an observed value compares with its reference (for weather: the forecast)."""

    OVER = "over"
    EQUAL = "equal"
    UNDER = "under"


@dataclass(frozen=True, slots=True)
class ObservationChoice:
    """One prediction: how `metric` of `source_id` will compare with its reference."""

    source_id: str
    """Identifies a station, a ticker, a match."""
    metric: str
    """For example temp_high, closing_price, total_score."""
    prediction: Comparison


@dataclass(frozen=True, slots=True)
class Weather:
    """A weather station as a source of data."""

    station_code: str


SourceType = Weather
"""What kind of thing is observed. Becomes a union when there is a second kind."""


@dataclass(frozen=True, slots=True)
class DataSourceConfig:
    """One thing to observe."""

    id: str
    source_type: SourceType


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """One kind of value to predict."""

    name: str
    comparison_tolerance: float | None = None
    """How far a value may lie from its reference and still be equal to it; None: not at all."""
    period: float | None = None
    """For values on a circle (360 for compass degrees), how long it is: 350 and 10 are then 20 apart."""


@dataclass(frozen=True, slots=True)
class EarliestEntry:
    """Of entries level on points, the one made first (by the time in its id) ranks higher."""


@dataclass(frozen=True, slots=True)
class HighestScore:
    """Points alone decide. A place holds one entry, so level entries stand in order of their index."""


@dataclass(frozen=True, slots=True)
class RandomOrder:
    """Level entries stand in an order that follows from `seed` (32 bytes) and their ids."""

    seed: bytes


Tiebreaker = EarliestEntry | HighestScore | RandomOrder


@dataclass(frozen=True, slots=True)
class ScoringConfig:
    """What right predictions are worth."""

    exact_match_points: int = 2
    direction_match_points: int = 1
    tiebreaker: Tiebreaker = EarliestEntry()


@dataclass(frozen=True, slots=True)
class ObservationWindow:
    """When observations count: from `start_at` until before `end_at`."""

    start_at: int
    end_at: int


@dataclass(frozen=True, slots=True)
class CreateEvent:
    """An event to announce."""

    id: str
    signing_at: int
    """When the oracle attests; not before the window's end."""
    observation_window: ObservationWindow
    data_sources: tuple[DataSourceConfig, ...]
    metrics: tuple[MetricConfig, ...]
    scoring: ScoringConfig
    number_of_places_win: int
    number_of_values_per_entry: int
    """How many predictions an entry may hold."""
    total_allowed_entries: int
    """Exactly as many must be submitted."""


@dataclass(frozen=True, slots=True)
class EntrySubmission:
    """An entry to be scored."""

    id: str
    observations: tuple[ObservationChoice, ...]


@dataclass(frozen=True, slots=True)
class OracleEntry:
    """An entry as the oracle has it; `score` is None until it counts, and then as the oracle counts."""

    id: str
    observations: tuple[ObservationChoice, ...]
    score: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A value to predict: its reference and what was observed (so far), each None while unknown."""

    source_id: str
    metric: str
    reference: float | None
    observed: float | None


@dataclass(frozen=True, slots=True)
class OracleEvent:
    """An event as the oracle publishes it, nothing of it verified: see `coordinator.domain.announcement`."""

    id: str
    oracle_pubkey: bytes
    """32 bytes, x-only."""
    nonce_point: bytes
    """33 bytes, compressed."""
    locking_points: Sequence[bytes]
    """33 bytes each; immutable."""
    expiry: int | None
    """Unix seconds: the lock time from which everybody is refunded, should there be no attestation."""
    attestation: bytes | None
    """32 bytes."""
    publishes_secret_nonce: bool
    """The oracle tells the nonce's secret to anyone: one attestation then gives away its private key."""
    status: str
    """live, running, completed or signed."""
    entries: tuple[OracleEntry, ...]
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class Station:
    """A place where something is observed, for people to choose from."""

    id: str
    name: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """A forecast or observed value of one metric over a span of time."""

    source_id: str
    metric: str
    value: float
    start_at: int
    end_at: int


class Oracle(Protocol):
    """The oracle. Every method raises `OracleUnavailable` where trying again may help."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator must be told about this oracle for as long as it is used; empty if nothing."""
        ...

    def metrics(self, names: Iterable[str]) -> tuple[MetricConfig, ...]:
        """The rules by which the oracle compares these metrics.

        Raises:
            KeyError: it has no such metric.
        """
        ...

    async def pubkey(self) -> bytes:
        """The oracle's public key, 32 bytes x-only."""
        ...

    async def create_event(self, event: CreateEvent) -> OracleEvent:
        """Have the event announced. An event that exists with the same id and content is returned as it is.

        Raises:
            OracleRefused: the oracle does not take such an event, or has another one with this id.
        """
        ...

    async def get_event(self, event_id: str) -> OracleEvent:
        """The event as it stands.

        Raises:
            EventNotFound: there is none.
        """
        ...

    async def submit_entries(self, event_id: str, entries: Sequence[EntrySubmission]) -> None:
        """Hand over all entries at once. Handing over the same again changes nothing.

        Raises:
            OracleRefused: the oracle does not take them, or has others for this event.
        """
        ...

    async def stations(self) -> tuple[Station, ...]:
        """Everything that can be observed."""
        ...

    async def forecasts(
        self, station_ids: Sequence[str], start_at: int | None = None, end_at: int | None = None
    ) -> tuple[Measurement, ...]:
        """The reference values: one for each station and metric over the whole window (default: today)."""
        ...

    async def observations(
        self, station_ids: Sequence[str], start_at: int, end_at: int
    ) -> tuple[Measurement, ...]:
        """The observed values (so far): one for each station and metric over the whole window."""
        ...
