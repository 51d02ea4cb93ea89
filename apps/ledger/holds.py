"""Two-phase spending: reserve an upper bound, then capture the cost or release it. Each hold resolves once.

Every verb joins the caller's transaction. Lock order: hold, then its periods.
"""

import uuid
from decimal import Decimal
from typing import Any

from django.db import IntegrityError

from apps.core import clock, money, rows
from apps.core.ids import uuid7
from apps.ledger import periods, posting
from apps.ledger.models import Entry, Hold
from apps.ledger.posting import BudgetExceeded as BudgetExceeded


class HoldResolved(Exception):
    """The hold was captured or released before: a caller lost its fence."""


_INTO_HOLD = """
INSERT INTO ledger_hold (id, reference, period_id, day_period_id, team_period_id, amount_usd, captured_usd,
                         refunded_usd, state, price_id, created_at)
SELECT %(hold_id)s, %(reference)s, period_id, day_period_id, team_period_id, %(held)s,
       0, 0, 'held', %(price_id)s, %(now)s
"""
_RESERVE = posting.taking(f"hold AS ({_INTO_HOLD} FROM admitted)", periods=posting.CURRENT)
# What is stored without room has no period to be held in: the constraint refuses all of it (`lost_room`).
_HOLD_FOR = f"hold AS ({_INTO_HOLD} FROM purchase LEFT JOIN admitted ON true)"
_LOCK = """
hold AS MATERIALIZED (
    SELECT * FROM ledger_hold WHERE reference = %(reference)s AND state = %(state)s FOR UPDATE
)
"""
_EXTEND = posting.taking(
    """
    raised AS (
        UPDATE ledger_hold h SET amount_usd = h.amount_usd + %(held)s FROM admitted WHERE h.reference = %(reference)s
    )
    """,
    hold=_LOCK,
    periods=posting.OF_HOLD,
)
_CHARGE = posting.taking(
    """
    charged AS (
        UPDATE ledger_hold h SET captured_usd = h.captured_usd + %(spent)s
        FROM admitted WHERE h.reference = %(reference)s
    )
    """,
    hold=_LOCK,
    periods=posting.OF_HOLD,
)
_RESOLVE = f"""
WITH hold AS (
    UPDATE ledger_hold SET state = %(state)s, resolved_at = %(now)s, captured_usd = LEAST(amount_usd, %(cost)s)
    WHERE reference = %(reference)s AND state = 'held'
    RETURNING period_id, day_period_id, team_period_id, amount_usd, captured_usd, price_id
), {posting.OF_HOLD}, {posting.GIVEN_BACK}, moved AS (
    UPDATE ledger_budgetperiod p
    SET held_usd = p.held_usd - hold.amount_usd, spent_usd = p.spent_usd + hold.captured_usd
    FROM hold, admitted a WHERE p.id IN (a.period_id, a.day_period_id, a.team_period_id)
), posted AS ({posting.INTO_ENTRY}
    SELECT line.kind, %(reference)s, a.period_id, a.day_period_id, a.team_period_id, a.user_id, a.team_id,
           COALESCE(%(price_id)s, hold.price_id), line.amount, line.spent, -line.amount, 0, line.reason, '', %(now)s
    FROM hold, admitted a, LATERAL (VALUES
        (1, 'capture', hold.captured_usd, hold.captured_usd, ''),
        (2, 'release', hold.amount_usd - hold.captured_usd, 0, %(reason)s)
    ) AS line (place, kind, amount, spent, reason)
    WHERE line.amount > 0
    ORDER BY line.place
)
SELECT captured_usd, COALESCE(%(price_id)s, price_id) FROM hold
"""  # noqa: S608 - only our own constants are interpolated
_ABSORB = f"""
{posting.INTO_ENTRY}
SELECT 'platform_absorbed', %(reference)s, h.period_id, h.day_period_id, h.team_period_id, p.user_id, g.team_id,
       COALESCE(%(price_id)s, h.price_id), %(amount)s, 0, 0, 0, %(reason)s, '', %(now)s
FROM ledger_hold h
JOIN ledger_budgetperiod p ON p.id = h.period_id
JOIN ledger_budgetperiod g ON g.id = h.team_period_id
WHERE h.reference = %(reference)s
"""  # noqa: S608


def reserve(
    *, user_id: uuid.UUID, timezone: str, reference: uuid.UUID, amount_usd: Decimal, price_id: uuid.UUID
) -> None:
    """Holds `amount_usd`, an upper bound of the cost, in the user's month and day and in the team's month.

    Raises BudgetExceeded, with the figures a client needs, when spent + held + amount would pass one of their limits
    (M1), or the amount the cap of one job.
    """
    values = asked(user_id=user_id, reference=reference, amount_usd=amount_usd, price_id=price_id)
    if not posting.take(_RESERVE, values):
        periods.open_current(user_id=user_id, timezone=timezone, at=values["now"])
        posting.take(_RESERVE, values)


def reserving(purchase: str) -> str:
    """The WITH of a statement that reserves for what it stores itself: `purchase`, see posting.taking_for."""
    return posting.taking_for(purchase, _HOLD_FOR)


def asked(
    *, user_id: uuid.UUID, reference: uuid.UUID, amount_usd: Decimal, price_id: uuid.UUID
) -> dict[str, Any]:
    """The parameters of such a statement."""
    amount = money.amount(amount_usd)
    return posting.given(
        {
            "kind": Entry.Kind.HOLD.value,
            "user_id": user_id,
            "reference": reference,
            "hold_id": uuid7(),
            "held": amount,
            "job": amount,
            "price_id": price_id,
            "now": clock.now(),
        }
    )


def lost_room(error: IntegrityError) -> bool:
    """Whether such a statement was refused because somebody took the room that it had seen. Another try sees that."""
    diagnosis = getattr(error.__cause__, "diag", None)
    return (getattr(diagnosis, "table_name", None), getattr(diagnosis, "column_name", None)) == (
        Hold._meta.db_table,
        "period_id",
    )


def extend(*, reference: uuid.UUID, amount_usd: Decimal, price_id: uuid.UUID) -> None:
    """Raises an open hold by `amount_usd`, as for a dearer fallback at the price version `price_id`.

    Raises BudgetExceeded where a cap has no room (the hold stays as it was), HoldResolved if it is not open.
    """
    hold = Hold.objects.filter(reference=reference, state=Hold.State.HELD).select_for_update().first()
    if hold is None:
        raise HoldResolved(reference)
    amount = money.amount(amount_usd)
    values = {
        "kind": Entry.Kind.HOLD.value,
        "reference": reference,
        "state": Hold.State.HELD.value,
        "held": amount,
        "job": hold.amount_usd + amount,
        "price_id": price_id,
        "reason": "more than was held",
        "now": clock.now(),
    }
    posting.take(_EXTEND, values)


def capture(*, reference: uuid.UUID, cost_usd: Decimal, price_id: uuid.UUID | None = None) -> Decimal:
    """Turns the hold into a charge of `cost_usd` and frees the rest. Returns what the user pays.

    `price_id`: the price version charged, where it is not the one held. A cost above the hold is charged too if every
    cap has room, else the platform absorbs the rest (M3). Raises HoldResolved if the hold was resolved before.
    """
    cost = money.amount(cost_usd)
    captured, price_id = _resolve(
        reference, Hold.State.CAPTURED, cost=cost, reason="below the hold", price_id=price_id
    )
    excess = cost - captured
    if excess <= 0:
        return captured
    values = {
        "kind": Entry.Kind.CHARGE.value,
        "reference": reference,
        "state": Hold.State.CAPTURED.value,
        "spent": excess,
        "job": cost,
        "price_id": price_id,
        "reason": "cost above the hold",
        "now": clock.now(),
    }
    try:
        posting.take(_CHARGE, values)
    except BudgetExceeded as refusal:
        absorb(
            reference=reference,
            amount_usd=excess,
            reason=f"cost above the hold, no room in {refusal.extra['scope']}",
            price_id=price_id,
        )
        return captured
    return cost


def release(*, reference: uuid.UUID, reason: str) -> None:
    """Frees the whole hold. Raises HoldResolved if it was resolved before."""
    _resolve(reference, Hold.State.RELEASED, cost=money.ZERO, reason=reason)


def absorb(
    *, reference: uuid.UUID, amount_usd: Decimal, reason: str, price_id: uuid.UUID | None = None
) -> None:
    """Books a cost of the purchase `reference` that its user does not pay (M5)."""
    if amount_usd > 0:
        values = {
            "reference": reference,
            "amount": money.amount(amount_usd),
            "reason": reason,
            "price_id": price_id,
            "now": clock.now(),
        }
        rows.execute(_ABSORB, values)


def _resolve(
    reference: uuid.UUID, state: Hold.State, *, cost: Decimal, reason: str, price_id: uuid.UUID | None = None
) -> tuple[Decimal, uuid.UUID]:
    values: dict[str, Any] = {
        "reference": reference,
        "state": state.value,
        "cost": cost,
        "reason": reason,
        "price_id": price_id,
        "now": clock.now(),
    }
    for captured_usd, charged_at in rows.select(_RESOLVE, values):
        return captured_usd, charged_at
    raise HoldResolved(reference)
