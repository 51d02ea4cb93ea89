"""Accepting a job: decide model and price, answer from the cache or hold the money, and ring. All or nothing."""

import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.accounts.caller import Caller
from apps.core import clock, http, rows
from apps.core.errors import DomainError, InvalidRequest
from apps.core.telemetry import logs, tracing
from apps.jobs import accept, cached, capacity, documents, gathering, leases, plans, settle
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.serializers import JobRequest
from apps.jobs.states import CachePolicy, Flight, JobStatus, Priority, Review


class IdempotencyKeyReused(DomainError):
    code, status, title = "idempotency_key_reused", 422, "This Idempotency-Key was used for another request"


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key and the digest of the body it came with."""

    key: str
    digest: bytes


def submit(
    caller: Caller, asked: JobRequest, *, once: Once | None, traceparent: str | None = None
) -> tuple[Job, bool]:
    """The job of the request, and whether it is a replay of an earlier one with the same Idempotency-Key.

    `traceparent`: of the trace that the job is to be a part of.

    Raises BudgetExceeded, QueueFull, InvalidRequest, ContentRejected, the catalog's refusals or IdempotencyKeyReused;
    then nothing is stored or held.
    """
    try:
        job, planned = prepare(caller, asked, once=once)
    except DomainError:
        # What was accepted once is answered the same, even if it would be refused now (its model has been retired).
        earlier = _earlier(caller, once)
        if earlier is None:
            raise
        return earlier, True
    job.traceparent = traceparent
    tracing.note(job_id=str(job.pk), team_id=str(job.team_id))
    logs.about(job_id=job.pk)
    try:
        _take_turns(job, caller, planned)
    except IntegrityError:
        # Insert first instead of check-then-act: whoever loses the race reads the winner's job.
        earlier = _earlier(caller, once)
        if earlier is None:
            raise
        return earlier, True
    return job, False


def prepare(
    caller: Caller, asked: JobRequest, *, once: Once | None = None, deadline_at: datetime | None = None
) -> tuple[Job, Plan]:
    """The job of the request as it is to be stored, after every check that needs neither money nor a place.

    Raises InvalidRequest, ContentRejected, the catalog's refusals.
    """
    if asked.callback_url:
        check_callback(asked.callback_url)
    planned = _plan(caller, asked)
    job = _new_job(caller, asked, planned, once, deadline_at)
    if _may_reuse(job):
        job.flight = Flight.LEADS
    return job, planned


def _plan(caller: Caller, asked: JobRequest) -> Plan:
    if asked.quote_id is None:
        return plans.make(caller, asked)
    return plans.honour(caller, asked, uuid.UUID(asked.quote_id))


def again(caller: Caller, job: Job, *, new_seed: bool) -> Job:
    """The same request as a new job that is generated afresh. Raises like `submit`."""
    own_seed = job.canonical is None
    asked = JobRequest.model_validate(
        {
            "type": job.type,
            "prompt": job.prompt,
            "model": job.model,
            "params": {name: value for name, value in job.params.items() if own_seed or name != "seed"},
            "callback_url": job.callback_url or None,
            "metadata": job.metadata,
        }
    )
    planned = plans.make(caller, asked, new_seed=new_seed)
    fresh = _new_job(caller, asked, planned, None)
    _buy(fresh, caller, planned)
    return fresh


def _take_turns(job: Job, caller: Caller, planned: Plan) -> None:
    """Equal requests at once share one render: the first leads, and who comes while it is on its way follows."""
    try:
        _insert(job, caller, planned)
    except IntegrityError as error:
        if not _is_second(error):
            raise
        if job.priority == Priority.INTERACTIVE and _leader_gathers(job):
            # Whoever waits for an answer does not wait for a batch.
            job.flight = Flight.ALONE
        else:
            # Woken when the leader ends; at the latest when its own time is over.
            job.flight, job.due_at, job.batch_route = Flight.FOLLOWS, job.deadline_at, None
        _insert(job, caller, planned)


def _leader_gathers(job: Job) -> bool:
    leader = Job.objects.open().filter(team_id=job.team_id, fingerprint=job.fingerprint, flight=Flight.LEADS)
    return leader.filter(priority=Priority.BATCH).exists()


def _is_second(error: IntegrityError) -> bool:
    diagnosis = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None) == "one_leader_per_fingerprint"


def _insert(job: Job, caller: Caller, planned: Plan) -> None:
    """Answers from the cache, or else holds the money and rings. What ops has to look at waits for that instead.

    One statement, as a rule; a transaction where more has to hold with it.
    """
    announces, must_count = settle.would_announce(job), capacity.must_count(caller, job.priority)
    with transaction.atomic(durable=True) if announces or must_count else nullcontext():
        if _answer_from_cache(job):
            with rows.alone():
                rows.insert(job)
        else:
            accept.accept(job, caller, planned, may_reuse=_may_reuse(job) and not job.idempotency_key)
        if job.is_cached:
            if announces:
                settle.announce_to(job)
            if must_count:
                capacity.learn(caller, job.priority)
            return
        if must_count:
            capacity.check(caller, job.priority, expected_s=planned.model.expected_s_p50)
        if job.flight != Flight.FOLLOWS and job.review != Review.PENDING and job.batch_route is None:
            leases.ring(job.pk)


def _may_reuse(job: Job) -> bool:
    return job.cache != CachePolicy.OFF and job.review != Review.PENDING


def _answer_from_cache(job: Job) -> bool:
    """For a job with an Idempotency-Key: the answer to its submission may have to be given again. It is stored with the
    job, and a result is part of it; so that is looked up before."""
    if job.idempotency_key is None:
        return False
    hit = cached.lookup(job) if _may_reuse(job) else None
    if hit:
        settle.end_at_once(job, hit)
    job.accepted_body = documents.accepted(job)
    return hit is not None


@transaction.atomic(durable=True)
def _buy(job: Job, caller: Caller, planned: Plan) -> None:
    accept.accept(job, caller, planned, may_reuse=False)
    capacity.check(caller, job.priority, expected_s=planned.model.expected_s_p50)
    leases.ring(job.pk)


def _new_job(
    caller: Caller, asked: JobRequest, planned: Plan, once: Once | None, deadline_at: datetime | None = None
) -> Job:
    at = clock.now()
    in_batch = Priority(asked.priority) == Priority.BATCH
    usual_s = settings.BATCH_DEADLINE_S if in_batch else settings.JOB_DEADLINE_S
    deadline_at = deadline_at or at + timedelta(seconds=usual_s)
    job = rows.new(
        Job,
        team_id=caller.team_id,
        user_id=caller.user_id,
        status=JobStatus.QUEUED,
        type=asked.type,
        prompt=planned.prompt,
        params=planned.params,
        requirements=asked.requirements.model_dump(exclude_none=True),
        metadata=asked.metadata,
        callback_url=asked.callback_url or "",
        priority=asked.priority,
        cache=asked.cache,
        idempotency_key=once.key if once else None,
        request_digest=once.digest if once else None,
        model=planned.model.slug,
        selection=planned.selection,
        quote=planned.quote,
        fingerprint=planned.fingerprint,
        canonical=planned.canonical,
        compatibility=planned.compatibility,
        estimated_cost_usd=planned.estimated_usd,
        created_at=at,
        review=Review.PENDING if planned.findings else Review.NONE,
        findings=[finding.to_json() for finding in planned.findings] or None,
        deadline_at=deadline_at,
        # What waits for a decision is due when there is none in time.
        due_at=deadline_at if planned.findings else at,
        rung_at=at,
    )
    if in_batch and not planned.findings:
        gathering.begin(job)
    return job


def _earlier(caller: Caller, once: Once | None) -> Job | None:
    """The job that holds the key. Raises IdempotencyKeyReused if it came of another body."""
    if once is None:
        return None
    job = Job.objects.filter(user_id=caller.user_id, idempotency_key=once.key).first()
    if job and bytes(job.request_digest or b"") != once.digest:
        raise IdempotencyKeyReused("Use a new key for a new request; this one belongs to another body.")
    return job


def check_callback(url: str) -> None:
    """Raises InvalidRequest unless we would connect there."""
    try:
        http.check_url(url)
    except http.UnsafeUrl as error:
        raise InvalidRequest.field("callback_url", str(error), "unsafe_url") from error
