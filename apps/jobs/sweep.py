"""The net under the bell: ring again for what is due and unheard. Reads rows, changes none but when it last rang."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from apps.core import bell, clock
from apps.jobs import leases, polls
from apps.jobs.models import Attempt, Job

# A ring not answered for this long may have been lost (Redis flushed, worker killed).
RING_AGAIN_S = 4
_BATCH = 500
# From so many on, what wants news of its provider is asked for together.
_MANY_POLLS = 10
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
RETURNING id, priority = 'batch' AND old.rung_at IS NULL,
    -- Whose lease ran out is for `run`: its worker died, and crashes are counted.
    lease_expires_at IS NULL AND cancel_requested_at IS NULL AND status = 'running' AND deadline_at > %(now)s
    AND EXISTS (SELECT 1 FROM jobs_attempt a WHERE a.job_id = jobs_job.id AND a.status = 'submitted')
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
        found = cursor.fetchall()
    wanting_news = [job_id for job_id, _, wants_news in found if wants_news]
    together = len(wanting_news) >= _MANY_POLLS
    for job_id, can_wait, wants_news in found:
        if not (together and wants_news):
            leases.ring(job_id, can_wait=can_wait)
    if together:
        polls.ring(len(wanting_news))
    return len(found)


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
