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
      -- Never rung; heard by somebody whose lease ran out since; or rung and not heard.
      AND (rung_at IS NULL OR rung_at < lease_expires_at
           OR rung_at <= CASE priority WHEN 'batch' THEN %(unheard_batch_before)s ELSE %(unheard_before)s END)
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
    values: dict[str, Any] = {
        "now": at,
        "unheard_before": at - _patience(can_wait=False),
        "unheard_batch_before": at - _patience(can_wait=True),
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


def _patience(*, can_wait: bool) -> timedelta:
    """How long an unanswered ring is not lost. `can_wait`: one for a batch job, which may be among either kind."""
    queues = {
        leases.queue(task, can_wait=slow)
        for task in (leases.RUN, leases.VALIDATE)
        for slow in (False, can_wait)
    }
    waiting = max(bell.depth(queue) or 0 for queue in queues)
    return timedelta(seconds=RING_AGAIN_S if waiting < _BACKLOG else _BEHIND_S)


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
