"""Budget months: half-open UTC intervals of the calendar month in the user's time zone (M6)."""

import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.db import connection

_OPEN = """
INSERT INTO ledger_budgetperiod (user_id, starts_at, ends_at, spent_usd, held_usd)
SELECT %(user_id)s, %(starts_at)s, %(ends_at)s, 0, 0
-- A user who changed the time zone keeps the running period to its end: periods never overlap.
WHERE NOT EXISTS (SELECT 1 FROM ledger_budgetperiod
                  WHERE user_id = %(user_id)s AND starts_at <= %(at)s AND ends_at > %(at)s)
ON CONFLICT DO NOTHING
"""


def month_around(at: datetime, timezone: str) -> tuple[datetime, datetime]:
    """The calendar month of `at` in `timezone`, as the UTC interval [start, end)."""
    zone = ZoneInfo(timezone)
    local = at.astimezone(zone)
    start = datetime(local.year, local.month, 1, tzinfo=zone)
    end = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)
    return start.astimezone(UTC), end.astimezone(UTC)


def open_current(*, user_id: uuid.UUID, timezone: str, at: datetime) -> None:
    """Opens the period that contains `at` unless there is one. Safe to call at once from many places."""
    starts_at, ends_at = month_around(at, timezone)
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"user_id": user_id, "starts_at": starts_at, "ends_at": ends_at, "at": at})
