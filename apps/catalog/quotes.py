"""What a user was told: kept for `QUOTE_TTL_S`, honoured for the same user and request at the prices of that moment."""

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.catalog.errors import QuoteExpired, QuoteMismatch
from apps.catalog.models import Quote
from apps.core import clock, rows


def keep(*, user_id: uuid.UUID, digest: bytes, document: dict[str, Any]) -> Quote:
    """`digest` (32 bytes) is of everything that makes the request; `document` is JSON that `find` gives back."""
    now = clock.now()
    made = Quote(
        user_id=user_id,
        digest=digest,
        document=document,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.QUOTE_TTL_S),
    )
    rows.insert(made)
    return made


def find(quote_id: uuid.UUID, *, user_id: uuid.UUID, digest: bytes) -> dict[str, Any]:
    """The document. Raises QuoteExpired (also for one that never was, or is another user's) or QuoteMismatch."""
    kept = Quote.objects.filter(pk=quote_id, user_id=user_id, expires_at__gt=clock.now()).first()
    if kept is None:
        raise QuoteExpired("There is no such quote of yours, or its time is over. Ask for a new one.")
    if bytes(kept.digest) != digest:
        raise QuoteMismatch("A quote holds for the request it was made for. Ask for a new one.")
    document: dict[str, Any] = kept.document
    return document


def expire() -> int:
    """Deletes what is honoured no more. Returns how many."""
    return Quote.objects.filter(expires_at__lte=clock.now()).delete()[0]
