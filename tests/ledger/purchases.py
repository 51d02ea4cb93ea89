"""What users bought, booked as the jobs book it, without the jobs."""

import uuid
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import holds, usage
from apps.ops import reconcile

PRICE = uuid.uuid4()


def reserve(user: User, amount: str = "0.025") -> uuid.UUID:
    """Sets the money aside; the reference of the hold."""
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
    reference: uuid.UUID,
    cost: str,
    *,
    model: str = "standard",
    provider: str = "wavespeed",
    estimated: str = "",
    generation_ms: int = 1500,
) -> Decimal:
    """Captures and records, as the end of a job does. What the user pays."""
    paid = holds.capture(reference=reference, cost_usd=Decimal(cost))
    usage.record(
        reference=reference,
        kind="image",
        model=model,
        provider=provider,
        cost_usd=paid,
        estimated_usd=Decimal(estimated or cost),
        generation_ms=generation_ms,
    )
    return paid


def buy(
    user: User,
    cost: str = "0.025",
    *,
    model: str = "standard",
    provider: str = "wavespeed",
    estimated: str = "",
    generation_ms: int = 1500,
    at: datetime | None = None,
) -> uuid.UUID:
    """Held and charged, at `at`."""
    with clock.frozen(at) if at else nullcontext():
        reference = reserve(user, cost)
        charge(
            reference,
            cost,
            model=model,
            provider=provider,
            estimated=estimated,
            generation_ms=generation_ms,
        )
    return reference


def serve(
    user: User, saved: str = "0.025", *, model: str = "standard", at: datetime | None = None
) -> uuid.UUID:
    """Answered from the cache."""
    reference = uuid.uuid4()
    with clock.frozen(at) if at else nullcontext():
        usage.record_cached(
            user_id=user.pk,
            timezone=user.timezone,
            reference=reference,
            kind="image",
            model=model,
            estimated_usd=Decimal(saved),
            saved_usd=Decimal(saved),
        )
    return reference


def books_agree() -> bool:
    return reconcile.differences() == []
