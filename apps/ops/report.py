"""What the platform did in a span of time, and what each of its features was worth: from jobs and the ledger, in a few
statements that each read a range of an index once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from apps.core import ids, money

ALL: Final = "all"
# Of those that ended, by kind and all together. A request's own fault is no failure of ours.
_JOBS = """
SELECT COALESCE(type, 'all'), count(*),
       count(*) FILTER (WHERE status = 'completed'),
       count(*) FILTER (WHERE status = 'failed' AND error_code NOT IN ('content_rejected', 'invalid_request')),
       count(*) FILTER (WHERE cached_from IS NOT NULL),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took_s) FILTER (WHERE status = 'completed'),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took_s)
           FILTER (WHERE status = 'completed' AND cached_from IS NULL)
FROM (SELECT type, status, error_code, cached_from, extract(epoch FROM finished_at - created_at)::float8 AS took_s
      FROM jobs_job WHERE id >= %(from_id)s AND id < %(to_id)s AND finished_at IS NOT NULL) AS ended
GROUP BY GROUPING SETS ((type), ())
"""
# What users paid, refunds taken off, and what the cache saved them.
_MONEY = """
SELECT COALESCE(kind, 'all'), COALESCE(sum(cost_usd), 0), COALESCE(sum(saved_usd), 0)
FROM ledger_usagerecord WHERE at >= %(from_at)s AND at < %(to_at)s
GROUP BY GROUPING SETS ((kind), ())
"""
_ABSORBED = """
SELECT COALESCE(sum(amount_usd), 0) FROM ledger_entry
WHERE kind = 'platform_absorbed' AND posted_at >= %(from_at)s AND posted_at < %(to_at)s
"""
_TIERS = """
SELECT cache_tier, count(*), sum(saved_usd) FROM jobs_job
WHERE id >= %(from_id)s AND id < %(to_id)s AND cached_from IS NOT NULL
GROUP BY cache_tier
"""
# Delivered by a later order, after an earlier one came to nothing.
_RESCUED = """
SELECT count(DISTINCT job_id) FROM jobs_attempt
WHERE id >= %(from_id)s AND id < %(to_id)s AND status = 'accepted' AND number > 1
"""
# Where the platform chose the model: what it costs less than the dearest that would have done.
_CHOSEN = """
SELECT count(*), COALESCE(sum(GREATEST(dearest.usd - j.estimated_cost_usd, 0)), 0)
FROM jobs_job j CROSS JOIN LATERAL (
    SELECT max((other ->> 'estimated_cost_usd')::numeric) AS usd
    FROM jsonb_array_elements(j.selection -> 'alternatives') AS other
) AS dearest
WHERE j.id >= %(from_id)s AND j.id < %(to_id)s AND j.status = 'completed' AND j.cached_from IS NULL
  AND dearest.usd IS NOT NULL
"""
_BATCHES = """
SELECT COALESCE(sum(size), 0), COALESCE(sum(saved_usd), 0) FROM jobs_providerbatch
WHERE created_at >= %(from_at)s AND created_at < %(to_at)s
"""
_TIER_NAMES: Final = {
    "exact": "cache: the same request",
    "canonical": "cache: a certain rewording",
    "semantic": "cache: a look-alike",
    "shared": "single-flight: waited for an equal job",
}

Times = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs of one kind that were accepted in the span and have ended. Times: p50, p95 and p99 from accepting to the
    result, seconds; None where there is none."""

    name: str
    jobs: int
    completed: int
    failed: int
    cached: int
    all_s: Times | None
    generated_s: Times | None
    cost_usd: Decimal
    saved_usd: Decimal

    @property
    def error_rate(self) -> float | None:
        return self.failed / (self.completed + self.failed) if self.completed + self.failed else None

    @property
    def hit_rate(self) -> float | None:
        return self.cached / self.completed if self.completed else None

    @property
    def job_usd(self) -> Decimal | None:
        return self.cost_usd / self.completed if self.completed else None


@dataclass(frozen=True, slots=True)
class Feature:
    """What `jobs` jobs got by it: `saved_usd`, or `rescued`, results instead of failures."""

    name: str
    jobs: int
    saved_usd: Decimal | None = None
    rescued: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """`kinds`: all together first. `absorbed_usd`: what the platform paid itself."""

    from_at: datetime
    to_at: datetime
    kinds: Sequence[Kind]
    features: Sequence[Feature]
    absorbed_usd: Decimal


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def make(from_at: datetime, to_at: datetime) -> Report:
    """Of jobs accepted, and money booked, in `[from_at, to_at)`."""
    values: dict[str, Any] = {
        "from_at": from_at,
        "to_at": to_at,
        "from_id": ids.since(from_at),
        "to_id": ids.since(to_at),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL work_mem = '64MB'")

        def rows(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement, values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

        paid: dict[str, tuple[Decimal, Decimal]] = {name: (cost, saved) for name, cost, saved in rows(_MONEY)}
        nothing = (money.ZERO, money.ZERO)
        kinds = [
            Kind(
                name,
                jobs,
                completed,
                failed,
                cached,
                _times(every),
                _times(generated),
                *paid.get(name, nothing),
            )
            for name, jobs, completed, failed, cached, every, generated in rows(_JOBS)
        ]
        kinds.sort(key=lambda kind: (kind.name != ALL, kind.name))
        return Report(from_at, to_at, kinds, list(_features(rows)), rows(_ABSORBED)[0][0])


def tables(report: Report) -> list[Table]:
    """As people read it: per kind, with and without, and by feature."""
    return [_by_kind(report), _compared(report), _by_feature(report)]


def _features(rows: Any) -> Iterator[Feature]:
    tiers = {tier: (jobs, saved) for tier, jobs, saved in rows(_TIERS)}
    for tier, name in _TIER_NAMES.items():
        yield Feature(name, *tiers.get(tier, (0, money.ZERO)))
    [(chosen, chosen_usd)], [(batched, batched_usd)] = rows(_CHOSEN), rows(_BATCHES)
    yield Feature("selection: than the dearest that would do", chosen, chosen_usd)
    yield Feature("batches: than each ordered alone", batched, batched_usd)
    rescued = rows(_RESCUED)[0][0]
    yield Feature("fallback and retry: results instead of failures", rescued, rescued=rescued)


def _by_kind(report: Report) -> Table:
    headers = [
        "", "jobs", "failed", "hit rate", "p50", "p95", "p99", "generated p50", "p95", "p99", "cost", "of a job",
    ]  # fmt: skip
    rows = [
        [
            kind.name, f"{kind.jobs:,}", _share(kind.error_rate), _share(kind.hit_rate), *_seconds(kind.all_s),
            *_seconds(kind.generated_s), _usd(kind.cost_usd), _usd(kind.job_usd),
        ]
        for kind in report.kinds
    ]  # fmt: skip
    return Table("Jobs that ended", headers, rows)


def _compared(report: Report) -> Table:
    """Without: no answer from the cache, every first order the only one, the dearest model that would do."""
    total = report.kinds[0]
    saved = sum((feature.saved_usd or money.ZERO for feature in report.features), money.ZERO)
    rescued = sum(feature.rescued for feature in report.features)
    ended = total.completed + total.failed
    before_usd = total.cost_usd + saved
    rows = [
        ["p50 latency", _seconds(total.generated_s)[0], _seconds(total.all_s)[0]],
        ["p95 latency", _seconds(total.generated_s)[1], _seconds(total.all_s)[1]],
        ["p99 latency", _seconds(total.generated_s)[2], _seconds(total.all_s)[2]],
        ["hit rate", _share(0.0), _share(total.hit_rate)],
        ["failed", _share((total.failed + rescued) / ended if ended else None), _share(total.error_rate)],
        ["cost", _usd(before_usd), _usd(total.cost_usd)],
        [
            "cost of a job",
            _usd(before_usd / total.completed if total.completed else None),
            _usd(total.job_usd),
        ],
    ]
    return Table("Without the platform's features, and with them", ["", "without", "with"], rows)


def _by_feature(report: Report) -> Table:
    rows = [
        [
            feature.name,
            f"{feature.jobs:,}",
            "–" if feature.saved_usd is None else _usd(feature.saved_usd),
            f"{feature.rescued:,}" if feature.rescued else "–",
        ]
        for feature in report.features
    ]
    rows.append(["paid by the platform itself", "", f"-{_usd(report.absorbed_usd)}", ""])
    return Table("What each feature was worth", ["", "jobs", "saved", "rescued"], rows)


def _times(found: Sequence[float | None] | None) -> Times | None:
    if found is None or None in found:
        return None
    p50, p95, p99 = (float(each) for each in found if each is not None)
    return p50, p95, p99


def _seconds(times: Times | None) -> list[str]:
    return (
        ["–"] * 3 if times is None else [f"{each:.2f} s" if each < 10 else f"{each:.0f} s" for each in times]
    )


def _share(part: float | None) -> str:
    return "–" if part is None else f"{part:.1%}"


def _usd(amount: Decimal | None) -> str:
    """To the cent, and small amounts to two digits that count."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${float(amount):.2g}"
