"""Ring for every delivery that is due: retries, rings that were lost, leases that ran out."""

from typing import Final

from apps.core import bell, clock
from apps.webhooks.models import Delivery

BATCH: Final = 500


def sweep() -> int:
    """Rings up to 500, the longest due first; returns how many. A ring too many does nothing."""
    due = Delivery.objects.due(clock.now()).order_by("due_at").values_list("id", flat=True)[:BATCH]
    for delivery_id in due:
        bell.ring("webhooks.deliver", id=delivery_id, queue="io")
    return len(due)
