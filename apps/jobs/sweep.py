"""The net under the bell: ring again for what is due and unheard. Reads rows, changes none but when it last rang."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from apps.core import bell, clock
from apps.jobs import leases
from apps.jobs.models import Attempt, Job

# A ring not answered for this long may have been lost (Redis flushed, worker killed).
RING_AGAIN_S = 4
_BATCH = 500
# While this many messages wait, an unanswered ring is not lost: workers are behind. What rings nevertheless after
# the longer time was in the hands of a worker that died.
_BACKLOG = 20
_BEHIND_S = 60

_DUE = """
UPDATE jobs_job SET rung_at = %(now)s WHERE id IN (
    SELECT id FROM jobs_job
    WHERE due_at <= %(now)s AND (lease_expires_at IS NULL OR lease_expires_at <= %(now)s)
      -- Never rung; rung and not heard; or heard by somebody whose lease ran out since.
      AND (rung_at IS NULL OR rung_at <= %(unheard_before)s OR rung_at < lease_expires_at)
    ORDER BY due_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING id
"""


def due_jobs() -> int:
    """Rings for jobs that are due and free. Returns how many."""
    leases.wake_orphans()
    at = clock.now()
    waiting = max(bell.depth(queue) or 0 for queue in ("io", "cpu"))
    patience_s = RING_AGAIN_S if waiting < _BACKLOG else _BEHIND_S
    values: dict[str, Any] = {
        "now": at,
        "unheard_before": at - timedelta(seconds=patience_s),
        "batch": _BATCH,
    }
    with connection.cursor() as cursor:
        cursor.execute(_DUE, values)
        ids = [row[0] for row in cursor.fetchall()]
    for job_id in ids:
        leases.ring(job_id)
    return len(ids)


def unknown_attempts() -> int:
    """Rings for attempts whose outcome is to be asked for again."""
    ids = list(Attempt.objects.filter(check_at__lte=clock.now()).values_list("pk", flat=True)[:_BATCH])
    for attempt_id in ids:
        bell.ring("jobs.resolve_unknown", id=attempt_id, queue="io")
    return len(ids)


def old_idempotency_keys() -> int:
    """Forgets keys after IDEMPOTENCY_TTL_S: the same key then starts a new job."""
    before = clock.now() - timedelta(seconds=settings.IDEMPOTENCY_TTL_S)
    return Job.objects.filter(idempotency_key__isnull=False, created_at__lt=before).update(
        idempotency_key=None, request_digest=None, accepted_body=None
    )
