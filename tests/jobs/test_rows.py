"""What the database itself refuses, whoever writes: a job that is in two states, forgotten, resurrected or bought
twice at once."""

import uuid
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from apps.core import clock
from apps.jobs.models import Attempt, Job, JobEvent
from tests.jobs.engine import Engine

LEASE, NOW = uuid.uuid4(), clock.now()
ENDED = {"due_at": None, "finished_at": NOW}

WRONG_JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "an unheard-of status": ("job_(status_known|ended_iff_never_due)", {"status": "paused"}),
    "running without a lease": ("job_running_iff_leased", {"status": "running"}),
    "queued with a lease": ("job_running_iff_leased", {"lease": LEASE}),
    "ended with a lease": ("job_running_iff_leased", {"status": "completed", "lease": LEASE, **ENDED}),
    "queued and never due": ("job_ended_iff_never_due", {"due_at": None}),
    "queued and finished": ("job_ended_iff_never_due", {"finished_at": NOW}),
    "ended and still due": ("job_ended_iff_never_due", {"status": "completed", "finished_at": NOW}),
    "ended at no time": ("job_ended_iff_never_due", {"status": "canceled", "due_at": None}),
    "failed for no reason": ("job_failed_iff_error_code", {"status": "failed", **ENDED}),
    "completed with an error": (
        "job_failed_iff_error_code",
        {"status": "completed", "error_code": "x", **ENDED},
    ),
    "queued with an error": ("job_failed_iff_error_code", {"error_code": "x"}),
}


@pytest.mark.parametrize(("constraint", "changes"), WRONG_JOBS.values(), ids=WRONG_JOBS.keys())
def test_no_job_is(engine: Engine, constraint: str, changes: dict[str, Any]) -> None:
    job = engine.submit()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(**changes)
    assert engine.finish(job).status == "completed"


WRONG_ATTEMPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "an unheard-of status": ("attempt_status_known", {"status": "lost"}),
    "unknown and never asked for": ("attempt_unknown_iff_checked", {"status": "unknown"}),
    "known and still asked for": ("attempt_unknown_iff_checked", {"check_at": NOW}),
}


@pytest.mark.parametrize(("constraint", "changes"), WRONG_ATTEMPTS.values(), ids=WRONG_ATTEMPTS.keys())
def test_no_attempt_is(engine: Engine, constraint: str, changes: dict[str, Any]) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Attempt.objects.filter(job=job).update(**changes)
    engine.finish(job)


@pytest.mark.parametrize(
    ("constraint", "number"), [("one_attempt_per_number", 1), ("one_open_attempt_per_job", 2)]
)
def test_no_second_purchase_is_open_at_once(engine: Engine, constraint: str, number: int) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    twin = engine.attempt(job)
    twin.pk, twin.number = uuid.uuid4(), number
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        twin.save(force_insert=True)
    engine.finish(job)


def test_one_job_per_idempotency_key_and_user(engine: Engine) -> None:
    first, second = engine.submit(), engine.submit()
    Job.objects.filter(pk=first.pk).update(idempotency_key="k")
    with pytest.raises(IntegrityError, match="one_job_per_idempotency_key"), transaction.atomic():
        Job.objects.filter(pk=second.pk).update(idempotency_key="k")
    assert {engine.finish(job).status for job in (first, second)} == {"completed"}


@pytest.mark.parametrize("end", ["completed", "failed", "canceled"])
@pytest.mark.parametrize("status", ["queued", "running", "completed", "failed", "canceled"])
def test_an_ended_job_never_becomes_anything_else(engine: Engine, end: str, status: str) -> None:
    if status == end:
        return
    job = ended(engine, end)
    changes: dict[str, Any] = {"status": status}
    if status in ("queued", "running"):
        changes |= {"due_at": NOW, "finished_at": None, "error_code": ""}
        changes |= {"lease": LEASE} if status == "running" else {}
    else:
        changes |= {"error_code": "x" if status == "failed" else ""}
    with pytest.raises(DatabaseError, match="has ended"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(**changes)
    assert engine.fresh(job).status == end


def ended(engine: Engine, end: str) -> Job:
    if end == "canceled":
        job = engine.submit()
        engine.cancel(job)
        return engine.run(job)
    return engine.finish(engine.submit("[fault:nsfw] a fox" if end == "failed" else "a fox"))


@pytest.mark.parametrize("end", ["completed", "failed", "canceled"])
def test_every_move_leaves_an_event(engine: Engine, end: str) -> None:
    job = ended(engine, end)
    assert engine.moves(job) == [("", "queued"), ("queued", "running"), ("running", end)]
    times = list(JobEvent.objects.filter(job=job).order_by("id").values_list("at", flat=True))
    assert times == sorted(times)


def test_retries_and_polls_are_no_moves(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:500*2] slow [time:1]"))
    assert engine.moves(job) == [("", "queued"), ("queued", "running"), ("running", "completed")]


def test_an_answer_from_the_cache_is_one_move(engine: Engine) -> None:
    engine.finish(engine.submit("a fox", cache="exact"))
    answer = engine.user.api.post(
        "/v1/jobs",
        {"type": "image", "prompt": "a fox", "model": "fast-draft", "params": {"width": 64, "height": 64}},
        format="json",
    )
    assert answer.status_code == 200
    cached = Job.objects.get(pk=answer.json()["id"])
    assert engine.moves(cached) == [("", "completed")]
