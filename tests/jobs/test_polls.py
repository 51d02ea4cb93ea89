"""Many jobs under way: asked for together, with one claim and one write, and each ends as it would alone."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.jobs import leases, polls, sweep
from apps.jobs.models import Attempt, Job
from tests.concurrency.workers import at_once
from tests.jobs import bells
from tests.jobs.engine import Engine


def under_way(engine: Engine, count: int, seconds: float = 6000) -> list[Job]:
    jobs = [engine.run(engine.submit(f"slow [time:{seconds}] {index}")) for index in range(count)]
    engine.time.set(max(job.due_at for job in jobs if job.due_at))
    return jobs


def give_up(engine: Engine, *jobs: Job) -> None:
    """Ends them; the provider forgets them, and after a day so do we."""
    for job in jobs:
        engine.cancel(job)
        engine.run(engine.due(job))
    engine.simulator.reset()
    engine.time.forward(86_400)
    for job in jobs:
        for attempt in engine.attempts(job):
            engine.resolve(attempt)


def test_all_that_are_due_are_asked_for_with_one_claim_and_one_write(engine: Engine) -> None:
    jobs = under_way(engine, 12)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert polls.some() == 12
    assert len([query for query in queries if "jobs_job" in query["sql"]]) == 2
    assert {attempt.polls for attempt in Attempt.objects.all()} == {2}
    for job in jobs:
        job = engine.fresh(job)
        assert job.due_at
        assert (job.due_at > clock.now(), job.lease_expires_at) == (True, None)
    give_up(engine, *jobs)


def test_what_has_ended_goes_on_its_usual_way(engine: Engine) -> None:
    jobs = under_way(engine, 3, seconds=0.1)
    engine.provider_done()
    assert polls.some() == 3
    assert {engine.fresh(job).due_at for job in jobs} == {clock.now()}
    assert {engine.finish(job).status for job in jobs} == {"completed"}
    assert len(engine.submits()) == 3


def test_a_provider_that_is_away_is_asked_again_later_and_the_work_is_not_lost(engine: Engine) -> None:
    jobs = under_way(engine, 3, seconds=0.1)
    engine.provider_done()
    engine.simulator.settings(dead=["wavespeed"])
    assert polls.some() == 3
    assert {engine.statuses(job)[0] for job in jobs} == {"submitted"}
    engine.simulator.settings(dead=[])
    assert {engine.finish(job).status for job in jobs} == {"completed"}


def test_what_is_held_canceled_or_not_due_is_left_alone(engine: Engine) -> None:
    held, canceled = under_way(engine, 2)
    later = engine.run(engine.submit("later [time:6000]"))
    engine.cancel(canceled)
    leases.claim(held.pk)
    assert polls.some() == 0
    engine.time.forward(60)
    give_up(engine, held, later, canceled)


def test_a_nudge_during_the_look_is_not_lost(engine: Engine) -> None:
    """A webhook that comes while the batch is asked for makes its job due at once."""
    [job] = under_way(engine, 1)
    taken = polls._take()
    assert leases.nudge(job.pk)
    polls._give_back(taken, [row for each in taken if (row := polls._look(each))])
    assert engine.fresh(job).due_at == clock.now()
    give_up(engine, job)


def test_the_sweep_rings_once_for_fifty_and_for_new_work_as_ever(
    engine: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    jobs = under_way(engine, 12)
    fresh = engine.submit("new work")
    engine.time.forward(sweep.RING_AGAIN_S)
    bells.clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep.due_jobs() == 13
    rung = Counter(message.task for message in bells.waiting("io"))
    assert rung == {"jobs.poll_many": 1, "jobs.run": 1}
    bells.clear("io")
    give_up(engine, *jobs, fresh)


def test_jobs_of_a_worker_that_died_while_it_asked_go_their_usual_way(
    engine: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    jobs = under_way(engine, 12)
    assert len(polls._take()) == 12
    engine.time.forward(settings.JOB_LEASE_S + sweep.RING_AGAIN_S)
    bells.clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep.due_jobs() == 12
    rung = Counter(message.task for message in bells.waiting("io"))
    assert rung == {"jobs.run": 12}
    bells.clear("io")
    give_up(engine, *jobs)


@pytest.mark.parametrize("together", [True, False])
def test_a_poll_that_is_throttled_is_repeated_no_sooner_than_asked(engine: Engine, together: bool) -> None:
    """WaveSpeed asks for 3 s, the interval is still shorter."""
    job = engine.run(engine.submit("[fault:poll-429=1] slow [time:6000]"))
    engine.due(job)
    if together:
        polls.some()
    else:
        engine.run(job)
    job = engine.fresh(job)
    assert job.due_at == clock.now() + timedelta(seconds=3)
    give_up(engine, job)


def test_who_lost_the_jobs_it_asked_for_does_not_give_them_back(engine: Engine) -> None:
    [job] = under_way(engine, 1)
    taken = polls._take()
    news = [row for each in taken if (row := polls._look(each))]
    engine.time.forward(settings.JOB_LEASE_S)
    heir = leases.claim(job.pk)
    assert heir
    polls._give_back(taken, news)
    assert engine.fresh(job).lease_expires_at == heir.lease_expires_at
    leases.leave(heir, next_at=clock.now())
    give_up(engine, job)


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_ask_for_each_job_once(engine: Engine) -> None:
    jobs = under_way(engine, 12)
    taken = at_once([polls._take] * 8)
    assert Counter(job.pk for each in taken for job in each) == dict.fromkeys((job.pk for job in jobs), 1)
    engine.time.forward(settings.JOB_LEASE_S)
    give_up(engine, *jobs)
