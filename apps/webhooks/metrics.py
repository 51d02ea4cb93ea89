"""What is measured of deliveries, by the process that makes them."""

from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import SHORT_S

DELIVERIES = instruments.counter(
    "webhook.deliveries.total",
    "Attempts to deliver: delivered, retried (another follows), exhausted, disabled (410)",
    labels=("outcome",),
)
DELIVERY = instruments.histogram(
    "webhook.delivery.seconds", "The receiver's answer to one attempt", labels=("outcome",), bounds=SHORT_S
)


def attempted(status: str, took_s: float) -> None:
    """One POST; `status` is the delivery's after it."""
    outcome = {"outcome": "retried" if status == "pending" else status}
    DELIVERIES.add(1, outcome)
    DELIVERY.record(took_s, outcome)
