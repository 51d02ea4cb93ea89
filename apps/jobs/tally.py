"""Counts ended jobs into sums, each once: a trigger notes every job that ends, in the transaction that ends it, and
who counts takes the note and adds to the sums in one transaction. So the sums are exact whatever dies, and ending a job
costs one small row. Answers from the cache become usage here, too: nothing was paid, so no client waits for that."""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db import transaction

from apps.catalog import snapshot
from apps.core import rows
from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import OTHER, Instrument, Totals
from apps.jobs import metrics
from apps.jobs.models import Total
from apps.jobs.states import AttemptStatus, JobStatus
from apps.ledger import many as ledger
from apps.ledger.many import Cached

BATCH: Final = 500
# The provider of a job that none was asked for.
CACHE, NOBODY = "cache", "none"

_TAKE = """
DELETE FROM jobs_uncounted WHERE id IN (
    SELECT id FROM jobs_uncounted ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING job_id
"""
_JOBS = """
SELECT id, model, status, error_code, cached_from IS NOT NULL, cache_tier, cost_usd, saved_usd,
       (quality ->> 'score')::float8, created_at, started_at, finished_at
FROM jobs_job WHERE id = ANY(%(ids)s)
"""
_ATTEMPTS = """
SELECT job_id, provider, status, started_at, submitted_at, result_at, fetched_at, finished_at
FROM jobs_attempt WHERE job_id = ANY(%(ids)s) ORDER BY job_id, number
"""
_ANSWERS = """
SELECT id, user_id, finished_at, type, model, estimated_cost_usd, saved_usd
FROM jobs_job WHERE id = ANY(%(ids)s) AND cached_from IS NOT NULL AND cost_usd = 0
"""
# Sums are locked in one order, so that two who count do not wait for each other in a circle.
_ADD = """
INSERT INTO jobs_total AS t (name, labels, numbers)
SELECT n.name, n.labels, n.numbers
FROM jsonb_to_recordset(%(counted)s::jsonb) AS n(name text, labels text[], numbers float8[])
ORDER BY n.name, n.labels
ON CONFLICT (name, labels) DO UPDATE SET numbers = ARRAY(
    SELECT COALESCE(a, 0) + COALESCE(b, 0)
    FROM unnest(t.numbers, EXCLUDED.numbers) WITH ORDINALITY AS u (a, b, place) ORDER BY place)
"""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A row of _JOBS."""

    id: uuid.UUID
    model: str
    status: str
    error_code: str
    cached: bool
    tier: str
    cost_usd: Decimal
    saved_usd: Decimal
    score: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class _Tried:
    """A row of _ATTEMPTS."""

    job_id: uuid.UUID
    provider: str
    status: str
    started_at: datetime
    submitted_at: datetime | None
    result_at: datetime | None
    fetched_at: datetime | None
    finished_at: datetime | None


def some() -> int:
    """Counts up to BATCH jobs that ended. Returns how many."""
    with transaction.atomic():
        ids = [job_id for (job_id,) in rows.select(_TAKE, {"batch": BATCH})]
        if ids:
            ledger.record_cached([Cached(*answer) for answer in rows.select(_ANSWERS, {"ids": ids})])
            add(_count(ids))
    return len(ids)


def add(counted: Totals) -> None:
    """Adds to the sums, in the caller's transaction."""
    values = [
        {"name": name, "labels": labels, "numbers": numbers} for (name, labels), numbers in counted.items()
    ]
    rows.execute(_ADD, {"counted": json.dumps(values)})


def all_of_them(*, at_most: int = 20 * BATCH) -> int:
    """Counts what ended so far; of a longer backlog the oldest part. Returns how many."""
    done = 0
    while done < at_most and (counted := some()):
        done += counted
    return done


def totals() -> Totals:
    """The sums as counted so far."""
    kept = Total.objects.values_list("name", "labels", "numbers")
    return {(name, tuple(labels)): list(numbers) for name, labels, numbers in kept}


def _count(ids: Sequence[uuid.UUID]) -> Totals:
    tried: defaultdict[uuid.UUID, list[_Tried]] = defaultdict(list)
    for row in rows.select(_ATTEMPTS, {"ids": ids}):
        tried[row[0]].append(_Tried(*row))
    counted: Totals = {}
    for row in rows.select(_JOBS, {"ids": ids}):
        job = _Ended(*row)
        for instrument, labels, value in _observations(job, tried[job.id]):
            instruments.observe(counted, instrument, labels, value)
    return counted


def _observations(
    job: _Ended, tried: Sequence[_Tried]
) -> Iterator[tuple[Instrument, tuple[str, ...], float]]:
    model, provider = known_model(job.model), _provider(job, tried)
    cached = "yes" if job.cached else "no"
    took_s = _seconds(job.created_at, job.finished_at)
    whole = (model, provider, job.status, cached)
    yield metrics.REQUESTS, whole, 1
    yield metrics.DURATION, whole, took_s
    yield metrics.OVERHEAD, (cached,), max(0.0, took_s - _providers_s(tried, job.finished_at))
    if job.status == JobStatus.FAILED:
        yield metrics.ERRORS, (model, provider, job.error_code), 1
    if job.cached:
        tier = job.tier or "exact"
        yield metrics.CACHE_HITS, (model, tier), 1
        yield metrics.SAVED, (model, tier), float(job.saved_usd)
    if job.cost_usd:
        yield metrics.COST, (model, provider), float(job.cost_usd)
    if job.score is not None:
        yield metrics.QUALITY, (model, provider), job.score
    if job.started_at and not job.cached:
        yield metrics.QUEUE, (model,), _seconds(job.created_at, job.started_at)
        yield metrics.PHASE, ("queue", provider), _seconds(job.created_at, job.started_at)
        if tried:
            yield metrics.PHASE, ("route", provider), _seconds(job.started_at, tried[0].started_at)
    for attempt in tried:
        for phase, seconds in _phases(attempt):
            yield metrics.PHASE, (phase, known_provider(attempt.provider)), seconds


def _phases(attempt: _Tried) -> Iterator[tuple[str, float]]:
    """A provider that answers with the result has no phase of its own for generating: its order takes that long."""
    ordered_at = attempt.submitted_at
    if ordered_at and attempt.result_at:
        ordered_at = min(ordered_at, attempt.result_at)
    if ordered_at:
        yield "submit", _seconds(attempt.started_at, ordered_at)
    if ordered_at and attempt.result_at and attempt.result_at > ordered_at:
        yield "generate", _seconds(ordered_at, attempt.result_at)
    if attempt.result_at and attempt.fetched_at:
        yield "fetch", _seconds(attempt.result_at, attempt.fetched_at)
    if attempt.fetched_at and attempt.finished_at:
        yield "validate", _seconds(attempt.fetched_at, attempt.finished_at)


def _providers_s(tried: Sequence[_Tried], ended_at: datetime) -> float:
    """How long any provider was at the job: two at once count once."""
    total_s, reached = 0.0, None
    for attempt in sorted(tried, key=lambda one: one.started_at):
        until = min(attempt.result_at or attempt.finished_at or ended_at, ended_at)
        begin = max(attempt.started_at, reached) if reached else attempt.started_at
        if until > begin:
            total_s += _seconds(begin, until)
            reached = until
    return total_s


def _provider(job: _Ended, tried: Sequence[_Tried]) -> str:
    """Whose result it is, or else who was asked last."""
    if job.cached:
        return CACHE
    accepted = [one.provider for one in tried if one.status == AttemptStatus.ACCEPTED]
    asked = accepted or [one.provider for one in tried]
    return known_provider(asked[-1]) if asked else NOBODY


def known_model(slug: str) -> str:
    """As a label: names that the catalog does not have are one."""
    return slug if slug in snapshot.current().models else OTHER


def known_provider(name: str) -> str:
    """As a label: those that are not configured are one."""
    return name if name in settings.PROVIDERS else OTHER


def _seconds(begin: datetime, end: datetime) -> float:
    """Never below zero: clocks of two machines differ."""
    return max(0.0, (end - begin).total_seconds())
