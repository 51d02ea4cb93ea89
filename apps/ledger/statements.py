"""Reading the ledger: what a user may still spend. At constant cost, however much was booked."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from apps.core import clock, money, rows
from apps.ledger import periods
from apps.ledger.models import Scope

_CAPS = """
SELECT g.timezone, s.scope,
       CASE s.scope WHEN 'user_month' THEN COALESCE(b.limit_usd, t.monthly_budget_usd)
                    WHEN 'user_day' THEN COALESCE(b.daily_limit_usd, t.daily_budget_usd)
                    ELSE gb.limit_usd END,
       COALESCE(b.max_job_usd, t.max_job_usd), p.spent_usd, p.held_usd, p.starts_at, p.ends_at
FROM accounts_user u
JOIN accounts_tier t ON t.slug = u.tier_id
JOIN accounts_team g ON g.id = u.team_id
LEFT JOIN ledger_budget b ON b.user_id = u.id
LEFT JOIN ledger_teambudget gb ON gb.team_id = u.team_id
CROSS JOIN unnest(%(scopes)s::text[]) WITH ORDINALITY AS s (scope, place)
LEFT JOIN ledger_budgetperiod p ON (p.user_id = u.id OR p.team_id = u.team_id) AND p.scope = s.scope
     AND p.starts_at <= %(now)s AND p.ends_at > %(now)s
WHERE u.id = %(user_id)s
ORDER BY s.place
"""

_WARNINGS = """
SELECT p.scope, w.threshold, w.used_usd, w.limit_usd, w.created_at
FROM accounts_user u
JOIN ledger_budgetperiod p ON (p.user_id = u.id OR p.team_id = u.team_id)
     AND p.starts_at <= %(now)s AND p.ends_at > %(now)s
JOIN ledger_budgetwarning w ON w.period_id = p.id
WHERE u.id = %(user_id)s
ORDER BY w.created_at, w.threshold
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """A current period, USD."""

    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    starts_at: datetime
    ends_at: datetime

    @property
    def remaining_usd(self) -> Decimal:
        return max(money.ZERO, self.limit_usd - self.spent_usd - self.held_usd)

    @property
    def percent_used(self) -> Decimal | None:
        """Spent and held, of the limit, to two places; None of a limit of 0."""
        if not self.limit_usd:
            return None
        return ((self.spent_usd + self.held_usd) * 100 / self.limit_usd).quantize(Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Caps:
    """All that bounds a user's next purchase: the balances of the current periods, where they have a limit, and the
    cap of one job, USD."""

    user_month: Balance
    user_day: Balance | None
    team_month: Balance | None
    max_job_usd: Decimal | None


def balance(*, user_id: uuid.UUID, timezone: str) -> Balance:
    """The balance of the user's month that contains now; a month in which nothing happened yet is empty."""
    return caps(user_id=user_id, timezone=timezone).user_month


def caps(*, user_id: uuid.UUID, timezone: str) -> Caps:
    """Every cap as it is now, by one query."""
    at = clock.now()
    balances: dict[str, Balance | None] = {}
    max_job_usd = None
    values = {"user_id": user_id, "now": at, "scopes": list(Scope.values)}
    for team_timezone, scope, limit, job, spent, held, starts_at, ends_at in rows.select(_CAPS, values):
        max_job_usd = job
        if limit is None:
            balances[scope] = None
        elif starts_at is not None:
            balances[scope] = Balance(limit, spent, held, starts_at, ends_at)
        else:
            # Not opened yet: nothing happened in it.
            span = periods.span_around(scope, at, team_timezone if scope == Scope.TEAM_MONTH else timezone)
            balances[scope] = Balance(limit, money.ZERO, money.ZERO, span.starts_at, span.ends_at)
    month = balances.get(Scope.USER_MONTH)
    if month is None:
        raise LookupError(f"user {user_id} has no tier")
    return Caps(month, balances[Scope.USER_DAY], balances[Scope.TEAM_MONTH], max_job_usd)


@dataclass(frozen=True, slots=True)
class Warned:
    """A threshold, percent, that a period of `scope` passed, with the figures of that moment, USD."""

    scope: str
    threshold: int
    used_usd: Decimal
    limit_usd: Decimal
    at: datetime


def warnings(user_id: uuid.UUID) -> list[Warned]:
    """The thresholds that the user's current periods passed, in order. One query."""
    return [Warned(*row) for row in rows.select(_WARNINGS, {"user_id": user_id, "now": clock.now()})]
