"""Budget months and days: half-open UTC intervals of the calendar in the owner's time zone (M6)."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from apps.core import rows
from apps.ledger.models import Scope

# Longer than any period.
_PAST_ANY_PERIOD = timedelta(days=70)

# Locked one after the other, so that a period has one opener and periods never overlap. Whoever opens holds no period.
_OWNERS = """
SELECT t.id, t.timezone FROM accounts_user u JOIN accounts_team t ON t.id = u.team_id
WHERE u.id = %(user_id)s FOR NO KEY UPDATE
"""
_NEIGHBOURS = """
SELECT scope, max(ends_at) FILTER (WHERE ends_at <= %(at)s), min(starts_at) FILTER (WHERE starts_at > %(at)s),
       bool_or(starts_at <= %(at)s AND ends_at > %(at)s)
FROM ledger_budgetperiod
WHERE (user_id = %(user_id)s OR team_id = %(team_id)s) AND ends_at > %(recently)s
GROUP BY scope
"""
_OPEN = """
INSERT INTO ledger_budgetperiod (scope, user_id, team_id, first_day, starts_at, ends_at, spent_usd, held_usd)
VALUES (%(scope)s, %(user_id)s, %(team_id)s, %(first_day)s, %(starts_at)s, %(ends_at)s, 0, 0)
"""


@dataclass(frozen=True, slots=True)
class Span:
    """`[starts_at, ends_at)` in UTC, named by the local date on which it begins."""

    first_day: date
    starts_at: datetime
    ends_at: datetime


def month_around(at: datetime, timezone: str) -> Span:
    """The calendar month of `at` in `timezone`."""
    day = at.astimezone(ZoneInfo(timezone)).date().replace(day=1)
    return _between(day, (day + timedelta(days=31)).replace(day=1), timezone)


def day_around(at: datetime, timezone: str) -> Span:
    """The calendar day of `at` in `timezone`: 23, 24 or 25 hours."""
    day = at.astimezone(ZoneInfo(timezone)).date()
    return _between(day, day + timedelta(days=1), timezone)


def span_around(scope: str, at: datetime, timezone: str) -> Span:
    return (day_around if scope == Scope.USER_DAY else month_around)(at, timezone)


def open_current(*, user_id: uuid.UUID, timezone: str, at: datetime) -> None:
    """Opens what is missing of the user's month and day and the team's month that contain `at`.

    Safe to call at once from many places; to be called before the caller's transaction locks a period. Raises
    LookupError if the user has no team.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OWNERS, {"user_id": user_id})
        owner = cursor.fetchone()
        if owner is None:
            raise LookupError(f"user {user_id} is of no team: nothing can be bought")
        team_id, team_timezone = owner
        owners = {"user_id": user_id, "team_id": team_id}
        cursor.execute(_NEIGHBOURS, {**owners, "at": at, "recently": at - _PAST_ANY_PERIOD})
        neighbours = {scope: found for scope, *found in cursor.fetchall()}
        for scope in Scope.values:
            before, after, is_open = neighbours.get(scope, (None, None, False))
            if is_open:
                continue
            of_team = scope == Scope.TEAM_MONTH
            span = _between_neighbours(scope, at, team_timezone if of_team else timezone, before, after)
            rows.execute(
                _OPEN,
                {
                    "scope": scope,
                    "user_id": None if of_team else user_id,
                    "team_id": team_id if of_team else None,
                    "first_day": span.first_day,
                    "starts_at": span.starts_at,
                    "ends_at": span.ends_at,
                },
            )


def _between_neighbours(
    scope: str, at: datetime, timezone: str, before: datetime | None, after: datetime | None
) -> Span:
    """The span around `at`, cut so that it overlaps neither the period before nor the one after.

    They only meet when the owner's time zone has changed: the running period kept its end. A rest shorter than half
    a span is not worth a budget of its own; it belongs to the span after it.
    """
    span = span_around(scope, at, timezone)
    starts_at, ends_at, first_day = span.starts_at, span.ends_at, span.first_day
    if before and before > starts_at:
        starts_at = before
        if ends_at - starts_at < (span.ends_at - span.starts_at) / 2:
            following = span_around(scope, ends_at, timezone)
            first_day, ends_at = following.first_day, following.ends_at
    return Span(first_day, starts_at, min(ends_at, after) if after else ends_at)


def _between(first: date, last: date, timezone: str) -> Span:
    zone = ZoneInfo(timezone)
    starts_at, ends_at = (
        datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) for day in (first, last)
    )
    return Span(first, starts_at, ends_at)
