"""`manage.py reconcile`: do the books agree? Ends with 1 and a table of what does not."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.core import clock
from apps.ops import reconcile


class Command(BaseCommand):
    help = "Checks the books: balances, holds, charges, usage and bills. Leaves with 1 if they disagree."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--all", action="store_true", help="Everything ever booked, not the last days only"
        )
        parser.add_argument(
            "--hours",
            type=int,
            default=round(reconcile.WINDOW.total_seconds() / 3600),
            help="How far back to look at what changed; what is open is looked at always",
        )

    def handle(self, *args: Any, hours: int, **options: Any) -> None:
        since = None if options["all"] else clock.now() - timedelta(hours=hours)
        found = reconcile.differences(since)
        if not found:
            self.stdout.write("the books agree")
            return
        for line in _table(
            [("check", "row", "difference"), *((d["check"], d["id"], d["detail"]) for d in found)]
        ):
            self.stdout.write(line)
        raise SystemExit(1)


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{check:<{widths[0]}}  {row:<{widths[1]}}  {detail}" for check, row, detail in rows]
