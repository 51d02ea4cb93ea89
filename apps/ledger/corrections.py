"""What ops put right by hand: always by a further entry, with who and why."""

import uuid
from decimal import Decimal

from apps.accounts.models import User
from apps.core import clock, money, rows
from apps.core.ids import uuid7
from apps.ledger import periods, posting, usage
from apps.ledger.models import Entry


class RefundTooLarge(ValueError):
    """More than the user still has paid for the purchase (M7)."""


_REFUND = f"""
WITH hold AS (
    UPDATE ledger_hold SET refunded_usd = refunded_usd - %(spent)s
    WHERE reference = %(reference)s AND captured_usd - refunded_usd + %(spent)s >= 0
    RETURNING period_id, day_period_id, team_period_id
), {posting.OF_HOLD}, {posting.GIVEN_BACK}, {posting.MOVED}, {posting.POSTED}
SELECT 1 FROM hold
"""  # noqa: S608 - only our own constants are interpolated
_ADJUST = posting.taking(periods=posting.CURRENT)


def refund(*, reference: uuid.UUID, amount_usd: Decimal, reason: str, by: str) -> None:
    """Gives `amount_usd` of what was paid for the purchase `reference` back, in the periods that paid it.

    Joins the caller's transaction. Raises RefundTooLarge if less than that is left of the payment, ValueError for an
    amount that is not positive.
    """
    amount = money.amount(amount_usd)
    if amount <= 0:
        raise ValueError("a refund is more than 0 USD")
    values = {
        "kind": Entry.Kind.REFUND.value,
        "reference": reference,
        "spent": -amount,
        "held": money.ZERO,
        "price_id": None,
        "reason": reason,
        "by": by,
        "now": clock.now(),
    }
    if not rows.execute(_REFUND, values):
        raise RefundTooLarge(f"{money.text(amount)} USD is more than what is left of the payment")
    usage.refunded(reference=reference, amount_usd=amount)


def adjust(*, user: User, amount_usd: Decimal, reason: str, by: str) -> uuid.UUID:
    """Adds `amount_usd` to what the user has spent in the running periods; below zero it is a credit.

    Joins the caller's transaction. Returns the reference of the entry. Raises BudgetExceeded if it does not fit into
    the limits (raise them first), ValueError for an amount of zero.
    """
    amount, at, reference = money.amount(amount_usd), clock.now(), uuid7()
    if not amount:
        raise ValueError("an adjustment is not 0 USD")
    values = {
        "kind": Entry.Kind.ADJUSTMENT.value,
        "user_id": user.pk,
        "reference": reference,
        "spent": amount,
        "job": money.ZERO,
        "price_id": None,
        "reason": reason,
        "by": by,
        "now": at,
    }
    if not posting.take(_ADJUST, values):
        periods.open_current(user_id=user.pk, timezone=user.timezone, at=at)
        posting.take(_ADJUST, values)
    return reference
