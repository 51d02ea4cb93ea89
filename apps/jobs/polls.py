"""Polling in bulk: one statement takes the jobs that want news of their provider, one gives them back.

Thousands of jobs may be under way, each asked for every half minute, nearly always to hear that it is not ready: a
message, a claim and a write for each would cost more than the question. What has news goes its usual way, by `run`.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.core import clock, notify, rows
from apps.jobs import hedging, leases, run
from apps.jobs.models import Attempt, Job
from apps.providers import call
from apps.providers.contract import Pending, Ticket
from apps.providers.errors import ErrorKind, ProviderError

# As many as one thread can ask within a lease, also where an answer takes a while.
BATCH = 50
# The provider can't be reached: that says nothing of the work.
SAYS_NOTHING = frozenset(
    {
        ErrorKind.CONNECT,
        ErrorKind.SERVER_ERROR,
        ErrorKind.AMBIGUOUS,
        ErrorKind.MALFORMED,
        ErrorKind.RATE_LIMITED,
    }
)

# What a look needs of each; the rest is most of what reading them would cost.
_OF_JOB = ("id", "team_id", "priority", "quote", "lease", "traceparent")
_OF_ATTEMPT = (
    "id",
    "job_id",
    "provider",
    "model",
    "route_id",
    "ticket",
    "provider_status",
    "progress",
    "polls",
    "hedged",
    "submitted_at",
)
_TAKE = f"""
WITH due AS (
    SELECT j.id FROM jobs_job j JOIN jobs_attempt a ON a.job_id = j.id AND a.status = 'submitted'
    WHERE j.status = 'running' AND j.due_at <= %(now)s AND j.lease_expires_at IS NULL
      AND j.cancel_requested_at IS NULL AND j.deadline_at > %(now)s
    ORDER BY j.due_at LIMIT %(batch)s FOR UPDATE OF j SKIP LOCKED
), j AS (
    UPDATE jobs_job SET lease = gen_random_uuid(), lease_expires_at = %(expires_at)s, due_at = %(expires_at)s
    FROM due WHERE jobs_job.id = due.id RETURNING jobs_job.*
)
SELECT {rows.columns(Job, "j", _OF_JOB)}, {rows.columns(Attempt, "a", _OF_ATTEMPT)}
FROM j JOIN jobs_attempt a ON a.job_id = j.id AND a.status = 'submitted'
"""  # noqa: S608 - only our own constants are interpolated

# A nudge that came meanwhile (`due_at` before the lease's end) makes a job due now, as in leases.leave.
_GIVE_BACK = """
WITH news AS (
    SELECT * FROM jsonb_to_recordset(%(news)s::jsonb) AS n(
        job uuid, lease uuid, attempt uuid, next_at timestamptz, provider_status text, progress float8, polls integer)
), noted AS (
    UPDATE jobs_attempt a SET provider_status = n.provider_status, progress = n.progress, polls = n.polls
    FROM news n WHERE a.id = n.attempt AND a.status = 'submitted'
)
UPDATE jobs_job j SET lease_expires_at = NULL, rung_at = NULL,
    due_at = CASE WHEN j.due_at < j.lease_expires_at THEN j.due_at ELSE n.next_at END
FROM news n WHERE j.id = n.job AND j.lease = n.lease AND j.status = 'running'
"""


def some() -> int:
    """Asks for up to BATCH jobs whose providers were to be asked by now. Returns how many."""
    taken = _take()
    if not taken:
        return 0
    with leases.kept(taken):
        news = [row for job in taken if (row := _look_in_its_trace(job))]
        _give_back(taken, news)
    return len(taken)


def _take() -> list[Job]:
    at = clock.now()
    found = rows.select(
        _TAKE,
        {
            "now": at,
            "expires_at": at + timedelta(seconds=settings.JOB_LEASE_S),
            "batch": BATCH,
        },
    )
    return [_with_attempt(row) for row in found]


def _with_attempt(row: tuple[Any, ...]) -> Job:
    job = rows.make(Job, row[: len(_OF_JOB)], _OF_JOB)
    job.past = [rows.make(Attempt, row[len(_OF_JOB) :], _OF_ATTEMPT)]
    return job


def _look_in_its_trace(job: Job) -> dict[str, Any] | None:
    with leases.step("poll", job):
        return _look(job)


def _look(job: Job) -> dict[str, Any] | None:
    """How it stands, if it is still under way. None: there is other news, for which `run` was rung."""
    attempt = job.past[0]
    status, progress, later_s = attempt.provider_status, attempt.progress, None
    try:
        answer = call.poll(attempt.provider, Ticket.from_json(attempt.ticket or ""))
    except ProviderError as error:
        if error.kind not in SAYS_NOTHING:
            leases.leave(job, next_at=clock.now(), ring=leases.RUN)
            return None
        later_s = error.retry_after_s
    else:
        if not isinstance(answer, Pending) or hedging.is_due(job, attempt):
            leases.leave(job, next_at=clock.now(), ring=leases.RUN)
            return None
        status, progress = answer.status, answer.progress
    return {
        "job": str(job.pk),
        "lease": str(job.lease),
        "attempt": str(attempt.pk),
        "next_at": run.next_poll(job, attempt, later_s).isoformat(),
        "provider_status": status,
        "progress": progress,
        "polls": attempt.polls + 1,
    }


def _give_back(taken: Sequence[Job], news: Sequence[dict[str, Any]]) -> None:
    if not news:
        return
    rows.execute(_GIVE_BACK, {"news": json.dumps(news)})
    before = {str(job.pk): job.past[0] for job in taken}
    with transaction.atomic():
        for row in news:
            known = before[row["job"]]
            if (row["provider_status"], row["progress"]) != (known.provider_status, known.progress):
                notify.changed(uuid.UUID(row["job"]))
