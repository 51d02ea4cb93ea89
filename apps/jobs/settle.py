"""The only place where a job ends: one transaction moves the job, the money, the cache and the webhook together. What
the cache answers ends as it is accepted (`accept`).

Lock order: job, budget, the rest. Every verb is fenced: it answers False, and changes nothing, if the caller no
longer holds the job.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.caching import store as cache
from apps.caching.store import Hit
from apps.core import bell, clock, money, notify, rows
from apps.core.telemetry import tracing
from apps.jobs import attempts, documents, leases, metrics
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, CachePolicy, CacheTier, Flight, JobStatus
from apps.ledger import holds, usage
from apps.webhooks import emit, endpoints

_END = """
UPDATE jobs_job SET status = %(status)s, finished_at = %(finished_at)s,
    due_at = NULL, lease = NULL, lease_expires_at = NULL,
    outputs = %(outputs)s::jsonb, quality = %(quality)s::jsonb, cost_usd = %(cost)s,
    error_code = %(error_code)s, error_message = %(error_message)s, error_retryable = %(error_retryable)s
WHERE id = %(id)s AND lease = %(lease)s AND status = 'running'
"""
_COMPLETE = f"WITH ended AS ({_END} RETURNING id) {attempts.ACCEPTED}"


def complete(
    job: Job, attempt: Attempt, *, outputs: Sequence[dict[str, Any]], quality: dict[str, Any]
) -> bool:
    """The attempt's outputs are the job's; its price is charged and they may be served again."""
    job.outputs, job.quality = list(outputs), quality
    payable_usd = attempts.payable_usd(job, attempt)
    with _ending(job, JobStatus.COMPLETED, accepted=attempt, cost_usd=payable_usd) as ended:
        if ended:
            charged = charge(job, attempt)
            if charged != payable_usd:
                Job.objects.filter(pk=job.pk).update(cost_usd=charged)
                job.cost_usd = charged
            if attempt.hedged:
                attempts.check_others(job)
            metrics.attempt_ended(attempt, AttemptStatus.ACCEPTED)
            # Another model's picture is no answer to who asks for this one again.
            if attempt.model == job.model:
                _keep(job, cost_usd=charged)
    return ended


def complete_from_cache(job: Job, hit: Hit, *, tier: CacheTier, share: Decimal = money.ZERO) -> bool:
    """Another purchase's outputs are the job's; what it held is freed, but for its `share` (0 to 1) of that price."""
    paid = money.amount(hit.cost_usd * share)
    job.outputs, job.cached_from, job.cache_tier, job.similarity = (
        hit.outputs,
        hit.source_id,
        tier,
        hit.similarity,
    )
    job.saved_usd = hit.cost_usd - paid
    with _ending(job, JobStatus.COMPLETED, cost_usd=paid) as ended:
        if ended:
            taken = ("cached_from", "cache_tier", "similarity", "saved_usd")
            Job.objects.filter(pk=job.pk).update(**{name: getattr(job, name) for name in taken})
            _pay_share(job, paid)
    return ended


def _pay_share(job: Job, paid: Decimal) -> None:
    if paid:
        holds.capture(reference=job.pk, cost_usd=paid)
        usage.record(
            reference=job.pk,
            kind=job.type,
            model=job.model,
            provider=usage.CACHE,
            cost_usd=paid,
            estimated_usd=job.estimated_cost_usd,
            generation_ms=0,
        )
        return
    holds.release(reference=job.pk, reason=f"served from the cache: {job.cache_tier}")
    usage.record_cached(
        user_id=job.user_id,
        timezone=job.user.timezone,
        reference=job.pk,
        kind=job.type,
        model=job.model,
        estimated_usd=job.estimated_cost_usd,
        saved_usd=job.saved_usd,
    )


def fail(
    job: Job, *, code: str, message: str, retryable: bool, leaving: Attempt | None = None, because: str = ""
) -> bool:
    """The user gets nothing and pays nothing.

    `leaving`: an attempt at a provider whose outcome can't be known now; its money stays held (M4).
    """
    changes: dict[str, Any] = {"error_code": code, "error_message": message, "error_retryable": retryable}
    with _ending(job, JobStatus.FAILED, **changes) as ended:
        if ended:
            _free(job, leaving=leaving, because=because or code)
    return ended


def cancel(job: Job, *, leaving: Attempt | None = None, stopped: Attempt | None = None) -> bool:
    """Ends the job as its user asked.

    `leaving`: as in `fail`; it is charged if the provider delivers it. `stopped`: the provider took it back.
    """
    with _ending(job, JobStatus.CANCELED) as ended:
        if ended:
            if stopped:
                attempts.canceled(stopped, billed=Billed.NO)
            _free(job, leaving=leaving, because="canceled")
    return ended


def cancel_billed(job: Job, attempt: Attempt) -> bool:
    """Ends the job as its user asked, after the provider delivered: the work is charged."""
    with _ending(job, JobStatus.CANCELED, cost_usd=attempts.payable_usd(job, attempt)) as ended:
        if ended:
            attempts.canceled(attempt, billed=Billed.YES)
            charge(job, attempt)
    return ended


def charge(job: Job, attempt: Attempt) -> Decimal:
    """Captures the attempt's price and records what it bought. In the caller's transaction; returns what the user
    pays."""
    payable_usd = attempts.payable_usd(job, attempt)
    charged = holds.capture(reference=job.pk, cost_usd=payable_usd, price_id=attempt.price_id)
    if attempt.price_usd > payable_usd:
        holds.absorb(
            reference=job.pk,
            amount_usd=attempt.price_usd - payable_usd,
            reason=f"attempt {attempt.number}: quoted for a batch, ordered alone",
            price_id=attempt.price_id,
        )
    usage.record(
        reference=job.pk,
        kind=job.type,
        model=attempt.model,
        provider=attempt.provider,
        cost_usd=charged,
        estimated_usd=job.estimated_cost_usd,
        generation_ms=int(attempt.latency_s(clock.now()) * 1000),
    )
    return charged


@contextmanager
def _ending(
    job: Job, status: JobStatus, *, accepted: Attempt | None = None, **changes: Any
) -> Iterator[bool]:
    """One transaction: the fenced move to `status`, the block, then the news of it. Yields whether we held the job.

    `accepted`: the attempt whose outputs are the job's, closed with it.
    """
    lease = job.lease
    for name, value in {"status": status, "finished_at": clock.now(), **changes}.items():
        setattr(job, name, value)
    values = {
        "id": job.pk,
        "lease": lease,
        "status": status.value,
        "finished_at": job.finished_at,
        "outputs": json.dumps(job.outputs),
        "quality": json.dumps(job.quality) if job.quality else None,
        "cost": job.cost_usd,
        "error_code": job.error_code,
        "error_message": job.error_message,
        "error_retryable": job.error_retryable,
        "attempt_id": accepted.pk if accepted else None,
    }
    with tracing.span("settle", status=status.value), transaction.atomic(durable=True):
        ended = rows.execute(_COMPLETE if accepted else _END, values) > 0
        yield ended
        if ended:
            job.due_at = job.lease = job.lease_expires_at = None
            _announce(job)


def _free(job: Job, *, leaving: Attempt | None, because: str) -> None:
    if leaving:
        attempts.unknown(leaving, message=because)
    elif not Attempt.objects.filter(job=job, status=AttemptStatus.UNKNOWN).exists():
        holds.release(reference=job.pk, reason=because)


def _keep(job: Job, *, cost_usd: Decimal) -> None:
    if job.cache == CachePolicy.OFF:
        return
    cache.keep(
        team_id=job.team_id,
        fingerprint=bytes(job.fingerprint),
        canonical=None if job.canonical is None else bytes(job.canonical),
        compatibility=bytes(job.compatibility),
        model=job.model,
        prompt=job.prompt,
        source_id=job.pk,
        outputs=job.outputs,
        cost_usd=cost_usd,
        expires_at=clock.now() + timedelta(seconds=job.quote.get("cache_ttl_s") or settings.CACHE_TTL_S),
    )
    if settings.EMBEDDER and job.canonical:
        bell.ring("caching.remember", id=job.pk, queue="cpu")


def _announce(job: Job) -> None:
    notify.ended(job.pk)
    leases.wake_next(job)
    if wanted(job):
        announce_to(job)


def wanted(job: Job) -> bool:
    """Whether anybody is to be told of the end: the job's own callback URL, or an endpoint of its team. Of the items
    of a batch endpoints hear by its end alone."""
    if job.callback_url:
        return True
    return job.batch_id is None and bool(endpoints.wanting(job.team_id, f"job.{job.status}"))


def would_announce(job: Job) -> bool:
    """Whether anybody would be told if the job, not accepted yet, were answered from the cache."""
    return bool(job.callback_url or endpoints.wanting(job.team_id, f"job.{JobStatus.COMPLETED}"))


def announce_to(job: Job) -> None:
    """The signed webhook to the job's callback URL and to the team's endpoints. Small: the prompt and the timeline are
    fetched from the job."""
    emit.emit(
        team_id=job.team_id,
        type=f"job.{job.status}",
        subject_id=job.pk,
        data=documents.brief(job, None, clock.now()),
        url=job.callback_url,
        traceparent=job.traceparent,
    )


def end_at_once(job: Job, hit: Hit) -> None:
    """The job, not stored yet, as one that ends as it is accepted."""
    job.status, job.flight = JobStatus.COMPLETED, Flight.ALONE
    job.due_at = job.rung_at = job.batch_route = None
    job.started_at, job.finished_at = job.created_at, clock.now()
    job.outputs, job.saved_usd, job.cached_from = hit.outputs, hit.cost_usd, hit.source_id
    job.cache_tier = hit.tier
