"""The bell's end."""

import uuid

import structlog
from celery import shared_task

from apps.ops import alerts, announce, mail, metrics, notices
from apps.ops import reconcile as books
from apps.ops.anomalies import watch
from apps.ops.models import Alert

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
    """Warnings, e-mails and notices whose ring was lost, and those to be tried again."""
    announce.sweep()
    mail.sweep()
    notices.sweep()


@shared_task(name="ops.watch_anomalies")
def watch_anomalies() -> None:
    """The minutes that nobody looked at yet."""
    watch.watch()


@shared_task(name="ops.send_notice")
def send_notice(*, v: int, id: str) -> None:
    """Tells one channel of one alert; given up, that is an alert of its own."""
    if notices.send(uuid.UUID(id)) == "given up":
        alerts.raise_(
            kind="alert.undelivered",
            severity=Alert.Severity.WARNING,
            key="alert.undelivered",
            subject="ALERT_URLS",
            message=f"A channel did not take a notice in {notices.MAX_ATTEMPTS} attempts: see Operations → Notices.",
        )


@shared_task(name="ops.push_metrics")
def push_metrics() -> None:
    metrics.push()
