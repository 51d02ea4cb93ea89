"""What providers bill us, task by task: read, kept once, and compared with our attempts by `reconcile`."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

import httpx
from django.db import transaction
from django.utils.dateparse import parse_datetime

from apps.core import clock, money
from apps.ops.models import Bill, BillLine

COLUMNS: Final = ("task_id", "amount_usd", "at")
_MAX_ERRORS: Final = 20
_MAX_AMOUNT: Final = Decimal(10) ** 9
_BATCH: Final = 1000
_AMOUNT = re.compile(r"-?[0-9]{1,10}(\.[0-9]{1,14})?")


class BadBill(Exception):
    """`problems`: one "line 3: …" for each line that could not be read; nothing was kept."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Line:
    """A task's charges and credits in one bill. `at`: the latest of them."""

    task_id: str
    amount_usd: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """How many lines were new, changed, or there already."""

    new: int
    changed: int
    same: int


def read_csv(text: Iterable[str]) -> list[Line]:
    """The lines of a CSV file with the columns task_id, amount_usd (decimal, credits negative) and at (ISO 8601 with a
    zone); other columns are ignored. Lines of one task add up. Raises BadBill naming every bad line."""
    rows = csv.DictReader(text, strict=True)
    problems: list[str] = []
    lines: list[Line] = []
    try:
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise BadBill([f"line 1: no column {', '.join(missing)}"])
        for row in rows:
            try:
                lines.append(_line(row))
            except ValueError as error:
                problems.append(f"line {rows.line_num}: {error}")
    except csv.Error as error:
        problems.append(f"line {rows.reader.line_num}: {error}")
    if problems:
        more = [f"… and {len(problems) - _MAX_ERRORS} more"] if len(problems) > _MAX_ERRORS else []
        raise BadBill([*problems[:_MAX_ERRORS], *more])
    return list(_added_up(lines))


def from_simulator(url: str) -> list[Line]:
    """What the simulator at `url` has charged. Raises httpx.HTTPError."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        answer = client.get(f"{url.rstrip('/')}/admin/ledger").raise_for_status()
    lines = (
        Line(
            charge["task_id"],
            money.amount(Decimal(charge["amount_usd"])),
            datetime.fromtimestamp(charge["charged_at"], UTC),
        )
        for charge in answer.json()["charges"]
    )
    return list(_added_up(lines))


@transaction.atomic
def keep(
    provider: str,
    source: str,
    lines: Sequence[Line],
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Kept:
    """The bill `source` of `provider` says `lines` and nothing else for its time, by default that from the first line
    to the last. Importing it again changes nothing; a task's newer figure replaces the older one."""
    times = [line.at for line in lines] or [clock.now()]
    interval = {"starts_at": starts_at or min(times), "ends_at": ends_at or max(times)}
    bill, _ = Bill.objects.update_or_create(
        provider=provider, source=source, defaults={**interval, "imported_at": clock.now()}
    )
    new = changed = 0
    for begin in range(0, len(lines), _BATCH):
        batch = lines[begin : begin + _BATCH]
        known = BillLine.objects.filter(provider=provider, task_id__in=[line.task_id for line in batch])
        before = {line.task_id: line.amount_usd for line in known}
        new += sum(line.task_id not in before for line in batch)
        changed += sum(before.get(line.task_id, line.amount_usd) != line.amount_usd for line in batch)
        BillLine.objects.bulk_create(
            [
                BillLine(
                    bill=bill,
                    provider=provider,
                    task_id=line.task_id,
                    amount_usd=line.amount_usd,
                    at=line.at,
                )
                for line in batch
            ],
            update_conflicts=True,
            unique_fields=["task_id", "provider"],
            update_fields=["bill", "amount_usd", "at"],
        )
    return Kept(new, changed, len(lines) - new - changed)


def _line(row: dict[str, str]) -> Line:
    """Raises ValueError that says what is wrong."""
    task_id, amount, at = ((row[column] or "").strip() for column in COLUMNS)
    if not 1 <= len(task_id) <= 200 or not task_id.isprintable():
        raise ValueError("task_id should be 1 to 200 printable characters")
    return Line(task_id, _amount(amount), _time(at))


def _amount(text: str) -> Decimal:
    try:
        value = Decimal(text) if _AMOUNT.fullmatch(text) else None
    except InvalidOperation:
        value = None
    if value is None or abs(value) >= _MAX_AMOUNT:
        raise ValueError(f"amount_usd should be a decimal number of USD, not {text[:40]!r}")
    return money.amount(value)


def _time(text: str) -> datetime:
    try:
        at = parse_datetime(text) if text.isascii() else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"at should be an ISO 8601 time with a zone, not {text[:40]!r}")
    return at


def _added_up(lines: Iterable[Line]) -> Iterator[Line]:
    found: dict[str, Line] = {}
    for line in lines:
        other = found.get(line.task_id)
        found[line.task_id] = (
            Line(line.task_id, other.amount_usd + line.amount_usd, max(other.at, line.at)) if other else line
        )
    return iter(found.values())
