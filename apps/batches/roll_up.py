"""The counters of a batch follow its items, and when the last one has ended so has the batch: once, whoever sees it."""

import uuid
from typing import Any

from django.db import transaction

from apps.batches import documents
from apps.batches.models import Batch, Tally
from apps.core import clock, notify, rows
from apps.webhooks import emit

_ROLL_UP = """
WITH gone AS (
    DELETE FROM batches_tally WHERE batch_id = %(id)s
    RETURNING completed, failed, canceled, expired, cached, cost_usd, saved_usd, freed_usd
), sums AS (
    SELECT COALESCE(sum(completed), 0) AS completed, COALESCE(sum(failed), 0) AS failed,
           COALESCE(sum(canceled), 0) AS canceled, COALESCE(sum(expired), 0) AS expired,
           COALESCE(sum(cached), 0) AS cached, COALESCE(sum(cost_usd), 0) AS cost_usd,
           COALESCE(sum(saved_usd), 0) AS saved_usd, COALESCE(sum(freed_usd), 0) AS freed_usd
    FROM gone
)
UPDATE batches_batch b SET completed = b.completed + s.completed, failed = b.failed + s.failed,
    canceled = b.canceled + s.canceled, expired = b.expired + s.expired, cached = b.cached + s.cached,
    cost_usd = b.cost_usd + s.cost_usd, saved_usd = b.saved_usd + s.saved_usd, held_usd = b.held_usd - s.freed_usd
FROM sums s WHERE b.id = %(id)s
"""
# One of many may be the last: the row decides, whoever comes second finds it ended.
_END = """
UPDATE batches_batch SET finished_at = %(now)s,
    status = CASE WHEN status = 'canceling' AND canceled > 0 THEN 'canceled'
                  WHEN expired > 0 THEN 'expired' ELSE 'completed' END
WHERE id = %(id)s AND finished_at IS NULL AND completed + failed + canceled + expired = total
"""


@transaction.atomic(durable=True)
def of(batch_id: uuid.UUID) -> None:
    """Brings the counters up to date, and ends the batch if no item is open any more."""
    values: dict[str, Any] = {"id": batch_id, "now": clock.now()}
    rows.execute(_ROLL_UP, values)
    end(batch_id)


def end(batch_id: uuid.UUID) -> bool:
    """Ends the batch and tells of it, if no item is open any more. In the caller's transaction."""
    if not rows.execute(_END, {"id": batch_id, "now": clock.now()}):
        return False
    batch = Batch.objects.get(pk=batch_id)
    emit.emit(
        team_id=batch.team_id,
        type=f"batch.{batch.status}",
        subject_id=batch.pk,
        data=documents.full(batch),
        url=batch.callback_url,
        traceparent=batch.traceparent,
    )
    notify.ended(batch.pk)
    return True


def all_changed() -> int:
    """Every batch of which items have ended lately. Returns how many."""
    changed = Tally.objects.order_by("batch_id").distinct("batch_id").values_list("batch_id", flat=True)
    for batch_id in changed:
        of(batch_id)
    return len(changed)
