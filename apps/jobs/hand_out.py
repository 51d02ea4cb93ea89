"""A batch has ended at its provider: each order is handed to its job, which then goes its usual way: fetched,
validated, settled. What failed in the batch goes on by itself, by the table of error kinds. A worker may die in the
middle of it: who then asks about the batch hands its results to whoever still lacks them."""

import uuid
from collections.abc import Callable, Iterator

import structlog
from django.db import transaction

from apps.core import rows
from apps.jobs import leases, metrics, outcomes, provider_batches, reads, run, tally, unknowns
from apps.jobs.models import Attempt, Job, ProviderBatch
from apps.jobs.states import AttemptStatus, BatchStatus, Billed
from apps.providers.contract import BatchResults
from apps.providers.errors import ProviderError

log = structlog.get_logger(__name__)

# Handed out at once: as many as one thread fetches within a lease.
_CHUNK = 10

# The jobs of a batch whose results are there; `seen` were tried a moment ago.
_TAKE = f"""
WITH due AS (
    SELECT j.id FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id
    WHERE a.provider_batch_id = %(batch)s AND a.status = %(status)s AND NOT a.id = ANY(%(seen)s)
      AND j.status = 'running' AND (j.lease_expires_at IS NULL OR j.lease_expires_at <= %(now)s)
      AND j.cancel_requested_at IS NULL AND j.deadline_at > %(now)s AND j.crashes < %(max_crashes)s
    LIMIT %(chunk)s FOR UPDATE OF j SKIP LOCKED
), j AS (
    UPDATE jobs_job SET lease = gen_random_uuid(), lease_expires_at = %(expires_at)s, due_at = %(expires_at)s,
        crashes = crashes + (lease_expires_at IS NOT NULL)::int
    FROM due WHERE jobs_job.id = due.id RETURNING jobs_job.*
)
SELECT {reads.COLUMNS} FROM j JOIN jobs_attempt a ON a.job_id = j.id ORDER BY j.id, a.number
"""  # noqa: S608 - only our own constants are interpolated
# What the delivered orders of a batch cost less than if each had been ordered alone.
_SAVED = """
UPDATE jobs_providerbatch b SET saved_usd = COALESCE((
    SELECT sum((route ->> 'single_usd')::numeric - a.price_usd)
    FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id, jsonb_array_elements(j.quote -> 'routes') AS route
    WHERE a.provider_batch_id = b.id AND a.billed = 'yes'
      AND route ->> 'route_id' = a.route_id::text AND route ? 'single_usd'), 0)
WHERE b.id = %(batch)s
RETURNING saved_usd
"""


def results(batch: ProviderBatch, found: BatchResults) -> None:
    """Hands `found` to the jobs that wait for it, and ends the batch."""
    for job, attempt in each(batch, AttemptStatus.SUBMITTED):
        try:
            with leases.step("batch", job):
                _hand_over(job, attempt, found)
        except Exception:
            # The others are not to wait for it: its lease runs out, and whoever takes it then counts the crash.
            log.exception("batch.hand_over_failed", batch=str(batch.pk), job=str(job.pk))
    close(batch, BatchStatus.ENDED, lambda attempt: _billed(attempt, found))


def _hand_over(job: Job, attempt: Attempt, found: BatchResults) -> None:
    try:
        result = found.of(str(attempt.pk))
    except ProviderError as error:
        if error.policy.billed == "unknown":
            outcomes.unknown(job, attempt)
        else:
            outcomes.failed(job, attempt, error)
    else:
        run.collect(job, attempt, result)


def _billed(attempt: Attempt, found: BatchResults) -> Billed:
    try:
        found.of(str(attempt.pk))
    except ProviderError as error:
        return Billed(error.policy.billed)
    return Billed.YES


def each(batch: ProviderBatch, status: AttemptStatus) -> Iterator[tuple[Job, Attempt]]:
    """The jobs of the batch whose attempt is at `status`, each once, a few held at a time."""
    seen: list[uuid.UUID] = []
    while True:
        values = {"batch": batch.pk, "status": status.value, "seen": seen}
        jobs = leases.claimed(_TAKE, {**values, "chunk": _CHUNK, "max_crashes": run.MAX_CRASHES})
        if not jobs:
            return
        provider_batches.keep(batch)
        with leases.kept(jobs):
            for job in jobs:
                attempt = next(one for one in job.past if one.provider_batch_id == batch.pk)
                seen.append(attempt.pk)
                yield job, attempt


def close(
    batch: ProviderBatch, status: BatchStatus, billed: Callable[[Attempt], Billed], *, error: str = ""
) -> None:
    """Tells those whose job did not wait for it what it cost, and ends the batch unless somebody else holds one of its
    jobs, or a result could not be stored."""
    for attempt in Attempt.objects.select_related("job").filter(
        provider_batch=batch, status=AttemptStatus.UNKNOWN
    ):
        unknowns.known(attempt, billed(attempt))
    if provider_batches.is_wanted(batch):
        provider_batches.ask_again(batch)
        return
    with transaction.atomic(durable=True):
        if provider_batches.end(batch, status, error=error):
            [(saved_usd,)] = rows.select(_SAVED, {"batch": batch.pk})
            of_provider = (tally.known_provider(batch.provider),)
            tally.add({(metrics.BATCH_SAVED.name, of_provider): [float(saved_usd)]})
