"""The statements that move money: each locks the three periods of a purchase in one order, checks every cap, changes
the balances and posts the entry. One statement, so that money and its posting cannot part.

A statement is put together of common table expressions; what it moves is `%(spent)s` and `%(held)s`, USD, signed.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.core import bell, money, rows
from apps.core.errors import DomainError

# The periods that contain now, of the user and of the user's team. None of them is locked while one is missing:
# whoever opens periods must not hold any (periods.open_current).
CURRENT = """
current AS MATERIALIZED (
    SELECT p.id FROM accounts_user u
    JOIN ledger_budgetperiod p ON p.user_id = u.id OR p.team_id = u.team_id
    WHERE u.id = %(user_id)s AND p.ends_at > %(now)s AND p.starts_at <= %(now)s
), locked AS MATERIALIZED (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.ends_at, p.spent_usd + p.held_usd AS used_usd
    FROM ledger_budgetperiod p
    WHERE p.id IN (SELECT id FROM current) AND (SELECT count(*) FROM current) = 3
    ORDER BY p.scope DESC FOR NO KEY UPDATE
)
"""
# Those in which a hold was admitted (M6); `hold` is the row, locked before.
OF_HOLD = """
locked AS MATERIALIZED (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.ends_at, p.spent_usd + p.held_usd AS used_usd
    FROM hold JOIN ledger_budgetperiod p ON p.id IN (hold.period_id, hold.day_period_id, hold.team_period_id)
    ORDER BY p.scope DESC FOR NO KEY UPDATE OF p
)
"""
# Limits are read where they are edited (tier or override), so a change by ops holds for the next request.
CAPS = """
cap AS MATERIALIZED (
    SELECT p.*, COALESCE(b.max_job_usd, t.max_job_usd) AS max_job_usd,
           CASE p.scope WHEN 'user_month' THEN COALESCE(b.limit_usd, t.monthly_budget_usd)
                        WHEN 'user_day' THEN COALESCE(b.daily_limit_usd, t.daily_budget_usd)
                        ELSE g.limit_usd END AS limit_usd,
           COALESCE(b.warning_percents, g.warning_percents, %(percents)s::smallint[]) AS percents
    FROM locked p
    LEFT JOIN accounts_user u ON u.id = p.user_id
    LEFT JOIN accounts_tier t ON t.slug = u.tier_id
    LEFT JOIN ledger_budget b ON b.user_id = p.user_id
    LEFT JOIN ledger_teambudget g ON g.team_id = p.team_id
)
"""
_TOGETHER = """
    SELECT max(id) FILTER (WHERE scope = 'user_month') AS period_id,
           max(id) FILTER (WHERE scope = 'user_day') AS day_period_id,
           max(id) FILTER (WHERE scope = 'team_month') AS team_period_id,
           (array_agg(user_id) FILTER (WHERE scope = 'user_month'))[1] AS user_id,
           (array_agg(team_id) FILTER (WHERE scope = 'team_month'))[1] AS team_id
"""
# One row if there is room in every period and in the cap of one job, none otherwise. What gives money back has room.
ADMITTED = f"""
admitted AS MATERIALIZED ({_TOGETHER}
    FROM cap
    HAVING count(*) = 3 AND (%(spent)s + %(held)s <= 0 OR (
           bool_and(COALESCE(used_usd + %(spent)s + %(held)s <= limit_usd + %(overdraft)s, true))
           AND bool_and(COALESCE(%(job)s <= max_job_usd, true))))
)
"""
# The same without a limit to keep: nothing is taken.
GIVEN_BACK = f"""
admitted AS MATERIALIZED ({_TOGETHER} FROM locked HAVING count(*) = 3)
"""
MOVED = """
moved AS (
    UPDATE ledger_budgetperiod p
    SET spent_usd = p.spent_usd + %(spent)s, held_usd = p.held_usd + %(held)s
    FROM admitted a WHERE p.id IN (a.period_id, a.day_period_id, a.team_period_id)
)
"""
INTO_ENTRY = """
INSERT INTO ledger_entry (kind, reference, period_id, day_period_id, team_period_id, user_id, team_id, price_id,
                          amount_usd, spent_delta_usd, held_delta_usd, saved_usd, reason, by, posted_at)
"""
POSTED = f"""
posted AS ({INTO_ENTRY}
    SELECT %(kind)s, %(reference)s, period_id, day_period_id, team_period_id, user_id, team_id, %(price_id)s,
           abs(%(spent)s + %(held)s), %(spent)s, %(held)s, 0, %(reason)s, %(by)s, %(now)s
    FROM admitted
)
"""  # noqa: S608
# A threshold once per period; the row of the period is locked, so there is no race for the first to see it passed.
_WARNED = """
warned AS (
    INSERT INTO ledger_budgetwarning (id, period_id, threshold, used_usd, limit_usd, created_at)
    SELECT gen_random_uuid(), c.id, t.threshold, c.used_usd + %(spent)s + %(held)s, c.limit_usd, %(now)s
    FROM cap c, admitted a, unnest(c.percents) AS t (threshold)
    WHERE c.limit_usd > 0 AND (c.used_usd + %(spent)s + %(held)s) * 100 >= c.limit_usd * t.threshold
      AND NOT EXISTS (SELECT 1 FROM ledger_budgetwarning w WHERE w.period_id = c.id AND w.threshold = t.threshold)
    ON CONFLICT DO NOTHING
    RETURNING id
)
"""
_OUTCOME = """
SELECT scope, used_usd, limit_usd, max_job_usd, ends_at,
       EXISTS (SELECT 1 FROM admitted), ARRAY(SELECT id FROM warned)
FROM cap ORDER BY scope DESC
"""


class BudgetExceeded(DomainError):
    """`scope` names the cap that refused: job, user_month, user_day or team_month."""

    code, status, title = "budget_exceeded", 402, "The budget does not cover the request"


@dataclass(frozen=True, slots=True)
class _Cap:
    """What a statement of `taking` says of one period; `used_usd` as it was before."""

    scope: str
    used_usd: Decimal
    limit_usd: Decimal | None
    max_job_usd: Decimal | None
    ends_at: datetime
    admitted: bool
    warnings: list[Any]


def taking(*effects: str, periods: str, hold: str = "", posted: str = POSTED) -> str:
    """The statement that takes `%(spent)s` and `%(held)s` where every cap has room, with the `effects` on the hold.

    `posted`: empty for what is posted by another statement of the same transaction.
    """
    parts = [hold, periods, CAPS, ADMITTED, MOVED, posted, _WARNED, *effects]
    return "WITH " + ",".join(part for part in parts if part) + _OUTCOME


def take(statement: str, values: dict[str, Any]) -> bool:
    """Runs a statement of `taking` and rings for the thresholds it passed. False: there are no periods to take from.

    Raises BudgetExceeded if a cap has no room; then nothing was changed.
    """
    limits = {"overdraft": settings.BUDGET_OVERDRAFT_USD, "percents": settings.BUDGET_WARNING_PERCENTS}
    values = {"spent": money.ZERO, "held": money.ZERO, "reason": "", "by": "", **limits, **values}
    caps = [_Cap(*row) for row in rows.select(statement, values)]
    if not caps:
        return False
    if not caps[0].admitted:
        raise _refusal(caps, requested=values["spent"] + values["held"], job=values["job"])
    for warning in caps[0].warnings:
        bell.ring("ops.budget_warning", id=warning, queue="control")
    return True


def _refusal(caps: list[_Cap], *, requested: Decimal, job: Decimal) -> BudgetExceeded:
    """Names the cap that stays in the way longest: that of one job for good, else the period that ends last."""
    for cap in caps:
        if cap.max_job_usd is not None and job > cap.max_job_usd:
            return BudgetExceeded(
                f"This needs {money.text(job)} USD; one job may cost {money.text(cap.max_job_usd)} USD.",
                scope="job",
                current=money.text(job - requested),
                limit=money.text(cap.max_job_usd),
                requested=money.text(requested),
                reset_date=None,
            )
    overdraft = settings.BUDGET_OVERDRAFT_USD
    full = [c for c in caps if c.limit_usd is not None and c.used_usd + requested > c.limit_usd + overdraft]
    cap = max(full, key=lambda cap: cap.ends_at)
    limit = cap.limit_usd or money.ZERO
    return BudgetExceeded(
        f"This needs {money.text(requested)} USD; {money.text(max(money.ZERO, limit - cap.used_usd))} USD remain "
        f"of the {cap.scope.replace('_', ' ')} until {cap.ends_at:%Y-%m-%d %H:%M} UTC.",
        scope=cap.scope,
        current=money.text(cap.used_usd),
        limit=money.text(limit),
        requested=money.text(requested),
        reset_date=cap.ends_at.isoformat(),
    )
