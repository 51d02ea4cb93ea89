"""What is watched, and on which scale: one where chance spreads values by a known amount and alike at every level."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Shape(StrEnum):
    """What the values of a series are; see `Metric.scaled`."""

    SHARE = "share"  # k of n
    AMOUNT = "amount"  # a mean or a percentile of something above zero
    SCORE = "score"  # a mean of something from 0 to 1
    COUNT = "count"  # how many came in a minute
    LEVEL = "level"  # how many there are


class Family(StrEnum):
    """Series that go wrong together tell of it in one alert."""

    PROVIDER = "provider"
    FAILURES = "failures"
    COST = "cost"
    QUALITY = "quality"
    CACHE = "cache"
    LOAD = "load"
    SPEND = "spend"


@dataclass(frozen=True, slots=True)
class Metric:
    """`up`, `down`: the directions worth an alert. `enough`: samples of a bucket. `material`: the least departure that
    matters, a difference for shares and scores, a factor for the others; `drift`: the same of slow changes, None
    where they are no matter. `least`: on the scale, what no deviation is below, however steady the series.
    `least_value`: below it the others are never too high. `season_hours`: nothing is said before so many hours were
    seen."""

    name: str
    title: str
    family: Family
    shape: Shape
    unit: str
    enough: int
    material: float
    least: float
    up: bool = True
    down: bool = False
    drift: float | None = None
    least_value: float = 0.0
    season_hours: int = 3

    def scaled(self, value: float, count: int) -> float:
        """Shares: Anscombe's arcsine; counts: twice Anscombe's root (both: Biometrika 35, 1948); amounts: logarithm."""
        match self.shape:
            case Shape.SHARE:
                return 2 * math.asin(math.sqrt((value * count + 0.375) / (count + 0.75)))
            case Shape.COUNT:
                return 2 * math.sqrt(value + 0.375)
            case Shape.AMOUNT:
                return math.log(max(value, 1e-9))
            case Shape.LEVEL:
                return math.log1p(value)
            case Shape.SCORE:
                return value

    def plain(self, scaled: float) -> float:
        """The value that is `scaled` on the scale."""
        match self.shape:
            case Shape.SHARE:
                return math.sin(min(max(scaled, 0.0), math.pi) / 2) ** 2
            case Shape.COUNT:
                return max(0.0, (max(scaled, 0.0) / 2) ** 2 - 0.375)
            case Shape.AMOUNT:
                return math.exp(scaled)
            case Shape.LEVEL:
                return max(0.0, math.expm1(scaled))
            case Shape.SCORE:
                return scaled

    def unit_deviation(self, count: int) -> float:
        """What chance does to the scaled value of `count` samples, up to a factor that is learned. Beyond 400 samples
        it is not chance that makes the difference."""
        if self.is_per_minute:
            return 1.0
        return 1 / math.sqrt(min(count, 400) + 0.5)

    @property
    def is_per_minute(self) -> bool:
        """Whether a value says something of a minute; else it is a mean of samples."""
        return self.shape in (Shape.COUNT, Shape.LEVEL)

    @property
    def least_scale(self) -> float:
        """The factor where theory gives it: 1 for shares and counts that have no other reason to vary than chance."""
        return 1.0 if self.shape in (Shape.SHARE, Shape.COUNT) else 0.0

    def is_material(self, value: float, usual: float) -> bool:
        """Whether anybody would care, however certain it is."""
        return self._is_apart(value, usual, self.material)

    def has_drifted(self, value: float, usual: float) -> bool:
        """The same of a slow change."""
        return self.drift is not None and self._is_apart(value, usual, self.drift)

    def _is_apart(self, value: float, usual: float, by: float) -> bool:
        if self.shape in (Shape.SHARE, Shape.SCORE):
            return abs(value - usual) >= by
        if value > usual:
            return value >= self.least_value and value >= usual * by
        return value * by <= usual

    def text(self, value: float) -> str:
        """`4.2 %`, `31 s`, `0.025 USD`."""
        if self.shape == Shape.SHARE:
            return f"{100 * value:.1f} %"
        return f"{value:.3g} {self.unit}".strip()


_UP_AND_DOWN: Final = {"up": True, "down": True}

METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("error_rate", "error rate", Family.PROVIDER, Shape.SHARE, "",
               enough=10, material=0.05, drift=0.03, least=0.02),
        Metric("latency_p95", "p95 latency", Family.PROVIDER, Shape.AMOUNT, "s",
               enough=10, material=1.4, drift=1.3, least=0.03),
        Metric("cost", "cost of a job", Family.COST, Shape.AMOUNT, "USD",
               enough=5, material=1.15, drift=1.1, least=0.02, **_UP_AND_DOWN),
        Metric("quality", "quality", Family.QUALITY, Shape.SCORE, "",
               enough=5, material=0.05, drift=0.04, least=0.01, up=False, down=True),
        Metric("failure_rate", "failed jobs", Family.FAILURES, Shape.SHARE, "",
               enough=10, material=0.05, drift=0.03, least=0.02),
        Metric("hit_rate", "cache hit rate", Family.CACHE, Shape.SHARE, "",
               enough=20, material=0.1, drift=0.08, least=0.04, season_hours=24, **_UP_AND_DOWN),
        Metric("traffic", "requests a minute", Family.LOAD, Shape.COUNT, "",
               enough=10, material=2.0, least=0.5, least_value=10, season_hours=24, **_UP_AND_DOWN),
        Metric("queue_depth", "jobs that wait", Family.LOAD, Shape.LEVEL, "",
               enough=0, material=3.0, least=0.4, least_value=50, season_hours=24),
        Metric("user_spend", "the most that one user spent in a minute", Family.SPEND, Shape.AMOUNT, "USD",
               enough=1, material=3.0, least=0.25, least_value=0.1, season_hours=24),
    )
}  # fmt: skip
