"""Send a delivery once more, whatever came of it: the same event, so the same `webhook-id`."""

import uuid

from django.db import transaction

from apps.core import bell, clock
from apps.webhooks.models import Delivery


def send(delivery_id: uuid.UUID) -> bool:
    """Makes it due now. False while it is being sent. If it fails, the retries go on where they were."""
    at = clock.now()
    with transaction.atomic():
        due = Delivery.objects.filter(id=delivery_id, lease=None).update(
            status=Delivery.Status.PENDING, due_at=at, rung_at=at
        )
        if due:
            bell.ring("webhooks.deliver", id=delivery_id, queue="io")
    return bool(due)
