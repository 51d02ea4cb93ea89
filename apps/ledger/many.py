"""Many purchases in one go: reserved together, released together, recorded together. Each has its own hold and entries
as if it had come alone; statements and locks are as many as for one.

Every verb joins the caller's transaction. Lock order: holds, then their periods.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from apps.core import clock, money, rows
from apps.core.ids import uuid7
from apps.ledger import periods, posting
from apps.ledger.usage import CACHE

_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Purchase:
    """`amount_usd`: an upper bound of the cost of the purchase `reference`, at a frozen price version."""

    reference: uuid.UUID
    amount_usd: Decimal
    price_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Cached:
    """A purchase answered from the cache: whose and when, what it was, what it was estimated to cost, and what that
    saved, USD."""

    reference: uuid.UUID
    user_id: uuid.UUID
    at: datetime
    kind: str
    model: str
    estimated_usd: Decimal
    saved_usd: Decimal


_PERIODS = """
SELECT max(p.id) FILTER (WHERE p.scope = 'user_month'), max(p.id) FILTER (WHERE p.scope = 'user_day'),
       max(p.id) FILTER (WHERE p.scope = 'team_month'), max(p.first_day) FILTER (WHERE p.scope = 'user_day'),
       (array_agg(p.team_id) FILTER (WHERE p.scope = 'team_month'))[1]
FROM accounts_user u JOIN ledger_budgetperiod p ON p.user_id = u.id OR p.team_id = u.team_id
WHERE u.id = %(user_id)s AND p.ends_at > %(now)s AND p.starts_at <= %(now)s
HAVING count(*) = 3
"""
_HOLD = f"""
WITH purchase AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(references)s::uuid[], %(amounts)s::numeric[], %(prices)s::uuid[])
                  AS p (id, reference, amount, price_id)
), hold AS (
    INSERT INTO ledger_hold (id, reference, period_id, day_period_id, team_period_id, amount_usd, captured_usd,
                             refunded_usd, state, price_id, created_at)
    SELECT id, reference, %(period)s, %(day)s, %(team)s, amount, 0, 0, 'held', price_id, %(now)s FROM purchase
)
{posting.INTO_ENTRY}
SELECT 'hold', reference, %(period)s, %(day)s, %(team)s, %(user_id)s, %(team_id)s, price_id,
       amount, 0, amount, 0, '', '', %(now)s
FROM purchase
"""  # noqa: S608 - only our own constants are interpolated
# The sum of all, where every cap has room. Last, for whoever else buys from these periods waits from here on.
_TAKE = posting.taking(
    hold="""
    hold AS MATERIALIZED (
        SELECT %(period)s::bigint AS period_id, %(day)s::bigint AS day_period_id, %(team)s::bigint AS team_period_id
    )
    """,
    periods=posting.OF_HOLD,
    posted="",
)
_RELEASE = f"""
WITH hold AS (
    UPDATE ledger_hold SET state = 'released', resolved_at = %(now)s
    WHERE reference = ANY(%(references)s::uuid[]) AND state = 'held'
    RETURNING reference, period_id, day_period_id, team_period_id, amount_usd, price_id
), freed AS MATERIALIZED (
    SELECT period.id, sum(amount_usd) AS amount
    FROM hold, LATERAL (VALUES (period_id), (day_period_id), (team_period_id)) AS period (id) GROUP BY period.id
), locked AS MATERIALIZED (
    SELECT p.id, p.user_id, p.team_id FROM ledger_budgetperiod p WHERE p.id IN (SELECT id FROM freed)
    ORDER BY p.scope DESC, p.id FOR NO KEY UPDATE
), moved AS (
    UPDATE ledger_budgetperiod p SET held_usd = p.held_usd - freed.amount
    FROM freed JOIN locked ON locked.id = freed.id WHERE p.id = freed.id
), posted AS ({posting.INTO_ENTRY}
    SELECT 'release', h.reference, h.period_id, h.day_period_id, h.team_period_id, m.user_id, g.team_id, h.price_id,
           h.amount_usd, 0, -h.amount_usd, 0, %(reason)s, '', %(now)s
    FROM hold h JOIN locked m ON m.id = h.period_id JOIN locked g ON g.id = h.team_period_id
)
SELECT count(*) FROM hold
"""  # noqa: S608
# Tells whose periods are not open yet, with a moment that they should contain.
_CACHED = f"""
WITH item AS (
    SELECT * FROM unnest(%(references)s::uuid[], %(users)s::uuid[], %(times)s::timestamptz[], %(kinds)s::text[],
                         %(models)s::text[], %(estimated)s::numeric[], %(saved)s::numeric[])
                  AS i (reference, user_id, at, kind, model, estimated, saved)
), placed AS MATERIALIZED (
    SELECT i.*, m.id AS period_id, d.id AS day_period_id, g.id AS team_period_id, g.team_id, d.first_day AS day
    FROM item i JOIN accounts_user u ON u.id = i.user_id
    JOIN ledger_budgetperiod m
      ON m.user_id = u.id AND m.scope = 'user_month' AND i.at >= m.starts_at AND i.at < m.ends_at
    JOIN ledger_budgetperiod d
      ON d.user_id = u.id AND d.scope = 'user_day' AND i.at >= d.starts_at AND i.at < d.ends_at
    JOIN ledger_budgetperiod g
      ON g.team_id = u.team_id AND g.scope = 'team_month' AND i.at >= g.starts_at AND i.at < g.ends_at
), record AS (
    INSERT INTO ledger_usagerecord (reference, period_id, user_id, team_id, day, kind, model, provider, cached, jobs,
                                    cost_usd, estimated_usd, saved_usd, generation_ms, at)
    SELECT reference, period_id, user_id, team_id, day, kind, model, %(provider)s, true, 1,
           0, estimated, saved, 0, %(now)s
    FROM placed
    ON CONFLICT (reference) WHERE jobs = 1 DO NOTHING
    RETURNING *
), posted AS ({posting.INTO_ENTRY}
    SELECT 'charge', p.reference, p.period_id, p.day_period_id, p.team_period_id, p.user_id, p.team_id, NULL,
           0, 0, 0, p.saved, 'from the cache', '', %(now)s
    FROM placed p JOIN record r ON r.reference = p.reference
), summed AS (
    INSERT INTO ledger_usageday AS d (user_id, team_id, day, model, provider, cached, jobs,
                                      cost_usd, estimated_usd, saved_usd, generation_ms)
    SELECT user_id, team_id, day, model, provider, true, count(*), 0, sum(estimated_usd), sum(saved_usd), 0
    FROM record GROUP BY user_id, team_id, day, model, provider
    -- Rows are locked in one order, so that two who record do not wait for each other in a circle.
    ORDER BY user_id, day, model, provider, team_id
    ON CONFLICT (user_id, day, model, provider, cached, team_id) DO UPDATE SET
        jobs = d.jobs + EXCLUDED.jobs, estimated_usd = d.estimated_usd + EXCLUDED.estimated_usd,
        saved_usd = d.saved_usd + EXCLUDED.saved_usd
)
SELECT DISTINCT u.id, u.timezone, i.at FROM item i JOIN accounts_user u ON u.id = i.user_id
WHERE u.team_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM placed p WHERE p.reference = i.reference)
"""  # noqa: S608


def reserve(*, user_id: uuid.UUID, timezone: str, purchases: Sequence[Purchase]) -> None:
    """A hold for each of the purchases, in the user's month and day and in the team's month; all or none.

    Raises BudgetExceeded when their sum has no room there, or the dearest of them none in the cap of one job.
    """
    if not purchases:
        return
    now = clock.now()
    values = {**_periods(user_id, timezone, now), "now": now}
    for some in _parts(purchases):
        columns = {
            "ids": [uuid7() for _ in some],
            "references": [purchase.reference for purchase in some],
            "amounts": [purchase.amount_usd for purchase in some],
            "prices": [purchase.price_id for purchase in some],
        }
        rows.execute(_HOLD, {**values, **columns})
    total = sum((purchase.amount_usd for purchase in purchases), money.ZERO)
    dearest = max(purchase.amount_usd for purchase in purchases)
    posting.take(_TAKE, {**values, "held": total, "job": dearest})


def release(references: Sequence[uuid.UUID], *, reason: str) -> int:
    """Frees the holds that are open of these purchases. Returns how many."""
    values = {"references": list(references), "reason": reason, "now": clock.now()}
    [(released,)] = rows.select(_RELEASE, values)
    return int(released)


def record_cached(items: Sequence[Cached]) -> None:
    """Records answers from the cache, each once, however often it is asked: an entry of 0 with what it saved, the
    record, and the sums of the day on which it was given."""
    for some in _parts(items):
        values = {
            "references": [item.reference for item in some],
            "users": [item.user_id for item in some],
            "times": [item.at for item in some],
            "kinds": [item.kind for item in some],
            "models": [item.model for item in some],
            "estimated": [item.estimated_usd for item in some],
            "saved": [item.saved_usd for item in some],
            "provider": CACHE,
            "now": clock.now(),
        }
        closed = rows.select(_CACHED, values)
        for user_id, timezone, at in closed:
            periods.open_current(user_id=user_id, timezone=timezone, at=at)
        if closed:
            rows.execute(_CACHED, values)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def _periods(user_id: uuid.UUID, timezone: str, at: datetime) -> dict[str, Any]:
    """The ids of the three current periods, opened if they are not, and whose they are. None of them is locked."""
    found = rows.select(_PERIODS, {"user_id": user_id, "now": at})
    if not found:
        periods.open_current(user_id=user_id, timezone=timezone, at=at)
        found = rows.select(_PERIODS, {"user_id": user_id, "now": at})
    [(period, day, team, first_day, team_id)] = found
    return {
        "period": period,
        "day": day,
        "team": team,
        "first_day": first_day,
        "team_id": team_id,
        "user_id": user_id,
    }
