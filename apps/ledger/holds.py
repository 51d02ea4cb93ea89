"""Two-phase spending: reserve an upper bound, then capture the cost or release it. Each hold resolves once.

Every verb is one statement, so that money and its posting cannot part; all join the caller's transaction.
"""

import uuid
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection

from apps.core import clock, money, rows
from apps.core.errors import DomainError
from apps.core.ids import uuid7
from apps.ledger import periods, statements


class BudgetExceeded(DomainError):
    code, status, title = "budget_exceeded", 402, "The budget of this month does not cover the request"


class HoldResolved(Exception):
    """The hold was captured or released before: a caller lost its fence."""


# The limit is read where it is edited (tier or override), so a change by ops holds for the next request.
_LIMIT = """(SELECT COALESCE(b.limit_usd, t.monthly_budget_usd)
             FROM accounts_user u JOIN accounts_tier t ON t.slug = u.tier_id
             LEFT JOIN ledger_budget b ON b.user_id = u.id WHERE u.id = p.user_id) + %(overdraft)s"""

_RESERVE = f"""
WITH period AS (
    UPDATE ledger_budgetperiod p SET held_usd = p.held_usd + %(amount)s
    WHERE p.user_id = %(user_id)s AND p.starts_at <= %(now)s AND p.ends_at > %(now)s
      AND p.spent_usd + p.held_usd + %(amount)s <= {_LIMIT}
    RETURNING p.id
), hold AS (
    INSERT INTO ledger_hold (id, reference, period_id, amount_usd, captured_usd, state, price_id, created_at)
    SELECT %(hold_id)s, %(reference)s, id, %(amount)s, 0, 'held', %(price_id)s, %(now)s FROM period
)
INSERT INTO ledger_entry
       (kind, reference, period_id, amount_usd, spent_delta_usd, held_delta_usd, reason, posted_at)
SELECT 'hold', %(reference)s, id, %(amount)s, 0, %(amount)s, '', %(now)s FROM period
"""  # noqa: S608 - only our own constant is interpolated

_RESOLVE = """
WITH hold AS (
    UPDATE ledger_hold SET state = %(state)s, resolved_at = %(now)s, captured_usd = LEAST(amount_usd, %(cost)s)
    WHERE reference = %(reference)s AND state = 'held'
    RETURNING period_id, amount_usd, captured_usd
), period AS (
    UPDATE ledger_budgetperiod p
    SET held_usd = p.held_usd - hold.amount_usd, spent_usd = p.spent_usd + hold.captured_usd
    FROM hold WHERE p.id = hold.period_id
), posted AS (
    INSERT INTO ledger_entry
           (kind, reference, period_id, amount_usd, spent_delta_usd, held_delta_usd, reason, posted_at)
    SELECT 'capture', %(reference)s, period_id, captured_usd, captured_usd, -captured_usd, '', %(now)s
    FROM hold WHERE captured_usd > 0
    UNION ALL
    SELECT 'release', %(reference)s, period_id, amount_usd - captured_usd, 0, captured_usd - amount_usd,
           %(reason)s, %(now)s
    FROM hold WHERE amount_usd > captured_usd
)
SELECT captured_usd, period_id FROM hold
"""

_EXTEND = f"""
WITH period AS (
    UPDATE ledger_budgetperiod p SET spent_usd = p.spent_usd + %(amount)s
    WHERE p.id = %(period_id)s AND p.spent_usd + p.held_usd + %(amount)s <= {_LIMIT}
    RETURNING p.id
)
INSERT INTO ledger_entry
       (kind, reference, period_id, amount_usd, spent_delta_usd, held_delta_usd, reason, posted_at)
SELECT 'charge', %(reference)s, id, %(amount)s, %(amount)s, 0, 'cost above the hold', %(now)s FROM period
"""  # noqa: S608

_ABSORB = """
INSERT INTO ledger_entry
       (kind, reference, period_id, amount_usd, spent_delta_usd, held_delta_usd, reason, posted_at)
SELECT 'platform_absorbed', %(reference)s, period_id, %(amount)s, 0, 0, %(reason)s, %(now)s
FROM ledger_hold WHERE reference = %(reference)s
"""


def reserve(
    *, user_id: uuid.UUID, timezone: str, reference: uuid.UUID, amount_usd: Decimal, price_id: uuid.UUID
) -> None:
    """Holds `amount_usd`, an upper bound of the cost, in the user's current month.

    Raises BudgetExceeded, with the figures a client needs, when spent + held + amount would pass the limit (M1).
    """
    at = clock.now()
    values = {
        "user_id": user_id,
        "reference": reference,
        "hold_id": uuid7(),
        "amount": money.amount(amount_usd),
        "price_id": price_id,
        "now": at,
        "overdraft": settings.BUDGET_OVERDRAFT_USD,
    }
    if rows.execute(_RESERVE, values):
        return
    periods.open_current(user_id=user_id, timezone=timezone, at=at)
    if rows.execute(_RESERVE, values):
        return
    raise _exceeded(user_id=user_id, timezone=timezone, requested=money.amount(amount_usd))


def capture(*, reference: uuid.UUID, cost_usd: Decimal) -> Decimal:
    """Turns the hold into a charge of `cost_usd` and frees the rest. Returns what the user pays.

    A cost above the hold is charged too if the budget has room, else the platform absorbs the rest (M3).
    Raises HoldResolved if the hold was resolved before.
    """
    cost = money.amount(cost_usd)
    captured, period_id = _resolve(reference=reference, state="captured", cost=cost, reason="below the hold")
    excess = cost - captured
    if excess <= 0:
        return captured
    values = {
        "period_id": period_id,
        "reference": reference,
        "amount": excess,
        "now": clock.now(),
        "overdraft": settings.BUDGET_OVERDRAFT_USD,
    }
    if rows.execute(_EXTEND, values):
        return cost
    absorb(reference=reference, amount_usd=excess, reason="cost above the hold, no room in the budget")
    return captured


def release(*, reference: uuid.UUID, reason: str) -> None:
    """Frees the whole hold. Raises HoldResolved if it was resolved before."""
    _resolve(reference=reference, state="released", cost=money.ZERO, reason=reason)


def absorb(*, reference: uuid.UUID, amount_usd: Decimal, reason: str) -> None:
    """Books a cost of the purchase `reference` that its user does not pay (M5)."""
    if amount_usd > 0:
        values = {
            "reference": reference,
            "amount": money.amount(amount_usd),
            "reason": reason,
            "now": clock.now(),
        }
        rows.execute(_ABSORB, values)


def _resolve(*, reference: uuid.UUID, state: str, cost: Decimal, reason: str) -> tuple[Decimal, int]:
    values: dict[str, Any] = {
        "reference": reference,
        "state": state,
        "cost": cost,
        "reason": reason,
        "now": clock.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_RESOLVE, values)
        row: tuple[Decimal, int] | None = cursor.fetchone()
    if row is None:
        raise HoldResolved(reference)
    return row


def _exceeded(*, user_id: uuid.UUID, timezone: str, requested: Decimal) -> BudgetExceeded:
    balance = statements.balance(user_id=user_id, timezone=timezone)
    return BudgetExceeded(
        f"This needs {money.text(requested)} USD; {money.text(balance.remaining_usd)} USD remain until "
        f"{balance.ends_at:%Y-%m-%d %H:%M} UTC.",
        current=money.text(balance.spent_usd + balance.held_usd),
        limit=money.text(balance.limit_usd),
        requested=money.text(requested),
        reset_date=balance.ends_at.isoformat(),
    )
