"""The first page of the admin: how today goes. A handful of queries, each served by an index and bounded."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import redis
from django.db import connection
from django.http import HttpRequest
from django.urls import reverse

from apps.core import clock, ids, money, workers
from apps.core.admin import link, usd
from apps.jobs.models import Attempt
from apps.jobs.states import JobStatus
from apps.ledger import usage
from apps.ops import health
from apps.ops.models import Alert
from apps.webhooks.models import Delivery

# Nothing here looks at more rows than this: on a busier day the figures are those of the newest.
_BOUND = 100_000
_DRIFT_OVER = timedelta(days=7)
_LOOKED_BACK = timedelta(days=30)
# Open alerts and models on the page itself.
_LISTED = 10

_TODAY = """
SELECT status, error_code, count(*), count(cached_from), sum(cost_usd), sum(saved_usd)
FROM (SELECT status, error_code, cached_from, cost_usd, saved_usd FROM jobs_job
      WHERE id >= %(since)s ORDER BY id DESC LIMIT %(bound)s) AS today
GROUP BY status, error_code
"""
_BY_TIER = """
SELECT cache_tier, count(*), sum(saved_usd)
FROM (SELECT cache_tier, saved_usd, cached_from FROM jobs_job
      WHERE id >= %(since)s ORDER BY id DESC LIMIT %(bound)s) AS today
WHERE cached_from IS NOT NULL GROUP BY cache_tier ORDER BY cache_tier
"""
_LOOK_ALIKES = """
SELECT served, count(*), sum(saved_usd), count(*) FILTER (WHERE judged <> ''), count(*) FILTER (WHERE judged = 'wrong')
FROM (SELECT served, saved_usd, judged FROM caching_semanticmatch
      WHERE id >= %(since)s ORDER BY id DESC LIMIT %(bound)s) AS month
GROUP BY served ORDER BY served
"""
_HELD = """
SELECT count(*), COALESCE(sum(amount_usd), 0)
FROM (SELECT amount_usd FROM ledger_hold WHERE state = 'held' LIMIT %(bound)s) AS held
"""
_DUE = """
SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE due_at <= %(now)s LIMIT %(bound)s) AS due
"""
_COLOURS = {
    JobStatus.COMPLETED: "bg-green-500",
    JobStatus.RUNNING: "bg-blue-500",
    JobStatus.QUEUED: "bg-base-400",
    JobStatus.CANCELED: "bg-orange-500",
    JobStatus.FAILED: "bg-red-500",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One figure, what it is made of, and the page that shows the rows behind it. `alarm`: somebody should look."""

    title: str
    value: str
    detail: str = ""
    href: str = ""
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Today:
    """What the jobs made since midnight UTC came to."""

    by_status: Counter[str]
    by_error: Counter[str]
    cached: int
    cost_usd: Decimal
    saved_usd: Decimal


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK. Figures only for those who may see jobs."""
    if not request.user.has_perm("jobs.view_job"):
        return page
    today = _today()
    return {
        **page,
        "cards": [*_work(today), *_machinery()],
        "statuses": _statuses(today.by_status),
        "errors": {"headers": ["Error", "Jobs"], "rows": today.by_error.most_common(10)},
        "alerts": {"headers": ["Since", "Severity", "What", "Times"], "rows": list(_alerts())},
        "drift": {"headers": ["Model", "Jobs", "Estimated", "Cost", "Drift"], "rows": list(_drift())},
        "cache": {"headers": ["Answered by", "Jobs", "Share", "Saved", "Wrong"], "rows": list(_cache(today))},
        "workers": {"headers": ["Worker", "Last seen"], "rows": list(_workers())},
    }


def _today() -> Today:
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    by_status: Counter[str] = Counter()
    by_error: Counter[str] = Counter()
    cached, cost_usd, saved_usd = 0, money.ZERO, money.ZERO
    for status, error, count, hits, cost, saved in _rows(_TODAY, since=ids.since(midnight)):
        by_status[status] += count
        by_error.update({error: count} if error else {})
        cached, cost_usd, saved_usd = cached + hits, cost_usd + cost, saved_usd + saved
    return Today(by_status, by_error, cached, cost_usd, saved_usd)


def _work(today: Today) -> list[Card]:
    total = today.by_status.total()
    failed = today.by_status[JobStatus.FAILED]
    done = failed + today.by_status[JobStatus.COMPLETED]
    open_holds, held_usd = _rows(_HELD)[0]
    jobs = reverse("admin:jobs_job_changelist")
    return [
        Card("Jobs today", f"{total:,}", "since midnight UTC", f"{jobs}?since=day"),
        Card(
            "Spent today",
            usd(today.cost_usd),
            f"{usd(today.saved_usd)} saved",
            _page("ledger_entry", "kind=capture"),
        ),
        Card("Held now", usd(held_usd), f"{open_holds:,} open holds", _page("ledger_hold", "state=held")),
        Card("Cache hit rate", _share(today.cached, total), f"{today.cached:,} of {total:,} jobs"),
        Card(
            "Error rate",
            _share(failed, done),
            f"{failed:,} of {done:,} ended jobs",
            f"{jobs}?status__exact=failed&since=day",
            alarm=done >= 20 and failed / done > 0.1,
        ),
    ]


def _alerts() -> Iterable[tuple[Any, ...]]:
    """The newest that are open; the card says how many there are."""
    for alert in Alert.objects.open().order_by("-last_at")[:_LISTED]:
        text = link(Alert, alert.pk, f"{alert.kind}: {alert.subject}")
        yield f"{alert.first_at:%Y-%m-%d %H:%M}", alert.severity, text, alert.count


def _cache(today: Today) -> Iterable[tuple[str, str, str, str, str]]:
    """What each tier answered today; and the look-alikes of 30 days, with the verdicts on them."""
    total, midnight = today.by_status.total(), clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for tier, count, saved in _rows(_BY_TIER, since=ids.since(midnight)):
        yield tier or "exact", f"{count:,}", _share(count, total), usd(saved), ""
    for served, count, saved, judged, wrong in _rows(_LOOK_ALIKES, since=ids.since(midnight - _LOOKED_BACK)):
        name = "look-alikes served, 30 days" if served else "look-alikes in shadow, 30 days"
        error = f"{wrong:,} of {judged:,} judged ({_share(wrong, judged)})"
        yield name, f"{count:,}", "", usd(saved) if served else f"{usd(saved)} possible", error


def _drift() -> Iterable[tuple[str, str, str, str, str]]:
    """How far the last week's costs were from their estimates, the models that were bought most first."""
    found = usage.drift(clock.now().date() - _DRIFT_OVER)
    for model in sorted(found, key=lambda model: model.cost_usd, reverse=True)[:_LISTED]:
        percent = "-" if model.percent is None else f"{model.percent:+} %"
        yield model.model, f"{model.jobs:,}", usd(model.estimated_usd), usd(model.cost_usd), percent


def _machinery() -> list[Card]:
    late_s = health.oldest_due_s()
    due = _rows(_DUE, now=clock.now())[0][0]
    unknown = Attempt.objects.filter(check_at__isnull=False)[:_BOUND].count()
    waiting = Delivery.objects.filter(due_at__lte=clock.now())[:_BOUND].count()
    alerts = Alert.objects.open()[:_BOUND].count()
    return [
        Card(
            "Open alerts",
            f"{alerts:,}",
            "nobody resolved yet",
            f"{reverse('admin:ops_alert_changelist')}?is=open",
            alarm=alerts > 0,
        ),
        Card(
            "Queue", f"{late_s:.1f} s", f"age of the oldest of {due:,} due jobs", alarm=late_s > health.LATE_S
        ),
        Card(
            "Unknown outcomes",
            f"{unknown:,}",
            "attempts whose money stays held",
            _page("jobs_attempt", "status=unknown"),
            alarm=unknown > 0,
        ),
        Card(
            "Webhooks due",
            f"{waiting:,}",
            "deliveries to send now",
            _page("webhooks_delivery", "status=pending"),
        ),
    ]


def _statuses(by_status: Counter[str]) -> list[dict[str, Any]]:
    """The parts of the bar."""
    total = by_status.total() or 1
    return [
        {
            "title": f"{by_status[status]:,} {status}",
            "percent": f"{100 * by_status[status] / total:.2f}",
            "colour": colour,
        }
        for status, colour in _COLOURS.items()
        if by_status[status]
    ]


def _workers() -> Iterable[tuple[str, str]]:
    try:
        seen = workers.seen()
    except redis.RedisError as error:
        return [("unknown: Redis does not answer", type(error).__name__)]
    return [(name, f"{age:.0f} s ago") for name, age in sorted(seen.items())]


def _page(name: str, choice: str) -> str:
    column, _, value = choice.partition("=")
    return f"{reverse(f'admin:{name}_changelist')}?{column}__exact={value}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _rows(sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {**values, "bound": _BOUND})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
