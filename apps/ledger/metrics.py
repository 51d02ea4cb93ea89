"""What is measured of money, from rows."""

from apps.core import clock, rows
from apps.core.telemetry.instruments import Totals, of_rows, readings

HELD = of_rows("gauge", "ledger.held.usd", "Held for purchases that go on", unit="{USD}")
SPENT = of_rows("gauge", "ledger.spent.usd", "Spent by all teams in their months that go on", unit="{USD}")

_HELD = "SELECT COALESCE(sum(amount_usd), 0) FROM ledger_hold WHERE state = 'held'"
# By the index that serves admission, team by team: the cost does not grow with the months gone by.
_SPENT = """
SELECT COALESCE(sum(p.spent_usd), 0) FROM accounts_team t CROSS JOIN LATERAL (
    SELECT spent_usd FROM ledger_budgetperiod
    WHERE team_id = t.id AND ends_at > %(now)s AND starts_at <= %(now)s AND scope = 'team_month'
    ORDER BY ends_at LIMIT 1) p
"""


def totals() -> Totals:
    """USD held and spent now."""
    [(held,)], [(spent,)] = rows.select(_HELD, {}), rows.select(_SPENT, {"now": clock.now()})
    return readings({HELD: held, SPENT: spent})
