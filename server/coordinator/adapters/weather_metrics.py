"""What can be predicted about the weather, and the rules the weather oracle compares by.

Temperatures in °F compare as whole degrees, wind speed in knots exactly, wind direction within 22° around the
compass, rain within 0.1 inch, snow within 0.5 inch, humidity within 5 points.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.ports.oracle import MetricConfig


@dataclass(frozen=True, slots=True)
class WeatherMetric:
    """One metric: how values compare, and what several days (or reports) come to together."""

    config: MetricConfig
    combined: Callable[[Sequence[float]], float]
    """Of at least one value, in order of time."""
    whole: bool = False
    """Values count as whole numbers."""

    def value(self, reports: Sequence[float]) -> float:
        """The metric's value over all reports."""
        combined = self.combined(reports)
        return _rounded(combined) if self.whole else combined


def _last(values: Sequence[float]) -> float:
    return values[-1]


def _total(values: Sequence[float]) -> float:
    # Hundredths of an inch: sums must not differ from a forecast by floating point dust.
    return round(sum(values), 2)


def _rounded(value: float) -> float:
    """Halves away from zero, as the oracle rounds; Python's `round` would take them to the even side."""
    return math.copysign(math.floor(abs(value) + 0.5), value)


METRICS: Final[Mapping[str, WeatherMetric]] = {
    metric.config.name: metric
    for metric in (
        WeatherMetric(MetricConfig("temp_high"), max, whole=True),
        WeatherMetric(MetricConfig("temp_low"), min, whole=True),
        WeatherMetric(MetricConfig("wind_speed"), max),
        WeatherMetric(MetricConfig("wind_direction", comparison_tolerance=22, period=360), _last),
        WeatherMetric(MetricConfig("rain_amt", comparison_tolerance=0.1), _total),
        WeatherMetric(MetricConfig("snow_amt", comparison_tolerance=0.5), _total),
        WeatherMetric(MetricConfig("humidity", comparison_tolerance=5), max),
    )
}


def metric_configs(names: Iterable[str]) -> tuple[MetricConfig, ...]:
    """The rules of these metrics.

    Raises:
        KeyError: there is no such weather metric.
    """
    return tuple(METRICS[name].config for name in names)
