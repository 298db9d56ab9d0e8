"""A devnet oracle over a real socket, on a clock that tests move, and events to throw at it."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.adapters.weather_metrics import metric_configs
from coordinator.adapters.weather_oracle import WeatherOracle
from coordinator.ports.oracle import (
    Comparison,
    CreateEvent,
    DataSourceConfig,
    EntrySubmission,
    ObservationChoice,
    ObservationWindow,
    ScoringConfig,
    Weather,
)
from coordinator_client.nostr import NostrKey
from coordinator_devnet.oracle import OracleService, create_app
from support.chain import serving

SEED = b"\x11" * 32
COORDINATOR = NostrKey(b"\x22" * 32)
DAY = 86_400


def uuid7(number: int) -> str:
    """A UUIDv7 of the millisecond `number`."""
    return str(uuid.UUID(int=(number << 80) | (7 << 76) | (0b10 << 62) | 1))


class MovableClock:
    """Unix seconds that stand still until moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class RunningOracle:
    """A served oracle (its attest loop is not running: call `service.attest_due`), and an adapter on it."""

    service: OracleService
    base_url: str
    adapter: WeatherOracle


@asynccontextmanager
async def running_oracle(
    data_dir: Path,
    *,
    key: NostrKey = COORDINATOR,
    timeout_seconds: float = 30,
    **options: Any,
) -> AsyncIterator[RunningOracle]:
    """Serve an oracle on an ephemeral port."""
    service = OracleService(data_dir, **{"seed": SEED} | options)
    async with serving(create_app(service)) as base_url:
        adapter = WeatherOracle(base_url, key, timeout_seconds=timeout_seconds)
        try:
            yield RunningOracle(service, base_url, adapter)
        finally:
            await adapter.aclose()
            await service.stop()


def event_request(
    now: float,
    *,
    number: int = 1,
    entries: int = 3,
    places: int = 1,
    stations: tuple[str, ...] = ("KORD", "KDEN"),
    metrics: tuple[str, ...] = ("temp_high", "wind_speed"),
    start_in: int = 60,
    length: int = 600,
) -> CreateEvent:
    """An event whose window starts `start_in` seconds after `now`; signed a minute after the window."""
    start_at = int(now) + start_in
    return CreateEvent(
        id=uuid7(number),
        signing_at=start_at + length + 60,
        observation_window=ObservationWindow(start_at, start_at + length),
        data_sources=tuple(DataSourceConfig(station, Weather(station)) for station in stations),
        metrics=metric_configs(metrics),
        scoring=ScoringConfig(),
        number_of_places_win=places,
        number_of_values_per_entry=len(stations) * len(metrics),
        total_allowed_entries=entries,
    )


def entries_for(event: CreateEvent) -> list[EntrySubmission]:
    """Entries with different predictions, in index order."""
    options = list(Comparison)
    return [
        EntrySubmission(
            id=uuid7(1000 + number),
            observations=tuple(
                ObservationChoice(source.id, metric.name, options[(number + i) % 3])
                for i, source in enumerate(event.data_sources)
                for metric in event.metrics
            ),
        )
        for number in range(event.total_allowed_entries)
    ]
