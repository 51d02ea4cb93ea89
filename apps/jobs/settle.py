"""The only place where a job ends: one transaction moves the job, the money, the cache and the webhook together.

Lock order: job, budget, the rest. Every verb is fenced: it answers False, and changes nothing, if the caller no
longer holds the job.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.caching import store as cache
from apps.core import clock, money, notify
from apps.jobs import documents, leases
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, CachePolicy, JobStatus
from apps.ledger import holds
from apps.webhooks import emit


class LostLease(Exception):
    """Somebody else holds the job now: roll back."""


def complete(job: Job, attempt: Attempt, *, outputs: Sequence[dict[str, Any]], quality: dict[str, Any]) -> bool:
    """The attempt's outputs are the job's; its price is charged and they may be served again."""
    job.outputs, job.quality = list(outputs), quality
    try:
        with transaction.atomic(durable=True):
            _end(job, JobStatus.COMPLETED, outputs=job.outputs, quality=quality, cost_usd=attempt.price_usd)
            _close(attempt, AttemptStatus.ACCEPTED, billed=Billed.YES, quality=quality)
            charged = holds.capture(reference=job.pk, cost_usd=attempt.price_usd)
            if charged != attempt.price_usd:
                Job.objects.filter(pk=job.pk).update(cost_usd=charged)
            if job.cache != CachePolicy.OFF:
                cache.keep(
                    team_id=job.team_id,
                    fingerprint=bytes(job.fingerprint),
                    model=job.model,
                    source_id=job.pk,
                    outputs=job.outputs,
                    cost_usd=charged,
                    ttl_s=job.quote.get("cache_ttl_s") or settings.CACHE_TTL_S,
                )
            _announce(job)
    except LostLease:
        return False
    return True


def fail(job: Job, *, code: str, message: str, retryable: bool) -> bool:
    """The user gets nothing and pays nothing. Money of an attempt whose outcome is unknown stays held (M4)."""
    job.error_code, job.error_message, job.error_retryable = code, message, retryable
    try:
        with transaction.atomic(durable=True):
            _end(job, JobStatus.FAILED, error_code=code, error_message=message, error_retryable=retryable)
            if not _has_unknown(job):
                holds.release(reference=job.pk, reason=code)
            _announce(job)
    except LostLease:
        return False
    return True


def cancel(job: Job, *, cost_usd: Decimal) -> bool:
    """Ends the job as its user asked. What the provider already does can't be given back: it is charged."""
    try:
        with transaction.atomic(durable=True):
            _end(job, JobStatus.CANCELED, cost_usd=cost_usd)
            if cost_usd > 0:
                holds.capture(reference=job.pk, cost_usd=cost_usd)
            elif not _has_unknown(job):
                holds.release(reference=job.pk, reason="canceled")
            _announce(job)
    except LostLease:
        return False
    return True


def _end(job: Job, status: JobStatus, **changes: Any) -> None:
    at = clock.now()
    ended = (
        Job.objects.held_by(job.lease)
        .filter(pk=job.pk)
        .update(status=status, due_at=None, lease=None, lease_expires_at=None, finished_at=at, **changes)
    )
    if not ended:
        raise LostLease(job.pk)
    job.status, job.finished_at = status, at
    job.cost_usd = changes.get("cost_usd", money.ZERO)


def _close(attempt: Attempt, status: AttemptStatus, **changes: Any) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(status=status, finished_at=clock.now(), **changes)


def _has_unknown(job: Job) -> bool:
    return Attempt.objects.filter(job=job, status=AttemptStatus.UNKNOWN).exists()


def _announce(job: Job) -> None:
    notify.changed(job.pk)
    leases.wake_next(job.user_id)
    if job.callback_url:
        announce_to(job)


def announce_to(job: Job) -> None:
    """The signed webhook to the job's callback URL. Small: the prompt and the timeline are fetched from the job."""
    emit.emit(
        team_id=job.team_id,
        type=f"job.{job.status}",
        subject_id=job.pk,
        data=documents.brief(job, None, clock.now()),
        url=job.callback_url,
    )
