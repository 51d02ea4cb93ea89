"""Very many purchases of one user, as if they had been made one by one over the last four weeks: the books agree."""

from datetime import timedelta
from typing import Any

from django.db import connection

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import periods

_DAYS = 28
# One purchase is two entries. Written in the order of time, as a ledger is.
_BUY = """
WITH period AS (
    SELECT max(id) FILTER (WHERE scope = 'user_month') AS month, max(id) FILTER (WHERE scope = 'user_day') AS day,
           max(id) FILTER (WHERE scope = 'team_month') AS team
    FROM ledger_budgetperiod WHERE user_id = %(user_id)s OR team_id = %(team_id)s
), made AS (
    SELECT i, gen_random_uuid() AS reference, 0.0001::numeric * (1 + i %% 7) AS cost, period.*,
           %(now)s::timestamptz - %(span)s::interval * ((%(count)s - i)::float8 / %(count)s) AS at
    FROM generate_series(1, %(count)s) AS i, period
), held AS (
    INSERT INTO ledger_hold (id, reference, period_id, day_period_id, team_period_id, amount_usd, captured_usd,
                             refunded_usd, state, price_id, created_at, resolved_at)
    SELECT gen_random_uuid(), reference, month, day, team, cost, cost, 0, 'captured', gen_random_uuid(), at, at
    FROM made
), entries AS (
    INSERT INTO ledger_entry (kind, reference, period_id, day_period_id, team_period_id, user_id, team_id, amount_usd,
                              spent_delta_usd, held_delta_usd, saved_usd, reason, by, posted_at)
    SELECT step.kind, reference, month, day, team, %(user_id)s, %(team_id)s, cost,
           step.spent * cost, step.held * cost, 0, '', '', at
    FROM made, (VALUES (1, 'hold', 0, 1), (2, 'capture', 1, -1)) AS step (n, kind, spent, held)
    ORDER BY i, step.n
), records AS (
    INSERT INTO ledger_usagerecord (reference, period_id, user_id, team_id, day, kind, model, provider, cached, jobs,
                                    cost_usd, estimated_usd, saved_usd, generation_ms, at)
    SELECT reference, month, %(user_id)s, %(team_id)s, (at AT TIME ZONE 'UTC')::date, 'image', 'model-' || i %% 5,
           'provider-' || i %% 2, false, 1, cost, cost, 0, 1500, at
    FROM made ORDER BY i
    RETURNING *
), days AS (
    INSERT INTO ledger_usageday AS d (user_id, team_id, day, model, provider, cached, jobs, cost_usd, estimated_usd,
                                      saved_usd, generation_ms)
    SELECT user_id, team_id, day, model, provider, cached, sum(jobs), sum(cost_usd), sum(estimated_usd),
           sum(saved_usd), sum(generation_ms)
    FROM records GROUP BY user_id, team_id, day, model, provider, cached
    ON CONFLICT (user_id, day, model, provider, cached, team_id) DO UPDATE SET
        jobs = d.jobs + EXCLUDED.jobs, cost_usd = d.cost_usd + EXCLUDED.cost_usd,
        estimated_usd = d.estimated_usd + EXCLUDED.estimated_usd, saved_usd = d.saved_usd + EXCLUDED.saved_usd,
        generation_ms = d.generation_ms + EXCLUDED.generation_ms
)
UPDATE ledger_budgetperiod p SET spent_usd = p.spent_usd + (SELECT sum(cost) FROM made)
FROM period WHERE p.id IN (period.month, period.day, period.team)
"""


def entries(user: User, count: int) -> None:
    """Adds `count` entries (an even number): half as many purchases."""
    now = clock.now()
    periods.open_current(user_id=user.pk, timezone=user.timezone, at=now)
    values: dict[str, Any] = {
        "user_id": user.pk,
        "team_id": user.team_id,
        "count": count // 2,
        "now": now,
        "span": timedelta(days=_DAYS),
    }
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(_BUY, values)
        for table in ("hold", "entry", "usagerecord", "usageday", "budgetperiod"):
            cursor.execute(f"ANALYZE ledger_{table}")
