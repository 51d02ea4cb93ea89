"""`manage.py import_bill PROVIDER FILE.csv`: what a provider bills us, to be compared with our attempts by `reconcile`.

The file has the columns task_id, amount_usd and at; see docs/howto/operations.md.
"""

from argparse import ArgumentTypeError
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from apps.ops import bills


def _time(text: str) -> datetime:
    at = parse_datetime(text)
    if at is None or at.tzinfo is None:
        raise ArgumentTypeError("an ISO 8601 time with a zone")
    return at


class Command(BaseCommand):
    help = "Imports a provider's bill from CSV. All of it or nothing; importing it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="As in the catalog, for example wavespeed")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("file", nargs="?", type=Path, help="CSV with task_id, amount_usd and at")
        source.add_argument("--from-simulator", metavar="URL", help="Read the simulator's own ledger")
        for name, default in (("--starts-at", "first"), ("--ends-at", "last")):
            parser.add_argument(
                name,
                type=_time,
                help=f"The time for which the bill is complete; by default the {default} line's",
            )

    def handle(
        self,
        *args: Any,
        provider: str,
        file: Path | None,
        from_simulator: str | None,
        starts_at: datetime | None,
        ends_at: datetime | None,
        **options: Any,
    ) -> None:
        lines = _simulated(from_simulator) if from_simulator else _read(file or Path())
        source = from_simulator or (file or Path()).name
        if not lines:
            raise CommandError(f"{source} has no lines")
        kept = bills.keep(provider, source, lines, starts_at=starts_at, ends_at=ends_at)
        self.stdout.write(f"{source}: {kept.new} new lines, {kept.changed} changed, {kept.same} known")


def _read(path: Path) -> list[bills.Line]:
    try:
        # A byte order mark, as spreadsheets write it, is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as text:
            return bills.read_csv(text)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} could not be read: {error}") from error
    except bills.BadBill as error:
        raise CommandError(f"{path}: nothing was imported\n{error}") from error


def _simulated(url: str) -> list[bills.Line]:
    try:
        return bills.from_simulator(url)
    except httpx.HTTPError as error:
        raise CommandError(f"{url} did not answer: {error}") from error
