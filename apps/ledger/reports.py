"""What was used and what was booked, of a user or a team. Usage is read from the days' sums and entries along an index:
neither costs more as the ledger grows."""

import base64
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from django.db import connection

from apps.core import inputs, money
from apps.core.errors import InvalidRequest
from apps.ledger.models import Entry

MAX_GROUPS: Final = 1000

# group_by → what is grouped by, and the name that people know it by.
_GROUPS: Final = {
    "day": ("d.day::text", "d.day::text"),
    "model": ("d.model", "d.model"),
    "provider": ("d.provider", "d.provider"),
    "cached": ("d.cached::text", "d.cached::text"),
    "user": ("d.user_id::text", "(SELECT u.username FROM accounts_user u WHERE u.id = d.user_id)"),
}
GROUPS: Final = tuple(_GROUPS)
# The total comes first: its row is of no group. Then days in order, everything else by what it cost.
_USAGE = """
SELECT {key}, {name}, sum(d.jobs), sum(d.cost_usd), sum(d.estimated_usd), sum(d.saved_usd), sum(d.generation_ms)
FROM ledger_usageday d
WHERE d.{owner} = %(owner)s AND d.day BETWEEN %(first)s AND %(last)s
GROUP BY GROUPING SETS (({columns}), ())
ORDER BY GROUPING({columns}) DESC, {order}
LIMIT %(limit)s
"""
_ENTRIES = """
SELECT e.id, e.kind, e.reference, e.user_id, e.amount_usd, e.spent_delta_usd, e.held_delta_usd, e.saved_usd, e.price_id,
       e.reason, e.posted_at
FROM ledger_entry e
WHERE e.{owner} = %(owner)s {filters}
ORDER BY e.posted_at DESC, e.id DESC
LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose: one user's, or a whole team's."""

    scope: Literal["user", "team"]
    id: uuid.UUID

    @property
    def column(self) -> str:
        return f"{self.scope}_id"


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """`[from_at, to_at)` of the time of posting; `cursor` as the page before gave it. None: no bound."""

    from_at: datetime | None = None
    to_at: datetime | None = None
    kind: str | None = None
    reference: uuid.UUID | None = None
    cursor: str | None = None


def usage(owner: Owner, *, group_by: str, first: date, last: date) -> dict[str, Any]:
    """`{from, to, group_by, scope, data: [groups], total}`, JSON-ready: the days `first` to `last`, both included, each
    in its user's time zone; the thousand dearest groups at most. One query."""
    key, name = _GROUPS[group_by]
    column = key.removesuffix("::text")
    statement = _USAGE.format(
        key=key,
        name=name,
        columns=column,
        owner=owner.column,
        order=column if group_by == "day" else f"sum(d.cost_usd) DESC, sum(d.jobs) DESC, {column}",
    )
    values: dict[str, Any] = {
        "owner": owner.id,
        "first": first,
        "last": last,
        "limit": MAX_GROUPS + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        total, *groups = cursor.fetchall()
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "group_by": group_by,
        "scope": owner.scope,
        "data": [{"key": row[0], "name": row[1], **_sums(*row[2:])} for row in groups],
        "total": _sums(*total[2:]),
    }


def entries(owner: Owner, wanted: EntryFilter, *, size: int) -> dict[str, Any]:
    """`{data: [entries], next: cursor or null}`, newest first, JSON-ready. Raises InvalidRequest for a cursor that is
    none."""
    values: dict[str, Any] = {"owner": owner.id, "limit": size + 1}
    filters = []
    if wanted.from_at:
        filters.append("AND e.posted_at >= %(from_at)s")
    if wanted.to_at:
        filters.append("AND e.posted_at < %(to_at)s")
    if wanted.reference:
        filters.append("AND e.reference = %(reference)s")
    if wanted.kind:
        # Written out, so that Postgres sees that the index of the rare kinds serves.
        filters.append(f"AND e.kind = '{Entry.Kind(wanted.kind).value}'")
    if wanted.cursor:
        filters.append("AND (e.posted_at, e.id) < (%(before_at)s, %(before_id)s)")
        values["before_at"], values["before_id"] = _decoded(wanted.cursor)
    values |= {"from_at": wanted.from_at, "to_at": wanted.to_at, "reference": wanted.reference}
    statement = _ENTRIES.format(owner=owner.column, filters=" ".join(filters))
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    last = rows[size - 1] if len(rows) > size else None
    return {
        "data": [_entry(*row) for row in rows[:size]],
        "next": _encoded(last[-1], last[0]) if last else None,
    }


def _sums(
    jobs: int | None,
    cost_usd: Decimal | None,
    estimated_usd: Decimal | None,
    saved_usd: Decimal | None,
    generation_ms: Decimal | None,
) -> dict[str, Any]:
    return {
        "jobs": int(jobs or 0),
        "cost_usd": money.text(cost_usd or money.ZERO),
        "estimated_usd": money.text(estimated_usd or money.ZERO),
        "saved_usd": money.text(saved_usd or money.ZERO),
        "generation_s": str(Decimal(generation_ms or 0) / 1000),
    }


def _entry(
    row_id: int,
    kind: str,
    reference: uuid.UUID,
    user_id: uuid.UUID,
    amount_usd: Decimal,
    spent_delta_usd: Decimal,
    held_delta_usd: Decimal,
    saved_usd: Decimal,
    price_id: uuid.UUID | None,
    reason: str,
    posted_at: datetime,
) -> dict[str, Any]:
    return {
        "id": str(row_id),
        "kind": kind,
        "reference": str(reference),
        "user_id": str(user_id),
        "amount_usd": money.text(amount_usd),
        "spent_delta_usd": money.text(spent_delta_usd),
        "held_delta_usd": money.text(held_delta_usd),
        "saved_usd": money.text(saved_usd),
        "price_id": str(price_id) if price_id else None,
        "reason": reason,
        "posted_at": posted_at,
    }


def _encoded(posted_at: datetime, row_id: int) -> str:
    return base64.urlsafe_b64encode(f"{posted_at.isoformat()} {row_id}".encode()).decode().rstrip("=")


def _decoded(cursor: str) -> tuple[datetime, int]:
    refused = InvalidRequest.field("cursor", "is not one that this list gave")
    try:
        at, _, row_id = (
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(" ")
        )
        posted_at = inputs.time("cursor", at)
    except (ValueError, InvalidRequest) as error:
        raise refused from error
    if not (row_id.isdecimal() and len(row_id) < 19):
        raise refused
    return posted_at, int(row_id)
