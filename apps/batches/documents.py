"""What a client sees of a batch: the API's and the webhooks' one description of it."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from apps.batches.models import Batch, Refusal
from apps.core import clock, money


def full(batch: Batch) -> dict[str, Any]:
    """A batch, as it stands by its counters."""
    return {
        "id": str(batch.pk),
        "status": batch.status,
        "progress": round(batch.progress, 4),
        "counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
            "canceled": batch.canceled,
            "expired": batch.expired,
            "cached": batch.cached,
            "refused": batch.refused,
        },
        "estimated_cost_usd": money.text(batch.estimated_cost_usd),
        "held_usd": money.text(batch.held_usd),
        "cost_usd": money.text(batch.cost_usd),
        "saved_usd": money.text(batch.saved_usd),
        "estimated_end_at": _time(batch.ends_at(clock.now())),
        "metadata": batch.metadata,
        "created_at": _time(batch.created_at),
        "expires_at": _time(batch.expires_at),
        "cancel_requested_at": _time(batch.cancel_requested_at),
        "finished_at": _time(batch.finished_at),
        "urls": {
            "self": f"/v1/batches/{batch.pk}",
            "cancel": f"/v1/batches/{batch.pk}/cancel",
            "results": f"/v1/batches/{batch.pk}/results",
        },
    }


def detail(batch: Batch, refusals: Sequence[Refusal]) -> dict[str, Any]:
    """The same with what is wrong with the lines that became no job."""
    return {**full(batch), "errors": [fault for refusal in refusals for fault in faults(refusal)]}


def faults(refusal: Refusal) -> list[dict[str, Any]]:
    """One for each bad field of the line."""
    where = {"line": refusal.line, "custom_id": refusal.custom_id or None}
    return [{**where, **error} for error in refusal.errors]


def accepted(batch: Batch, refusals: Sequence[Refusal]) -> str:
    """The body that answers a submission, as JSON text."""
    return json.dumps(detail(batch, refusals), ensure_ascii=False, separators=(",", ":"))


def _time(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
