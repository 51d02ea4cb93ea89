"""The net under the bell, and the end of a batch's time."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from apps.batches import cancel, roll_up
from apps.batches.models import Batch, BatchStatus
from apps.core import clock
from apps.jobs import many
from apps.jobs.models import Job
from apps.jobs.states import JobStatus


def sweep() -> None:
    """Cancels and expires what is to be, and brings the counters up to date."""
    for batch in _with_items_to_end():
        if batch.status == BatchStatus.CANCELING:
            cancel.carry_out(batch.pk)
        else:
            expire(batch)
    roll_up.all_changed()


def expire(batch: Batch) -> None:
    """Its time is over: what has not begun ends together, what has begun at its next touch, by its own deadline."""
    many.end_queued(batch.pk, many.EXPIRED)
    many.nudge_running(batch.pk, cancel=False)


def _with_items_to_end() -> list[Batch]:
    """Batches canceled or out of time that have items which do not know it yet."""
    now = clock.now()
    left = Job.objects.filter(batch_id=OuterRef("pk"), due_at__isnull=False, cancel_requested_at=None)
    unaware = left.filter(Q(status=JobStatus.QUEUED) | Q(due_at__gt=now))
    canceled = Q(status=BatchStatus.CANCELING) & Exists(left)
    late = Q(expires_at__lte=now) & Exists(unaware)
    return list(Batch.objects.filter(finished_at=None).filter(canceled | late))


def old_idempotency_keys() -> int:
    """Forgets keys after IDEMPOTENCY_TTL_S: the same key then starts a new batch."""
    before = clock.now() - timedelta(seconds=settings.IDEMPOTENCY_TTL_S)
    return Batch.objects.filter(idempotency_key__isnull=False, created_at__lt=before).update(
        idempotency_key=None, request_digest=None, accepted_body=None
    )
