"""Recorded weather laid over windows, and the rules weather compares by."""

import json
from importlib.resources import files

import pytest

from coordinator.adapters.weather_metrics import METRICS, metric_configs
from coordinator.domain.terms import SCORING_FIELDS
from coordinator.ports.oracle import ObservationWindow
from coordinator_devnet.oracle.weather import WeatherSource

DAY = 86_400
START = 20_000 * DAY
STATIONS = ("KORD", "PANC")


def record() -> dict:
    return json.loads(files("coordinator_devnet.oracle").joinpath("weather.json").read_text())


def by_key(readings) -> dict:
    return {(reading.source_id, reading.metric): reading for reading in readings}


def test_the_metrics_are_those_competitions_may_use():
    assert set(METRICS) == set(SCORING_FIELDS)
    assert [metric.name for metric in metric_configs(["rain_amt", "temp_low"])] == ["rain_amt", "temp_low"]


def test_the_record_is_complete_and_plausible():
    data = record()
    codes = {station["station_id"] for station in data["stations"]}
    assert len(codes) == 8
    for day in data["days"]:
        assert set(day) == codes
        for weather in day.values():
            forecast = weather["forecast"]
            assert set(forecast) == set(METRICS)
            assert forecast["temp_low"] < forecast["temp_high"]
            assert len(weather["reports"]) == 4
            for report in weather["reports"]:
                assert -60 < report["temp"] < 130
                assert 0 <= report["wind_direction"] < 360
                assert 0 < report["humidity"] <= 100
                assert min(report["wind_speed"], report["rain_amt"], report["snow_amt"]) >= 0


def test_every_prediction_comes_true_somewhere():
    """Else demos would always end alike."""
    source = WeatherSource()
    seen = set()
    for number in range(7):
        window = ObservationWindow(START + number * DAY, START + (number + 1) * DAY)
        for reading in source.readings([s["station_id"] for s in source.stations], window, window.end_at):
            assert reading.reference is not None
            assert reading.observed is not None
            seen.add(
                (
                    reading.metric,
                    (reading.observed > reading.reference) - (reading.observed < reading.reference),
                )
            )
    assert seen >= {(metric, sign) for metric in METRICS for sign in (-1, 0, 1)}


def test_reports_come_in_over_the_window_and_all_at_its_end():
    source, window = WeatherSource(), ObservationWindow(START + 5, START + 5 + 600)
    at = {
        now: by_key(source.readings(STATIONS, window, START + 5 + now)) for now in (-1, 0, 149, 150, 300, 600)
    }
    reports = record()["days"][20_000 % 7]["KORD"]["reports"]
    for before_the_first in (-1, 0, 149):
        assert at[before_the_first]["KORD", "temp_high"].observed is None
        assert at[before_the_first]["KORD", "temp_high"].reference is not None
    assert at[150]["KORD", "temp_high"].observed == reports[0]["temp"]
    assert at[300]["KORD", "temp_high"].observed == max(report["temp"] for report in reports[:2])
    assert at[600]["KORD", "temp_high"].observed == max(report["temp"] for report in reports)
    assert at[600]["KORD", "temp_low"].observed == min(report["temp"] for report in reports)
    assert at[600]["KORD", "rain_amt"].observed == pytest.approx(
        sum(report["rain_amt"] for report in reports)
    )
    assert at[600]["KORD", "wind_direction"].observed == reports[-1]["wind_direction"]
    assert source.readings(STATIONS, window, START + 10 * DAY) == source.readings(
        STATIONS, window, START + 605
    )


def test_a_window_of_several_days_has_several_days_of_weather():
    source, window = WeatherSource(), ObservationWindow(START, START + 3 * DAY)
    days = [record()["days"][(20_000 + i) % 7]["PANC"] for i in range(3)]
    readings = by_key(source.readings(STATIONS, window, START + 3 * DAY))
    assert readings["PANC", "temp_low"].reference == min(day["forecast"]["temp_low"] for day in days)
    assert readings["PANC", "snow_amt"].reference == pytest.approx(
        sum(day["forecast"]["snow_amt"] for day in days)
    )
    assert readings["PANC", "wind_speed"].observed == max(
        report["wind_speed"] for day in days for report in day["reports"]
    )


@pytest.mark.parametrize(("value", "whole"), [(70.4, 70), (70.5, 71), (71.5, 72), (-0.5, -1), (-0.4, 0)])
def test_temperatures_count_in_whole_degrees_halves_away_from_zero(value, whole):
    assert METRICS["temp_high"].value([value]) == whole
    assert METRICS["temp_low"].value([value]) == whole


def test_precipitation_adds_up_without_floating_point_dust():
    assert METRICS["rain_amt"].value([0.1, 0.2]) == 0.3
