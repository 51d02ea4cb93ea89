"""Whether the last minutes of a series are usual.

A minute, or as many as it takes for enough samples, is a bucket, and its z the distance from what is usual in standard
deviations. Sudden: 5σ in two of three buckets is critical, 3σ in three of four a warning. Slow: a tabular CUSUM of
the z (Page, Biometrika 41, 1954; Montgomery, Introduction to Statistical Quality Control, ch. 9), a warning. Only
what is also material counts. It is over when five buckets in a row are usual; what lasts a day is the new usual.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from apps.ops.anomalies.baseline import Profile
from apps.ops.anomalies.metrics import Metric, Shape

WARNING_Z: Final = 3.0
CRITICAL_Z: Final = 5.0
CALM_Z: Final = 2.0
_IMMATERIAL_Z: Final = 1.9
_REMEMBERED: Final = 5
# About the last dozen buckets (an EWMA: Roberts, Technometrics 1, 1959): the size of a slow change.
_SMOOTH: Final = 0.1
# A shift of twice this many deviations is found soonest; a bucket counts for 3 at most, so that none decides alone.
_SLACK: Final = 1.0
_CLIP: Final = 3.0
DRIFT_SUM: Final = 15.0
# A bucket with too few samples ends after this: small ones are judged if they have a few, and else forgotten.
_SOON_MIN: Final = 2
_A_FEW: Final = 3
_LONGEST_MIN: Final = 15
_SILENT_MIN: Final = 60
_NEW_USUAL_MIN: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Point:
    """One minute (since 1970) of a series: `value` over `count` samples, a count per minute for counts. `about`: who or
    what the value is of."""

    minute: int
    value: float
    count: int
    about: str = ""


@dataclass(slots=True)
class Memory:
    """All that is kept of a series between minutes: JSON-ready but for `profile`."""

    profile: Profile = field(default_factory=Profile)
    seen: int = -1
    # The open bucket: its first minute, how many samples it has, and the sum of the values.
    opened: int = -1
    samples: int = 0
    total: float = 0.0
    # The last buckets' z, and how far they were from what was expected, on the scale.
    recent: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)
    # The same smoothed and clipped, and the sums of the CUSUM.
    drift: float = 0.0
    above: float = 0.0
    below: float = 0.0
    # What was found: "", "warning" or "critical"; by which rule; in which direction; since which minute.
    severity: str = ""
    rule: str = ""
    sign: int = 0
    since: int = 0
    judged: int = -1
    value: float = 0.0
    usual: float = 0.0
    z: float = 0.0
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "profile"}


def take(metric: Metric, memory: Memory, point: Point) -> None:
    """Adds the next minute of a series; minutes without samples may be left out, except of counts."""
    minute = point.minute
    expected = memory.profile.expect(minute)
    memory.seen = minute
    if memory.opened < 0 or minute - memory.opened >= _LONGEST_MIN:
        memory.opened, memory.samples, memory.total = minute, 0, 0.0
    memory.samples += point.count
    memory.total += point.value if metric.is_per_minute else point.value * point.count
    if point.about:
        memory.about = point.about
    minutes = minute - memory.opened + 1
    if _is_full(metric, memory, minutes, expected):
        _judge(metric, memory, minutes, expected)
        memory.opened = -1


def silence(memory: Memory, minute: int) -> None:
    """Nothing was heard of a series for long: there is nothing left to say of it."""
    if memory.severity and minute - memory.judged >= _SILENT_MIN:
        _calm(memory)


def _is_full(metric: Metric, memory: Memory, minutes: int, expected: float) -> bool:
    if metric.shape == Shape.COUNT:
        if memory.total >= metric.enough or minutes >= _LONGEST_MIN:
            return True
        return metric.plain(expected) * minutes >= metric.enough
    return memory.samples >= metric.enough or (minutes >= _SOON_MIN and memory.samples >= _A_FEW)


def _judge(metric: Metric, memory: Memory, minutes: int, expected: float) -> None:
    profile, samples = memory.profile, memory.samples
    chance = metric.unit_deviation(samples)
    value = memory.total / (minutes if metric.is_per_minute else samples)
    scaled = metric.scaled(value, samples)
    apart = scaled - expected
    if metric.shape == Shape.COUNT and minutes > 1:
        # Of all the bucket's minutes together: chance does as much to the root of any count.
        residual = metric.scaled(memory.total, 0) - metric.scaled(metric.plain(expected) * minutes, 0)
    else:
        residual = apart / chance
    if not memory.severity:
        profile.note(scaled, residual)
    if profile.hours < metric.season_hours:
        return
    deviation = max(profile.scale(metric) * chance, metric.least)
    slack = profile.slack(memory.seen) / chance * (math.sqrt(minutes) if metric.shape == Shape.COUNT else 1)
    residual = math.copysign(max(0.0, abs(residual) - slack), residual)
    z = residual * chance / deviation
    memory.judged, memory.value, memory.usual, memory.z = memory.seen, value, metric.plain(expected), z
    memory.apart.append(apart)
    del memory.apart[:-_REMEMBERED]
    _remember(metric, memory, z, deviation)
    _decide(metric, memory, expected)


def _remember(metric: Metric, memory: Memory, z: float, deviation: float) -> None:
    step = min(max(z, -_CLIP), _CLIP)
    memory.drift += _SMOOTH * (step * deviation - memory.drift)
    memory.above = min(max(0.0, memory.above + step - _SLACK), DRIFT_SUM)
    memory.below = min(max(0.0, memory.below - step - _SLACK), DRIFT_SUM)
    # What nobody would care about is at most as far away as what is usual may be.
    if abs(z) > _IMMATERIAL_Z and not metric.is_material(memory.value, memory.usual):
        z = min(max(z, -_IMMATERIAL_Z), _IMMATERIAL_Z)
    memory.recent.append(z)
    del memory.recent[:-_REMEMBERED]


def _decide(metric: Metric, memory: Memory, expected: float) -> None:
    severity, rule, sign = _verdict(metric, memory, expected)
    if not memory.severity:
        if severity:
            memory.severity, memory.rule, memory.sign, memory.since = severity, rule, sign, memory.seen
            memory.profile.forget(_REMEMBERED)
    elif memory.seen - memory.since >= _NEW_USUAL_MIN:
        memory.profile.shift(median(memory.apart))
        _calm(memory)
    elif severity == "critical":
        memory.severity, memory.rule = severity, rule
    elif _is_calm(memory):
        _calm(memory)


def _verdict(metric: Metric, memory: Memory, expected: float) -> tuple[str, str, int]:
    """(severity, rule, direction); "" is usual."""
    recent = memory.recent
    for sign, wanted, drift in ((1, metric.up, memory.above), (-1, metric.down, memory.below)):
        if not wanted:
            continue
        if _beyond(recent[-3:], sign, CRITICAL_Z) >= 2:
            return "critical", "sudden", sign
        if _beyond(recent[-4:], sign, WARNING_Z) >= 3:
            return "warning", "sudden", sign
        slowly = metric.plain(expected + memory.drift)
        if drift >= DRIFT_SUM and memory.drift * sign > 0 and metric.has_drifted(slowly, memory.usual):
            return "warning", "drift", sign
    return "", "", 0


def _is_calm(memory: Memory) -> bool:
    drift = memory.above if memory.sign > 0 else memory.below
    quiet = len(memory.recent) == _REMEMBERED and not _beyond(memory.recent, memory.sign, CALM_Z)
    return quiet and (memory.rule != "drift" or drift < DRIFT_SUM / 2)


def _calm(memory: Memory) -> None:
    memory.severity, memory.rule, memory.sign = "", "", 0
    memory.above = memory.below = memory.drift = 0.0
    memory.recent, memory.apart = [], []


def _beyond(values: Sequence[float], sign: int, limit: float) -> int:
    return sum(1 for value in values if value * sign >= limit)
