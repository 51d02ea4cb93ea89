"""The statements that move money: each locks the three periods of a purchase in one order, checks every cap, changes
the balances and posts the entry. One statement, so that money and its posting cannot part.

A statement is put together of common table expressions; what it moves is `%(spent)s` and `%(held)s`, USD, signed.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.core import bell, money, rows
from apps.core.errors import DomainError

# The periods that contain now, of the user and of the user's team, as seen without a lock.
_CURRENT = """
current AS MATERIALIZED (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.ends_at, p.spent_usd + p.held_usd AS used_usd
    FROM accounts_user u JOIN ledger_budgetperiod p ON p.user_id = u.id OR p.team_id = u.team_id
    WHERE u.id = %(user_id)s AND p.ends_at > %(now)s AND p.starts_at <= %(now)s
)
"""
# None of them is locked while one is missing: whoever opens periods must not hold any (periods.open_current).
_LOCKED = """
locked AS MATERIALIZED (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.ends_at, p.spent_usd + p.held_usd AS used_usd
    FROM ledger_budgetperiod p
    WHERE p.id IN (SELECT id FROM current) AND {only_if}
    ORDER BY p.scope DESC FOR NO KEY UPDATE
)
"""
CURRENT = f"{_CURRENT}, {_LOCKED.format(only_if='(SELECT count(*) FROM current) = 3')}"  # noqa: S608 - only our own constants
# Those in which a hold was admitted (M6); `hold` is the row, locked before.
OF_HOLD = """
locked AS MATERIALIZED (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.ends_at, p.spent_usd + p.held_usd AS used_usd
    FROM hold JOIN ledger_budgetperiod p ON p.id IN (hold.period_id, hold.day_period_id, hold.team_period_id)
    ORDER BY p.scope DESC FOR NO KEY UPDATE OF p
)
"""
# Limits are read where they are edited (tier or override), so a change by ops holds for the next request.
_CAPS = """
{name} AS MATERIALIZED (
    SELECT p.*, COALESCE(b.max_job_usd, t.max_job_usd) AS max_job_usd,
           CASE p.scope WHEN 'user_month' THEN COALESCE(b.limit_usd, t.monthly_budget_usd)
                        WHEN 'user_day' THEN COALESCE(b.daily_limit_usd, t.daily_budget_usd)
                        ELSE g.limit_usd END AS limit_usd,
           COALESCE(b.warning_percents, g.warning_percents, %(percents)s::smallint[]) AS percents
    FROM {periods} p
    LEFT JOIN accounts_user u ON u.id = p.user_id
    LEFT JOIN accounts_tier t ON t.slug = u.tier_id
    LEFT JOIN ledger_budget b ON b.user_id = p.user_id
    LEFT JOIN ledger_teambudget g ON g.team_id = p.team_id
)
"""
CAPS = _CAPS.format(name="cap", periods="locked")
_TOGETHER = """
    SELECT max(id) FILTER (WHERE scope = 'user_month') AS period_id,
           max(id) FILTER (WHERE scope = 'user_day') AS day_period_id,
           max(id) FILTER (WHERE scope = 'team_month') AS team_period_id,
           (array_agg(user_id) FILTER (WHERE scope = 'user_month'))[1] AS user_id,
           (array_agg(team_id) FILTER (WHERE scope = 'team_month'))[1] AS team_id
"""
# There is room in every period and in the cap of one job. What gives money back has room.
_ROOM = """
count(*) = 3 AND (%(spent)s + %(held)s <= 0 OR (
    bool_and(COALESCE(used_usd + %(spent)s + %(held)s <= limit_usd + %(overdraft)s, true))
    AND bool_and(COALESCE(%(job)s <= max_job_usd, true))))
"""
# One row if there is, none otherwise.
ADMITTED = f"admitted AS MATERIALIZED ({_TOGETHER} FROM cap HAVING {_ROOM})"
# The same as seen without a lock: it may be gone by the time that the periods are locked.
_SEEN = f"""
{_CAPS.format(name="seen", periods="current")}, room AS MATERIALIZED (SELECT 1 FROM seen HAVING {_ROOM})
"""  # noqa: S608
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
CAP = "scope, used_usd, limit_usd, max_job_usd, ends_at"
_OUTCOME = f"""
SELECT {CAP}, EXISTS (SELECT 1 FROM admitted), ARRAY(SELECT id FROM warned) FROM cap ORDER BY scope DESC
"""  # noqa: S608


class BudgetExceeded(DomainError):
    """`scope` names the cap that refused: job, user_month, user_day or team_month."""

    code, status, title = "budget_exceeded", 402, "The budget does not cover the request"


@dataclass(frozen=True, slots=True)
class _Cap:
    """What a statement says of one period, the columns `CAP`; `used_usd` as it was before."""

    scope: str
    used_usd: Decimal
    limit_usd: Decimal | None
    max_job_usd: Decimal | None
    ends_at: datetime


def taking(*effects: str, periods: str, hold: str = "", posted: str = POSTED) -> str:
    """The statement that takes `%(spent)s` and `%(held)s` where every cap has room, with the `effects` on the hold.

    `posted`: empty for what is posted by another statement of the same transaction.
    """
    parts = [hold, periods, CAPS, ADMITTED, MOVED, posted, _WARNED, *effects]
    return "WITH " + ",".join(part for part in parts if part) + _OUTCOME


def taking_for(purchase: str, *effects: str) -> str:
    """The WITH of a statement that takes money for what it stores itself, before any period is locked.

    `purchase`: expressions that may read `room` (a row if every cap has room, as far as is seen without a lock) and
    end with `purchase`: a row if there is something to take money for. What is told is the caller's to add: the
    columns `CAP` of `seen`, for `refusal`, and the ids in `warned`, for `warn`.
    """
    locked = _LOCKED.format(only_if="EXISTS (SELECT 1 FROM purchase)")
    return "WITH " + ",".join(
        [_CURRENT, _SEEN, purchase, locked, CAPS, ADMITTED, MOVED, POSTED, _WARNED, *effects]
    )


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of such a statement: `values`, and what they leave out."""
    limits = {"overdraft": settings.BUDGET_OVERDRAFT_USD, "percents": settings.BUDGET_WARNING_PERCENTS}
    return {"spent": money.ZERO, "held": money.ZERO, "reason": "", "by": "", **limits, **values}


def take(statement: str, values: dict[str, Any]) -> bool:
    """Runs a statement of `taking` and rings for the thresholds it passed. False: there are no periods to take from.

    Raises BudgetExceeded if a cap has no room; then nothing was changed.
    """
    values = given(values)
    told = rows.select(statement, values)
    if not told:
        return False
    *_, admitted, warnings = told[0]
    if not admitted:
        raise refusal(
            [row[:5] for row in told], requested=values["spent"] + values["held"], job=values["job"]
        )
    warn(warnings)
    return True


def warn(warnings: Sequence[uuid.UUID]) -> None:
    """Rings for the thresholds that were passed."""
    for warning in warnings:
        bell.ring("ops.budget_warning", id=warning, queue="control")


def refusal(told: Sequence[Sequence[Any]], *, requested: Decimal, job: Decimal) -> BudgetExceeded:
    """Names the cap that stays in the way longest: that of one job for good, else the period that ends last.

    `told`: the columns `CAP` of every cap."""
    caps = [_Cap(*row) for row in told]
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
