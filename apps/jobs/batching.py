"""Batch jobs: many orders in one call where the provider has batches, else a few at a time on the ordinary path.

A plain run is a batch of one; batching only claims more rows with the same batch key (`gathering`). A flush claims what
gathers by a route, commits one attempt for each job, and sends all of them in one call. The provider is asked about the
batch as a whole; when it ends, each order is handed to its job, which then goes its usual way: fetched, validated,
settled. What failed in the batch goes on by itself, by the table of error kinds.

A worker may die anywhere. Before the attempts are committed nothing was bought and the jobs gather again; after that
the batch's row says what to look for, by its own id, at the provider; results are handed out to whoever still lacks
them.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Avg, Count, F, QuerySet, Sum
from django.db.models.functions import Coalesce

from apps.core import bell, clock, ids, money, notify, rows
from apps.core.ids import uuid7
from apps.jobs import admission, gathering, leases, metrics, outcomes, reads, reuse, run, unknowns
from apps.jobs.models import Attempt, Job, ProviderBatch
from apps.jobs.states import AttemptStatus, BatchStatus, Billed, Priority
from apps.providers import call, permits, registry
from apps.providers.contract import BatchPending, BatchResults, GenerationRequest, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.permits import Permit

log = structlog.get_logger(__name__)

# Handed out at once: as many as one thread fetches within a lease.
_CHUNK = 10
_FIRST_POLL_S, _MAX_POLL_S, _POLL_GROWTH = 1.0, 60.0, 1.5
_LOOK_AGAIN_S = 5.0
_FORGETFUL_S = 60.0

# Pieces of batch work begun in a second. Behind so many rings of interactive work it gets one place for each of them.
_PIECES = 4
_WEIGHT = 4
_LATELY_S = 5.0
# Asking about a batch is little work, mostly.
_POLLS_PER_PIECE = 2
# Of a job's lease: how long a batch is one poller's.
_LEASES = 3

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

# A ticket is a fact, kept whatever became of the attempt meanwhile, as in attempts.
_ADOPT = """
WITH batch AS (
    UPDATE jobs_providerbatch SET status = 'submitted', ticket = %(ticket)s, submitted_at = %(now)s, due_at = %(due_at)s
    WHERE id = %(id)s AND status = 'started'
)
UPDATE jobs_attempt a SET ticket = t.ticket,
    submitted_at = CASE status WHEN 'started' THEN %(now)s ELSE submitted_at END,
    status = CASE status WHEN 'started' THEN 'submitted' ELSE status END
FROM unnest(%(ids)s::uuid[], %(tickets)s::text[]) AS t(id, ticket)
WHERE a.id = t.id AND a.ticket IS NULL AND a.status IN ('started', 'unknown')
"""
_LEAVE_ALL = """
UPDATE jobs_job SET lease_expires_at = NULL, rung_at = NULL,
    due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE deadline_at END
WHERE id = ANY(%(ids)s) AND lease = ANY(%(leases)s) AND status = 'running'
"""

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
"""  # noqa: S608

# The routes that jobs gather by, each with its oldest: one look into the index for each.
_GATHERING = """
WITH RECURSIVE route AS (
    (SELECT batch_route AS id FROM jobs_job WHERE batch_route IS NOT NULL AND due_at IS NOT NULL
     ORDER BY batch_route LIMIT 1)
    UNION ALL
    SELECT (SELECT j.batch_route FROM jobs_job j
            WHERE j.batch_route > route.id AND j.due_at IS NOT NULL ORDER BY j.batch_route LIMIT 1)
    FROM route WHERE route.id IS NOT NULL
)
SELECT route.id, first.created_at FROM route, LATERAL (
    SELECT created_at FROM jobs_job j WHERE j.batch_route = route.id AND j.due_at IS NOT NULL ORDER BY j.id LIMIT 1
) first ORDER BY first.created_at
"""
# What the delivered orders of a batch cost less than if each had been ordered alone.
_SAVED = """
UPDATE jobs_providerbatch b SET saved_usd = COALESCE((
    SELECT sum((route ->> 'single_usd')::numeric - a.price_usd)
    FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id, jsonb_array_elements(j.quote -> 'routes') AS route
    WHERE a.provider_batch_id = b.id AND a.billed = 'yes'
      AND route ->> 'route_id' = a.route_id::text AND route ? 'single_usd'), 0)
WHERE b.id = %(batch)s
"""
_HOW_MANY = """
SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE batch_route = %(route)s AND due_at IS NOT NULL LIMIT %(most)s) o
"""


# --- The sweep --------------------------------------------------------------------------------


def ring_due() -> int:
    """Rings for what is full or has waited long enough, and for the batches to be asked about. Returns how many rings.

    Four to one: batch work is begun when nothing interactive waits for a worker, and a quarter as much of it while
    interactive jobs come in, for they share the processors; while some wait, for every four rings one piece of batch
    work joins them, so that it is slowed down and never starved.
    """
    waiting = bell.depth("io") or 0
    behind = waiting >= _WEIGHT
    if behind:
        pieces = min(_PIECES, waiting // _WEIGHT)
    else:
        pieces = _PIECES // (_WEIGHT if _comes_in() else 1) - (bell.depth("io_batch") or 0)
    if pieces <= 0:
        return 0
    due = ProviderBatch.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    asked = list(due.values_list("pk", flat=True)[: pieces * (1 if behind else _POLLS_PER_PIECE)])
    for batch_id in asked:
        bell.ring("jobs.poll_batch", id=batch_id, queue="io" if behind else "io_batch")
    flushed = list(_to_flush(pieces))
    for route_id in flushed:
        bell.ring("jobs.flush", id=route_id, queue="io" if behind else "io_batch")
    return len(asked) + len(flushed)


def _comes_in() -> bool:
    """Whether somebody asked for something interactive in the last moments."""
    since = ids.since(clock.now() - timedelta(seconds=_LATELY_S))
    return Job.objects.filter(pk__gte=since, priority=Priority.INTERACTIVE).exists()


def _to_flush(most: int) -> Iterator[uuid.UUID]:
    """The routes to flush now, one as often as it fills batches; by turns, so that no route waits for another."""
    ready = []
    for route_id, first_at in rows.select(_GATHERING, {}):
        size, wait_s = gathering.room(route_id)
        count = rows.select(_HOW_MANY, {"route": route_id, "most": size * most})[0][0]
        waited = clock.now() >= first_at + timedelta(seconds=wait_s)
        ready.append([route_id] * (count // size or int(waited)))
    turns = (route_id for turn in zip_longest(*ready) for route_id in turn if route_id)
    yield from islice(turns, most)


# --- The flush --------------------------------------------------------------------------------


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
    jobs = _claimed(_CLAIM, {"route": route_id, "room": size})
    with leases.kept(jobs):
        wanted = [job for job in jobs if _is_to_be_bought(job)]
        if wanted:
            _order(wanted, route, room=size)


def _is_to_be_bought(job: Job) -> bool:
    """The first steps of a run. If not, the job was given back or ended."""
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


@dataclass(frozen=True, slots=True)
class _Ordered:
    job: Job
    attempt: Attempt
    request: GenerationRequest


def _opened(batch: ProviderBatch, fitted: Sequence[_Ordered]) -> list[_Ordered]:
    """The rows that must be there before money is spent."""
    if not fitted:
        return []
    with transaction.atomic(durable=True):
        batch.size, batch.created_at = len(fitted), clock.now()
        batch.due_at = batch.created_at + timedelta(seconds=_LOOK_AGAIN_S)
        batch.save(force_insert=True)
        # Somebody who lost one of the jobs may have bought for it: then it is not ordered here.
        Attempt.objects.bulk_create([made.attempt for made in fitted], ignore_conflicts=True)
        opened = set(Attempt.objects.filter(provider_batch=batch).values_list("pk", flat=True))
        if not opened:
            transaction.set_rollback(True)
    return [made for made in fitted if made.attempt.pk in opened]


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
        _end(batch, BatchStatus.FAILED, error=error.kind)
        for each in ordered:
            outcomes.failed(each.job, each.attempt, _not_taken(error))
    else:
        _adopt(batch, ticket, [each.attempt.pk for each in ordered])
        _leave(jobs)
        metrics.sent(batch, [(batch.created_at - job.created_at).total_seconds() for job in jobs])


def _not_taken(error: ProviderError) -> ProviderError:
    """That a batch was refused as a whole says of none of its orders that it would be refused alone."""
    kind = error.kind if error.policy.retry else ErrorKind.SERVER_ERROR
    return ProviderError(kind, f"the batch: {error.message}", retry_after_s=error.retry_after_s)


def _adopt(batch: ProviderBatch, ticket: Ticket, attempt_ids: Sequence[uuid.UUID]) -> None:
    rows.execute(
        _ADOPT,
        {
            "id": batch.pk,
            "ticket": ticket.to_json(),
            "now": clock.now(),
            "due_at": clock.now() + timedelta(seconds=_FIRST_POLL_S),
            "ids": list(attempt_ids),
            "tickets": [Ticket.in_batch(str(one), ticket).to_json() for one in attempt_ids],
        },
    )


def _leave(jobs: Sequence[Job]) -> None:
    """Until the batch has news of them."""
    rows.execute(_LEAVE_ALL, {"ids": [job.pk for job in jobs], "leases": [job.lease for job in jobs]})
    for job in jobs:
        notify.changed(job.pk)


# --- The poll ---------------------------------------------------------------------------------


def poll(batch_id: uuid.UUID) -> None:
    """Asks once about the batch, if it is due and nobody else does; hands its orders to their jobs if it has ended."""
    if not _hold(batch_id, ProviderBatch.objects.filter(due_at__lte=clock.now())):
        return
    batch = ProviderBatch.objects.get(pk=batch_id)
    try:
        if batch.ticket is None:
            _look_up(batch)
            return
        answer = call.poll_batch(batch.provider, Ticket.from_json(batch.ticket))
    except ProviderError as error:
        log.warning("batch.poll_failed", batch=str(batch.pk), provider=batch.provider, kind=error.kind)
        age_s = (clock.now() - batch.created_at).total_seconds()
        if error.kind == ErrorKind.NOT_FOUND and age_s > _FORGETFUL_S:
            _lost(batch)
        else:
            _ask_again(batch, error.retry_after_s or _LOOK_AGAIN_S)
        return
    if isinstance(answer, BatchPending):
        pause_s = min(_MAX_POLL_S, _FIRST_POLL_S * _POLL_GROWTH ** min(batch.polls, 30))
        _ask_again(batch, pause_s, provider_status=answer.status, done=answer.done)
        return
    with closing(answer):
        _hand_out(batch, answer)


def _hold(batch_id: uuid.UUID, among: QuerySet[ProviderBatch]) -> bool:
    """For us alone, for a while. Who works on one that is not his does no harm: each job has a lease of its own."""
    held_until = clock.now() + timedelta(seconds=_LEASES * settings.JOB_LEASE_S)
    return bool(among.filter(pk=batch_id).update(due_at=held_until, polls=F("polls") + 1))


def _ask_again(batch: ProviderBatch, later_s: float, **news: Any) -> None:
    again_at = clock.now() + timedelta(seconds=later_s)
    ProviderBatch.objects.filter(pk=batch.pk, due_at__isnull=False).update(due_at=again_at, **news)


def _end(batch: ProviderBatch, status: BatchStatus, *, error: str = "") -> None:
    ProviderBatch.objects.filter(pk=batch.pk, due_at__isnull=False).update(
        status=status, due_at=None, ended_at=clock.now(), error_kind=error
    )


def _look_up(batch: ProviderBatch) -> None:
    """The answer to its order was lost. What is not listed as long after nothing could be sent any more as an answer
    may take was never ordered. Raises ProviderError."""
    ticket = call.find_batch(batch.provider, str(batch.pk))
    if ticket:
        _adopt(batch, ticket, list(Attempt.objects.filter(provider_batch=batch).values_list("pk", flat=True)))
        return
    certain_at = batch.created_at + timedelta(seconds=settings.JOB_LEASE_S + settings.PROVIDER_READ_TIMEOUT_S)
    if clock.now() < certain_at:
        _ask_again(batch, _LOOK_AGAIN_S)
        return
    error = ProviderError(ErrorKind.CONNECT, "the provider never heard of the batch")
    for job, attempt in _each(batch, AttemptStatus.STARTED):
        outcomes.failed(job, attempt, error)
    _close(batch, BatchStatus.FAILED, lambda _: Billed.NO, error=error.kind)


def _lost(batch: ProviderBatch) -> None:
    """The provider does not know its own batch."""
    for job, attempt in _each(batch, AttemptStatus.SUBMITTED):
        outcomes.unknown(job, attempt)
    _close(batch, BatchStatus.FAILED, lambda _: Billed.UNKNOWN, error=ErrorKind.NOT_FOUND)


def _hand_out(batch: ProviderBatch, results: BatchResults) -> None:
    for job, attempt in _each(batch, AttemptStatus.SUBMITTED):
        try:
            with leases.step("batch", job):
                _hand_over(job, attempt, results)
        except Exception:
            # The others are not to wait for it: its lease runs out, and whoever takes it then counts the crash.
            log.exception("batch.hand_over_failed", batch=str(batch.pk), job=str(job.pk))
    _close(batch, BatchStatus.ENDED, lambda attempt: _billed(attempt, results))


def _hand_over(job: Job, attempt: Attempt, results: BatchResults) -> None:
    try:
        result = results.of(str(attempt.pk))
    except ProviderError as error:
        if error.policy.billed == "unknown":
            outcomes.unknown(job, attempt)
        else:
            outcomes.failed(job, attempt, error)
    else:
        run.collect(job, attempt, result)


def _billed(attempt: Attempt, results: BatchResults) -> Billed:
    try:
        results.of(str(attempt.pk))
    except ProviderError as error:
        return Billed(error.policy.billed)
    return Billed.YES


def _each(batch: ProviderBatch, status: AttemptStatus) -> Iterator[tuple[Job, Attempt]]:
    """The jobs of the batch whose attempt is at `status`, each once, a few held at a time."""
    seen: list[uuid.UUID] = []
    while True:
        values = {"batch": batch.pk, "status": status.value, "seen": seen}
        jobs = _claimed(_TAKE, {**values, "chunk": _CHUNK, "max_crashes": run.MAX_CRASHES})
        if not jobs:
            return
        _hold(batch.pk, ProviderBatch.objects.filter(due_at__isnull=False))
        with leases.kept(jobs):
            for job in jobs:
                attempt = next(one for one in job.past if one.provider_batch_id == batch.pk)
                seen.append(attempt.pk)
                yield job, attempt


def _close(
    batch: ProviderBatch, status: BatchStatus, billed: Callable[[Attempt], Billed], *, error: str = ""
) -> None:
    """Tells those whose job did not wait for it what it cost, and ends the batch unless somebody else holds one of its
    jobs, or a result could not be stored."""
    for attempt in Attempt.objects.select_related("job").filter(
        provider_batch=batch, status=AttemptStatus.UNKNOWN
    ):
        unknowns.known(attempt, billed(attempt))
    if Attempt.objects.filter(
        provider_batch=batch, status__in=(AttemptStatus.STARTED, AttemptStatus.SUBMITTED)
    ).exists():
        _ask_again(batch, _LOOK_AGAIN_S)
        return
    rows.execute(_SAVED, {"batch": batch.pk})
    _end(batch, status, error=error)


# --- The figures ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the batches sent since a moment. `fill`: orders ÷ room for them, 0 to 1, None without batches. `waited_s`: of
    the first in each, on the average."""

    batches: int
    orders: int
    fill: float | None
    waited_s: float | None
    saved_usd: Decimal


def figures(since: datetime) -> Figures:
    found = ProviderBatch.objects.filter(created_at__gte=since).aggregate(
        batches=Count("pk"),
        orders=Coalesce(Sum("size"), 0),
        room=Coalesce(Sum("room"), 0),
        waited_s=Avg("waited_s"),
        saved_usd=Coalesce(Sum("saved_usd"), money.ZERO),
    )
    room = found.pop("room")
    return Figures(fill=found["orders"] / room if room else None, **found)


def gathering_count() -> int:
    """How many jobs wait to be sent with others."""
    return Job.objects.filter(batch_route__isnull=False, due_at__isnull=False).count()


def _route_of(job: Job, route_id: uuid.UUID) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in job.quote["routes"] if r["route_id"] == str(route_id))
    return found


def _claimed(statement: str, values: dict[str, Any]) -> list[Job]:
    at = clock.now()
    expires_at = at + timedelta(seconds=settings.JOB_LEASE_S)
    return reads.joined_each(rows.select(statement, {**values, "now": at, "expires_at": expires_at}))
