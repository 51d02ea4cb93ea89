"""Who may touch a job now. One claim at a time; every later write is fenced by the lease it was given.

Leases are short, so that a killed worker's jobs go on within seconds; one thread per process renews all that the
process holds, so that a slow provider or a large download loses none.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, IntegrityError, InterfaceError, connection, transaction

from apps.core import bell, clock, rows, workers
from apps.core.telemetry import tracing
from apps.jobs import reads
from apps.jobs.models import Job
from apps.jobs.states import Flight, JobStatus, Priority

log = structlog.get_logger(__name__)

RUN, VALIDATE = "jobs.run", "jobs.validate"
_QUEUE = {RUN: "io", VALIDATE: "cpu"}
# For batch jobs, as long as the worker that hears it is seen.
_BATCH_QUEUE = {RUN: "io_batch", VALIDATE: "cpu_batch"}
_HEARD_BY = {"io_batch": "batch", "cpu_batch": "batch_cpu"}
# A job beyond its user's concurrency is woken when one of that user's jobs ends; this is only the net below.
_POSTPONE_S = 60

# How many jobs of a user may run is the tier's word, as it is now; the function counts one claim at a time.
# Batch jobs neither need a place nor take one: how many of them run is the providers' word, not their user's.
# The limit is for buying; what is canceled or too late only needs its end.
_MUST_QUEUE = """
(j.status = 'queued' AND j.priority = 'interactive' AND j.cancel_requested_at IS NULL AND j.deadline_at > %(now)s
 AND NOT jobs_place_is_free(j.user_id))
"""

_CLAIM = f"""UPDATE jobs_job j
SET status = 'running', lease = %(lease)s, lease_expires_at = %(expires_at)s, due_at = %(expires_at)s,
    started_at = COALESCE(j.started_at, %(now)s),
    -- Nobody left this lease, it ran out: the last holder died or hung.
    crashes = j.crashes + (j.lease_expires_at IS NOT NULL)::int
WHERE j.id = %(id)s AND j.status IN ('queued', 'running') AND j.due_at <= %(now)s
  AND (j.lease_expires_at IS NULL OR j.lease_expires_at <= %(now)s)
  AND NOT {_MUST_QUEUE}
RETURNING j.*"""  # noqa: S608 - only our own constants are interpolated

# The job and, in the same glance, what was tried for it so far.
_CLAIM_AND_LOOK = f"""
WITH j AS ({_CLAIM})
SELECT {reads.COLUMNS} FROM j LEFT JOIN jobs_attempt a ON a.job_id = j.id ORDER BY a.number
"""  # noqa: S608

_POSTPONE = f"""
UPDATE jobs_job j SET due_at = %(later)s, rung_at = NULL
WHERE j.id = %(id)s AND j.status = 'queued' AND j.due_at <= %(now)s AND {_MUST_QUEUE}
"""  # noqa: S608

_LEAVE = """
UPDATE jobs_job SET lease_expires_at = NULL, rung_at = %(rung_at)s,
    due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE %(next_at)s END
WHERE id = %(job_id)s AND lease = %(lease)s AND status = 'running'
"""

_WAKE_NEXT = """
UPDATE jobs_job SET due_at = %(now)s, rung_at = %(now)s
WHERE id = (SELECT id FROM jobs_job
            WHERE user_id = %(user_id)s AND status = 'queued' AND rung_at IS NULL
            ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, priority
"""
_WAKE_NEXT_AND_FOLLOWERS = """
WITH next AS (
    SELECT id FROM jobs_job WHERE user_id = %(user_id)s AND status = 'queued' AND rung_at IS NULL
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
), followers AS (
    SELECT id FROM jobs_job
    WHERE team_id = %(team_id)s AND fingerprint = %(fingerprint)s AND flight = 'follows' AND status = 'queued'
    ORDER BY id LIMIT %(followers)s FOR UPDATE SKIP LOCKED
)
UPDATE jobs_job SET due_at = %(now)s, rung_at = %(now)s
WHERE id IN (SELECT id FROM next UNION SELECT id FROM followers)
RETURNING id, priority
"""
# Who follows nobody any more: its leader ended while it came, or the ring was lost.
_ORPHANS = """
UPDATE jobs_job SET due_at = %(now)s, rung_at = NULL WHERE id IN (
    SELECT DISTINCT ON (f.team_id, f.fingerprint) f.id FROM jobs_job f
    WHERE f.flight = 'follows' AND f.status = 'queued' AND f.due_at > %(now)s
      AND NOT EXISTS (SELECT 1 FROM jobs_job l
                      WHERE l.team_id = f.team_id AND l.fingerprint = f.fingerprint
                        AND l.flight = 'leads' AND l.due_at IS NOT NULL)
    ORDER BY f.team_id, f.fingerprint, f.id)
"""


_RENEW = """
UPDATE jobs_job SET lease_expires_at = %(expires_at)s,
    due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE %(expires_at)s END
WHERE id = ANY(%(ids)s) AND lease = ANY(%(leases)s) AND status = 'running' AND lease_expires_at IS NOT NULL
"""

# Lease → job, of what this process holds.
_held: dict[uuid.UUID, uuid.UUID] = {}
_lock = threading.Lock()
_renewer: threading.Thread | None = None


@contextmanager
def held(job_id: uuid.UUID) -> Iterator[Job | None]:
    """Claims the job for the block and keeps the lease alive meanwhile. None if it can't be claimed."""
    job = claim(job_id)
    if job is None:
        yield None
        return
    with kept([job]):
        yield job


@contextmanager
def kept(jobs: Sequence[Job]) -> Iterator[None]:
    """Keeps the leases of `jobs`, which we hold, alive during the block."""
    ours = {job.lease: job.pk for job in jobs if job.lease}
    with _lock:
        _held.update(ours)
        _ensure_renewer()
    try:
        yield
    finally:
        with _lock:
            for lease in ours:
                del _held[lease]


def step(name: str, job: Job) -> AbstractContextManager[None]:
    """Around what is done with a job: a span of its trace, and its ids in every line of the log."""
    return tracing.step(f"job.{name}", job.traceparent, job_id=job.pk, team_id=job.team_id)


def claim(job_id: uuid.UUID) -> Job | None:
    """The job with its `past`, ours until its lease runs out; None if it is not due, is someone else's, or must queue
    behind others of its user."""
    at = clock.now()
    values = {
        "id": job_id,
        "lease": uuid.uuid4(),
        "now": at,
        "expires_at": at + timedelta(seconds=settings.JOB_LEASE_S),
    }
    job = reads.joined(rows.select(_CLAIM_AND_LOOK, values))
    if job is None:
        _postpone(job_id, at)
    return job


def claimed(statement: str, values: Mapping[str, Any]) -> list[Job]:
    """The jobs that a constant statement claims, each with its `past`. Besides `values` it is told `now`, and by
    `expires_at` until when they are ours."""
    at = clock.now()
    expires_at = at + timedelta(seconds=settings.JOB_LEASE_S)
    return reads.joined_each(rows.select(statement, {**values, "now": at, "expires_at": expires_at}))


def leave(
    job: Job,
    *,
    next_at: datetime,
    ring: str | None = None,
    noting: str = "",
    values: Mapping[str, Any] = MappingProxyType({}),
) -> bool:
    """Gives the job back until `next_at`, and rings `ring` if the next step is to be taken at once.

    A nudge that came while we held the job (its `due_at` lies before the lease's end) makes it due now.
    False if the lease was lost: the job is not touched.
    `noting`: another constant statement, with its `values`, carried out in the same one, also if the lease was lost.
    """
    rung_at = clock.now() if ring else None
    left = rows.execute(
        f"WITH noted AS ({noting}) {_LEAVE}" if noting else _LEAVE,
        {"job_id": job.pk, "lease": job.lease, "next_at": next_at, "rung_at": rung_at, **values},
    )
    if left and ring:
        bell.ring(ring, id=job.pk, queue=partial(queue, ring, can_wait=job.priority == Priority.BATCH))
    return bool(left)


def nudge(job_id: uuid.UUID, *, rung: bool = False) -> bool:
    """Makes the job due now: news has come. A holder at work finds it due when it leaves. `rung`: the caller rings."""
    at = clock.now()
    later = Job.objects.open().filter(pk=job_id, due_at__gt=at)
    return bool(later.update(due_at=at, rung_at=at if rung else None))


def ring(job_id: uuid.UUID, *, can_wait: bool = False) -> None:
    """For the job's next step. `can_wait`: as a batch job's, by the workers that yield to all others. One that was rung
    like this and not heard is rung like any other the next time, so that no crowd starves it.
    """
    bell.ring(RUN, id=job_id, queue=partial(queue, RUN, can_wait=can_wait))


def queue(task: str, *, can_wait: bool) -> str:
    """Where the ring goes. `can_wait`: to the workers of batch jobs; among all others where there are none. Asks Redis
    for that: not in a transaction."""
    name = _BATCH_QUEUE[task]
    return name if can_wait and workers.listen(_HEARD_BY[name]) else _QUEUE[task]


def wake_next(ended: Job) -> None:
    """Rings for the oldest job of the user that waits for one of the user's places; and where the job led, for those
    that follow it: all if there is a result to share, else the first, which leads from now on."""
    values: dict[str, Any] = {"user_id": ended.user_id, "now": clock.now()}
    statement = _WAKE_NEXT
    if ended.flight == Flight.LEADS:
        statement = _WAKE_NEXT_AND_FOLLOWERS
        values["team_id"], values["fingerprint"] = ended.team_id, ended.fingerprint
        values["followers"] = None if ended.status == JobStatus.COMPLETED else 1
    for job_id, priority in rows.select(statement, values):
        ring(job_id, can_wait=priority == Priority.BATCH)


def lead(job: Job) -> bool:
    """From now on the job leads those that ask for the same. False: another one does."""
    try:
        with transaction.atomic():
            Job.objects.held_by(job.lease).filter(pk=job.pk).update(flight=Flight.LEADS)
    except IntegrityError:
        return False
    job.flight = Flight.LEADS
    return True


def wake_orphans() -> int:
    """Makes one job of each flight due that has lost its leader. Returns how many."""
    return rows.execute(_ORPHANS, {"now": clock.now()})


def _postpone(job_id: uuid.UUID, at: datetime) -> None:
    """Only what still has to queue: a place that came free meanwhile is taken at the next ring, not a minute later."""
    rows.execute(_POSTPONE, {"id": job_id, "now": at, "later": at + timedelta(seconds=_POSTPONE_S)})


def _ensure_renewer() -> None:
    global _renewer
    if _renewer is None or not _renewer.is_alive():
        _renewer = threading.Thread(target=_renew_for_ever, name="leases", daemon=True)
        _renewer.start()


def _renew_for_ever() -> None:
    while True:
        time.sleep(settings.JOB_LEASE_S / 3)
        with _lock:
            held = dict(_held)
        if held:
            renew(held)
            connection.close()


def renew(held: Mapping[uuid.UUID, uuid.UUID]) -> None:
    """Prolongs those of the leases (lease → job) that still hold. A database that is away is tried again next time."""
    try:
        with connection.cursor() as cursor:
            expires_at = clock.now() + timedelta(seconds=settings.JOB_LEASE_S)
            # By the jobs' own index: one on the lease would be written at every step of every job.
            cursor.execute(
                _RENEW, {"ids": list(held.values()), "leases": list(held), "expires_at": expires_at}
            )
    except (DatabaseError, InterfaceError) as error:
        log.warning("leases.not_renewed", count=len(held), error=type(error).__name__)
