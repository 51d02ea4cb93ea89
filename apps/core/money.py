"""Money is Decimal in USD: unit prices with 14 decimal places, amounts with 10, never a float."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, TypedDict

ZERO = Decimal("0E-10")
_QUANTUM = Decimal("1E-10")


def amount(value: Decimal) -> Decimal:
    """Rounds once, half-even, to the ten places an amount is stored with."""
    return value.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)


def text(value: Decimal) -> str:
    """Plain decimal text for JSON: `Decimal("0.0250000000")` → `"0.025"`, zero → `"0"`."""
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


class _Digits(TypedDict):
    max_digits: int
    decimal_places: int


# The two column types of money: `models.DecimalField(**money.AMOUNT)` is NUMERIC(20,10), USD;
# `models.DecimalField(**money.UNIT_PRICE)` is NUMERIC(24,14), USD for one unit.
AMOUNT: Final[_Digits] = {"max_digits": 20, "decimal_places": 10}
UNIT_PRICE: Final[_Digits] = {"max_digits": 24, "decimal_places": 14}
