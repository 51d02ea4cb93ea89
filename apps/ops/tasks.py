"""The bell's end."""

from typing import Any

import structlog
from celery import shared_task

from apps.ops import reconcile as books

log = structlog.get_logger(__name__)


@shared_task(name="ops.reconcile", ignore_result=False)
def reconcile() -> list[dict[str, Any]]:
    """The differences, kept with the task's result; each is also an error in the log."""
    found = books.differences()
    for difference in found:
        log.error("ledger.difference", **difference)
    return found
