"""Scores: what predictions earn, and who takes the places. Pure, and blind to what is being predicted.

A prediction earns `exact_match_points` for a right "equal" and `direction_match_points` for a right "over" or
"under". A tolerance widens "equal" only: a value above its reference is over it, however little. A value that
is missing, or no finite number, earns nothing.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from coordinator.ports.oracle import (
    Comparison,
    EarliestEntry,
    HighestScore,
    MetricConfig,
    ObservationChoice,
    RandomOrder,
    Reading,
    ScoringConfig,
    Tiebreaker,
)

SCORE_PER_POINT = 10_000


@dataclass(frozen=True, slots=True)
class RankedEntry:
    """An entry's place. `index` is its place among all ids sorted, which is how outcomes name it."""

    rank: int
    """1 is best."""
    id: str
    index: int
    points: int
    score: int
    """Points and lateness in one number, for display: see `score`."""


def prediction_points(
    prediction: Comparison, reading: Reading, metric: MetricConfig, scoring: ScoringConfig
) -> int:
    """Points for one prediction against one reading."""
    reference, observed = reading.reference, reading.observed
    if reference is None or observed is None or not (math.isfinite(reference) and math.isfinite(observed)):
        return 0
    match prediction:
        case Comparison.EQUAL:
            tolerance = metric.comparison_tolerance or 0.0
            right = _distance(reference, observed, metric.period) <= tolerance
            return scoring.exact_match_points if right else 0
        case Comparison.OVER:
            return scoring.direction_match_points if observed > reference else 0
        case Comparison.UNDER:
            return scoring.direction_match_points if observed < reference else 0
        case _:
            assert_never(prediction)


def entry_points(
    observations: Iterable[ObservationChoice],
    readings: Iterable[Reading],
    metrics: Iterable[MetricConfig],
    scoring: ScoringConfig,
) -> int:
    """Points of one entry: the sum over its predictions. One about another metric or source earns nothing."""
    by_name = {metric.name: metric for metric in metrics}
    by_key = {(reading.source_id, reading.metric): reading for reading in readings}
    return sum(
        prediction_points(
            choice.prediction, by_key[choice.source_id, choice.metric], by_name[choice.metric], scoring
        )
        for choice in observations
        if choice.metric in by_name and (choice.source_id, choice.metric) in by_key
    )


def rank_entries(points: Mapping[str, int], tiebreaker: Tiebreaker) -> tuple[RankedEntry, ...]:
    """All entries, best first: by points, then as the tiebreaker says. Every order is total.

    Args:
        points: entry id (UUIDv7) -> points.
    """
    ids = sorted(points)
    first_made_at = min(map(_made_at_ms, ids), default=0)
    ordered = sorted(range(len(ids)), key=lambda i: (-points[ids[i]], *_tie_key(ids[i], i, tiebreaker)))
    return tuple(
        RankedEntry(
            rank=place + 1,
            id=ids[index],
            index=index,
            points=points[ids[index]],
            score=score(points[ids[index]], ids[index], first_made_at),
        )
        for place, index in enumerate(ordered)
    )


def winning_ranking(points: Mapping[str, int], places: int, tiebreaker: Tiebreaker) -> tuple[int, ...]:
    """The outcome: indices of the winners, best first; of all entries (the refund) if nobody has a point."""
    if not any(points.values()):
        return tuple(range(len(points)))
    return tuple(entry.index for entry in rank_entries(points, tiebreaker)[:places])


def score(points: int, entry_id: str, first_made_at_ms: int) -> int:
    """``max(10000, points * 10000)`` minus the seconds an entry came after the first one, at most 9,999.

    It never says that a later entry beats an earlier one with as many points. It is not what ranks: it cannot
    tell zero points from one, nor entries that are less than a second or more than three hours apart.
    """
    late_seconds = max(0, _made_at_ms(entry_id) - first_made_at_ms) // 1000
    return max(SCORE_PER_POINT, points * SCORE_PER_POINT) - min(SCORE_PER_POINT - 1, late_seconds)


def _distance(reference: float, observed: float, period: float | None) -> float:
    distance = abs(observed - reference)
    if period is None:
        return distance
    distance %= period
    return min(distance, period - distance)


def _tie_key(entry_id: str, index: int, tiebreaker: Tiebreaker) -> tuple[int | bytes, ...]:
    match tiebreaker:
        case EarliestEntry():
            return _made_at_ms(entry_id), index
        case HighestScore():
            return (index,)
        case RandomOrder(seed=seed):
            return hashlib.sha256(seed + uuid.UUID(entry_id).bytes).digest(), index
        case _:
            assert_never(tiebreaker)


def _made_at_ms(entry_id: str) -> int:
    """The time in a UUIDv7, unix milliseconds (RFC 9562, section 5.7)."""
    return uuid.UUID(entry_id).int >> 80
