"""The net under the bell: what was lost is rung again, what merely waits is not."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.core import bell, clock
from apps.jobs import leases, sweep
from apps.jobs.models import Job
from tests.jobs import bells
from tests.jobs.engine import Engine

Sweep = Callable[[], list[bells.Message]]


@pytest.fixture
def swept(engine: Engine, django_capture_on_commit_callbacks: Any) -> Sweep:
    """Sweeps once: what it rang."""

    def sweep_once() -> list[bells.Message]:
        bells.clear("io")
        with django_capture_on_commit_callbacks(execute=True):
            sweep.due_jobs()
        return bells.waiting("io")

    return sweep_once


@pytest.fixture
def long_queue() -> Iterator[None]:
    """More messages than the workers have got to."""
    for number in range(sweep._BACKLOG):
        bell.publish("jobs.run", id=str(number), queue="io")
    yield
    bells.clear("io")


def ring_for(job: Job) -> list[bells.Message]:
    return [bells.Message("jobs.run", str(job.pk))]


def test_a_job_whose_ring_was_lost_is_rung_again_after_a_moment(engine: Engine, swept: Sweep) -> None:
    job = engine.submit()
    assert swept() == []
    engine.time.forward(sweep.RING_AGAIN_S - 1)
    assert swept() == []
    engine.time.forward(1)
    assert swept() == ring_for(job)
    assert swept() == [], "it was just rung"
    engine.time.forward(sweep.RING_AGAIN_S)
    assert swept() == ring_for(job)
    engine.finish(job)


def test_what_waits_in_a_long_queue_is_not_rung_again(engine: Engine, long_queue: None) -> None:
    job = engine.submit()
    engine.time.forward(59)
    assert sweep.due_jobs() == 0
    engine.time.forward(1)
    assert sweep.due_jobs() == 1
    bells.clear("io")
    engine.finish(job)


def test_a_broker_that_is_away_counts_as_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = engine.submit()
    engine.time.forward(sweep.RING_AGAIN_S)
    monkeypatch.setattr(bell, "depth", lambda queue: None)
    assert sweep.due_jobs() == 1
    engine.finish(job)


def test_a_job_becomes_due_by_its_clock_and_is_rung_at_once(engine: Engine, swept: Sweep) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    assert swept() == []
    engine.due(job)
    assert swept() == ring_for(job)
    engine.finish(job)


def test_news_are_rung_at_once(engine: Engine, swept: Sweep) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    leases.nudge(job.pk)
    assert swept() == ring_for(job)
    engine.finish(job)


def test_a_held_job_is_left_alone_until_its_lease_runs_out(
    engine: Engine, swept: Sweep, settings: Any
) -> None:
    job = engine.submit()
    leases.claim(job.pk)
    leases.nudge(job.pk)
    engine.time.forward(settings.JOB_LEASE_S - 1)
    assert swept() == []
    engine.time.forward(1)
    assert swept() == ring_for(job)
    engine.finish(job)


def test_ended_jobs_are_never_rung(engine: Engine, swept: Sweep) -> None:
    engine.finish(engine.submit())
    engine.time.forward(86_400)
    assert swept() == []


def test_the_longest_due_come_first_and_only_so_many(
    engine: Engine, swept: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [engine.submit(f"{n}") for n in range(3)]
    for number, job in enumerate(reversed(jobs)):
        Job.objects.filter(pk=job.pk).update(due_at=clock.now() + timedelta(seconds=number))
    engine.time.forward(60)
    monkeypatch.setattr(sweep, "_BATCH", 2)
    assert {message.id for message in swept()} == {str(jobs[2].pk), str(jobs[1].pk)}
    assert swept() == ring_for(jobs[0])
    for job in jobs:
        engine.finish(job)


def test_a_validation_whose_ring_was_lost_is_found_again(engine: Engine, swept: Sweep) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    engine.time.forward(sweep.RING_AGAIN_S)
    assert swept() == ring_for(job)
    engine.run(job)
    assert engine.validate(job).status == "completed"


def test_a_postponed_job_is_rung_once_its_time_has_come(engine: Engine, swept: Sweep) -> None:
    """The net under the wake-up that a full tier relies on."""
    job = engine.submit()
    Job.objects.filter(pk=job.pk).update(due_at=clock.now() + timedelta(seconds=60), rung_at=clock.now())
    engine.time.forward(60)
    assert swept() == ring_for(job)
    engine.finish(job)


def test_idempotency_keys_are_forgotten_after_a_month(engine: Engine, settings: Any) -> None:
    job = engine.submit()
    Job.objects.filter(pk=job.pk).update(idempotency_key="k", request_digest=b"d", accepted_body="{}")
    engine.time.forward(settings.IDEMPOTENCY_TTL_S)
    assert sweep.old_idempotency_keys() == 0
    engine.time.forward(1)
    assert sweep.old_idempotency_keys() == 1
    assert engine.fresh(job).idempotency_key is None
    engine.finish(job)


def test_what_a_dead_worker_had_in_hand_is_rung_again_whatever_waits(
    engine: Engine, long_queue: None, settings: Any
) -> None:
    """Its message is gone with it, and is not among those that wait."""
    job = engine.submit()
    leases.claim(job.pk)
    engine.time.forward(settings.JOB_LEASE_S - 1)
    assert sweep.due_jobs() == 0
    engine.time.forward(1)
    assert sweep.due_jobs() == 1
    bells.clear("io")
    engine.finish(job)
