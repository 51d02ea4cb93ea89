"""The series, minute by minute, from rows: one statement for each sort of row, each along an index. Whoever reads a
minute waits until what happened in it is committed."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from apps.core import ids, rows
from apps.ops.anomalies.detect import Point

# Ids are made a moment before `created_at` is set, and on another machine's clock.
_SKEW: Final = timedelta(seconds=2)
_MOST_WAITING: Final = 100_000


class Key(NamedTuple):
    """Which series: the metric's name, and model and provider where they are told apart; "" is all together."""

    metric: str
    model: str = ""
    provider: str = ""


Minutes = dict[int, dict[Key, Point]]

# By route along `attempt_measured`: one walk for each, however many attempts there ever were.
_ATTEMPTS = """
SELECT a.minute, a.model, a.provider, count(*), avg((a.status <> 'accepted')::int)::float8,
       count(*) FILTER (WHERE a.status = 'accepted'),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY a.took_s) FILTER (WHERE a.status = 'accepted'),
       avg(a.price_usd) FILTER (WHERE a.status = 'accepted')::float8,
       count(a.score), avg(a.score)
FROM catalog_route AS route CROSS JOIN LATERAL (
    SELECT floor(extract(epoch FROM finished_at) / 60)::bigint AS minute, model, provider, status, price_usd,
           extract(epoch FROM finished_at - started_at)::float8 AS took_s, (quality ->> 'score')::float8 AS score
    FROM jobs_attempt
    WHERE route_id = route.id AND finished_at >= %(from_at)s AND finished_at < %(to_at)s
      AND status IN ('accepted', 'rejected', 'failed')
      AND NOT (error_kind IN ('content_rejected', 'invalid_request', 'canceled'))
) AS a
GROUP BY a.minute, a.model, a.provider
"""
# What was asked, along the primary key; answers from the cache end as they begin and leave no event.
_ASKED = """
SELECT floor(extract(epoch FROM created_at) / 60)::bigint, model, count(*),
       count(*) FILTER (WHERE started_at = created_at AND cached_from IS NOT NULL)
FROM jobs_job
WHERE id >= %(from_id)s AND id < %(to_id)s AND created_at >= %(from_at)s AND created_at < %(to_at)s
GROUP BY 1, 2
"""
# What ended, along `event_by_time`. A request's own fault is no failure.
_ENDED = """
WITH ended AS (
    SELECT floor(extract(epoch FROM e.at) / 60)::bigint AS minute, j.model, j.user_id, j.cost_usd, e.to_status,
           j.cached_from IS NOT NULL AS cached
    FROM jobs_jobevent e JOIN jobs_job j ON j.id = e.job_id
    WHERE e.at >= %(from_at)s AND e.at < %(to_at)s AND e.to_status IN ('completed', 'failed')
      AND j.error_code NOT IN ('content_rejected', 'invalid_request')
)
SELECT minute, model, NULL, count(*), count(*) FILTER (WHERE to_status = 'failed'), count(*) FILTER (WHERE cached), NULL
FROM ended GROUP BY minute, model
UNION ALL
SELECT minute, NULL, (array_agg(user_id::text ORDER BY spent DESC))[1], count(*), 0, 0, max(spent)::float8
FROM (SELECT minute, user_id, sum(cost_usd) AS spent FROM ended GROUP BY minute, user_id) AS spenders
WHERE spent > 0 GROUP BY minute
"""
# Of what is open, along `job_due`; a job in review waits for a person.
_WAITING = """
SELECT model, count(*)
FROM (SELECT model FROM jobs_job
      WHERE due_at IS NOT NULL AND status = 'queued' AND review <> 'pending' LIMIT %(most)s) AS waiting
GROUP BY model
"""
_FIRST = "SELECT floor(extract(epoch FROM created_at) / 60)::bigint FROM jobs_job ORDER BY id LIMIT 1"


def read(first: int, last: int) -> Minutes:
    """Minutes `first` to `last` (since 1970), both included: the points of every series that has one."""
    from_at, to_at = _time(first), _time(last + 1)
    values = {
        "from_at": from_at,
        "to_at": to_at,
        "from_id": ids.since(from_at - _SKEW),
        "to_id": ids.since(to_at + _SKEW),
    }
    found: Minutes = defaultdict(dict)
    # Model → minute → answers without a generation, all answers.
    answers: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for key, point in (*_attempts(values), *_asked(values, answers), *_ended(values, answers)):
        found[point.minute][key] = point
    for (minute, model), (hits, count) in answers.items():
        found[minute][Key("hit_rate", model)] = Point(minute, hits / count, count)
    return found


def waiting(minute: int) -> dict[Key, Point]:
    """How many jobs of each model wait at this moment, as the level of that minute."""
    found = rows.select(_WAITING, {"most": _MOST_WAITING})
    return {Key("queue_depth", model): Point(minute, count, 0) for model, count in found}


def first_minute() -> int | None:
    """Of the first job there is."""
    found = rows.select(_FIRST, {})
    return found[0][0] if found else None


def _attempts(values: dict[str, Any]) -> Iterator[tuple[Key, Point]]:
    for minute, model, provider, count, errors, good, p95_s, usd, scored, score in rows.select(
        _ATTEMPTS, values
    ):
        yield Key("error_rate", model, provider), Point(minute, errors, count)
        if good:
            yield Key("latency_p95", model, provider), Point(minute, p95_s, good)
            yield Key("cost", model, provider), Point(minute, usd, good)
        if scored:
            yield Key("quality", model, provider), Point(minute, score, scored)


def _asked(
    values: dict[str, Any], answers: defaultdict[tuple[int, str], list[int]]
) -> Iterator[tuple[Key, Point]]:
    every: defaultdict[int, int] = defaultdict(int)
    for minute, model, count, at_once in rows.select(_ASKED, values):
        every[minute] += count
        yield Key("traffic", model), Point(minute, count, 0)
        if at_once:
            answers[minute, model][0] += at_once
            answers[minute, model][1] += at_once
    for minute, count in every.items():
        yield Key("traffic"), Point(minute, count, 0)


def _ended(
    values: dict[str, Any], answers: defaultdict[tuple[int, str], list[int]]
) -> Iterator[tuple[Key, Point]]:
    for minute, model, user_id, count, failed, cached, spent in rows.select(_ENDED, values):
        if model is None:
            yield Key("user_spend"), Point(minute, spent, count, about=user_id)
            continue
        yield Key("failure_rate", model), Point(minute, failed / count, count)
        if count > failed:
            answers[minute, model][0] += cached
            answers[minute, model][1] += count - failed


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
