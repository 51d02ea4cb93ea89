"""Ops decides about a job that waits because of a word in its prompt."""

import uuid

from apps.core import clock
from apps.jobs import leases
from apps.jobs.models import Job
from apps.jobs.states import JobStatus, Review


def approve(job_id: uuid.UUID) -> bool:
    """The job goes on. False if it does not wait for a decision any more."""
    return _decide(job_id, Review.APPROVED)


def reject(job_id: uuid.UUID) -> bool:
    """The job ends as `content_rejected` at its next touch, which is now; nothing is charged."""
    return _decide(job_id, Review.REJECTED)


def _decide(job_id: uuid.UUID, decision: Review) -> bool:
    at = clock.now()
    waiting = Job.objects.filter(
        pk=job_id, status=JobStatus.QUEUED, review=Review.PENDING, deadline_at__gt=at
    )
    decided = waiting.update(review=decision, due_at=at, rung_at=at)
    if decided:
        leases.ring(job_id)
    return bool(decided)
