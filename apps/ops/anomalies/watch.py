"""The minutes that nobody looked at yet: read, judged, learned from, and what is unusual raised as alerts.

One transaction, and one watcher at a time: whoever dies in between leaves everything as it was, and the next one
reads the same minutes again. After a pause, or at the first start, the minutes of up to a week are made up for, half
a day at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from django.db import connection, transaction

from apps.core import clock, rows
from apps.ops import alerts
from apps.ops.anomalies import detect, series, tell
from apps.ops.anomalies.baseline import Profile
from apps.ops.anomalies.detect import Memory, Point
from apps.ops.anomalies.metrics import METRICS, Family
from apps.ops.anomalies.series import Key
from apps.ops.models import Alert, Baseline

log = structlog.get_logger(__name__)

KIND: Final = "anomaly"
# What ended in a minute is committed so long after it, and at two moments of a minute at most it is read.
_SETTLED_S: Final = 8
_AT_ONCE_MIN: Final = 12 * 60
_BACK_MIN: Final = 7 * 24 * 60
# Who is further behind learns, and tells nobody of what is long over.
_FRESH_MIN: Final = 15
COOL_DOWN_S: Final = 30 * 60
_LISTED: Final = 20
_MOST_SERIES: Final = 2000
_EVERYTHING: Final = Key("traffic")
# Any number that no other advisory lock has.
_ALONE = "SELECT pg_try_advisory_xact_lock(7264518)"
# Half a day of a busy platform takes its time.
_PATIENCE = "SET LOCAL statement_timeout = '120s'"
_COLUMNS: Final = ("hours", "median", "mad", "mean", "deviation", "season")

Memories = dict[Key, Memory]


@dataclass(frozen=True, slots=True)
class Group:
    """Series of one family, and one provider where they have one, that are unusual together: one alert."""

    family: Family
    provider: str
    unusual: Sequence[tuple[Key, Memory]]

    @property
    def key(self) -> str:
        return f"{KIND}.{self.family}:{self.provider}" if self.provider else f"{KIND}.{self.family}"

    @property
    def severity(self) -> Alert.Severity:
        return max(
            (Alert.Severity(memory.severity) for _, memory in self.unusual), key=Alert.Severity.values.index
        )

    @property
    def worst(self) -> tuple[Key, Memory]:
        return max(self.unusual, key=lambda each: abs(each[1].z))


def watch() -> list[Group]:
    """What is unusual in the newest minute, each group an open alert; [] while somebody else looks."""
    newest = int(clock.now().timestamp() - _SETTLED_S) // 60 - 1
    with transaction.atomic(durable=True):
        if not rows.select(_ALONE, {})[0][0]:
            return []
        memories = _load()
        first = _first(memories, newest)
        if first is None or first > newest:
            return list(groups(memories.items()))
        last = min(newest, first + _AT_ONCE_MIN - 1)
        with connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
        take(memories, series.read(first, last), first, last, series.waiting(last) if last == newest else {})
        _save(memories)
        found = list(groups(memories.items()))
        if newest - last < _FRESH_MIN:
            _raise(found)
    return found


def take(
    memories: Memories,
    minutes: series.Minutes,
    first: int,
    last: int,
    waiting: dict[Key, Point] | None = None,
) -> None:
    """Minutes `first` to `last` of all series, into their memories. Where nobody asked or waits, that is a zero."""
    for minute in range(first, last + 1):
        points = dict(minutes.get(minute, {}))
        points.setdefault(_EVERYTHING, Point(minute, 0.0, 0))
        if minute == last and waiting is not None:
            points |= waiting
        counted = ("traffic", "queue_depth") if minute == last and waiting is not None else ("traffic",)
        for key, memory in memories.items():
            if key.metric in counted and key not in points:
                points[key] = Point(minute, 0.0, 0)
            detect.silence(memory, minute)
        for key, point in points.items():
            if key not in memories and len(memories) < _MOST_SERIES:
                memories[key] = Memory()
            if key in memories:
                detect.take(METRICS[key.metric], memories[key], point)


def groups(memories: Iterable[tuple[Key, Memory]]) -> Iterator[Group]:
    """The unusual series, by family and provider."""
    found: defaultdict[tuple[Family, str], list[tuple[Key, Memory]]] = defaultdict(list)
    for key, memory in memories:
        if memory.severity:
            found[METRICS[key.metric].family, key.provider].append((key, memory))
    for (family, provider), unusual in found.items():
        yield Group(family, provider, unusual)


def message(group: Group) -> str:
    """`error rate of standard at wavespeed: 92.0 %, usually 1.2 % (14σ) since 14:03 UTC; and 3 more`"""
    key, memory = group.worst
    metric = METRICS[key.metric]
    where = " ".join(
        word for word in (key.model and f"of {key.model}", key.provider and f"at {key.provider}") if word
    )
    since = f"{_time(memory.since):%Y-%m-%d %H:%M}"
    slowly = ", slowly" if memory.rule == "drift" else ""
    more = f"; and {len(group.unusual) - 1} more" if len(group.unusual) > 1 else ""
    return (
        f"{metric.title} {where}".strip()
        + f": {metric.text(memory.value)}, usually {metric.text(memory.usual)} "
        f"({abs(memory.z):.1f}σ{slowly}) since {since} UTC{more}"
    )


def _raise(found: Sequence[Group]) -> None:
    for group in found:
        opened = alerts.raise_(
            kind=f"{KIND}.{group.family}",
            severity=group.severity,
            key=group.key,
            subject=group.provider or "platform",
            message=message(group),
            details={"series": [_described(*each) for each in group.unusual[:_LISTED]]},
            cool_down_s=COOL_DOWN_S,
        )
        if opened:
            log.warning("anomaly.found", key=group.key, severity=group.severity, message=message(group))
            tell.teams(group.family, *group.worst)
    alerts.resolve_others(KIND, [group.key for group in found])


def _described(key: Key, memory: Memory) -> dict[str, Any]:
    return {
        **key._asdict(),
        "severity": memory.severity,
        "rule": memory.rule,
        "since": _time(memory.since).isoformat(),
        "value": memory.value,
        "usual": memory.usual,
        "z": round(memory.z, 2),
        **({"about": memory.about} if memory.about else {}),
    }


def _first(memories: Memories, newest: int) -> int | None:
    """The minute to begin with; None if there was never a job."""
    if _EVERYTHING in memories:
        return max(memories[_EVERYTHING].seen + 1, newest - _BACK_MIN)
    oldest = series.first_minute()
    return None if oldest is None else max(oldest, newest - _BACK_MIN)


def _load() -> Memories:
    return {Key(row.metric, row.model, row.provider): _memory(row) for row in Baseline.objects.all()}


def _memory(row: Baseline) -> Memory:
    kept = dict(row.memory)
    learned = {name: getattr(row, name) for name in _COLUMNS}
    profile = Profile.from_json({**learned, **kept.pop("profile")})
    return Memory(profile=profile, seen=_minute(row.seen_at), severity=row.severity, **kept)


def _save(memories: Memories) -> None:
    """In one statement."""
    Baseline.objects.bulk_create(
        [_row(key, memory) for key, memory in memories.items()],
        update_conflicts=True,
        unique_fields=["metric", "model", "provider"],
        update_fields=["seen_at", "severity", "value", "usual", "z", *_COLUMNS, "memory"],
    )


def _row(key: Key, memory: Memory) -> Baseline:
    kept, learned = memory.to_json(), memory.profile.to_json()
    return Baseline(
        **key._asdict(),
        seen_at=_time(memory.seen),
        **{name: kept[name] for name in ("severity", "value", "usual", "z")},
        **{name: learned.pop(name) for name in _COLUMNS},
        memory={
            **{name: value for name, value in kept.items() if name not in ("seen", "severity")},
            "profile": learned,
        },
    )


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60
