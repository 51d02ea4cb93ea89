"""What follows when an attempt did not give an accepted result, or the job's own time is over."""

from collections.abc import Callable, Sequence
from copy import copy
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from apps.core import clock, notify
from apps.jobs import admission, attempts, gathering, leases, metrics, routing, settle
from apps.jobs.admission import Admitted, Found
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, Priority
from apps.providers import call, permits
from apps.providers.contract import Ticket
from apps.providers.errors import POLICIES, ErrorKind, ProviderError
from apps.providers.permits import Permit

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 1.0
# A harmless prompt can give an unsafe output once; twice is the prompt's doing.
MAX_UNSAFE = 1
_MAX_SKIPS = 20
_SILENT = "no answer and no webhook: the provider may or may not have done it"


def next_attempt(job: Job, past: Sequence[Attempt], *, buy: Callable[[Job, Attempt, Admitted], None]) -> None:
    """Opens the next attempt and buys, waits for a provider, or ends the job when there is no other way."""
    choices = _choices(job, past)
    if choices is None:
        return
    found = admission.find(job, choices)
    if found.admitted is None:
        _wait(job, found, past)
        return
    _remember(job, found)
    admitted = found.admitted
    attempt = attempts.open_one(
        job,
        admitted.choice.route,
        number=len(past) + 1,
        attempt_id=admitted.attempt_id,
        changes=admitted.fitted.changes,
        generation=admitted.permit.outcome_generation,
    )
    if attempt:
        if past and past[-1].provider != attempt.provider:
            metrics.fell_back(job, past[-1])
        buy(job, attempt, admitted)
    else:
        # Somebody who lost the job is buying: look at what became of it.
        permits.ended(admitted.permit, None, told=False)
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
    ended(attempt, error.kind)
    if attempt.hedged and error.kind != ErrorKind.CONTENT_REJECTED and _led_again(job):
        return
    choices = _choices(job, list(Attempt.objects.of(job)), retry_after_s=error.retry_after_s)
    if choices:
        next_at = min(choice.ready_at for choice in choices)
        with transaction.atomic(durable=True):
            leases.leave(job, next_at=next_at, ring=None if next_at > clock.now() else leases.RUN)
            notify.changed(job.pk)


def _led_again(job: Job) -> bool:
    """Whether an order was set aside for the one that came to nothing, and leads the job now."""
    aside = attempts.aside(list(Attempt.objects.of(job)))
    if aside:
        attempts.lead(job, aside)
    return aside is not None


def ended(attempt: Attempt, error: ErrorKind | None, *, told: bool = True) -> None:
    """Tells breakers and limits how the attempt ended; `told` False: we stopped waiting and know nothing of it.

    Not how long it took: that is also our own queues, and a platform that is behind must not blame its providers.
    """
    permit = Permit(
        attempt.provider, attempt.provider_model, str(attempt.pk), outcome_generation=attempt.generation
    )
    permits.ended(permit, error, told=told)


def unknown(job: Job, attempt: Attempt, *, silent: bool = False) -> None:
    """The answer to a submit was lost and nobody tells what became of it. It may have been bought: it is never bought
    there again.

    `silent`: the provider would have told of its work by now. Then another one may make it; if the first turns out to
    have made it all the same, the platform pays for that.
    """
    _release(attempt)
    if attempt.hedged and (aside := attempts.aside(list(Attempt.objects.of(job)))):
        # It is not asked for twice in turn.
        Attempt.objects.filter(pk=attempt.pk).update(hedged=False)
        attempts.lead(job, aside, instead_of=attempt)
        return
    attempt.status = AttemptStatus.UNKNOWN
    past = list(Attempt.objects.of(job).exclude(pk=attempt.pk))
    if silent and _others(job, [*past, attempt]):
        with transaction.atomic(durable=True):
            attempts.unknown(attempt, message=_SILENT)
            leases.leave(job, next_at=clock.now(), ring=leases.RUN)
            notify.changed(job.pk)
        return
    _unknown_outcome(job, attempt)


def routes_besides(job: Job, leaving: Attempt) -> list[routing.Choice]:
    """What may be ordered while the order `leaving` is still at its provider."""
    aside = copy(leaving)
    aside.status = AttemptStatus.UNKNOWN
    return _routes_left(job, [*(one for one in job.past if one.pk != leaving.pk), aside])


def _others(job: Job, past: Sequence[Attempt]) -> bool:
    """Whether another provider may be asked still, in time."""
    others = _routes_left(job, past)
    return bool(others) and min(choice.ready_at for choice in others) < job.deadline_at


def _unknown_outcome(job: Job, leaving: Attempt | None) -> None:
    settle.fail(
        job,
        code="provider_outcome_unknown",
        message="The provider's answer was lost. Nothing is charged.",
        retryable=True,
        leaving=leaving,
        because=_SILENT,
    )


def expire(job: Job, current: Attempt | None) -> None:
    """The deadline has passed."""
    if current is None and job.waiting_for:
        _no_provider(job, retryable=True)
        return
    _release(current)
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
    _release(current)
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
    _release(current)
    if current is None:
        settle.cancel(job)
    elif current.status == AttemptStatus.FETCHED:
        settle.cancel_billed(job, current)
    elif stopped(current):
        settle.cancel(job, stopped=current)
    else:
        settle.cancel(job, leaving=current)


def _release(attempt: Attempt | None) -> None:
    if attempt:
        ended(attempt, None, told=False)


def stopped(attempt: Attempt) -> bool:
    """Whether the provider took the work back, with proof that it does not bill it."""
    if attempt.ticket is None:
        return False
    try:
        return call.cancel(attempt.provider, Ticket.from_json(attempt.ticket))
    except ProviderError as error:
        log.warning("cancel.failed", provider=attempt.provider, kind=error.kind.value)
        return False


def _choices(
    job: Job, past: Sequence[Attempt], *, retry_after_s: float | None = None
) -> list[routing.Choice] | None:
    """How to go on after `past`. None: there is no way, and the job was ended."""
    last = past[-1] if past else None
    unsafe = sum(attempt.error_kind == ErrorKind.UNSAFE_OUTPUT for attempt in past)
    if last and (last.error_kind == ErrorKind.CONTENT_REJECTED or unsafe > MAX_UNSAFE):
        # Not shopped around: trying the next provider would be evasion by retry.
        refuse(job, "The content was refused as unsafe.")
        return None
    choices = _routes_left(job, past, retry_after_s=retry_after_s)
    if last and (not choices or min(choice.ready_at for choice in choices) >= job.deadline_at):
        _give_up(job, last)
        return None
    return choices


def _routes_left(
    job: Job, past: Sequence[Attempt], *, retry_after_s: float | None = None
) -> list[routing.Choice]:
    return routing.choices(
        admission.ordered(job),
        past,
        now=clock.now(),
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        retry_after_s=retry_after_s,
    )


def _wait(job: Job, found: Found, past: Sequence[Attempt]) -> None:
    """Nobody may be asked now. The hold is kept; the deadline ends the waiting."""
    if found.look_at is None:
        _remember(job, found)
        if past:
            _give_up(job, past[-1])
        else:
            _no_provider(
                job, retryable=any(skip["reason"] != ErrorKind.UNSUPPORTED for skip in found.skipped)
            )
        return
    with transaction.atomic(durable=True):
        _remember(job, found)
        if job.priority == Priority.BATCH and not past:
            # Thousands that look every second for a place would be in everybody's way.
            gathering.wait(job)
        else:
            leases.leave(job, next_at=min(found.look_at, job.deadline_at))
        notify.changed(job.pk)


def _remember(job: Job, found: Found) -> None:
    """Why the job waits and what was passed over, each once: a statement only where there is news."""
    known = {(skip["provider"], skip["model"], skip["reason"]) for skip in job.skipped}
    news = [skip for skip in found.skipped if (skip["provider"], skip["model"], skip["reason"]) not in known]
    # A pause before a retry is no waiting for a provider.
    waiting_for = "" if found.waiting_for == "retry" or found.admitted else found.waiting_for
    if news or waiting_for != job.waiting_for:
        job.skipped, job.waiting_for = [*job.skipped, *news][:_MAX_SKIPS], waiting_for
        Job.objects.held_by(job.lease).filter(pk=job.pk).update(skipped=job.skipped, waiting_for=waiting_for)


def _no_provider(job: Job, *, retryable: bool) -> None:
    settle.fail(
        job,
        code="no_provider_available",
        message="No provider can take the job now.",
        retryable=retryable,
    )


def _give_up(job: Job, last: Attempt) -> None:
    if last.status == AttemptStatus.UNKNOWN:
        _unknown_outcome(job, None)
        return
    kind = ErrorKind(last.error_kind)
    settle.fail(
        job,
        code="generation_failed",
        message=f"All attempts failed; the last one at {last.provider}: {kind.value}.",
        retryable=POLICIES[kind].retryable_for_client,
    )
