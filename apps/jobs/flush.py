"""Batch jobs are ordered: many in one call where the provider has batches, else a few at a time on the ordinary path.

A plain run is a batch of one; a flush only claims more rows with the same batch key (`gathering`): it commits one
attempt for each job, and sends all of them in one call. Before the attempts are committed nothing was bought and the
jobs gather again; after that the batch's row says what to look for, by its own id, at the provider (`poll_batch`).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.core import clock, notify, rows
from apps.core.ids import uuid7
from apps.jobs import (
    admission,
    gathering,
    leases,
    metrics,
    outcomes,
    provider_batches,
    reads,
    reuse,
    run,
)
from apps.jobs.models import Attempt, Job, ProviderBatch
from apps.jobs.states import BatchStatus
from apps.providers import call, permits, registry
from apps.providers.contract import GenerationRequest
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.permits import Permit

_CLAIM = f"""
WITH due AS (
    SELECT id FROM jobs_job
    WHERE batch_route = %(route)s AND due_at IS NOT NULL AND cancel_requested_at IS NULL AND deadline_at > %(now)s
      AND (lease_expires_at IS NULL OR lease_expires_at <= %(now)s)
    ORDER BY id LIMIT %(room)s FOR UPDATE SKIP LOCKED
), j AS (
    UPDATE jobs_job SET status = 'running', lease = gen_random_uuid(), lease_expires_at = %(expires_at)s,
        due_at = %(expires_at)s, started_at = COALESCE(started_at, %(now)s), batch_route = NULL
    FROM due WHERE jobs_job.id = due.id RETURNING jobs_job.*
)
SELECT {reads.COLUMNS} FROM j LEFT JOIN jobs_attempt a ON a.job_id = j.id ORDER BY j.id, a.number
"""  # noqa: S608 - only our own constants are interpolated

# Where the provider has no batches: some go on by themselves.
_RELEASE = """
UPDATE jobs_job SET batch_route = NULL, due_at = %(now)s, rung_at = %(now)s WHERE id IN (
    SELECT id FROM jobs_job
    WHERE batch_route = %(route)s AND due_at IS NOT NULL AND (lease_expires_at IS NULL OR lease_expires_at <= %(now)s)
    ORDER BY id LIMIT %(room)s FOR UPDATE SKIP LOCKED)
RETURNING id
"""
_LEAVE_ALL = """
UPDATE jobs_job SET lease_expires_at = NULL, rung_at = NULL,
    due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE deadline_at END
WHERE id = ANY(%(ids)s) AND lease = ANY(%(leases)s) AND status = 'running'
"""


@dataclass(frozen=True, slots=True)
class _Ordered:
    job: Job
    attempt: Attempt
    request: GenerationRequest


def flush(route_id: uuid.UUID) -> None:
    """Orders what gathers by the route, as much as one batch holds; or lets as many go on by themselves."""
    first = Job.objects.filter(batch_route=route_id, due_at__isnull=False).order_by("id").first()
    if first is None:
        return
    size, _ = gathering.room(route_id)
    route = _route_of(first, route_id)
    if not gathering.makes_batches(route["provider"], first.type):
        for (job_id,) in rows.select(_RELEASE, {"route": route_id, "now": clock.now(), "room": size}):
            leases.ring(job_id, can_wait=True)
        return
    jobs = leases.claimed(_CLAIM, {"route": route_id, "room": size})
    with leases.kept(jobs):
        wanted = [job for job in jobs if _is_to_be_bought(job)]
        if wanted:
            _order(wanted, route, room=size)


def _is_to_be_bought(job: Job) -> bool:
    """The first steps of a run. If not, the job was given back or ended."""
    with leases.step("flush", job):
        return bool(job.past) or (not reuse.answers(job) and run.may_be_bought(job))


def _order(jobs: Sequence[Job], route: dict[str, Any], *, room: int) -> None:
    batch = ProviderBatch(
        route_id=uuid.UUID(route["route_id"]),
        provider=route["provider"],
        provider_model=route["provider_model"],
        room=room,
        waited_s=max((clock.now() - job.created_at).total_seconds() for job in jobs),
    )
    permit = _permit(batch)
    if permit is None:
        gathering.wait(*jobs)
        return
    fitted = {job.pk: made for job in jobs if (made := _fitted(batch, job, permit))}
    try:
        ordered = _opened(batch, list(fitted.values()))
        if ordered:
            _send(batch, ordered, permit)
    finally:
        # Its own queue there: it takes no place from single orders.
        permits.ended(permit, None, told=False)
    for job in jobs:
        if job.pk not in fitted:
            # The provider can't make it: another may.
            outcomes.next_attempt(job, job.past, buy=run.buy)


def _permit(batch: ProviderBatch) -> Permit | None:
    caps = registry.caps(batch.provider)
    if caps is None:
        return None
    permit = permits.ask(
        batch.provider, batch.provider_model, token=str(batch.pk), caps=caps, within_s=settings.JOB_LEASE_S
    )
    return permit if isinstance(permit, Permit) else None


def _fitted(batch: ProviderBatch, job: Job, permit: Permit) -> _Ordered | None:
    attempt_id, route = uuid7(), _route_of(job, batch.route_id)
    asked = admission.request_for(job, attempt_id, batch.provider, batch.provider_model)
    try:
        fitted = call.fit(batch.provider, asked)
    except ProviderError:
        return None
    attempt = Attempt(
        id=attempt_id,
        job_id=job.pk,
        number=len(job.past) + 1,
        provider=batch.provider,
        model=route["model"],
        provider_model=batch.provider_model,
        route_id=batch.route_id,
        price_id=uuid.UUID(route["price_id"]),
        price_usd=Decimal(route["amount_usd"]),
        changes=[change.to_json() for change in fitted.changes],
        generation=permit.outcome_generation,
        provider_batch=batch,
        started_at=clock.now(),
    )
    return _Ordered(job, attempt, fitted.request)


def _opened(batch: ProviderBatch, fitted: Sequence[_Ordered]) -> list[_Ordered]:
    opened = provider_batches.open_one(batch, [made.attempt for made in fitted]) if fitted else ()
    return [made for made in fitted if made.attempt.pk in opened]


def _send(batch: ProviderBatch, ordered: Sequence[_Ordered], permit: Permit) -> None:
    jobs = [each.job for each in ordered]
    # Whoever looks for a lost order counts from the same moment: what was not begun by then never is.
    left_s = settings.JOB_LEASE_S - (clock.now() - batch.created_at).total_seconds()
    try:
        ticket = call.submit_batch(
            batch.provider,
            [each.request for each in ordered],
            str(batch.pk),
            permit=permit,
            begun_within_s=left_s,
        )
    except ProviderError as error:
        if error.policy.billed == "unknown":
            # It is looked for among the provider's batches before anything is sent again.
            _leave(jobs)
            return
        provider_batches.end(batch, BatchStatus.FAILED, error=error.kind)
        for each in ordered:
            outcomes.failed(each.job, each.attempt, _not_taken(error))
    else:
        provider_batches.adopt(batch, ticket, [each.attempt.pk for each in ordered])
        _leave(jobs)
        metrics.sent(batch, [(batch.created_at - job.created_at).total_seconds() for job in jobs])


def _not_taken(error: ProviderError) -> ProviderError:
    """That a batch was refused as a whole says of none of its orders that it would be refused alone."""
    kind = error.kind if error.policy.retry else ErrorKind.SERVER_ERROR
    return ProviderError(kind, f"the batch: {error.message}", retry_after_s=error.retry_after_s)


def _leave(jobs: Sequence[Job]) -> None:
    """Until the batch has news of them."""
    rows.execute(_LEAVE_ALL, {"ids": [job.pk for job in jobs], "leases": [job.lease for job in jobs]})
    for job in jobs:
        notify.changed(job.pk)


def _route_of(job: Job, route_id: uuid.UUID) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in job.quote["routes"] if r["route_id"] == str(route_id))
    return found
