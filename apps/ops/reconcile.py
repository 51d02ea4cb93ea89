"""Do the books agree? Every check is one query that names what does not."""

from typing import Any

from django.db import connection

# M2: a period's balances are the sums of its entries; every entry is in a month and a day of its user and a month of
# its team.
_BALANCES = """
SELECT 'balance', p.id::text,
       format('spent %s, entries %s; held %s, entries %s', p.spent_usd, e.spent, p.held_usd, e.held)
FROM ledger_budgetperiod p
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS spent, COALESCE(sum(held_delta_usd), 0) AS held
                    FROM ledger_entry WHERE p.id IN (period_id, day_period_id, team_period_id)) e
WHERE p.spent_usd <> e.spent OR p.held_usd <> e.held
"""
# What a period holds is the sum of its open holds.
_HELD = """
SELECT 'held', p.id::text, format('held %s, open holds %s', p.held_usd, COALESCE(h.held, 0))
FROM ledger_budgetperiod p
LEFT JOIN (SELECT id, sum(amount_usd) AS held
           FROM (SELECT unnest(ARRAY[period_id, day_period_id, team_period_id]) AS id, amount_usd
                 FROM ledger_hold WHERE state = 'held') AS open
           GROUP BY id) h USING (id)
WHERE p.held_usd <> COALESCE(h.held, 0)
"""
# A hold knows what was charged for it and given back (M7).
_PURCHASES = """
SELECT 'purchase', h.reference::text,
       format('charged %s, entries %s; refunded %s, entries %s', h.captured_usd, e.paid, h.refunded_usd, e.refunded)
FROM ledger_hold h
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(spent_delta_usd) FILTER (WHERE kind IN ('capture', 'charge')), 0) AS paid,
           COALESCE(-sum(spent_delta_usd) FILTER (WHERE kind = 'refund'), 0) AS refunded
    FROM ledger_entry WHERE reference = h.reference) e
WHERE h.captured_usd <> e.paid OR h.refunded_usd <> e.refunded
"""
# M10: an ended job holds nothing, unless the outcome of an attempt is unknown; an open job always holds.
_PHANTOMS = """
SELECT 'phantom hold', j.id::text, format('job %s, hold %s', j.status, h.state)
FROM jobs_job j JOIN ledger_hold h ON h.reference = j.id
WHERE (j.status IN ('completed', 'failed', 'canceled') AND h.state = 'held'
       AND NOT EXISTS (SELECT 1 FROM jobs_attempt a WHERE a.job_id = j.id AND a.status = 'unknown'))
   OR (j.status IN ('queued', 'running') AND h.state <> 'held')
"""
# M4: what the user paid is what was captured and charged for the job.
_CHARGES = """
SELECT 'charge', j.id::text, format('job says %s, ledger %s', j.cost_usd, e.paid)
FROM jobs_job j
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS paid FROM ledger_entry
                    WHERE reference = j.id AND kind IN ('capture', 'charge')) e
WHERE j.cost_usd <> e.paid
"""
# M5: what users paid and what the platform absorbed is together what the providers bill us.
_ATTEMPTS = """
SELECT 'attempts', j.id::text, format('billed %s, booked %s', a.billed, e.booked)
FROM jobs_job j
CROSS JOIN LATERAL (SELECT COALESCE(sum(price_usd), 0) AS billed FROM jobs_attempt
                    WHERE job_id = j.id AND billed = 'yes' AND status NOT IN ('started', 'submitted', 'fetched')) a
CROSS JOIN LATERAL (SELECT COALESCE(sum(amount_usd), 0) AS booked FROM ledger_entry
                    WHERE reference = j.id AND kind IN ('capture', 'charge', 'platform_absorbed')) e
WHERE a.billed <> e.booked
"""
# What the records of usage cost is what was paid in the month...
_USAGE = """
SELECT 'usage', p.id::text, format('records %s, entries %s', u.cost, e.paid)
FROM ledger_budgetperiod p
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS paid FROM ledger_entry
                    WHERE period_id = p.id AND kind IN ('capture', 'charge', 'refund')) e
CROSS JOIN LATERAL (SELECT COALESCE(sum(cost_usd), 0) AS cost FROM ledger_usagerecord WHERE period_id = p.id) u
WHERE p.scope = 'user_month' AND u.cost <> e.paid
"""
# ... and the sums of a day are those of its records.
_ROLL_UPS = """
SELECT 'roll-up', concat_ws(' ', user_id, day, model, provider),
       format('jobs %s, records %s; cost %s, records %s', d.jobs, r.jobs, d.cost_usd, r.cost_usd)
FROM ledger_usageday d
FULL JOIN (SELECT user_id, team_id, day, model, provider, cached, sum(jobs) AS jobs, sum(cost_usd) AS cost_usd,
                  sum(estimated_usd) AS estimated_usd, sum(saved_usd) AS saved_usd, sum(generation_ms) AS generation_ms
           FROM ledger_usagerecord GROUP BY user_id, team_id, day, model, provider, cached) r
     USING (user_id, team_id, day, model, provider, cached)
WHERE (d.jobs, d.cost_usd, d.estimated_usd, d.saved_usd, d.generation_ms)
      IS DISTINCT FROM (r.jobs, r.cost_usd, r.estimated_usd, r.saved_usd, r.generation_ms)
"""
QUERIES = (_BALANCES, _HELD, _PURCHASES, _PHANTOMS, _CHARGES, _ATTEMPTS, _USAGE, _ROLL_UPS)


def differences() -> list[dict[str, Any]]:
    """Every disagreement: `{"check", "id", "detail"}`. Empty is right."""
    found = []
    with connection.cursor() as cursor:
        for sql in QUERIES:
            cursor.execute(sql)
            found += [
                {"check": check, "id": row, "detail": detail} for check, row, detail in cursor.fetchall()
            ]
    return found
