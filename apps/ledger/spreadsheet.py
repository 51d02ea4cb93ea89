"""CSV (RFC 4180) that a spreadsheet may open: no cell is taken for a formula (OWASP, "CSV Injection")."""

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal

from apps.core import money

Cell = str | int | bool | Decimal | None
# What a spreadsheet begins a formula with, also in full width, and the white space that it skips before.
_STARTERS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The table as text with CRLF line ends. Amounts are plain decimals, None is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return money.text(value)
        case int():
            return str(value)
        case _:
            # An apostrophe makes it text; a spreadsheet does not show it.
            return f"'{value}" if value.lstrip(" \u00a0").startswith(_STARTERS) else value
