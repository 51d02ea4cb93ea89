"""Do the books agree? Every check is one query that names what does not."""

from typing import Any

from django.db import connection

# M2: a period's balances are the sums of its entries.
_BALANCES = """
SELECT 'balance', p.id::text,
       format('spent %s, entries %s; held %s, entries %s', p.spent_usd, e.spent, p.held_usd, e.held)
FROM ledger_budgetperiod p
CROSS JOIN LATERAL (SELECT COALESCE(sum(spent_delta_usd), 0) AS spent, COALESCE(sum(held_delta_usd), 0) AS held
                    FROM ledger_entry WHERE period_id = p.id) e
WHERE p.spent_usd <> e.spent OR p.held_usd <> e.held
"""
# What a period holds is the sum of its open holds.
_HELD = """
SELECT 'held', p.id::text, format('held %s, open holds %s', p.held_usd, h.held)
FROM ledger_budgetperiod p
CROSS JOIN LATERAL (SELECT COALESCE(sum(amount_usd), 0) AS held FROM ledger_hold
                    WHERE period_id = p.id AND state = 'held') h
WHERE p.held_usd <> h.held
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
QUERIES = (_BALANCES, _HELD, _PHANTOMS, _CHARGES, _ATTEMPTS)


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
