"""Points of predictions and entries, and the ranking they lead to."""

import itertools
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coordinator.contract import rankings
from coordinator.domain.scoring import entry_points, prediction_points, rank_entries, score, winning_ranking
from coordinator.ports.oracle import (
    Comparison,
    EarliestEntry,
    HighestScore,
    MetricConfig,
    ObservationChoice,
    RandomOrder,
    Reading,
    ScoringConfig,
)

OVER, EQUAL, UNDER = Comparison.OVER, Comparison.EQUAL, Comparison.UNDER
SCORING = ScoringConfig()
EXACT = MetricConfig("wind_speed")
TOLERANT = MetricConfig("rain_amt", comparison_tolerance=0.1)
COMPASS = MetricConfig("wind_direction", comparison_tolerance=22, period=360)
T0 = 1_790_000_000_000


def uuid7(made_at_ms: int, tail: int = 0) -> str:
    return str(uuid.UUID(int=(made_at_ms << 80) | (7 << 76) | (0b10 << 62) | tail))


def reading(reference: float | None, observed: float | None, metric: str = "m", source: str = "s") -> Reading:
    return Reading(source, metric, reference, observed)


@pytest.mark.parametrize(
    ("metric", "reference", "observed", "expected"),
    [
        (EXACT, 10, 10, {OVER: 0, EQUAL: 2, UNDER: 0}),
        (EXACT, 10, 11, {OVER: 1, EQUAL: 0, UNDER: 0}),
        (EXACT, 10, 9, {OVER: 0, EQUAL: 0, UNDER: 1}),
        (TOLERANT, 0.30, 0.35, {OVER: 1, EQUAL: 2, UNDER: 0}),
        (TOLERANT, 0.30, 0.25, {OVER: 0, EQUAL: 2, UNDER: 1}),
        (TOLERANT, 0.30, 0.50, {OVER: 1, EQUAL: 0, UNDER: 0}),
        (COMPASS, 350, 10, {OVER: 0, EQUAL: 2, UNDER: 1}),
        (COMPASS, 10, 350, {OVER: 1, EQUAL: 2, UNDER: 0}),
        (COMPASS, 350, 13, {OVER: 0, EQUAL: 0, UNDER: 1}),
        (COMPASS, 0, 360, {OVER: 1, EQUAL: 2, UNDER: 0}),
        (EXACT, -5, -4, {OVER: 1, EQUAL: 0, UNDER: 0}),
    ],
)
def test_each_prediction_earns_what_it_says(metric, reference, observed, expected):
    for prediction, points in expected.items():
        assert prediction_points(prediction, reading(reference, observed), metric, SCORING) == points


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("prediction", list(Comparison))
def test_a_missing_value_earns_nothing(prediction, missing):
    assert prediction_points(prediction, reading(missing, 1.0), TOLERANT, SCORING) == 0
    assert prediction_points(prediction, reading(1.0, missing), TOLERANT, SCORING) == 0


def test_points_are_configurable():
    scoring = ScoringConfig(exact_match_points=20, direction_match_points=7)
    assert prediction_points(EQUAL, reading(1, 1), EXACT, scoring) == 20
    assert prediction_points(OVER, reading(1, 2), EXACT, scoring) == 7


def test_an_entry_earns_the_sum_over_what_the_event_scores():
    metrics = (MetricConfig("temp_high"), MetricConfig("rain_amt", 0.1))
    readings = (
        Reading("KORD", "temp_high", 70, 75),
        Reading("KDEN", "temp_high", 50, 50),
        Reading("KDEN", "rain_amt", 0.0, 0.05),
        Reading("KDEN", "humidity", 40, 50),
    )
    choices = (
        ObservationChoice("KORD", "temp_high", OVER),  # right: 1
        ObservationChoice("KDEN", "temp_high", EQUAL),  # right: 2
        ObservationChoice("KDEN", "rain_amt", UNDER),  # wrong
        ObservationChoice("KDEN", "humidity", OVER),  # a metric the event does not score
        ObservationChoice("KSEA", "temp_high", OVER),  # a source without a reading
    )
    assert entry_points(choices, readings, metrics, SCORING) == 3
    assert entry_points((), readings, metrics, SCORING) == 0


def test_more_points_rank_higher_and_the_earlier_entry_wins_a_tie():
    first, second, third = uuid7(T0), uuid7(T0 + 9_999), uuid7(T0 + 10_000)
    ranked = rank_entries({third: 3, second: 1, first: 1}, EarliestEntry())
    assert [(entry.rank, entry.id, entry.index, entry.points) for entry in ranked] == [
        (1, third, 2, 3),
        (2, first, 0, 1),
        (3, second, 1, 1),
    ]
    assert [entry.score for entry in ranked] == [29_990, 10_000, 9_991]


def test_one_point_beats_none_however_late():
    assert winning_ranking({uuid7(T0): 0, uuid7(T0 + 10**9): 1}, 1, EarliestEntry()) == (1,)


def test_entries_of_the_same_millisecond_rank_by_id():
    ids = [uuid7(T0, tail) for tail in (3, 1, 2)]
    assert [entry.id for entry in rank_entries(dict.fromkeys(ids, 1), EarliestEntry())] == sorted(ids)


def test_if_nobody_has_a_point_everybody_is_refunded():
    ids = [uuid7(T0 + i) for i in range(4)]
    assert winning_ranking(dict.fromkeys(ids, 0), 2, EarliestEntry()) == (0, 1, 2, 3)


def test_a_random_order_follows_from_its_seed_alone():
    ids = [uuid7(T0 + i) for i in range(20)]
    level = dict.fromkeys(ids, 1)

    def order(seed: bytes):
        return [entry.index for entry in rank_entries(level, RandomOrder(seed))]

    assert order(b"a" * 32) == order(b"a" * 32)
    assert order(b"a" * 32) != order(b"b" * 32)
    assert order(b"a" * 32) != list(range(20))


def test_the_score_never_reaches_the_next_point():
    assert score(2, uuid7(T0), T0) == 20_000
    assert score(2, uuid7(T0 + 10**10), T0) == 10_001
    assert score(0, uuid7(T0 + 10**10), T0) == 1


ENTRIES = st.dictionaries(
    st.builds(uuid7, st.integers(0, 2**47), st.integers(0, 2**61)), st.integers(0, 6), min_size=2, max_size=30
)
TIEBREAKERS = st.one_of(
    st.just(EarliestEntry()),
    st.just(HighestScore()),
    st.builds(RandomOrder, st.binary(min_size=32, max_size=32)),
)


@given(ENTRIES, TIEBREAKERS)
def test_a_ranking_is_a_permutation_with_falling_points(points, tiebreaker):
    ranked = rank_entries(points, tiebreaker)
    assert sorted(entry.index for entry in ranked) == list(range(len(points)))
    assert [entry.rank for entry in ranked] == list(range(1, len(points) + 1))
    assert all(better.points >= worse.points for better, worse in itertools.pairwise(ranked))
    assert all(sorted(points)[entry.index] == entry.id for entry in ranked)


@given(ENTRIES, TIEBREAKERS, st.randoms())
def test_the_order_of_submission_does_not_matter(points, tiebreaker, random):
    shuffled = list(points.items())
    random.shuffle(shuffled)
    assert rank_entries(dict(shuffled), tiebreaker) == rank_entries(points, tiebreaker)


@given(ENTRIES)
def test_with_level_points_an_earlier_entry_never_ranks_or_scores_lower(points):
    ranked = rank_entries(points, EarliestEntry())
    for better, worse in itertools.pairwise(ranked):
        if better.points == worse.points:
            assert better.id < worse.id
            assert better.score >= worse.score


@given(ENTRIES, st.integers(1, 5), TIEBREAKERS)
def test_the_outcome_is_always_an_announced_one(points, places, tiebreaker):
    assume(places < len(points))
    ranking = winning_ranking(points, places, tiebreaker)
    index = rankings.index_of(len(points), places, ranking)
    refund = rankings.count(len(points), places) - 1
    assert (index == refund) == (not any(points.values()))


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(FINITE, FINITE, st.one_of(st.none(), st.floats(0, 100)))
def test_some_prediction_is_always_right_and_never_both_directions(reference, observed, tolerance):
    metric = MetricConfig("m", tolerance)
    over, equal, under = (
        prediction_points(prediction, reading(reference, observed), metric, SCORING)
        for prediction in (OVER, EQUAL, UNDER)
    )
    assert over + equal + under > 0
    assert not (over and under)
    assert (over, under) == (int(observed > reference), int(observed < reference))


@given(st.floats(0, 360), st.floats(0, 360))
def test_the_distance_on_a_circle_does_not_depend_on_where_it_starts(reference, observed):
    turned = reading((reference + 90) % 360, (observed + 90) % 360)
    distance = abs(reference - observed)
    assume(abs(min(distance, 360 - distance) - 22) > 1e-6)
    assert prediction_points(EQUAL, turned, COMPASS, SCORING) == prediction_points(
        EQUAL, reading(reference, observed), COMPASS, SCORING
    )
