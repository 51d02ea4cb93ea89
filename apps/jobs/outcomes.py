"""What follows when an attempt did not give an accepted result, or the job's own time is over."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from apps.core import clock, notify
from apps.jobs import attempts, leases, routing, settle
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed
from apps.providers import call
from apps.providers.contract import Ticket
from apps.providers.errors import POLICIES, ErrorKind, ProviderError

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 1.0
# A harmless prompt can give an unsafe output once; twice is the prompt's doing.
MAX_UNSAFE = 1


def next_attempt(job: Job, past: Sequence[Attempt], *, buy: Callable[[Job, Attempt], None]) -> None:
    """Opens the next attempt and buys, or ends the job when there is no other way."""
    choice = _decide(job, past)
    if choice:
        attempt = attempts.open_one(job, choice.route, number=len(past) + 1)
        if attempt:
            buy(job, attempt)
        else:
            # Somebody who lost the job is buying: look at what became of it.
            leases.leave(job, next_at=clock.now() + timedelta(seconds=_LOOK_AGAIN_S))


def failed(
    job: Job,
    attempt: Attempt,
    error: ProviderError,
    status: AttemptStatus = AttemptStatus.FAILED,
    billed: Billed | None = None,
    quality: dict[str, Any] | None = None,
) -> None:
    """Closes the attempt and goes on by the table of error kinds: another route, the same one later, or the end.

    `quality`: what the checks of its output found.
    """
    attempts.failed(job, attempt, error, status, billed, quality)
    choice = _decide(job, list(Attempt.objects.of(job)), retry_after_s=error.retry_after_s)
    if choice:
        next_at = clock.now() + timedelta(seconds=choice.delay_s)
        with transaction.atomic(durable=True):
            leases.leave(job, next_at=next_at, ring=None if choice.delay_s else leases.RUN)
            notify.changed(job.pk)


def unknown(job: Job, attempt: Attempt) -> None:
    """The answer to a submit was lost and no webhook came. It may have been bought: never buy again."""
    settle.fail(
        job,
        code="provider_outcome_unknown",
        message="The provider's answer was lost. Nothing is charged.",
        retryable=True,
        leaving=attempt,
        because="no answer and no webhook: the provider may or may not have done it",
    )


def expire(job: Job, current: Attempt | None) -> None:
    """The deadline has passed."""
    settle.fail(
        job,
        code="deadline_exceeded",
        message="The job did not end by its deadline.",
        retryable=True,
        leaving=current,
        because="still running at the job's deadline",
    )


def refuse(job: Job, message: str) -> None:
    """What was asked for is not allowed: nothing is bought, here or elsewhere."""
    settle.fail(job, code="content_rejected", message=message, retryable=False)


def quarantine(job: Job, current: Attempt | None) -> None:
    """Every worker that touched the job died: stop before it takes more down."""
    log.error("job.quarantined", job=str(job.pk), crashes=job.crashes)
    settle.fail(
        job,
        code="internal_error",
        message="Handling the job failed repeatedly.",
        retryable=False,
        leaving=current,
        because="the workers handling it crashed",
    )


def cancel(job: Job, current: Attempt | None) -> None:
    """As the user asked. Work that a provider can't take back is charged once it is known to be billed."""
    if current is None:
        settle.cancel(job)
    elif current.status == AttemptStatus.FETCHED:
        settle.cancel_billed(job, current)
    elif _stopped(current):
        settle.cancel(job, stopped=current)
    else:
        settle.cancel(job, leaving=current)


def _stopped(attempt: Attempt) -> bool:
    """Whether the provider took the work back, with proof that it does not bill it."""
    if attempt.ticket is None:
        return False
    try:
        return call.cancel(attempt.provider, Ticket.from_json(attempt.ticket))
    except ProviderError as error:
        log.warning("cancel.failed", provider=attempt.provider, kind=error.kind.value)
        return False


def _decide(
    job: Job, past: Sequence[Attempt], *, retry_after_s: float | None = None
) -> routing.Choice | None:
    """How to go on after `past`. None: there is no way, and the job was ended."""
    last = past[-1] if past else None
    unsafe = sum(attempt.error_kind == ErrorKind.UNSAFE_OUTPUT for attempt in past)
    if last and (last.error_kind == ErrorKind.CONTENT_REJECTED or unsafe > MAX_UNSAFE):
        # Not shopped around: trying the next provider would be evasion by retry.
        refuse(job, "The content was refused as unsafe.")
        return None
    choice = routing.choose(
        job.quote["routes"], past, max_attempts=settings.JOB_MAX_ATTEMPTS, retry_after_s=retry_after_s
    )
    if last and (choice is None or clock.now() + timedelta(seconds=choice.delay_s) >= job.deadline_at):
        _give_up(job, last)
        return None
    return choice


def _give_up(job: Job, last: Attempt) -> None:
    kind = ErrorKind(last.error_kind)
    settle.fail(
        job,
        code="generation_failed",
        message=f"All attempts failed; the last one at {last.provider}: {kind.value}.",
        retryable=POLICIES[kind].retryable_for_client,
    )
