"""Reading the ledger."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection

from apps.core import clock, money
from apps.ledger import periods

_BALANCE = """
SELECT COALESCE(b.limit_usd, t.monthly_budget_usd), p.spent_usd, p.held_usd, p.starts_at, p.ends_at
FROM accounts_user u
JOIN accounts_tier t ON t.slug = u.tier_id
LEFT JOIN ledger_budget b ON b.user_id = u.id
LEFT JOIN ledger_budgetperiod p ON p.user_id = u.id AND p.starts_at <= %(now)s AND p.ends_at > %(now)s
WHERE u.id = %(user_id)s
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's current month, USD."""

    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    starts_at: datetime
    ends_at: datetime

    @property
    def remaining_usd(self) -> Decimal:
        return max(money.ZERO, self.limit_usd - self.spent_usd - self.held_usd)


def balance(*, user_id: uuid.UUID, timezone: str) -> Balance:
    """The balance of the month that contains now; a month in which nothing happened yet is empty."""
    at = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(_BALANCE, {"user_id": user_id, "now": at})
        limit, spent, held, starts_at, ends_at = cursor.fetchone()
    if starts_at is None:
        starts_at, ends_at = periods.month_around(at, timezone)
    return Balance(limit, spent or money.ZERO, held or money.ZERO, starts_at, ends_at)
