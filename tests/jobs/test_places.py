"""A user's tier says how many of their jobs run at once; the others wait their turn, and nobody else waits for them."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import Tier
from apps.core import clock
from tests import factories
from tests.jobs import bells
from tests.jobs.engine import Engine


@pytest.fixture
def one_at_a_time(engine: Engine) -> Engine:
    engine.user = factories.someone(tier=factories.tier(concurrency=1))
    return engine


def test_as_many_jobs_run_as_the_tier_allows(engine: Engine) -> None:
    engine.user = factories.someone(tier=factories.tier(concurrency=2))
    jobs = [engine.run(engine.submit(f"{n} [time:1]")) for n in range(4)]
    assert [job.status for job in jobs] == ["running", "running", "queued", "queued"]
    assert [job.due_at for job in jobs[2:]] == [clock.now() + timedelta(seconds=60)] * 2
    assert len(engine.submits()) == 2
    assert {engine.finish(job).status for job in jobs} == {"completed"}


def test_the_end_of_a_job_wakes_the_oldest_that_waits(
    one_at_a_time: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    engine = one_at_a_time
    first, second, third = [engine.run(engine.submit(f"{n} [time:1]")) for n in range(3)]
    engine.provider_done()
    engine.run(engine.due(first))
    with django_capture_on_commit_callbacks(execute=True):
        engine.validate(first)
    assert engine.fresh(second).due_at == clock.now()
    assert bells.waiting("io") == [bells.Message("jobs.run", str(second.pk))]
    due = engine.fresh(third).due_at
    assert due
    assert due > clock.now()
    assert engine.finish(second).status == "completed"
    assert engine.fresh(third).due_at == clock.now()
    assert engine.finish(third).status == "completed"


def test_jobs_are_served_in_the_order_they_came(one_at_a_time: Engine) -> None:
    engine = one_at_a_time
    jobs = [engine.run(engine.submit(f"{n} [time:0.1]")) for n in range(4)]
    order: list[uuid.UUID] = []
    while len(order) < len(jobs):
        [due] = [job for job in map(engine.fresh, jobs) if job.due_at and job.status == "running"] or [
            job for job in map(engine.fresh, jobs) if job.due_at and job.due_at <= clock.now()
        ]
        engine.finish(due)
        order.append(due.pk)
    assert order == [job.pk for job in jobs]


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_every_end_frees_the_place(one_at_a_time: Engine, end: str) -> None:
    engine = one_at_a_time
    first, second = engine.run(engine.submit("[fault:failed] one [time:1]")), engine.run(engine.submit("two"))
    assert second.status == "queued"
    if end == "cancel":
        engine.cancel(first)
        engine.run(first)
        engine.provider_done()
        engine.resolve(engine.attempt(first))
    else:
        engine.finish(first)
    assert engine.fresh(second).due_at
    assert engine.finish(second).status == "completed"


def test_a_retry_keeps_its_place(one_at_a_time: Engine) -> None:
    engine = one_at_a_time
    first, second = engine.run(engine.submit("[fault:429=20*1] one")), engine.run(engine.submit("two"))
    assert (first.status, second.status) == ("running", "queued")
    engine.time.forward(20)
    assert engine.run(first).status == "running"
    assert {engine.finish(job).status for job in (first, second)} == {"completed"}


def test_nobody_waits_for_somebody_elses_jobs(one_at_a_time: Engine) -> None:
    engine = one_at_a_time
    other = factories.someone(tier=engine.user.user.tier)
    mine = engine.run(engine.submit("one [time:1]"))
    theirs = engine.run(engine.submit("two [time:1]", by=other))
    assert (mine.status, theirs.status) == ("running", "running")
    assert {engine.finish(job).status for job in (mine, theirs)} == {"completed"}


def test_a_raised_limit_holds_at_the_next_touch(one_at_a_time: Engine) -> None:
    engine = one_at_a_time
    first, second = [engine.run(engine.submit(f"{n} [time:1]")) for n in range(2)]
    Tier.objects.filter(pk=engine.user.user.tier_id).update(concurrency=2)
    second = engine.run(engine.due(second))
    assert second.status == "running"
    assert {engine.finish(job).status for job in (first, second)} == {"completed"}
