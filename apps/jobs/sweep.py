"""The net under the bell: ring again for what is due and unheard. Reads rows, changes none but when it last rang."""

from datetime import timedelta
from typing import Any

from django.conf import settings

from apps.core import bell, clock, rows
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

# Where many want news of their providers, they are only counted: who asks takes as many as are due then.
_DUE = f"""
WITH news AS MATERIALIZED (
    SELECT count(*) AS count FROM (
        SELECT 1 FROM jobs_job j WHERE {polls.WANTS_NEWS} AND j.due_at <= %(now)s LIMIT %(batch)s) j
), rung AS (
    UPDATE jobs_job SET rung_at = %(now)s WHERE id IN (
        SELECT id FROM jobs_job j
        WHERE due_at <= %(now)s AND (lease_expires_at IS NULL OR lease_expires_at <= %(now)s)
          -- Never rung; heard by somebody whose lease ran out since; or rung and not heard.
          AND (rung_at IS NULL OR rung_at < lease_expires_at
               OR rung_at <= CASE priority WHEN 'batch' THEN %(unheard_batch_before)s ELSE %(unheard_before)s END)
          AND NOT ((SELECT count FROM news) >= %(many)s AND {polls.WANTS_NEWS})
        ORDER BY due_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    RETURNING id, priority = 'batch' AND old.rung_at IS NULL AS can_wait
)
SELECT news.count, rung.id, rung.can_wait FROM news LEFT JOIN rung ON true
"""  # noqa: S608 - only our own constants are interpolated


def due_jobs() -> int:
    """Rings for jobs that are due and free. Returns how many."""
    leases.wake_orphans()
    at = clock.now()
    values: dict[str, Any] = {
        "now": at,
        "unheard_before": at - _patience(can_wait=False),
        "unheard_batch_before": at - _patience(can_wait=True),
        "batch": _BATCH,
        "many": _MANY_POLLS,
    }
    found = rows.select(_DUE, values)
    rung = [(job_id, can_wait) for _, job_id, can_wait in found if job_id]
    for job_id, can_wait in rung:
        leases.ring(job_id, can_wait=can_wait)
    wanting_news = int(found[0][0])
    if wanting_news < _MANY_POLLS:
        return len(rung)
    polls.ring(wanting_news)
    return len(rung) + wanting_news


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
