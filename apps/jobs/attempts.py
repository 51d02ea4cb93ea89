"""The life of one purchase: opened before the paid call, closed once. Each verb is fenced by the attempt's status,
and where it gives the job back, by the job's lease."""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from apps.core import bell, clock, notify, rows
from apps.core.ids import uuid7
from apps.jobs import leases, metrics
from apps.jobs.models import Attempt, Job
from apps.jobs.states import IN_PROGRESS, AttemptStatus, Billed
from apps.ledger import holds
from apps.providers.contract import Change, Pending, Ticket
from apps.providers.errors import POLICIES, ProviderError

_AT_THE_PROVIDER = (AttemptStatus.STARTED, AttemptStatus.SUBMITTED)
_FIRST_CHECK_S = 5
_ASIDE = "slow: ordered elsewhere too"

# A ticket is a fact, kept whatever became of the attempt meanwhile; the rest is news of one still at the provider.
_NEWS = """
UPDATE jobs_attempt SET
    ticket = COALESCE(%(ticket)s, ticket),
    provider_status = CASE WHEN {open} THEN %(provider_status)s ELSE provider_status END,
    progress = CASE WHEN {open} THEN %(progress)s ELSE progress END,
    polls = CASE WHEN {open} THEN %(polls)s ELSE polls END,
    submitted_at = CASE WHEN {open} THEN COALESCE(submitted_at, %(now)s) ELSE submitted_at END,
    status = CASE WHEN {open} THEN 'submitted' ELSE status END
WHERE id = %(id)s AND status IN ('started', 'submitted', 'fetched', 'unknown')
""".format(open="status IN ('started', 'submitted')")
_FOUND = """
UPDATE jobs_attempt SET ticket = %(ticket)s,
    submitted_at = CASE status WHEN 'started' THEN %(now)s ELSE submitted_at END,
    status = CASE status WHEN 'started' THEN 'submitted' ELSE status END
WHERE id = %(id)s AND ticket IS NULL
"""
_FETCHED = """
UPDATE jobs_attempt SET status = 'fetched', ticket = %(ticket)s, billed = 'yes', outputs = %(outputs)s::jsonb,
    submitted_at = COALESCE(submitted_at, %(result_at)s), result_at = %(result_at)s, fetched_at = %(now)s
WHERE id = %(id)s AND status IN ('started', 'submitted')
"""
# For the statement that ends the job: `ended` is its row, if it was ours to end.
ACCEPTED = """
UPDATE jobs_attempt a SET status = 'accepted', billed = 'yes', quality = %(quality)s::jsonb,
    outputs = %(outputs)s::jsonb, finished_at = %(finished_at)s
FROM ended WHERE a.id = %(attempt_id)s
"""


def open_one(
    job: Job,
    route: dict[str, Any],
    *,
    number: int,
    attempt_id: uuid.UUID | None = None,
    changes: Sequence[Change] = (),
    generation: int = 0,
    hedged: bool = False,
) -> Attempt | None:
    """The row that must be there before money is spent. None if somebody else opened this number."""
    attempt = Attempt(
        id=attempt_id or uuid7(),
        job_id=job.pk,
        number=number,
        provider=route["provider"],
        model=route["model"],
        provider_model=route["provider_model"],
        route_id=route["route_id"],
        price_id=route["price_id"],
        price_usd=Decimal(route.get("single_usd", route["amount_usd"])),
        changes=[change.to_json() for change in changes],
        generation=generation,
        hedged=hedged,
        started_at=clock.now(),
    )
    try:
        rows.insert(attempt)
    except IntegrityError:
        return None
    return attempt


def payable_usd(job: Job, attempt: Attempt) -> Decimal:
    """What the user pays for the attempt: what was quoted for its route. What an order outside the batch it was quoted
    for costs more is the platform's."""
    for route in job.quote["routes"]:
        if route["route_id"] == str(attempt.route_id) and "single_usd" in route:
            return min(attempt.price_usd, Decimal(route["amount_usd"]))
    return attempt.price_usd


def submitted(job: Job, attempt: Attempt, pending: Pending, *, next_at: datetime) -> None:
    """Keeps the ticket, then leaves the job until the provider has news. The ticket is a fact, kept even by a
    worker that lost the job meanwhile: whoever holds it now will poll instead of waiting."""
    leases.leave(job, next_at=next_at, noting=_NEWS, values=_news(attempt, pending, pending.ticket.to_json()))
    notify.changed(job.pk)


def pending(job: Job, attempt: Attempt, news: Pending, *, next_at: datetime) -> None:
    """The provider is still at it."""
    leases.leave(job, next_at=next_at, noting=_NEWS, values=_news(attempt, news, None))
    if (news.status, news.progress) != (attempt.provider_status, attempt.progress):
        notify.changed(job.pk)


def _news(attempt: Attempt, news: Pending, ticket: str | None) -> dict[str, Any]:
    return {
        "id": attempt.pk,
        "ticket": ticket,
        "provider_status": news.status,
        "progress": news.progress,
        "polls": attempt.polls + 1,
        "now": clock.now(),
    }


def found(attempt: Attempt, ticket: Ticket) -> None:
    """The ticket became known: by the provider's webhook before (or instead of) the answer to our submit, or by an
    answer that is the result."""
    rows.execute(_FOUND, {"id": attempt.pk, "ticket": ticket.to_json(), "now": clock.now()})


def fetched(
    job: Job,
    attempt: Attempt,
    ticket: Ticket | None,
    outputs: Sequence[dict[str, Any]],
    *,
    result_at: datetime,
) -> None:
    """The outputs are ours: hand the job to validation. `result_at`: when the provider was seen to be done."""
    values = {
        "id": attempt.pk,
        "ticket": ticket.to_json() if ticket else attempt.ticket,
        "outputs": json.dumps(list(outputs)),
        "result_at": result_at,
        "now": clock.now(),
    }
    # The job is left also when somebody who lost it fetched before us: what is there is to be checked.
    leases.leave(job, next_at=clock.now(), ring=leases.VALIDATE, noting=_FETCHED, values=values)
    notify.changed(job.pk)


def failed(
    job: Job,
    attempt: Attempt,
    error: ProviderError,
    status: AttemptStatus = AttemptStatus.FAILED,
    billed: Billed | None = None,
    quality: dict[str, Any] | None = None,
) -> None:
    """Closes the attempt. What the provider bills for it is the platform's cost, not the user's (M5).

    `billed`: where it is known better than the table of error kinds knows. `quality`: what the checks found.
    """
    billed = billed or Billed(POLICIES[error.kind].billed)
    with transaction.atomic(durable=True):
        closed = Attempt.objects.filter(pk=attempt.pk, status__in=IN_PROGRESS).update(
            status=status,
            finished_at=clock.now(),
            billed=billed,
            error_kind=error.kind,
            error_message=error.message[:500],
            quality=quality,
        )
        if closed and billed == Billed.YES:
            holds.absorb(
                reference=job.pk,
                amount_usd=attempt.price_usd,
                reason=f"attempt {attempt.number}: {error.kind}",
                price_id=attempt.price_id,
            )
        if closed:
            metrics.attempt_ended(attempt, status)


def unknown(attempt: Attempt, *, message: str) -> None:
    """What the provider did can't be known now: `unknowns.resolve` will find out. In the caller's transaction."""
    closed = Attempt.objects.filter(pk=attempt.pk, status__in=IN_PROGRESS).update(
        status=AttemptStatus.UNKNOWN,
        billed=Billed.UNKNOWN,
        error_message=message,
        check_at=clock.now() + timedelta(seconds=_FIRST_CHECK_S),
    )
    if closed and message != _ASIDE:
        metrics.attempt_ended(attempt, AttemptStatus.UNKNOWN)


def set_aside(job: Job, attempt: Attempt) -> bool:
    """The order goes on at its provider, but another one shall lead the job. False if the job is no longer ours."""
    ours = Job.objects.held_by(job.lease).filter(pk=job.pk)
    return bool(
        Attempt.objects.filter(pk=attempt.pk, status=AttemptStatus.SUBMITTED, job__in=ours).update(
            status=AttemptStatus.UNKNOWN,
            error_message=_ASIDE,
            hedged=True,
            check_at=clock.now() + timedelta(seconds=_FIRST_CHECK_S),
        )
    )


def lead(job: Job, attempt: Attempt, *, instead_of: Attempt | None = None) -> None:
    """The order that was set aside leads the job again, and `instead_of` is set aside. Gives the job back, due now."""
    with transaction.atomic(durable=True):
        if leases.leave(job, next_at=clock.now(), ring=leases.RUN):
            if instead_of:
                unknown(instead_of, message=_ASIDE)
            Attempt.objects.filter(pk=attempt.pk, status=AttemptStatus.UNKNOWN).update(
                status=AttemptStatus.SUBMITTED, check_at=None, error_message=""
            )


def aside(past: Sequence[Attempt]) -> Attempt | None:
    """The one of a job's attempts that was set aside and can be asked for."""
    return next(
        (one for one in past if one.hedged and one.ticket and one.status == AttemptStatus.UNKNOWN), None
    )


def check_others(job: Job) -> None:
    """The job has its result: what else was ordered for it is taken back at once. In the caller's transaction."""
    others = Attempt.objects.filter(job=job, hedged=True, status=AttemptStatus.UNKNOWN)
    for attempt_id in others.values_list("pk", flat=True):
        others.filter(pk=attempt_id).update(check_at=clock.now())
        bell.ring("jobs.resolve_unknown", id=attempt_id, queue="io")


def canceled(attempt: Attempt, *, billed: Billed) -> None:
    """Closed because the job's user asked. In the caller's transaction."""
    closed = Attempt.objects.filter(pk=attempt.pk, status__in=IN_PROGRESS).update(
        status=AttemptStatus.CANCELED, billed=billed, finished_at=clock.now()
    )
    if closed:
        metrics.attempt_ended(attempt, AttemptStatus.CANCELED)
