"""A job's time is bounded; what is already paid for is delivered all the same."""

from decimal import Decimal

from apps.core import clock
from tests import factories
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


def test_a_job_nobody_ran_in_time_fails_and_costs_nothing(engine: Engine) -> None:
    job = engine.submit()
    engine.time.set(job.deadline_at)
    job = engine.run(job)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "deadline_exceeded", True)
    assert engine.hold(job) == "released"
    assert engine.submits() == []


def test_work_that_is_fetched_is_delivered_after_the_deadline(engine: Engine) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    assert engine.statuses(job) == ["fetched"]
    engine.time.set(job.deadline_at)
    job = engine.validate(engine.run(job))
    assert (job.status, job.cost_usd) == ("completed", PRICE)


def test_a_purchase_still_running_at_the_deadline_keeps_its_money_until_its_outcome_is_known(
    engine: Engine,
) -> None:
    job = engine.run(engine.submit("slow [time:20]"))
    engine.time.set(job.deadline_at)
    job = engine.run(job)
    assert (job.status, job.error_code) == ("failed", "deadline_exceeded")
    assert (engine.hold(job), engine.statuses(job)) == ("held", ["unknown"])
    engine.provider_done()
    attempt = engine.resolve(engine.attempt(job))
    assert (attempt.status, attempt.billed) == ("failed", "yes")
    job = engine.fresh(job)
    assert (job.cost_usd, engine.absorbed(job), engine.hold(job)) == (FREE, PRICE, "released")


def test_no_try_is_planned_beyond_the_deadline(engine: Engine) -> None:
    job = engine.submit("[fault:429=60] a fox")
    engine.time.set(job.deadline_at.replace(microsecond=0))
    engine.time.forward(-30)
    job = engine.run(job)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "generation_failed", True)
    assert job.finished_at == clock.now()
    assert engine.hold(job) == "released"


def test_a_retry_that_is_due_after_the_deadline_ends_the_job(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:500*1] a fox"))
    engine.time.set(job.deadline_at)
    job = engine.run(job)
    assert (job.status, job.error_code) == ("failed", "deadline_exceeded")
    assert len(engine.submits()) == 1


def test_a_job_behind_its_users_other_jobs_fails_at_its_deadline_too(engine: Engine) -> None:
    engine.user = factories.someone(tier=factories.tier(concurrency=1))
    first = engine.run(engine.submit("one [time:30]"))
    second = engine.run(engine.submit("two"))
    engine.time.set(second.deadline_at)
    second = engine.run(second)
    assert (second.status, second.error_code, engine.hold(second)) == (
        "failed",
        "deadline_exceeded",
        "released",
    )
    engine.provider_done()
    engine.run(first)
    engine.resolve(engine.attempt(first))
