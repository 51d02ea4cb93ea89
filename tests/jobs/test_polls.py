"""Many jobs under way: asked for together, with one claim and one write, and each ends as it would alone."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.catalog.models import Route
from apps.core import clock
from apps.jobs import leases, polls, run, sweep
from apps.jobs.models import Attempt, Job
from apps.providers import reach
from apps.providers.contract import Pending, Ticket
from tests.concurrency.workers import at_once
from tests.fakes.simulator import wait_until
from tests.jobs import bells, market
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


@pytest.mark.parametrize(("quick_s", "asked", "rung"), [(60.0, 7, 0), (0.0, 3, 3)], ids=["quick", "slow"])
def test_one_message_asks_for_several_times_as_many_where_answers_come_at_once_and_else_calls_others(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
    quick_s: float,
    asked: int,
    rung: int,
) -> None:
    jobs = under_way(engine, 7)
    bells.clear("io")
    monkeypatch.setattr(polls, "BATCH", 3)
    monkeypatch.setattr(polls, "_QUICK_S", quick_s)
    with django_capture_on_commit_callbacks(execute=True):
        assert polls.rounds() == asked
    assert [message.task for message in bells.waiting("io")] == ["jobs.poll_many"] * rung
    bells.clear("io")
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


def asked(taken: list[Job]) -> list[dict[str, Any]]:
    """What is to be noted of the answers."""
    return [note for job, answer in polls._answers(taken) if (note := polls._heard(job, answer))]


def test_an_answer_that_says_nothing_new_of_a_long_job_writes_nothing(engine: Engine) -> None:
    jobs = under_way(engine, 3)
    for _ in range(12):
        assert polls.some() == 3
        engine.time.set(max(due_at for job in jobs if (due_at := engine.fresh(job).due_at)))
    with CaptureQueriesContext(connection) as queries:
        assert polls.some() == 3
    assert len([query for query in queries if "jobs_job" in query["sql"]]) == 1
    assert {engine.fresh(job).due_at for job in jobs} == {clock.now() + timedelta(seconds=run.MAX_POLL_S)}
    give_up(engine, *jobs)


def test_a_nudge_during_the_look_is_not_lost(engine: Engine) -> None:
    """A webhook that comes while the batch is asked for makes its job due at once."""
    [job] = under_way(engine, 1)
    taken = polls._take()
    assert leases.nudge(job.pk)
    notes = asked(taken)
    assert notes, "it is to be asked again soon, for it has just begun"
    polls._write(notes)
    assert engine.fresh(job).due_at == clock.now()
    give_up(engine, job)


def test_an_answer_that_comes_late_takes_nothing_from_who_has_the_job_now(engine: Engine) -> None:
    """While one is asking, the webhook's worker fetches the result."""
    [job] = under_way(engine, 1, seconds=0.1)
    taken = polls._take()
    attempt = taken[0].past[0]
    told = Pending(Ticket.from_json(attempt.ticket or ""), "generating", 0.5)
    note = polls._note(taken[0], attempt, told, None)
    assert note
    engine.deliver(engine.webhooks()[0])
    before = engine.fresh(job).due_at, engine.attempt(job).progress
    polls._write([note])
    assert (engine.fresh(job).due_at, engine.attempt(job).progress) == before
    assert engine.finish(job).status == "completed"


def test_the_sweep_rings_once_for_hundreds_and_for_new_work_as_ever(
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


def test_jobs_of_a_worker_that_died_while_it_asked_are_asked_for_again(
    engine: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    """No later than had it lived, and none of them is to blame."""
    jobs = under_way(engine, 12)
    assert len(polls._take()) == 12
    engine.time.forward(run.MAX_POLL_S)
    bells.clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep.due_jobs() == 12
    rung = Counter(message.task for message in bells.waiting("io"))
    assert rung == {"jobs.poll_many": 1}
    assert {engine.fresh(job).crashes for job in jobs} == {0}
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


@pytest.mark.parametrize("together", [True, False])
def test_a_job_asked_for_thousands_of_times_is_asked_for_again(engine: Engine, together: bool) -> None:
    """A day at twice a minute."""
    [job] = under_way(engine, 1)
    Attempt.objects.filter(job=job).update(polls=2880)
    if together:
        polls.some()
    else:
        engine.run(job)
    assert engine.fresh(job).due_at == clock.now() + timedelta(seconds=run.MAX_POLL_S)
    give_up(engine, job)


@pytest.mark.django_db(transaction=True)
def test_what_another_worker_is_just_taking_is_passed_over(engine: Engine) -> None:
    jobs = under_way(engine, 6)
    theirs, rest = {job.pk for job in jobs[:3]}, {job.pk for job in jobs[3:]}
    with transaction.atomic():
        assert len(Job.objects.select_for_update().filter(pk__in=theirs)) == 3
        [taken] = at_once([polls._take])
    assert {job.pk for job in taken} == rest
    engine.time.forward(60)
    give_up(engine, *jobs)


# --- A provider that tells of many at once ----------------------------------------------------


@pytest.fixture
def listing(engine: Engine, settings: Any) -> Engine:
    """fast-draft is made by Replicate alone."""
    settings.PROVIDERS = market.configured(engine.simulator)
    market.only_wavespeed()
    Route.objects.filter(model_id="fast-draft").update(active=False)
    market.offer("replicate")
    return engine


def calls(engine: Engine) -> dict[str, int]:
    counted: dict[str, int] = engine.simulator.summary()["calls"]
    return counted


def test_a_hundred_under_way_are_asked_for_in_one_call(listing: Engine) -> None:
    jobs = under_way(listing, 12)
    before = calls(listing)
    assert polls.some() == 12
    assert calls(listing) == {**before, "list": 1}
    assert {listing.attempt(job).polls for job in jobs} == {2}
    give_up(listing, *jobs)


def test_those_long_under_way_are_asked_for_at_one_time_in_the_order_they_came(listing: Engine) -> None:
    """So that a page of the list is theirs, however many others there are."""
    jobs = under_way(listing, 6)
    # No half minute ends between the two looks.
    listing.time.set(polls._listed_at(clock.now()))
    Attempt.objects.update(polls=20)
    Job.objects.update(due_at=clock.now() + timedelta(hours=1))
    for batch in (jobs[3:], jobs[:3]):
        ids = [job.pk for job in batch]
        Job.objects.filter(pk__in=ids).update(due_at=clock.now())
        listing.time.forward(1)
        assert polls.some() == 3
    due = [due_at for job in jobs if (due_at := listing.fresh(job).due_at)]
    assert due == sorted(due)
    assert (max(due) - min(due)).total_seconds() < 1
    assert 14 < (min(due) - clock.now()).total_seconds() < 46
    give_up(listing, *jobs)


def test_what_the_list_does_not_show_to_be_under_way_is_asked_for_by_itself(listing: Engine) -> None:
    jobs = under_way(listing, 6)
    [quick] = under_way(listing, 1, seconds=0.01)
    wait_until(lambda: listing.simulator.summary()["tasks_by_state"].get("completed"))
    before = calls(listing)
    assert polls.some() == 7
    assert calls(listing) == {**before, "list": 1, "poll": before.get("poll", 0) + 1}
    assert listing.run(quick).status == "running"
    assert listing.validate(quick).status == "completed"
    give_up(listing, *jobs)
    # The provider has forgotten this one as well.
    listing.unbooked_usd = -listing.fresh(quick).cost_usd


def test_a_list_that_fails_says_nothing_of_the_work(listing: Engine) -> None:
    jobs = under_way(listing, 6)
    listing.simulator.settings(dead=["replicate"])
    assert polls.some() == 6
    assert {listing.statuses(job)[0] for job in jobs} == {"submitted"}
    listing.simulator.settings(dead=[])
    listing.time.forward(60)
    reach.forget()
    assert {listing.run(listing.due(job)).status for job in jobs} == {"running"}
    give_up(listing, *jobs)
