"""Do the books agree? Every check is one query that names what does not.

Each looks at what has changed since a moment, at all that is open, and at what it is told to look at again. Without
such a moment it looks at everything.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min, Q, Sum

from apps.core import clock, ids, money
from apps.ledger.models import Entry
from apps.ops import alerts
from apps.ops.models import Alert, BillLine

KIND: Final = "books"
WINDOW: Final = timedelta(hours=48)
_ABSORBED_WINDOW: Final = timedelta(hours=24)
# Between the opening of an attempt and the provider's charge for it: a deadline, and the time an outcome may be
# unknown.
_BILLED_LATER: Final = timedelta(days=3)
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The periods whose balances are to be looked at.
_PERIODS = """
WITH touched AS (
    SELECT DISTINCT unnest(ARRAY[period_id, day_period_id, team_period_id]) AS id
    FROM ledger_entry WHERE posted_at >= %(since)s
    UNION SELECT id FROM ledger_budgetperiod WHERE %(whole)s OR held_usd <> 0 OR ends_at > %(now)s
    UNION SELECT unnest(%(again)s::text[])::bigint
)
"""
# The purchases to be looked at, by the id of their job.
_REFERENCES = """
WITH touched AS (
    SELECT reference AS id FROM ledger_entry WHERE posted_at >= %(since)s
    UNION SELECT reference FROM ledger_hold WHERE state = 'held' OR id >= %(since_id)s
    UNION SELECT id FROM jobs_job WHERE due_at IS NOT NULL OR id >= %(since_id)s
    UNION SELECT unnest(%(again)s::text[])::uuid
)
"""
# M2: a period's balances are the sums of its entries; every entry is in a month and a day of its user and a month of
# its team.
_BALANCES = f"""{_PERIODS}
SELECT 'balance', p.id::text,
       format('spent %%s, entries %%s; held %%s, entries %%s', p.spent_usd, e.spent, p.held_usd, e.held)
FROM ledger_budgetperiod p JOIN touched USING (id)
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS spent, COALESCE(sum(held_delta_usd), 0) AS held
                    FROM ledger_entry WHERE p.id IN (period_id, day_period_id, team_period_id)) e
WHERE p.spent_usd <> e.spent OR p.held_usd <> e.held
"""  # noqa: S608 - only our own constants are interpolated
# What a period holds is the sum of its open holds.
_HELD = """
SELECT 'held', p.id::text, format('held %%s, open holds %%s', p.held_usd, COALESCE(h.held, 0))
FROM ledger_budgetperiod p
LEFT JOIN (SELECT id, sum(amount_usd) AS held
           FROM (SELECT unnest(ARRAY[period_id, day_period_id, team_period_id]) AS id, amount_usd
                 FROM ledger_hold WHERE state = 'held') AS open
           GROUP BY id) h USING (id)
WHERE p.held_usd <> COALESCE(h.held, 0)
"""
# A hold knows what was charged for it and given back (M7).
_PURCHASES = f"""{_REFERENCES}
SELECT 'purchase', h.reference::text,
       format('charged %%s, entries %%s; refunded %%s, entries %%s', h.captured_usd, e.paid, h.refunded_usd, e.refunded)
FROM ledger_hold h JOIN touched ON touched.id = h.reference
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(spent_delta_usd) FILTER (WHERE kind IN ('capture', 'charge')), 0) AS paid,
           COALESCE(-sum(spent_delta_usd) FILTER (WHERE kind = 'refund'), 0) AS refunded
    FROM ledger_entry WHERE reference = h.reference) e
WHERE h.captured_usd <> e.paid OR h.refunded_usd <> e.refunded
"""  # noqa: S608 - only our own constants are interpolated
# M10: an ended job holds nothing, unless the outcome of an attempt is unknown; an open job always holds.
_PHANTOMS = f"""{_REFERENCES}
SELECT 'phantom hold', j.id::text, format('job %%s, hold %%s', j.status, h.state)
FROM touched JOIN jobs_job j USING (id) JOIN ledger_hold h ON h.reference = j.id
WHERE (j.status IN ('completed', 'failed', 'canceled') AND h.state = 'held'
       AND NOT EXISTS (SELECT 1 FROM jobs_attempt a WHERE a.job_id = j.id AND a.status = 'unknown'))
   OR (j.status IN ('queued', 'running') AND h.state <> 'held')
"""  # noqa: S608 - only our own constants are interpolated
# M4: what the user paid is what was captured and charged for the job.
_CHARGES = f"""{_REFERENCES}
SELECT 'charge', j.id::text, format('job says %%s, ledger %%s', j.cost_usd, e.paid)
FROM jobs_job j JOIN touched USING (id)
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS paid FROM ledger_entry
                    WHERE reference = j.id AND kind IN ('capture', 'charge')) e
WHERE j.cost_usd <> e.paid
"""  # noqa: S608 - only our own constants are interpolated
# M5: what users paid and what the platform absorbed is together what the providers bill us.
_ATTEMPTS = f"""{_REFERENCES}
SELECT 'attempts', j.id::text, format('billed %%s, booked %%s', a.billed, e.booked)
FROM jobs_job j JOIN touched USING (id)
CROSS JOIN LATERAL (SELECT COALESCE(sum(price_usd), 0) AS billed FROM jobs_attempt
                    WHERE job_id = j.id AND billed = 'yes' AND status NOT IN ('started', 'submitted', 'fetched')) a
CROSS JOIN LATERAL (SELECT COALESCE(sum(amount_usd), 0) AS booked FROM ledger_entry
                    WHERE reference = j.id AND kind IN ('capture', 'charge', 'platform_absorbed')) e
WHERE a.billed <> e.booked
"""  # noqa: S608 - only our own constants are interpolated
# What the records of usage cost is what was paid in the month...
_USAGE = f"""{_PERIODS}
SELECT 'usage', p.id::text, format('records %%s, entries %%s', u.cost, e.paid)
FROM ledger_budgetperiod p JOIN touched USING (id)
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS paid FROM ledger_entry
                    WHERE period_id = p.id AND kind IN ('capture', 'charge', 'refund')) e
CROSS JOIN LATERAL (SELECT COALESCE(sum(cost_usd), 0) AS cost FROM ledger_usagerecord WHERE period_id = p.id) u
WHERE p.scope = 'user_month' AND u.cost <> e.paid
"""  # noqa: S608 - only our own constants are interpolated
# ... and the sums of a day are those of its records.
_ROLL_UPS = """
WITH touched AS (
    SELECT DISTINCT user_id, team_id, day, model, provider, cached, period_id
    FROM ledger_usagerecord WHERE at >= %(since)s
), days AS (
    SELECT DISTINCT user_id, team_id, day, model, provider, cached FROM touched
    UNION SELECT user_id, team_id, day, model, provider, cached FROM ledger_usageday WHERE %(whole)s
    UNION SELECT user_id, team_id, day, model, provider, cached FROM ledger_usageday
          WHERE cardinality(%(again)s::text[]) > 0
            AND concat_ws(' ', user_id, day, model, provider) = ANY(%(again)s::text[])
), records AS (
    SELECT user_id, team_id, day, model, provider, cached, sum(jobs) AS jobs, sum(cost_usd) AS cost_usd,
           sum(estimated_usd) AS estimated_usd, sum(saved_usd) AS saved_usd, sum(generation_ms) AS generation_ms
    -- All records of a day in the months touched: an index serves, and a day's records are of one month.
    FROM ledger_usagerecord
    WHERE %(whole)s OR period_id IN (SELECT period_id FROM touched) OR cardinality(%(again)s::text[]) > 0
    GROUP BY user_id, team_id, day, model, provider, cached
)
SELECT 'roll-up', concat_ws(' ', user_id, day, model, provider),
       format('jobs %%s, records %%s; cost %%s, records %%s', d.jobs, r.jobs, d.cost_usd, r.cost_usd)
FROM days
LEFT JOIN ledger_usageday d USING (user_id, team_id, day, model, provider, cached)
LEFT JOIN records r USING (user_id, team_id, day, model, provider, cached)
WHERE (d.jobs, d.cost_usd, d.estimated_usd, d.saved_usd, d.generation_ms)
      IS DISTINCT FROM (r.jobs, r.cost_usd, r.estimated_usd, r.saved_usd, r.generation_ms)
"""
# What a provider bills is what we know of: the task is one of ours, and what we think it costs us.
_BILLED = """
WITH line AS (
    SELECT l.id, l.provider, l.task_id, l.amount_usd FROM ops_billline l JOIN ops_bill b ON b.id = l.bill_id
    WHERE b.imported_at >= %(since)s OR l.id = ANY(%(again)s::text[]::uuid[])
), attempt AS (
    SELECT provider, ticket::jsonb ->> 'task_id' AS task_id, status, billed, price_usd
    FROM jobs_attempt WHERE ticket IS NOT NULL AND id >= %(billed_since_id)s
)
SELECT 'billed', l.id::text,
       CASE WHEN a.task_id IS NULL THEN format('%%s bills %%s for task %%s, which is not ours',
                                               l.provider, l.amount_usd, l.task_id)
            ELSE format('%%s bills %%s for task %%s, we reckon with %%s', l.provider, l.amount_usd, l.task_id,
                        CASE a.billed WHEN 'yes' THEN a.price_usd ELSE 0 END) END
FROM line l LEFT JOIN attempt a USING (provider, task_id)
WHERE a.task_id IS NULL
   OR (a.billed <> 'unknown' AND l.amount_usd <> CASE a.billed WHEN 'yes' THEN a.price_usd ELSE 0 END)
"""
# ... and what we know to be billed is on the bill of its time.
_UNBILLED = """
WITH bill AS (
    SELECT provider, starts_at, ends_at FROM ops_bill WHERE imported_at >= %(since)s
), attempt AS (
    SELECT a.id, a.provider, a.ticket::jsonb ->> 'task_id' AS task_id, a.price_usd
    FROM jobs_attempt a
    WHERE a.billed = 'yes' AND a.ticket IS NOT NULL AND a.price_usd > 0
      AND (a.id = ANY(%(again)s::text[]::uuid[])
           OR (a.id >= %(billed_since_id)s
               AND EXISTS (SELECT 1 FROM bill b WHERE b.provider = a.provider AND a.submitted_at >= b.starts_at
                                                  AND a.finished_at <= b.ends_at)))
)
SELECT 'unbilled', a.id::text,
       format('%%s does not bill task %%s, we reckon with %%s', a.provider, a.task_id, a.price_usd)
FROM attempt a
WHERE NOT EXISTS (SELECT 1 FROM ops_billline l WHERE l.provider = a.provider AND l.task_id = a.task_id)
"""
QUERIES = (
    _BALANCES, _HELD, _PURCHASES, _PHANTOMS, _CHARGES, _ATTEMPTS, _USAGE, _ROLL_UPS, _BILLED, _UNBILLED,
)  # fmt: skip
# The checks, in the order of their queries: what a difference is called.
CHECKS: Final = (
    "balance", "held", "purchase", "phantom hold", "charge", "attempts", "usage", "roll-up", "billed", "unbilled",
)  # fmt: skip


class Difference(TypedDict):
    """`check`: which. `id`: the row. `detail`: what disagrees by how much."""

    check: str
    id: str
    detail: str


def differences(
    since: datetime | None = None, again: Mapping[str, Iterable[str]] | None = None
) -> list[Difference]:
    """Every disagreement among what changed since then, by default ever, and all that is open; empty is right.

    `again`: check → ids to look at whenever they changed.
    """
    again = again or {}
    values: dict[str, Any] = {
        "since": since or _EVER,
        "since_id": _since_id(since),
        "billed_since_id": _since_id(_first_billed_at(since, again.get("billed", ()))),
        "whole": since is None,
        "now": clock.now(),
    }
    found: list[Difference] = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        for check, sql in zip(CHECKS, QUERIES, strict=True):
            cursor.execute(sql, {**values, "again": list(again.get(check, ()))})
            found += [Difference(check=row[0], id=row[1], detail=row[2]) for row in cursor.fetchall()]
    return found


def watch() -> list[Difference]:
    """Looks at the last two days and at every difference still open; each becomes an alert, and what is gone is
    resolved. The same for what the platform itself had to pay."""
    again = defaultdict(list)
    for check, row in Alert.objects.open().filter(kind=KIND).values_list("details__check", "details__id"):
        again[check].append(row)
    found = differences(clock.now() - WINDOW, again)
    for difference in found:
        alerts.raise_(
            kind=KIND,
            severity=Alert.Severity.CRITICAL,
            key=_key(difference),
            subject=f"{difference['check']} {difference['id']}",
            message=difference["detail"],
            details=difference,
        )
    alerts.resolve_others(KIND, [_key(difference) for difference in found])
    _watch_absorbed()
    return found


def absorbed_usd(since: datetime) -> Decimal:
    """What the platform paid for generations that nobody received, or beyond what a user could be charged."""
    kind = Entry.Kind.PLATFORM_ABSORBED
    total = Entry.objects.filter(kind=kind, posted_at__gte=since).aggregate(total=Sum("amount_usd"))["total"]
    return total or money.ZERO


def _watch_absorbed() -> None:
    absorbed = absorbed_usd(clock.now() - _ABSORBED_WINDOW)
    if absorbed <= settings.ABSORBED_ALERT_USD:
        alerts.resolve("platform.absorbed")
        return
    alerts.raise_(
        kind="platform.absorbed",
        severity=Alert.Severity.WARNING,
        key="platform.absorbed",
        subject="platform",
        message=f"The platform paid {money.text(absorbed)} USD itself in 24 hours: see the entries of that kind.",
        details={"absorbed_usd": money.text(absorbed)},
    )


def _key(difference: Difference) -> str:
    return f"{KIND}:{difference['check']}:{difference['id']}"


def _since_id(since: datetime | None) -> uuid.UUID:
    return ids.since(since or _EVER)


def _first_billed_at(since: datetime | None, again: Iterable[str]) -> datetime | None:
    """No attempt that a line in question is about was opened before this."""
    if since is None:
        return None
    lines = BillLine.objects.filter(Q(bill__imported_at__gte=since) | Q(pk__in=list(again)))
    first = lines.aggregate(first=Min("at"))["first"]
    return min(first or since, since) - _BILLED_LATER
