"""What is usual for a series: a level for every hour of the week and how far values stray from it, learned hour by
hour.

Robust, so that an outage does not become what is expected: an hour counts by its median, and moves what was learned
by a bounded step (Gelper, Fried & Croux, Robust forecasting with exponential and Holt–Winters smoothing, J.
Forecasting 29, 2010). The mean and the deviation are kept beside the median and the MAD; the larger spread of the two
is used.
"""

from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any, Final

from apps.ops.anomalies.metrics import Metric

HOURS: Final = 168
# 1.4826 × the median absolute deviation is the standard deviation of what is normally distributed.
_NORMAL: Final = 1.4826
# Before so many hours nothing is bounded by what was learned.
_FIRST_HOURS: Final = 3
_LEAST_BUCKETS: Final = 2
# How fast old weeks are forgotten, and old hours where the level over all and the spread are concerned.
_WEEK_WEIGHT: Final = 0.3
_HOUR_WEIGHT: Final = 1 / 96
_STRAY_AT_MOST: Final = 4.0


@dataclass(slots=True)
class Profile:
    """`season`: [weeks seen, level] of each hour of the week, Monday 00:00 UTC first; no week: nothing known.

    Levels are on the metric's scale. `mad` (already × 1.4826), `mean` and `deviation` are of the residuals, in units
    of what chance does. `offset`: what the level moved by since, in all hours alike.
    """

    hours: int = 0
    median: float = 0.0
    mad: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    offset: float = 0.0
    season: list[list[float]] = field(default_factory=lambda: [[0, 0.0] for _ in range(HOURS)])
    # Of the hour under way: its number since 1970, the scaled values without `offset`, and their residuals.
    hour: int = -1
    values: list[float] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)
    # The levels of the hours before, of and after this one.
    _around: tuple[float, float, float] | None = None

    def expect(self, minute: int) -> float:
        """The level at a minute since 1970, between the middles of its hour and the nearer one beside it."""
        if self._around is None or minute // 60 != self.hour:
            self.turn(minute)
        before, here, after = self._around or (0.0, 0.0, 0.0)
        part = (minute % 60 - 29.5) / 60
        beside = after if part > 0 else before
        return here + (beside - here) * abs(part) + self.offset

    def slack(self, minute: int) -> float:
        """How far from the level may be usual too, for traffic that changes at once where two hours meet."""
        before, here, after = self._around or (0.0, 0.0, 0.0)
        part = (minute % 60 - 29.5) / 60
        return abs((after if part > 0 else before) - here) * abs(part)

    def scale(self, metric: Metric) -> float:
        """How far values stray, in units of what chance does."""
        return max(metric.least_scale, self.mad, self.deviation)

    def note(self, scaled: float, residual: float) -> None:
        """One bucket of the hour under way."""
        self.values.append(scaled - self.offset)
        self.residuals.append(residual)

    def forget(self, buckets: int) -> None:
        """The last ones were not usual."""
        del self.values[-buckets:], self.residuals[-buckets:]

    def turn(self, minute: int) -> None:
        """Learns of the hour that is over when another begins."""
        if minute // 60 != self.hour:
            if len(self.values) >= _LEAST_BUCKETS:
                self._learn()
            self.hour, self.values, self.residuals = minute // 60, [], []
        self._around = self._level(self.hour - 1), self._level(self.hour), self._level(self.hour + 1)

    def shift(self, by: float) -> None:
        """The level is another one from now on, at all hours."""
        self.offset += by
        self.values, self.residuals = [], []

    def _learn(self) -> None:
        level, residuals = median(self.values), self.residuals
        if not self.hours:
            # Nothing was expected yet: they count from their own middle.
            middle = median(residuals)
            residuals = [each - middle for each in residuals]
        stray = _NORMAL * median(map(abs, residuals))
        if self.hours >= _FIRST_HOURS:
            stray = min(stray, 2 * max(self.mad, 0.1))
        weight = max(1 / (self.hours + 1), _HOUR_WEIGHT)
        widest = _STRAY_AT_MOST * max(self.mad, stray, 0.1)
        bounded = [min(max(each, -widest), widest) for each in residuals]
        self.median += weight * (level - self.median)
        self.mad += weight * (stray - self.mad)
        self.mean += weight * (fmean(bounded) - self.mean)
        squares = fmean(each * each for each in bounded)
        self.deviation = (self.deviation**2 + weight * (squares - self.deviation**2)) ** 0.5
        self.hours += 1
        self._learn_season(level)

    def _learn_season(self, level: float) -> None:
        cell = self.season[_of_week(self.hour)]
        weeks, known = int(cell[0]), cell[1]
        if weeks >= 2:
            others = [each[1] for each in self.season if each[0]]
            step = (max(others) - min(others)) / 4 + 1e-9
            level = min(max(level, known - step), known + step)
        weight = max(1 / (weeks + 1), _WEEK_WEIGHT)
        self.season[_of_week(self.hour)] = [weeks + 1, known + weight * (level - known)]

    def _level(self, hour: int) -> float:
        """Of this hour of the week; as far as it was seen too rarely, of this hour on other days, of all hours."""
        weeks, known = self.season[_of_week(hour)]
        days = [
            self.season[other][1] for other in range(hour_of_day(hour), HOURS, 24) if self.season[other][0]
        ]
        fallback = median(days) if days else self.median
        return (weeks * known + fallback) / (weeks + 1)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Profile":
        return cls(**kept)


def _of_week(hour: int) -> int:
    """1 January 1970 was a Thursday."""
    return (hour + 72) % HOURS


def hour_of_day(hour: int) -> int:
    """Also of the week's hours that are at the same time of a day: they are 24 apart."""
    return _of_week(hour) % 24
