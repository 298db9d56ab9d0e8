"""Recorded weather (`weather.json`): a cycle of days with a forecast and four reports for each station.

The days are laid over whatever window is asked for: a window of about n days shows n of them in a row,
beginning with the one that its first day falls on, and their reports come in one after the other, evenly
spread, the last at the window's end. A window of five minutes has a whole day's weather, and the same window
always the same.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coordinator.adapters.weather_metrics import METRICS
from coordinator.adapters.weather_wire import FROM_WIRE, TO_WIRE, rfc3339, unix_seconds
from coordinator.ports.oracle import (
    EntrySubmission,
    MetricConfig,
    ObservationChoice,
    ObservationWindow,
    Reading,
)

from .errors import InvalidRequest
from .source import Subject

_DAY_SECONDS = 86_400
_REPORTS_A_DAY = 4
_MAX_DAYS = 366
_DEFAULT_FIELDS = ("temp_high", "temp_low", "wind_speed")


@dataclass(frozen=True, slots=True)
class _Day:
    """One day of a window: when it is, and its number in the record."""

    start_at: int
    end_at: int
    number: int


class WeatherSource:
    """Implements `Source`.

    Args:
        clock: unix seconds, for the routes.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        record = json.loads(files(__package__).joinpath("weather.json").read_text())
        self.stations: list[dict[str, Any]] = record["stations"]
        self._days: list[dict[str, Any]] = record["days"]
        self._known = {station["station_id"] for station in self.stations}
        self._clock = clock

    @property
    def metrics(self) -> Mapping[str, MetricConfig]:
        """The weather oracle's own rules."""
        return {name: metric.config for name, metric in METRICS.items()}

    def readings(self, source_ids: Sequence[str], window: ObservationWindow, now: int) -> tuple[Reading, ...]:
        """Forecasts and what was observed so far."""
        days = self._days_of(window)
        found = []
        for station_id in source_ids:
            forecasts = [self._forecast(station_id, day) for day in days]
            reports = [report for day in days for report in self._reports(station_id, day, now)]
            for name, metric in METRICS.items():
                observed = [_reported(report, name) for report in reports]
                found.append(
                    Reading(
                        source_id=station_id,
                        metric=name,
                        reference=metric.value([forecast[name] for forecast in forecasts]),
                        observed=metric.value(observed) if observed else None,
                    )
                )
        return tuple(found)

    def parse_subject(self, body: Mapping[str, Any]) -> Subject:
        """`locations` and `scoring_fields`."""
        return Subject(
            source_ids=_names(body, "locations", None, self._known),
            metrics=_names(body, "scoring_fields", _DEFAULT_FIELDS, METRICS),
        )

    def parse_entry(self, body: Mapping[str, Any]) -> EntrySubmission:
        """`expected_observations`: for each station a value for some fields."""
        choices = []
        stations = body.get("expected_observations")
        if not isinstance(stations, list):
            raise InvalidRequest("expected_observations must be a list")
        for station in stations:
            if not isinstance(station, dict) or not isinstance(station.get("stations"), str):
                raise InvalidRequest("each of expected_observations names a station in `stations`")
            for name, value in station.items():
                if name == "stations" or value is None:
                    continue
                if name not in METRICS or value not in FROM_WIRE:
                    raise InvalidRequest(
                        f"{name} cannot be {value}: it must be one of {', '.join(FROM_WIRE)}"
                    )
                choices.append(ObservationChoice(station["stations"], name, FROM_WIRE[value]))
        return EntrySubmission(id=str(body.get("id")), observations=tuple(choices))

    def subject_json(self, subject: Subject, readings: Sequence[Reading], start_at: int) -> dict[str, Any]:
        """`locations`, `scoring_fields` and `weather`."""
        weather = []
        for station_id in subject.source_ids:
            own = [reading for reading in readings if reading.source_id == station_id]
            observed = {reading.metric: reading.observed for reading in own if reading.observed is not None}
            weather.append(
                {
                    "station_id": station_id,
                    "forecasted": {"date": rfc3339(start_at)}
                    | {reading.metric: reading.reference for reading in own},
                    "observed": {"date": rfc3339(start_at)} | observed if observed else None,
                }
            )
        return {
            "source": "noaa_weather",
            "locations": list(subject.source_ids),
            "scoring_fields": list(subject.metrics),
            "weather": weather,
        }

    def entry_json(self, entry: EntrySubmission) -> dict[str, Any]:
        """`expected_observations`."""
        by_station: dict[str, dict[str, str]] = {}
        for choice in entry.observations:
            fields = by_station.setdefault(choice.source_id, {"stations": choice.source_id})
            fields[choice.metric] = TO_WIRE[choice.prediction]
        return {"expected_observations": list(by_station.values())}

    def routes(self) -> list[Route]:
        """`/stations`, `/stations/forecasts` and `/stations/observations`."""

        async def stations(_: Request) -> Response:
            return JSONResponse(self.stations)

        async def forecasts(request: Request) -> Response:
            station_ids, window = self._query(request)
            return JSONResponse(
                [
                    _row(station_id, day, day.end_at) | self._forecast(station_id, day)
                    for station_id in station_ids
                    for day in self._days_of(window)
                ]
            )

        async def observations(request: Request) -> Response:
            station_ids, window = self._query(request)
            now = int(self._clock())
            rows = []
            for station_id in station_ids:
                for day in self._days_of(window):
                    reports = self._reports(station_id, day, now)
                    if reports:
                        values = {
                            name: metric.value([_reported(report, name) for report in reports])
                            for name, metric in METRICS.items()
                        }
                        rows.append(_row(station_id, day, min(now, day.end_at)) | values)
            return JSONResponse(rows)

        return [
            Route("/stations", stations),
            Route("/stations/forecasts", forecasts),
            Route("/stations/observations", observations),
        ]

    def _query(self, request: Request) -> tuple[list[str], ObservationWindow]:
        asked = request.query_params
        today = int(self._clock()) // _DAY_SECONDS * _DAY_SECONDS
        try:
            start_at = unix_seconds(asked["start"]) if "start" in asked else today
            end_at = unix_seconds(asked["end"]) if "end" in asked else start_at + _DAY_SECONDS
        except (ValueError, OverflowError):
            raise InvalidRequest("start and end must be times in RFC 3339") from None
        if not start_at < end_at <= start_at + _MAX_DAYS * _DAY_SECONDS:
            raise InvalidRequest(f"end must come after start, by at most {_MAX_DAYS} days")
        wanted = [station_id for station_id in asked.get("station_ids", "").split(",") if station_id]
        return [i for i in wanted if i in self._known], ObservationWindow(start_at, end_at)

    def _days_of(self, window: ObservationWindow) -> list[_Day]:
        length = window.end_at - window.start_at
        count = max(1, min(_MAX_DAYS, round(length / _DAY_SECONDS)))
        first = window.start_at // _DAY_SECONDS
        return [
            _Day(
                start_at=window.start_at + length * i // count,
                end_at=window.start_at + length * (i + 1) // count,
                number=(first + i) % len(self._days),
            )
            for i in range(count)
        ]

    def _forecast(self, station_id: str, day: _Day) -> dict[str, float]:
        forecast: dict[str, float] = self._days[day.number][station_id]["forecast"]
        return forecast

    def _reports(self, station_id: str, day: _Day, now: int) -> list[dict[str, float]]:
        """The day's reports that have come in."""
        reports: list[dict[str, float]] = self._days[day.number][station_id]["reports"]
        length = day.end_at - day.start_at
        return [
            report
            for i, report in enumerate(reports)
            if now >= day.start_at + length * (i + 1) / _REPORTS_A_DAY
        ]


def _reported(report: Mapping[str, float], metric: str) -> float:
    return report["temp" if metric.startswith("temp_") else metric]


def _row(station_id: str, day: _Day, until: int) -> dict[str, Any]:
    return {
        "station_id": station_id,
        "date": rfc3339(day.start_at)[:10],
        "start_time": rfc3339(day.start_at),
        "end_time": rfc3339(until),
        "temp_unit_code": "fahrenheit",
    }


def _names(
    body: Mapping[str, Any], field: str, default: tuple[str, ...] | None, known: Mapping[str, Any] | set[str]
) -> tuple[str, ...]:
    names = body.get(field)
    if names is None and default is not None:
        return default
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"{field} must be a list of at least one name")
    if len(set(names)) != len(names):
        raise InvalidRequest(f"{field} names something twice")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidRequest(f"{field}: unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return tuple(names)
