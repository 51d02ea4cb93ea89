"""The bell's ends: each task calls one verb."""

import uuid

from celery import shared_task

from apps.batches import cancel as canceling
from apps.batches import sweep


@shared_task(name="batches.cancel")
def cancel(*, v: int, id: str) -> None:
    canceling.carry_out(uuid.UUID(id))


@shared_task(name="batches.sweep")
def sweep_batches() -> None:
    sweep.sweep()


@shared_task(name="batches.forget_idempotency_keys", ignore_result=False)
def forget_idempotency_keys() -> int:
    return sweep.old_idempotency_keys()
