"""Asking for a job to be canceled. The job ends at its next touch: whoever is rung now, or holds it, honours it."""

import uuid

from apps.core import clock
from apps.jobs import leases
from apps.jobs.models import Job


def ask(job_id: uuid.UUID) -> bool:
    """False if the job has ended, or if it was asked before."""
    asked = (
        Job.objects.open()
        .filter(pk=job_id, cancel_requested_at__isnull=True)
        .update(cancel_requested_at=clock.now())
    )
    if asked:
        leases.nudge(job_id)
        leases.ring(job_id)
    return bool(asked)
