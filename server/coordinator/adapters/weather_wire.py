"""The weather oracle's JSON: what its requests and answers look like, and what they mean in the port's terms.

An answer that does not fit raises `OracleUnavailable`: it may come from something in between, and nothing
follows from it. Errors name fields, never values: an answer may hold a secret nonce.
"""

import base64
import binascii
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from coordinator.adapters.weather_metrics import METRICS
from coordinator.contract.errors import ContractError
from coordinator.contract.points import PointList
from coordinator.contract.secp import lift_x, mul_base, parse_point, parse_secret
from coordinator.ports.oracle import (
    Comparison,
    CreateEvent,
    EntrySubmission,
    Measurement,
    ObservationChoice,
    OracleEntry,
    OracleEvent,
    OracleRefused,
    OracleUnavailable,
    Reading,
    ScoringConfig,
    Station,
)
from coordinator_client.nostr import NostrKey

TO_WIRE: Final = {Comparison.OVER: "Over", Comparison.EQUAL: "Par", Comparison.UNDER: "Under"}
FROM_WIRE: Final = {wire: comparison for comparison, wire in TO_WIRE.items()}

_HEX_32: Final = re.compile(r"[0-9a-fA-F]{64}")
_HEX_POINT: Final = re.compile(r"0[23][0-9a-fA-F]{64}")


def pubkey(answer: Any) -> bytes:
    """The oracle's key, 32 bytes x-only, from base64 of a compressed or an x-only key."""
    try:
        key = base64.b64decode(answer["key"], validate=True)
        xonly = key[1:] if len(key) == 33 and key[0] in (2, 3) else key
        lift_x(xonly)
    except (KeyError, TypeError, ValueError, binascii.Error, ContractError):
        raise OracleUnavailable("the oracle's public key cannot be read") from None
    return xonly


def event(answer: Any, event_id: str, oracle_pubkey: bytes) -> OracleEvent:
    """An event that was asked for by id, under the oracle's x-only key."""
    try:
        nonce_point, secret_published = _nonce(answer)
        announcement = answer["event_announcement"]
        parsed = OracleEvent(
            id=str(answer["id"]),
            oracle_pubkey=oracle_pubkey,
            nonce_point=nonce_point,
            locking_points=_points(announcement["locking_points"]),
            expiry=_optional_integer(announcement.get("expiry")),
            attestation=_optional_scalar(answer.get("attestation")),
            publishes_secret_nonce=secret_published,
            status=str(answer["status"]).lower(),
            entries=_entries(answer),
            readings=tuple(_readings(answer.get("weather") or ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ContractError) as error:
        raise OracleUnavailable(
            f"the oracle's event {event_id} cannot be read ({type(error).__name__})"
        ) from None
    if parsed.id != event_id:
        raise OracleUnavailable(f"asked for event {event_id}, the oracle answered with another")
    return parsed


def stations(answer: Any) -> tuple[Station, ...]:
    """The stations."""
    try:
        return tuple(
            Station(
                id=str(row["station_id"]),
                name=str(row["station_name"]),
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
            )
            for row in _rows(answer)
        )
    except (KeyError, TypeError, ValueError):
        raise OracleUnavailable("the oracle's stations cannot be read") from None


def measurements(
    answer: Any, station_ids: Sequence[str], start_at: int, end_at: int
) -> tuple[Measurement, ...]:
    """Rows of forecasts or observations, combined into one value for each station and metric."""
    reports: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for row in sorted(_rows(answer), key=lambda row: str(row.get("start_time", ""))):
        for name in METRICS:
            value = _number(row.get(name))
            if value is not None:
                reports[str(row.get("station_id")), name].append(value)
    return tuple(
        Measurement(station_id, name, METRICS[name].value(values), start_at, end_at)
        for (station_id, name), values in reports.items()
        if station_id in station_ids
    )


def check_expressible(event: CreateEvent) -> None:
    """The interface names stations and metrics only: the rules wanted must be the oracle's own.

    Raises:
        OracleRefused: they are not.
    """
    for source in event.data_sources:
        if source.id != source.source_type.station_code:
            raise OracleRefused(f"predictions name stations by their code, so {source.id} must be it")
    for metric in event.metrics:
        known = METRICS.get(metric.name)
        if known is None or known.config != metric:
            raise OracleRefused(f"the weather oracle does not score {metric}")
    if event.scoring != ScoringConfig():
        raise OracleRefused(f"the weather oracle scores by {ScoringConfig()} only")


def create_body(event: CreateEvent) -> dict[str, Any]:
    """The request that announces an event."""
    return {
        "id": event.id,
        "signing_date": rfc3339(event.signing_at),
        "start_observation_date": rfc3339(event.observation_window.start_at),
        "end_observation_date": rfc3339(event.observation_window.end_at),
        "locations": [source.source_type.station_code for source in event.data_sources],
        "number_of_values_per_entry": event.number_of_values_per_entry,
        "number_of_places_win": event.number_of_places_win,
        "total_allowed_entries": event.total_allowed_entries,
        "scoring_fields": [metric.name for metric in event.metrics],
    }


def first_difference(wanted: CreateEvent, existing: Mapping[str, Any], key: NostrKey) -> str | None:
    """Name of the first field in which an event is not the one wanted by `key`; None if it is."""
    if existing.get("coordinator_pubkey") not in (key.npub, key.public_hex):
        return "coordinator_pubkey"
    for name, value in create_body(wanted).items():
        if name == "scoring_fields" and name not in existing:
            continue  # older oracles score all fields and do not say so
        theirs = existing.get(name)
        same: bool
        if name.endswith("_date"):
            same = _same_time(theirs, value)
        elif isinstance(value, list):
            same = isinstance(theirs, list) and sorted(map(str, theirs)) == sorted(value)
        else:
            same = theirs == value
        if not same:
            return name
    return None


def entry_body(event_id: str, entry: EntrySubmission) -> dict[str, Any]:
    """An entry in the request that submits all.

    Raises:
        OracleRefused: it predicts something twice, or what the oracle does not know.
    """
    by_station: dict[str, dict[str, str]] = {}
    for choice in entry.observations:
        if choice.metric not in METRICS:
            raise OracleRefused(f"the weather oracle does not score {choice.metric}")
        predictions = by_station.setdefault(choice.source_id, {"stations": choice.source_id})
        if choice.metric in predictions:
            raise OracleRefused(f"entry {entry.id} predicts {choice.metric} of {choice.source_id} twice")
        predictions[choice.metric] = TO_WIRE[choice.prediction]
    return {"id": entry.id, "event_id": event_id, "expected_observations": list(by_station.values())}


def _entries(answer: Mapping[str, Any]) -> tuple[OracleEntry, ...]:
    shown = answer.get("entries")
    if shown:
        return tuple(map(_entry, shown))
    # Some oracles keep predictions to themselves until the window starts, and tell the ids only.
    return tuple(OracleEntry(str(entry_id), (), None) for entry_id in answer.get("entry_ids") or ())


def _entry(answer: Mapping[str, Any]) -> OracleEntry:
    score = answer.get("score")
    return OracleEntry(
        id=str(answer["id"]),
        observations=tuple(
            ObservationChoice(str(station["stations"]), name, FROM_WIRE[station[name]])
            for station in answer.get("expected_observations") or ()
            for name in METRICS
            if station.get(name) is not None
        ),
        score=None if score is None else int(score),
    )


def has_entries(event: OracleEvent, wanted: Mapping[str, frozenset[ObservationChoice]]) -> bool:
    """Whether exactly these entries are there already.

    Raises:
        OracleRefused: there are others.
    """
    if not event.entries:
        return False
    same = {entry.id for entry in event.entries} == wanted.keys() and all(
        not entry.observations or frozenset(entry.observations) == wanted[entry.id] for entry in event.entries
    )
    if not same:
        raise OracleRefused(f"the oracle has other entries for event {event.id}")
    return True


def _readings(weather: Sequence[Mapping[str, Any]]) -> list[Reading]:
    readings = []
    for station in weather:
        forecast, observed = station.get("forecasted") or {}, station.get("observed") or {}
        for name, metric in METRICS.items():
            values = [
                None if value is None else metric.value([value])
                for value in (_number(forecast.get(name)), _number(observed.get(name)))
            ]
            if values != [None, None]:
                readings.append(Reading(str(station["station_id"]), name, *values))
    return readings


def _nonce(answer: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Nonce point, and whether its secret is published. Never lets the secret into an error."""
    secret, point = answer.get("nonce"), answer.get("nonce_point")
    published = None
    if point is not None:
        if not _HEX_POINT.fullmatch(point):
            raise ValueError("nonce_point")
        published = bytes.fromhex(point)
        parse_point(published)
    if secret is None:
        if published is None:
            raise ValueError("neither nonce nor nonce_point")
        return published, False
    if not _HEX_32.fullmatch(secret):
        raise ValueError("nonce")
    computed = mul_base(parse_secret(bytes.fromhex(secret)))
    if published is not None and published != computed:
        raise ValueError("nonce and nonce_point differ")
    return computed, True


def _points(points: Sequence[str]) -> PointList:
    if not isinstance(points, list) or not all(len(point) == 66 for point in points):
        raise ValueError("locking_points")
    return PointList.from_packed(bytes.fromhex("".join(points)))


def _optional_scalar(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not _HEX_32.fullmatch(text):
        raise ValueError("attestation")
    return bytes.fromhex(text)


def _optional_integer(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expiry")
    return value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rows(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise OracleUnavailable("the oracle's answer is not a list of objects")
    return answer


def rfc3339(at: int) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def unix_seconds(text: str) -> int:
    """RFC 3339 as unix seconds, rounded down; raises ValueError (also where the zone is missing)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    return math.floor(moment.timestamp())


def _same_time(theirs: Any, ours: str) -> bool:
    try:
        return unix_seconds(theirs) == unix_seconds(ours)
    except (TypeError, ValueError):
        return False
