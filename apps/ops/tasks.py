"""The bell's end."""

import uuid

import structlog
from celery import shared_task

from apps.ops import announce, mail, metrics
from apps.ops import reconcile as books

log = structlog.get_logger(__name__)


@shared_task(name="ops.reconcile", ignore_result=False)
def reconcile() -> list[books.Difference]:
    """The differences, kept with the task's result; each is also an alert and an error in the log."""
    announce.resolve_past()
    found = books.watch()
    for difference in found:
        log.error("ledger.difference", **difference)
    return found


@shared_task(name="ops.budget_warning")
def budget_warning(*, v: int, id: str) -> None:
    """A threshold of a budget was passed."""
    announce.announce(uuid.UUID(id))


@shared_task(name="ops.send_email")
def send_email(*, v: int, id: str) -> None:
    mail.send(uuid.UUID(id))


@shared_task(name="ops.sweep_news")
def sweep_news() -> None:
    """Warnings and e-mails whose ring was lost."""
    announce.sweep()
    mail.sweep()


@shared_task(name="ops.push_metrics")
def push_metrics() -> None:
    metrics.push()
