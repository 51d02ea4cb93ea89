"""`manage.py report --days 30`: the headline figures, and what each feature was worth; with `--html FILE` as a page."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.loader import render_to_string

from apps.core import clock
from apps.ops import report
from apps.ops.report import Table


class Command(BaseCommand):
    help = "Latency, hit rate, cost and errors of the last days, and what cache, fallback, batches and selection saved."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30, help="Back from now; 30 unless told")
        parser.add_argument("--html", type=Path, metavar="FILE", help="Also a page that needs nothing else")

    def handle(self, *args: Any, days: int, html: Path | None, **options: Any) -> None:
        if not 1 <= days <= 3660:
            raise CommandError("--days is from 1 to 3660")
        now = clock.now()
        made = report.make(now - timedelta(days=days), now)
        tables = report.tables(made)
        title = f"genplatform: {days} days to {now:%Y-%m-%d %H:%M} UTC"
        self.stdout.write(title)
        for table in tables:
            self.stdout.write(f"\n{table.title}\n\n{_text(table)}")
        if html:
            html.write_text(render_to_string("ops/report.html", {"title": title, "tables": tables}))
            self.stdout.write(f"\nwritten to {html}")


def _text(table: Table) -> str:
    """Columns as wide as their widest cell; figures to the right."""
    lines = [table.headers, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.headers))]
    shown = (
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    head, *rest = shown
    return "\n".join([head, "-" * (sum(widths) + 2 * (len(widths) - 1)), *rest])
