"""A provider's webhook has news of an attempt. It is a hint: the job is made due and looks for itself."""

import uuid

import structlog

from apps.core import clock
from apps.jobs import attempts, leases, run, unknowns
from apps.jobs.models import Attempt
from apps.jobs.states import IN_PROGRESS, AttemptStatus
from apps.providers.contract import Ticket
from apps.providers.models import InboxEvent

log = structlog.get_logger(__name__)


def receive(event_id: uuid.UUID) -> None:
    """Acts on one stored webhook. Doubled, late and foreign ones change nothing."""
    event = InboxEvent.objects.filter(pk=event_id).first()
    if event is None:
        return
    bought = Attempt.objects.select_related("job").filter(pk=event.subject_id, provider=event.provider)
    attempt = bought.first()
    if attempt is None:
        return
    with leases.step("provider_event", attempt.job):
        _act(event, attempt)


def _act(event: InboxEvent, attempt: Attempt) -> None:
    if attempt.ticket is None:
        attempts.found(attempt, Ticket.named(event.task_id, model=attempt.provider_model))
    elif Ticket.from_json(attempt.ticket).task_id != event.task_id:
        log.warning("inbound.wrong_task", attempt=str(attempt.pk), provider=attempt.provider)
        return
    if attempt.status in IN_PROGRESS:
        leases.nudge(attempt.job_id)
        run.run(attempt.job_id)
    elif attempt.status == AttemptStatus.UNKNOWN:
        Attempt.objects.filter(pk=attempt.pk, status=AttemptStatus.UNKNOWN).update(check_at=clock.now())
        unknowns.resolve(attempt.pk)
