"""Polling in bulk: one statement takes the jobs that want news of their provider and puts the next question off.

Thousands of jobs may be under way, each asked for every half minute, nearly always to hear that it is not ready: a
message, a claim and a write for each would cost more than the question. So asking takes no lease, and an answer that
says nothing new writes nothing: who dies while it asks leaves jobs that are asked for again half a minute later. Who
is answered that there is more to do, makes the job due, and it goes its usual way, by `run`.
"""

import json
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.core import bell, clock, notify, rows
from apps.jobs import hedging, leases, run
from apps.jobs.models import Attempt, Job
from apps.jobs.states import Priority
from apps.providers import call
from apps.providers.contract import Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError

# As many as one thread can ask before they are due again, eight at once, also where an answer takes a while.
BATCH = 200
# A message costs a worker as much as ten questions, and two threads that ask wait for each other: where answers come at
# once, one message is enough for so many times BATCH.
ROUNDS = 4
_QUICK_S = 2.0
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
# A page of a list costs as much as so many questions.
_FEW = 5

# Jobs `j` that nobody holds. Whose lease ran out is for `run`: its worker died, and crashes are counted.
_FREE = """
    j.status = 'running' AND j.lease_expires_at IS NULL AND j.cancel_requested_at IS NULL AND j.deadline_at > %(now)s
"""
WANTS_NEWS = f"""
    {_FREE} AND EXISTS (SELECT 1 FROM jobs_attempt a WHERE a.job_id = j.id AND a.status = 'submitted')
"""  # noqa: S608 - only our own constants are interpolated
# What a look needs of each, its id first; the rest is most of what reading them would cost.
_OF_JOB = ("id", "team_id", "priority", "traceparent")
_OF_ATTEMPT = (
    "id",
    "provider",
    "model",
    "route_id",
    "ticket",
    "provider_status",
    "progress",
    "polls",
    "hedged",
)
# The quote only of who was never asked for: it says how long such a job takes. What a provider lists comes due at one
# time, one after the other as it was ordered: neighbours in the list. Times as numbers, which the driver reads at a
# tenth of the cost.
_TAKE = f"""
WITH due AS (
    SELECT j.id AS job, a.id AS attempt,
        CASE WHEN a.provider = ANY(%(listing)s)
             THEN %(listed_at)s + make_interval(secs => extract(epoch FROM j.created_at)::numeric %% 86400 / 100000)
             END AS listed_at,
        CASE WHEN a.polls = 0 THEN j.quote END,
        extract(epoch FROM a.submitted_at)::float8,
        {rows.columns(Job, "j", _OF_JOB[1:])}, {rows.columns(Attempt, "a", _OF_ATTEMPT[1:])}
    FROM jobs_job j JOIN jobs_attempt a ON a.job_id = j.id AND a.status = 'submitted'
    WHERE {_FREE} AND j.due_at <= %(now)s
    ORDER BY j.due_at LIMIT %(batch)s FOR UPDATE OF j SKIP LOCKED
), put_off AS (
    UPDATE jobs_job SET due_at = COALESCE(due.listed_at, %(next_at)s), rung_at = NULL
    FROM due WHERE jobs_job.id = due.job
), counted AS (
    UPDATE jobs_attempt SET polls = jobs_attempt.polls + 1 FROM due WHERE jobs_attempt.id = due.attempt
)
SELECT * FROM due
"""  # noqa: S608 - only our own constants are interpolated
# The columns before the job's own.
_BEFORE = 5

# Only the time that we set ourselves: whoever made the job due meanwhile, or holds it, knows better.
_NOTE = """
WITH notes AS (
    SELECT * FROM jsonb_to_recordset(%(notes)s::jsonb) AS n(
        job uuid, attempt uuid, set_at timestamptz, next_at timestamptz,
        provider_status text, progress float8, is_news boolean)
), noted AS (
    UPDATE jobs_attempt a SET provider_status = n.provider_status, progress = n.progress
    FROM notes n WHERE a.id = n.attempt AND a.status = 'submitted' AND n.is_news
)
UPDATE jobs_job j SET due_at = n.next_at FROM notes n
WHERE j.id = n.job AND j.due_at = n.set_at AND n.next_at <> n.set_at
"""


def rounds() -> int:
    """Asks for up to ROUNDS times BATCH jobs. Returns how many. Where a provider takes its time, the later rounds are
    other threads': they are rung for."""
    asked = 0
    for left in reversed(range(ROUNDS)):
        began = time.monotonic()
        count = some()
        asked += count
        if count < BATCH:
            break
        if time.monotonic() - began > _QUICK_S:
            ring(left * BATCH, each=BATCH)
            break
    return asked


def ring(count: int, *, each: int = ROUNDS * BATCH) -> None:
    """Calls threads, one for `each` so many of the jobs that are to be asked for. The message names none: whoever hears
    it takes as many as are due then."""
    for _ in range(math.ceil(count / each)):
        bell.ring("jobs.poll_many", id=uuid.uuid4(), queue="io")


def some() -> int:
    """Asks for up to BATCH jobs whose providers were to be asked by now. Returns how many."""
    taken = _take()
    # A connection is not kept from others while providers answer.
    rows.let_go()
    _write([note for job, answer in _answers(taken) if (note := _heard(job, answer))])
    return len(taken)


def _take() -> list[Job]:
    at = clock.now()
    next_at = at + timedelta(seconds=run.MAX_POLL_S)
    values = {
        "now": at,
        "batch": BATCH,
        "next_at": next_at,
        "listing": [provider for provider in settings.PROVIDERS if call.lists(provider)],
        "listed_at": _listed_at(at),
    }
    return [_with_attempt(row, next_at) for row in rows.select(_TAKE, values)]


def _listed_at(at: datetime) -> datetime:
    """When providers that list their orders are next asked: twice a minute, not twice within a moment."""
    soon = (at + timedelta(seconds=run.MAX_POLL_S / 2)).timestamp()
    return datetime.fromtimestamp(math.ceil(soon / run.MAX_POLL_S) * run.MAX_POLL_S, UTC)


def _with_attempt(row: tuple[Any, ...], next_at: datetime) -> Job:
    job_id, attempt_id, listed_at, quote, submitted_at = row[:_BEFORE]
    own = _BEFORE + len(_OF_JOB) - 1
    job = rows.make(Job, (job_id, *row[_BEFORE:own]), _OF_JOB)
    job.due_at = listed_at or next_at
    if quote is not None:
        job.quote = json.loads(quote)
    attempt = rows.make(Attempt, (attempt_id, *row[own:]), _OF_ATTEMPT)
    attempt.submitted_at = datetime.fromtimestamp(submitted_at, UTC) if submitted_at else None
    job.past = [attempt]
    return job


def _answers(taken: Sequence[Job]) -> Iterator[tuple[Job, Pending | Result | ProviderError]]:
    """What their providers say: of many at once where they can tell, and of each of the others."""
    for provider in {job.past[0].provider for job in taken}:
        tickets = {job: _ticket(job.past[0]) for job in taken if job.past[0].provider == provider}
        told = _listed(provider, tickets) if call.lists(provider) else {}
        yield from told.items()
        alone = {job: ticket for job, ticket in tickets.items() if job not in told}
        yield from zip(alone, call.poll_each(provider, list(alone.values())), strict=True)


def _listed(provider: str, tickets: dict[Job, Ticket]) -> dict[Job, Pending]:
    """Those of which the provider's list says that they are under way: one page after the other, while each tells of
    some."""
    told: dict[Job, Pending] = {}
    while len(tickets) >= _FEW:
        try:
            page = call.poll_many(provider, list(tickets.values()))
        except ProviderError:
            # Whatever it is, each may be asked for by itself.
            break
        found = {job: page[one.task_id] for job, one in tickets.items() if one.task_id in page}
        told |= found
        if len(found) < _FEW:
            break
        tickets = {job: one for job, one in tickets.items() if job not in found}
    return told


def _heard(job: Job, answer: Pending | Result | ProviderError) -> dict[str, Any] | None:
    """What is to be noted, if anything. Where there is more to do, `run` is rung."""
    attempt = job.past[0]
    if isinstance(answer, ProviderError) and answer.kind in SAYS_NOTHING:
        return _note(job, attempt, None, answer.retry_after_s)
    if isinstance(answer, Pending) and not hedging.is_due(job, attempt):
        return _note(job, attempt, answer, None)
    with leases.step("poll", job):
        leases.nudge(job.pk, rung=True)
        leases.ring(job.pk, can_wait=job.priority == Priority.BATCH)
    return None


def _ticket(attempt: Attempt) -> Ticket:
    return Ticket.from_json(attempt.ticket or "")


def _note(job: Job, attempt: Attempt, told: Pending | None, later_s: float | None) -> dict[str, Any] | None:
    """None if all is as it was, and the next question may wait for the time that was set when the job was taken."""
    known = attempt.provider_status, attempt.progress
    heard = (told.status, told.progress) if told else known
    at = clock.now()
    set_at, next_at = job.due_at or at, run.next_poll(job, attempt, later_s)
    if next_at - at >= timedelta(seconds=run.MAX_POLL_S) and (later_s or 0.0) <= run.MAX_POLL_S:
        next_at = set_at
    if next_at == set_at and heard == known:
        return None
    return {
        "job": str(job.pk),
        "attempt": str(attempt.pk),
        "set_at": set_at.isoformat(),
        "next_at": next_at.isoformat(),
        "provider_status": heard[0],
        "progress": heard[1],
        "is_news": heard != known,
    }


def _write(notes: Sequence[dict[str, Any]]) -> None:
    if not notes:
        return
    rows.execute(_NOTE, {"notes": json.dumps(notes)})
    with transaction.atomic():
        for note in notes:
            if note["is_news"]:
                notify.changed(uuid.UUID(note["job"]))
