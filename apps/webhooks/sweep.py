"""Ring for every delivery that is due: retries, rings that were lost, leases that ran out."""

from datetime import timedelta
from typing import Final

from apps.core import bell, clock
from apps.webhooks.models import Delivery

BATCH: Final = 500
# A ring that nobody came for in this time may have been lost …
RING_AGAIN_S: Final = 4
# … unless so many messages wait that the workers are merely behind. More of them would not help.
BACKLOG: Final = 200
RING_AGAIN_BEHIND_S: Final = 60


def sweep() -> int:
    """Rings up to 500, the longest due first; returns how many. A ring too many does nothing."""
    now = clock.now()
    waiting = bell.depth("io")
    patience_s = RING_AGAIN_S if waiting is None or waiting < BACKLOG else RING_AGAIN_BEHIND_S
    unheard = Delivery.objects.due(now).unheard(since=now - timedelta(seconds=patience_s))
    ids = list(unheard.order_by("due_at").values_list("id", flat=True)[:BATCH])
    Delivery.objects.filter(id__in=ids).update(rung_at=now)
    for delivery_id in ids:
        bell.ring("webhooks.deliver", id=delivery_id, queue="io")
    return len(ids)
