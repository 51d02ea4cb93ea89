"""The bell's names for this room."""

import uuid

from celery import shared_task

from apps.webhooks import deliver as delivering
from apps.webhooks import sweep as sweeping


@shared_task(name="webhooks.deliver")
def deliver(*, v: int, id: str) -> None:
    """One attempt of the delivery `id`."""
    delivering.deliver(uuid.UUID(id))


@shared_task(name="webhooks.sweep")
def sweep(*, v: int = 1, id: str = "") -> None:
    """Beat rings it."""
    sweeping.sweep()
