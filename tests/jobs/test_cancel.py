"""Cancel at every stage: the job ends, and the user pays only for work that the provider delivers anyway."""

from decimal import Decimal

from apps.core import clock
from apps.jobs import unknowns
from apps.jobs.states import Billed
from tests import factories
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


def test_a_queued_job_ends_free_of_charge(engine: Engine) -> None:
    job = engine.submit()
    engine.cancel(job)
    job = engine.run(job)
    assert (job.status, job.cost_usd, engine.hold(job)) == ("canceled", FREE, "released")
    assert engine.submits() == []
    assert engine.moves(job) == [("", "queued"), ("queued", "running"), ("running", "canceled")]


def test_a_queued_job_behind_its_users_other_jobs_ends_at_once_too(engine: Engine) -> None:
    engine.user = factories.someone(tier=factories.tier(concurrency=1))
    first = engine.run(engine.submit("one [time:30]"))
    second = engine.run(engine.submit("two"))
    assert second.status == "queued"
    engine.cancel(second)
    second = engine.run(second)
    assert (second.status, engine.hold(second)) == ("canceled", "released")
    engine.finish(first)


def test_a_job_that_waits_for_its_retry_ends_free_of_charge(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:429=30*1] a fox"))
    engine.cancel(job)
    job = engine.run(job)
    assert (job.status, engine.hold(job), engine.statuses(job)) == ("canceled", "released", ["failed"])


def test_a_generation_under_way_is_paid_if_the_provider_delivers_it(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:20]"))
    engine.cancel(job)
    job = engine.run(job)
    assert (job.status, job.finished_at) == ("canceled", clock.now())
    assert (engine.hold(job), engine.statuses(job)) == ("held", ["unknown"])
    engine.provider_done()
    attempt = engine.resolve(engine.attempt(job))
    assert (attempt.status, attempt.billed) == ("canceled", "yes")
    assert (engine.fresh(job).cost_usd, engine.hold(job)) == (PRICE, "captured")


def test_a_generation_under_way_is_free_if_it_fails(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:failed] slow [time:20]"))
    engine.cancel(job)
    job = engine.run(job)
    engine.provider_done()
    attempt = engine.resolve(engine.attempt(job))
    assert (attempt.status, attempt.billed) == ("canceled", "no")
    assert (engine.fresh(job).cost_usd, engine.hold(job)) == (FREE, "released")


def test_the_webhook_of_a_canceled_generation_settles_its_money_at_once(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    engine.cancel(job)
    job = engine.run(job)
    assert engine.deliver(engine.webhooks()[0]) == 200
    assert (engine.fresh(job).status, engine.fresh(job).cost_usd) == ("canceled", PRICE)


def test_fetched_work_is_charged_whichever_worker_sees_the_cancel(engine: Engine) -> None:
    engine.simulator.settings(time_scale=0)
    for touch in (engine.run, engine.validate):
        job = engine.run(engine.submit())
        assert engine.statuses(job) == ["fetched"]
        engine.cancel(job)
        job = touch(job)
        assert (job.status, job.outputs, job.cost_usd) == ("canceled", [], PRICE)
        assert (engine.hold(job), engine.statuses(job)) == ("captured", ["canceled"])


def test_a_lost_answer_keeps_its_money_until_the_webhook_tells(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:accept-reset] [time:0.1] a fox"))
    engine.cancel(job)
    job = engine.run(job)
    assert (job.status, engine.hold(job), engine.statuses(job)) == ("canceled", "held", ["unknown"])
    assert engine.deliver(engine.webhooks()[0]) == 200
    assert (engine.fresh(job).cost_usd, engine.hold(job)) == (PRICE, "captured")


def test_a_cancel_after_the_end_changes_nothing(engine: Engine) -> None:
    job = engine.finish(engine.submit())
    answer = engine.user.api.post(f"/v1/jobs/{job.pk}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    again = engine.fresh(job)
    assert (again.cancel_requested_at, again.cost_usd) == (None, PRICE)


def test_canceled_work_is_not_served_to_others(engine: Engine) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit(cache="exact"))
    engine.cancel(job)
    engine.validate(job)
    again = engine.finish(engine.submit(cache="exact"))
    assert again.cached_from is None


def test_an_outcome_that_two_learn_at_once_is_booked_once(engine: Engine) -> None:
    """The webhook's worker and the sweep's, each with the provider's word in hand."""
    job = engine.run(engine.submit("slow [time:20]"))
    engine.cancel(job)
    engine.run(job)
    engine.provider_done()
    attempt = engine.attempt(job)
    for _ in range(2):
        unknowns.known(attempt, Billed.YES)
    assert (engine.fresh(job).cost_usd, engine.hold(job), engine.absorbed(job)) == (PRICE, "captured", FREE)
