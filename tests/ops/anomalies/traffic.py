"""Weeks of a platform's traffic, minute by minute, in the shape in which rows give it: days, nights and weekends,
noise of many kinds, blips that nobody should be woken for, and what is injected."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from apps.ops.anomalies import metrics
from apps.ops.anomalies.detect import Point
from apps.ops.anomalies.metrics import Metric

DAY, WEEK = 1440, 7 * 1440
Key = tuple[str, str, str]  # metric, model, provider
Array = NDArray[np.float64]

# Model, provider, requests a minute at noon, seconds (p95), USD, quality.
ROUTES = (
    ("fast", "wavespeed", 90.0, 6.0, 0.004, 0.84),
    ("standard", "wavespeed", 40.0, 25.0, 0.025, 0.88),
    ("standard", "replicate", 15.0, 32.0, 0.027, 0.87),
    ("clip", "fal", 6.0, 180.0, 0.40, 0.80),
)


@dataclass(frozen=True)
class Anomaly:
    """From `at`, for `minutes`: the values of the series `key` are multiplied by `factor`, or set `to`; the number of
    samples is multiplied by `count`, from the second minute on. `grows`: the factor is reached at the end, step by
    step. `material_after`: minutes until the departure is one that matters."""

    name: str
    key: Key
    at: int
    minutes: int
    factor: float = 1.0
    to: float | None = None
    count: float = 1.0
    grows: bool = False
    material_after: int = 0

    @property
    def ends(self) -> int:
        return self.at + self.minutes


@dataclass
class Traffic:
    """`minutes` of it, from a Monday 00:00 UTC on."""

    seed: int
    minutes: int
    anomalies: list[Anomaly] = field(default_factory=list)
    start: int = 2_900_000 * 10 // WEEK * WEEK + 4 * DAY  # a Monday: 1 January 1970 was a Thursday

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.at = np.arange(self.minutes)

    def points(self) -> Iterator[tuple[int, dict[Key, Point]]]:
        """(minute since 1970, the points of every series that has one) in order."""
        columns = self._columns()
        for name, (values, counts) in columns.items():
            self._inject(name, values, counts)
        lists = {key: (values.tolist(), counts.tolist()) for key, (values, counts) in columns.items()}
        for index in range(self.minutes):
            minute = self.start + index
            found = {
                key: Point(minute, values[index], int(counts[index]))
                for key, (values, counts) in lists.items()
                if counts[index] > 0 or key[0] in ("traffic", "queue_depth")
            }
            yield minute, found

    def _columns(self) -> dict[Key, tuple[Array, Array]]:
        columns: dict[Key, tuple[Array, Array]] = {}
        requests = np.zeros(self.minutes)
        for model, provider, noon, latency_s, usd, quality in ROUTES:
            n = self.random.poisson(noon * self._season() * self._mood(0.06)).astype(float)
            requests += n
            columns["error_rate", model, provider] = self._share(0.015 * self._mood(0.2), n, blips=True)
            times = latency_s * (1 + 0.15 * self._season()) * self._mood(0.05) * self._chance(0.35, n)
            columns["latency_p95", model, provider] = times * self._outliers(), n
            columns["cost", model, provider] = usd * self._mood(0.01) * self._chance(0.3, n), n.copy()
            score = np.clip(quality + 0.01 * np.log(self._mood(0.3)) + np.log(self._chance(0.1, n)), 0, 1)
            columns["quality", model, provider] = score, n.copy()
        for model in ("fast", "standard"):
            n = self.random.poisson(80 * self._season()).astype(float)
            usual = 0.45 + 0.08 * np.sin(2 * np.pi * (self.at % DAY) / DAY)
            columns["hit_rate", model, ""] = self._share(usual * self._mood(0.04), n)
            columns["failure_rate", model, ""] = self._share(0.004 * self._mood(0.2), n.copy())
        columns["traffic", "", ""] = requests, np.zeros(self.minutes)
        waiting = np.floor(self.random.gamma(0.4, 6.0, self.minutes) * self._season() * self._mood(0.3))
        columns["queue_depth", "standard", ""] = waiting, np.zeros(self.minutes)
        spend = 0.3 * (0.3 + self._season()) * np.exp(self.random.normal(0, 0.5, self.minutes))
        columns["user_spend", "", ""] = spend, np.ones(self.minutes)
        return columns

    def _season(self) -> Array:
        """From 0.1 in the night to 1 at noon; weekends are quieter."""
        day = 0.55 - 0.45 * np.cos(2 * np.pi * ((self.at % DAY) - 60) / DAY)
        weekend = (self.at // DAY) % 7 >= 5
        return np.asarray(day * np.where(weekend, 0.6, 1.0))

    def _mood(self, size: float) -> Array:
        """A factor around 1 that changes from hour to hour and from day to day."""
        hours = self.random.normal(0, size, self.minutes // 60 + 2)
        days = self.random.normal(0, size, self.minutes // DAY + 2)
        smooth = np.interp(self.at / 60, np.arange(len(hours)), hours)
        return np.asarray(np.exp(smooth + np.interp(self.at / DAY, np.arange(len(days)), days)))

    def _chance(self, size: float, n: Array) -> Array:
        """What the luck of `n` samples does to their mean: a factor around 1."""
        return np.asarray(np.exp(self.random.normal(0, 1, self.minutes) * size / np.sqrt(np.maximum(n, 1))))

    def _outliers(self) -> Array:
        """About once a day a single minute is three times slower."""
        return np.where(self.random.random(self.minutes) < 1 / DAY, 3.0, 1.0)

    def _share(self, usual: Array, n: Array, *, blips: bool = False) -> tuple[Array, Array]:
        """`blips`: about once a day a third fails in a single minute."""
        if blips:
            usual = np.where(self.random.random(self.minutes) < 1 / DAY, 0.33, usual)
        hits = self.random.binomial(n.astype(int), np.clip(usual, 0, 1))
        return np.divide(hits, n, out=np.zeros(self.minutes), where=n > 0), n.copy()

    def _inject(self, key: Key, values: Array, counts: Array) -> None:
        for anomaly in self.anomalies:
            if anomaly.key != key:
                continue
            span = slice(anomaly.at, anomaly.ends)
            ramp = np.linspace(0, 1, anomaly.minutes) if anomaly.grows else np.ones(anomaly.minutes)
            # From the second minute on: it takes some failures until a breaker opens.
            after = slice(anomaly.at + 1, anomaly.ends)
            counts[after] = np.round(counts[after] * anomaly.count)
            if anomaly.to is not None:
                values[span] = anomaly.to * ramp
            else:
                values[span] *= anomaly.factor**ramp
            if metrics.METRICS[key[0]].shape == metrics.Shape.SHARE:
                hits = self.random.binomial(counts[span].astype(int), np.clip(values[span], 0, 1))
                values[span] = np.divide(
                    hits, counts[span], out=np.zeros(anomaly.minutes), where=counts[span] > 0
                )


def metric_of(key: Key) -> Metric:
    return metrics.METRICS[key[0]]


def ten_anomalies(week: int) -> list[Anomaly]:
    """Spread over the seven days that begin after `week` weeks."""
    start = week * WEEK

    def at(day: int, hour: int, minute: int = 0) -> int:
        return start + day * DAY + hour * 60 + minute

    def series(metric: str, model: str = "", provider: str = "") -> Key:
        return metric, model, provider

    return [
        Anomaly("error spike", series("error_rate", "fast", "wavespeed"), at(0, 10), 12, to=0.2),
        # The breaker opens after a minute: three probes a minute are left, and all fail.
        Anomaly("outage", series("error_rate", "standard", "replicate"), at(0, 15), 40, to=0.95, count=0.25),
        Anomaly("latency step", series("latency_p95", "standard", "wavespeed"), at(1, 9), 60, factor=1.8),
        Anomaly(
            "latency drift", series("latency_p95", "fast", "wavespeed"), at(1, 13), 180, factor=2.0, grows=True,
            material_after=87,
        ),
        Anomaly("cost step", series("cost", "standard", "wavespeed"), at(2, 11), 120, factor=1.3),
        Anomaly("zero traffic", series("traffic"), at(3, 14), 20, to=0.0),
        # What is usual at noon is not at four in the night.
        Anomaly("day in the night", series("traffic"), at(4, 2), 30, factor=6.0),
        Anomaly("cache lost", series("hit_rate", "standard"), at(4, 16), 60, to=0.1),
        Anomaly("quality drop", series("quality", "standard", "wavespeed"), at(5, 12), 60, factor=0.88),
        Anomaly(
            "queue grows", series("queue_depth", "standard"), at(6, 12), 45, to=900.0, grows=True, material_after=3
        ),
    ]  # fmt: skip
