"""What the tests of the ledger share: purchases as the end of a job books them."""

import uuid
from decimal import Decimal

from apps.accounts.models import User
from apps.ledger import holds, usage
from apps.ops import reconcile

PRICE = uuid.uuid4()


def reserve(user: User, amount: str) -> uuid.UUID:
    """The reference of a new hold."""
    reference = uuid.uuid4()
    holds.reserve(
        user_id=user.pk,
        timezone=user.timezone,
        reference=reference,
        amount_usd=Decimal(amount),
        price_id=PRICE,
    )
    return reference


def charge(
    reference: uuid.UUID, cost: str, *, model: str = "standard", estimated: str | None = None
) -> Decimal:
    """Captures and records, as the end of a job does. What the user pays."""
    paid = holds.capture(reference=reference, cost_usd=Decimal(cost))
    usage.record(
        reference=reference,
        kind="image",
        model=model,
        provider="wavespeed",
        cost_usd=paid,
        estimated_usd=Decimal(estimated or cost),
        generation_ms=1500,
    )
    return paid


def buy(user: User, cost: str) -> uuid.UUID:
    reference = reserve(user, cost)
    charge(reference, cost)
    return reference


def books_agree() -> bool:
    return reconcile.differences() == []
