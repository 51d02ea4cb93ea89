"""The statement of a month: what it cost, line by line, and every correction made by hand. It is read from the entries
of the month's period, so its lines add up to what the period has spent, to the last digit."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from django.db import connection

from apps.core import money
from apps.ledger import periods, spreadsheet
from apps.ledger.models import Scope
from apps.ledger.reports import Owner

# Two only if the owner's time zone changed: the running month kept its end.
_PERIODS = """
SELECT id, starts_at, ends_at, spent_usd, held_usd FROM ledger_budgetperiod
WHERE {owner} = %(owner)s AND scope = %(scope)s AND first_day >= %(first)s AND first_day < %(after)s
ORDER BY starts_at
"""
_LINES = """
SELECT r.day, u.username, r.model, r.provider, r.cached, count(DISTINCT e.reference) FILTER (WHERE e.kind <> 'refund'),
       COALESCE(sum(e.spent_delta_usd) FILTER (WHERE e.kind <> 'refund'), 0),
       COALESCE(-sum(e.spent_delta_usd) FILTER (WHERE e.kind = 'refund'), 0), sum(e.saved_usd)
FROM ledger_entry e
JOIN accounts_user u ON u.id = e.user_id
LEFT JOIN ledger_usagerecord r ON r.reference = e.reference AND r.jobs = 1
WHERE e.{period} = ANY(%(periods)s) AND e.kind IN ('capture', 'charge', 'refund')
GROUP BY r.day, u.username, r.model, r.provider, r.cached
ORDER BY r.day, u.username, r.model, r.provider, r.cached
"""
_BY_HAND = """
SELECT e.posted_at, u.username, e.kind, e.reference, e.spent_delta_usd, e.reason
FROM ledger_entry e JOIN accounts_user u ON u.id = e.user_id
WHERE e.{period} = ANY(%(periods)s) AND e.kind IN ('refund', 'adjustment')
ORDER BY e.posted_at, e.id
"""
_COLUMNS: Final = (
    "month", "line", "day", "user", "model", "provider", "cached", "jobs", "charged_usd", "refunded_usd", "saved_usd",
    "reference", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One user's jobs of a day with one model at one provider. `day` is None where no usage was recorded."""

    day: date | None
    user: str
    model: str | None
    provider: str | None
    cached: bool | None
    jobs: int
    charged_usd: Decimal
    refunded_usd: Decimal
    saved_usd: Decimal


@dataclass(frozen=True, slots=True)
class Correction:
    """A refund or an adjustment; `amount_usd` below zero is in the user's favour."""

    at: datetime
    user: str
    kind: str
    reference: uuid.UUID
    amount_usd: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Statement:
    """`spent_usd` = the lines' charged - refunded + the adjustments. `[starts_at, ends_at)` in UTC."""

    month: date
    owner: Owner
    starts_at: datetime
    ends_at: datetime
    spent_usd: Decimal
    held_usd: Decimal
    lines: list[Line]
    corrections: list[Correction]

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        adjusted = sum(
            (each.amount_usd for each in self.corrections if each.kind == "adjustment"), money.ZERO
        )
        return {
            "month": f"{self.month:%Y-%m}",
            "scope": self.owner.scope,
            "period": {"starts_at": self.starts_at, "ends_at": self.ends_at},
            "spent_usd": money.text(self.spent_usd),
            "held_usd": money.text(self.held_usd),
            "charged_usd": money.text(sum((line.charged_usd for line in self.lines), money.ZERO)),
            "refunded_usd": money.text(sum((line.refunded_usd for line in self.lines), money.ZERO)),
            "adjusted_usd": money.text(adjusted),
            "saved_usd": money.text(sum((line.saved_usd for line in self.lines), money.ZERO)),
            "jobs": sum(line.jobs for line in self.lines),
            "lines": [_line(line) for line in self.lines],
            "corrections": [_correction(each) for each in self.corrections],
        }

    def csv(self) -> str:
        """The lines, each adjustment, and the total. Refunds are in the lines of what they gave back."""
        return spreadsheet.write(_COLUMNS, self._rows())

    def _rows(self) -> Iterator[tuple[spreadsheet.Cell, ...]]:
        month = f"{self.month:%Y-%m}"
        for line in self.lines:
            day = line.day.isoformat() if line.day else None
            yield (
                month, "usage", day, line.user, line.model, line.provider, line.cached,
                line.jobs, line.charged_usd, line.refunded_usd, line.saved_usd, None, None,
            )  # fmt: skip
        for each in self.corrections:
            if each.kind == "adjustment":
                day, reference = each.at.date().isoformat(), str(each.reference)
                yield (
                    month, "adjustment", day, each.user, None, None, None, None, each.amount_usd, money.ZERO,
                    money.ZERO, reference, each.reason,
                )  # fmt: skip
        saved_usd = sum((line.saved_usd for line in self.lines), money.ZERO)
        jobs, refunded_usd = (
            sum(line.jobs for line in self.lines),
            sum((line.refunded_usd for line in self.lines), money.ZERO),
        )
        charged_usd = self.spent_usd + refunded_usd
        yield (
            month, "total", None, None, None, None, None, jobs, charged_usd, refunded_usd, saved_usd, None, None,
        )  # fmt: skip


def statement(owner: Owner, month: date, *, timezone: str) -> Statement:
    """The month that begins on the day `month` in `timezone`, the owner's; one in which nothing was bought is empty.
    Three queries; costs as much as the month has entries."""
    scope, period = (
        (Scope.TEAM_MONTH, "team_period_id") if owner.scope == "team" else (Scope.USER_MONTH, "period_id")
    )
    after = _next(month)
    values: dict[str, Any] = {"owner": owner.id, "scope": scope.value, "first": month, "after": after}
    with connection.cursor() as cursor:
        cursor.execute(_PERIODS.format(owner=owner.column), values)
        found = cursor.fetchall()
        values = {"periods": [row[0] for row in found]}
        cursor.execute(_LINES.format(period=period), values)
        lines = [Line(*row) for row in cursor.fetchall()]
        cursor.execute(_BY_HAND.format(period=period), values)
        corrections = [Correction(*row) for row in cursor.fetchall()]
    # Noon of the second day is in the same month everywhere.
    span = periods.month_around(datetime(month.year, month.month, 2, 12, tzinfo=UTC), timezone)
    return Statement(
        month=month,
        owner=owner,
        starts_at=found[0][1] if found else span.starts_at,
        ends_at=found[-1][2] if found else span.ends_at,
        spent_usd=sum((row[3] for row in found), money.ZERO),
        held_usd=sum((row[4] for row in found), money.ZERO),
        lines=lines,
        corrections=corrections,
    )


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _line(line: Line) -> dict[str, Any]:
    return {
        "day": line.day.isoformat() if line.day else None,
        "user": line.user,
        "model": line.model,
        "provider": line.provider,
        "cached": line.cached,
        "jobs": line.jobs,
        "charged_usd": money.text(line.charged_usd),
        "refunded_usd": money.text(line.refunded_usd),
        "saved_usd": money.text(line.saved_usd),
    }


def _correction(each: Correction) -> dict[str, Any]:
    return {
        "at": each.at,
        "user": each.user,
        "kind": each.kind,
        "reference": str(each.reference),
        "amount_usd": money.text(each.amount_usd),
        "reason": each.reason,
    }
