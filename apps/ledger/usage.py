"""What the money was spent on: one record for each job that was charged or answered from the cache, and its day's
sums. Each verb is one statement, in the caller's transaction."""

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from apps.core import clock, money, rows
from apps.ledger import periods, posting

CACHE = "cache"

_OF_HOLD = """
paid AS (
    SELECT h.period_id, p.user_id, g.team_id, d.first_day AS day
    FROM ledger_hold h
    JOIN ledger_budgetperiod p ON p.id = h.period_id
    JOIN ledger_budgetperiod d ON d.id = h.day_period_id
    JOIN ledger_budgetperiod g ON g.id = h.team_period_id
    WHERE h.reference = %(reference)s
)
"""
_RECORDED = """
record AS (
    INSERT INTO ledger_usagerecord (reference, period_id, user_id, team_id, day, kind, model, provider, cached, jobs,
                                    cost_usd, estimated_usd, saved_usd, generation_ms, at)
    SELECT %(reference)s, period_id, user_id, team_id, day, %(kind)s, %(model)s, %(provider)s, %(cached)s, 1,
           %(cost)s, %(estimated)s, %(saved)s, %(generation_ms)s, %(now)s
    FROM paid
    RETURNING *
)
"""
_INTO_DAY = """
INSERT INTO ledger_usageday AS d (user_id, team_id, day, model, provider, cached, jobs,
                                  cost_usd, estimated_usd, saved_usd, generation_ms)
SELECT user_id, team_id, day, model, provider, cached, jobs, cost_usd, estimated_usd, saved_usd, generation_ms
FROM record
ON CONFLICT (user_id, day, model, provider, cached, team_id) DO UPDATE SET
    jobs = d.jobs + EXCLUDED.jobs, cost_usd = d.cost_usd + EXCLUDED.cost_usd,
    estimated_usd = d.estimated_usd + EXCLUDED.estimated_usd, saved_usd = d.saved_usd + EXCLUDED.saved_usd,
    generation_ms = d.generation_ms + EXCLUDED.generation_ms
"""
_RECORD = f"WITH {_OF_HOLD}, {_RECORDED} {_INTO_DAY}"
# A cached result is bought without a hold: nothing is taken, so no balance is touched and no period is locked.
_RECORD_CACHED = f"""
WITH current AS (
    SELECT p.id, p.scope, p.user_id, p.team_id, p.first_day FROM accounts_user u
    JOIN ledger_budgetperiod p ON p.user_id = u.id OR p.team_id = u.team_id
    WHERE u.id = %(user_id)s AND p.ends_at > %(now)s AND p.starts_at <= %(now)s
), paid AS MATERIALIZED (
    SELECT m.id AS period_id, d.id AS day_period_id, g.id AS team_period_id, m.user_id, g.team_id, d.first_day AS day
    FROM current m, current d, current g
    WHERE m.scope = 'user_month' AND d.scope = 'user_day' AND g.scope = 'team_month'
), posted AS ({posting.INTO_ENTRY}
    SELECT 'charge', %(reference)s, period_id, day_period_id, team_period_id, user_id, team_id, NULL,
           0, 0, 0, %(saved)s, 'from the cache', '', %(now)s
    FROM paid
), {_RECORDED} {_INTO_DAY}
"""  # noqa: S608 - only our own constants are interpolated
_REFUNDED = f"""
WITH record AS (
    INSERT INTO ledger_usagerecord (reference, period_id, user_id, team_id, day, kind, model, provider, cached, jobs,
                                    cost_usd, estimated_usd, saved_usd, generation_ms, at)
    SELECT reference, period_id, user_id, team_id, day, kind, model, provider, cached, 0,
           -%(amount)s, 0, 0, 0, %(now)s
    FROM ledger_usagerecord WHERE reference = %(reference)s AND jobs = 1
    RETURNING *
) {_INTO_DAY}
"""  # noqa: S608
_DRIFT = """
SELECT model, sum(jobs), sum(estimated_usd), sum(cost_usd)
FROM ledger_usageday WHERE day >= %(since)s AND NOT cached
GROUP BY model ORDER BY model
"""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far what a model's jobs cost is from what they were estimated to cost, USD."""

    model: str
    jobs: int
    estimated_usd: Decimal
    cost_usd: Decimal

    @property
    def percent(self) -> Decimal | None:
        """Above zero: dearer than estimated. None: nothing was estimated."""
        if not self.estimated_usd:
            return None
        return ((self.cost_usd - self.estimated_usd) * 100 / self.estimated_usd).quantize(Decimal("0.01"))


def record(
    *,
    reference: uuid.UUID,
    kind: str,
    model: str,
    provider: str,
    cost_usd: Decimal,
    estimated_usd: Decimal,
    generation_ms: int,
) -> None:
    """Records the purchase whose hold is `reference`, with what its user paid, in the day that admitted it."""
    values = {
        "reference": reference,
        "kind": kind,
        "model": model,
        "provider": provider,
        "cached": False,
        "cost": cost_usd,
        "estimated": estimated_usd,
        "saved": money.ZERO,
        "generation_ms": generation_ms,
        "now": clock.now(),
    }
    rows.execute(_RECORD, values)


def record_cached(
    *,
    user_id: uuid.UUID,
    timezone: str,
    reference: uuid.UUID,
    kind: str,
    model: str,
    estimated_usd: Decimal,
    saved_usd: Decimal,
) -> None:
    """Records an answer from the cache: an entry of 0 with what it saved, the record and the day's sums."""
    at = clock.now()
    values = {
        "user_id": user_id,
        "reference": reference,
        "kind": kind,
        "model": model,
        "provider": CACHE,
        "cached": True,
        "cost": money.ZERO,
        "estimated": estimated_usd,
        "saved": money.amount(saved_usd),
        "generation_ms": 0,
        "now": at,
    }
    if not rows.execute(_RECORD_CACHED, values):
        periods.open_current(user_id=user_id, timezone=timezone, at=at)
        rows.execute(_RECORD_CACHED, values)


def refunded(*, reference: uuid.UUID, amount_usd: Decimal) -> None:
    """Takes a refund off what the purchase cost, by a record of its own in the same day."""
    rows.execute(_REFUNDED, {"reference": reference, "amount": amount_usd, "now": clock.now()})


def drift(since: date) -> list[Drift]:
    """Estimate and cost of each model's bought jobs from the day `since` on; refunds count as cost given back."""
    return [Drift(*row) for row in rows.select(_DRIFT, {"since": since})]
