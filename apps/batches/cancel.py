"""Asking for a batch to be canceled: what has not begun ends together, what has begun as a job that is canceled."""

import uuid

from django.db import transaction

from apps.batches import roll_up
from apps.batches.models import Batch, BatchStatus
from apps.core import bell, clock
from apps.jobs import many


def ask(batch_id: uuid.UUID) -> bool:
    """False if the batch has ended, or if it was asked before."""
    with transaction.atomic():
        asked = Batch.objects.filter(pk=batch_id, status=BatchStatus.IN_PROGRESS).update(
            status=BatchStatus.CANCELING, cancel_requested_at=clock.now()
        )
        if asked:
            bell.ring("batches.cancel", id=batch_id, queue="control")
    return bool(asked)


def carry_out(batch_id: uuid.UUID) -> None:
    """Safe to repeat, and to be done by several at once."""
    if Batch.objects.filter(pk=batch_id, status=BatchStatus.CANCELING).exists():
        many.end_queued(batch_id, many.CANCELED)
        many.nudge_running(batch_id, cancel=True)
        roll_up.of(batch_id)
