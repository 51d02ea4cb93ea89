"""A second order where the first takes long: the first to deliver is used, the other is taken back or our loss."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.catalog import snapshot
from apps.catalog.models import Route
from apps.core import clock
from apps.jobs import attempts, flush, hedging, leases, polls, run
from apps.jobs.models import Attempt, Job
from apps.providers import limiter
from tests.fakes.simulator import wait_until
from tests.jobs import market
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")
AFTER_S = 2.0


@pytest.fixture(autouse=True)
def two(engine: Engine, settings: Any) -> Engine:
    """fast-draft is made by Replicate, which takes back what has not begun, else by WaveSpeed."""
    market.only_wavespeed()
    settings.PROVIDERS = market.configured(engine.simulator)
    Route.objects.filter(model_id="fast-draft").update(position=9)
    market.offer("replicate", hedge_after_s=AFTER_S)
    engine.simulator.settings(time_scale=1)
    return engine


def change(provider: str = "replicate", **fields: Any) -> None:
    Route.objects.filter(model_id="fast-draft", provider=provider).update(**fields)
    snapshot.forget()


def looked_at(engine: Engine, job: Job) -> Job:
    """The job, touched when its second order is due."""
    job = engine.run(job)
    [first] = engine.attempts(job)
    assert job.due_at
    engine.time.set(max(clock.now(), hedging.due_at(job, first) or job.due_at))
    job = Job.objects.get(pk=job.pk)
    assert job.due_at
    assert job.due_at <= clock.now(), "it is looked at no later than that"
    return engine.run(job)


def hedged(engine: Engine, prompt: str) -> Job:
    job = looked_at(engine, engine.submit(prompt))
    assert engine.statuses(job) == ["unknown", "submitted"], engine.story(job)
    return job


def told(engine: Engine, job: Job, number: int, count: int) -> None:
    """The provider's webhook of that attempt arrives, the first of `count`."""
    attempt = engine.attempts(job)[number - 1]
    webhook = next(one for one in engine.webhooks(count) if str(attempt.pk) in one.path)
    assert engine.deliver(webhook, attempt) == 200


def other(engine: Engine, job: Job, number: int) -> Attempt:
    """The loser, after its outcome was asked for."""
    return engine.resolve(engine.attempts(job)[number - 1])


def test_the_second_order_wins_and_the_first_that_had_begun_is_the_platforms_loss(two: Engine) -> None:
    two.simulator.faults("stuck", match="replicate-ai/")
    job = hedged(two, "a fox [time:0.2]")
    wait_until(lambda: two.simulator.summary()["tasks_by_state"].get("completed"))
    job = two.validate(two.run(two.due(job)))
    assert (job.status, job.cost_usd, two.hold(job)) == ("completed", PRICE, "captured")
    first = other(two, job, 1)
    assert (first.status, first.billed, two.absorbed(job)) == ("canceled", "yes", PRICE)
    shown = two.user.api.get(f"/v1/jobs/{job.pk}").json()["attempts"]
    assert [attempt["hedged"] for attempt in shown] == [True, True]
    ops = Client()
    ops.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    page = ops.get(f"/admin/jobs/job/{job.pk}/change/")
    assert page.content.decode().count("one of two") == 2
    assert limiter.look("replicate")["open"] == 0


def test_the_first_is_taken_back_for_nothing_where_it_has_not_begun(two: Engine) -> None:
    two.simulator.settings(concurrency=1)
    two.simulator.faults("stuck", match="replicate-ai/")
    job = two.submit("a fox [time:1]")
    # Somebody else's order is before it.
    before = two.run(two.submit("before [time:30]"))
    job = two.run(job)
    two.simulator.settings(concurrency=9)
    first = two.attempts(job)[0]
    two.time.set(hedging.due_at(job, first) or clock.now())
    job = two.run(job)
    assert two.statuses(job) == ["unknown", "submitted"], two.story(job)
    wait_until(lambda: two.simulator.summary()["tasks_by_state"].get("completed"))
    job = two.validate(two.run(two.due(job)))
    first = other(two, job, 1)
    assert (first.status, first.billed, two.absorbed(job)) == ("canceled", "no", FREE)
    assert (job.status, job.cost_usd) == ("completed", PRICE)
    end_without_bill(two, before)


def end_without_bill(engine: Engine, job: Job) -> None:
    """Ends a job whose order had begun, and books what the provider bills for it."""
    engine.cancel(job)
    engine.run(engine.due(job))
    engine.time.forward(86_400)
    for attempt in engine.attempts(job):
        engine.resolve(attempt)
    engine.unbooked_usd += PRICE


def test_the_first_wins_if_it_delivers_first_and_the_second_is_the_platforms_loss(two: Engine) -> None:
    job = hedged(two, "a fox [time:1]")
    told(two, job, 1, count=1)
    assert two.statuses(job) == ["submitted", "unknown"], two.story(job)
    job = two.validate(two.run(job))
    assert (job.status, job.cost_usd, two.statuses(job)) == ("completed", PRICE, ["accepted", "unknown"])
    two.provider_done()
    second = other(two, job, 2)
    assert (second.status, second.billed, two.absorbed(job)) == ("canceled", "yes", PRICE)


def test_when_both_have_delivered_there_is_one_settlement(two: Engine) -> None:
    job = hedged(two, "a fox [time:0.3]")
    two.provider_done()
    two.webhooks(2)
    for number in (1, 2, 1, 2):
        told(two, job, number, count=2)
    job = two.finish(job)
    assert sorted(two.statuses(job)) == ["accepted", "unknown"]
    for number in (1, 2):
        other(two, job, number)
    assert (job.cost_usd, two.absorbed(job), len(two.submits())) == (PRICE, PRICE, 2)


def test_when_the_second_fails_the_first_leads_again_and_nothing_more_is_ordered(two: Engine) -> None:
    two.simulator.faults("500", match="wavespeed-ai/")
    job = looked_at(two, two.submit("a fox [time:1]"))
    assert two.statuses(job) == ["submitted", "failed"], two.story(job)
    job = two.finish(job)
    assert (job.status, two.statuses(job), len(two.submits())) == ("completed", ["accepted", "failed"], 2)
    assert (job.cost_usd, two.absorbed(job)) == (PRICE, FREE)


def test_when_the_answer_of_the_second_is_lost_the_first_still_wins(two: Engine) -> None:
    two.simulator.faults("reset", match="wavespeed-ai/")
    job = looked_at(two, two.submit("a fox [time:0.5]"))
    assert two.statuses(job) == ["unknown", "started"], two.story(job)
    told(two, job, 1, count=1)
    job = two.finish(job)
    assert (job.status, two.statuses(job)) == ("completed", ["accepted", "unknown"])
    two.time.forward(86_400)
    other(two, job, 2)
    assert (two.hold(job), two.absorbed(job)) == ("captured", FREE)


def test_a_worker_killed_between_the_two_leaves_a_job_that_ends_at_the_first(two: Engine) -> None:
    job = two.run(two.submit("a fox [time:0.3]"))
    two.time.forward(AFTER_S)
    claimed = leases.claim(two.due(job).pk)
    assert claimed
    assert attempts.set_aside(claimed, claimed.past[0])
    job = two.finish(two.due(job))
    assert (job.status, job.crashes, two.statuses(job)) == ("completed", 1, ["accepted"])
    assert (job.cost_usd, len(two.submits())) == (PRICE, 1)


def test_a_worker_that_lost_the_job_orders_nothing(two: Engine) -> None:
    job = two.run(two.submit("a fox [time:0.3]"))
    two.time.forward(AFTER_S)
    zombie = leases.claim(two.due(job).pk)
    assert zombie
    two.due(job)
    assert leases.claim(job.pk)
    assert not hedging.order(zombie, zombie.past[0], buy=run.buy)
    job = two.finish(two.due(job))
    assert (job.status, len(two.submits())) == ("completed", 1)


def test_a_canceled_job_pays_once_for_what_was_ordered_twice(two: Engine) -> None:
    job = hedged(two, "a fox [time:1]")
    two.cancel(job)
    job = two.run(job)
    assert (job.status, two.hold(job)) == ("canceled", "held")
    two.provider_done()
    for number in (1, 2):
        other(two, job, number)
    assert (two.fresh(job).cost_usd, two.absorbed(job), two.hold(job)) == (PRICE, PRICE, "captured")


def test_polled_in_bulk_it_is_handed_to_a_worker_that_orders(two: Engine) -> None:
    job = two.run(two.submit("a fox [time:1]"))
    two.time.set(hedging.due_at(job, two.attempt(job)) or clock.now())
    assert polls.some() == 1
    job = two.run(job)
    assert two.statuses(job) == ["unknown", "submitted"], two.story(job)
    two.finish(job)
    other(two, job, 1)


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("replicate", {"hedge_after_s": None}),
        ("replicate", {"hedge_max_usd": PRICE - Decimal("0.001")}),
        ("wavespeed", {"active": False}),
    ],
    ids=["not asked for", "dearer than allowed", "no other route"],
)
def test_one_order_is_all_where_a_second_is_not_allowed(
    two: Engine, provider: str, fields: dict[str, Any]
) -> None:
    change(provider, **fields)
    job = looked_at(two, two.submit("a fox [time:0.3]"))
    job = two.finish(job)
    assert (job.status, two.statuses(job), len(two.submits())) == ("completed", ["accepted"], 1)


def test_what_is_not_urgent_is_not_ordered_twice(two: Engine) -> None:
    job = two.submit("a fox [time:0.3]", priority="batch")
    assert job.batch_route
    flush.flush(job.batch_route)
    job = two.finish(looked_at(two, job))
    assert (job.status, len(two.submits())) == ("completed", 1)


def test_where_the_first_provider_takes_nothing_back_no_second_order_is_made(two: Engine) -> None:
    change("replicate", active=False)
    change("wavespeed", hedge_after_s=AFTER_S)
    market.offer("fal")
    job = two.finish(looked_at(two, two.submit("a fox [time:0.3]")))
    assert (job.status, two.statuses(job)) == ("completed", ["accepted"])
