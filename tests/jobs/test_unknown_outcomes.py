"""An answer that was lost: never bought twice, and the money waits until the truth is known (M4)."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.core import clock
from apps.jobs import sweep
from apps.jobs.models import Job
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


def lost(engine: Engine, prompt: str) -> Job:
    """A job whose submit's answer never came."""
    job = engine.run(engine.submit(prompt))
    assert engine.statuses(job) == ["started"]
    return job


def test_a_reset_after_the_order_was_accepted_completes_by_the_webhook(engine: Engine, settings: Any) -> None:
    job = lost(engine, "[fault:accept-reset] [time:0.1] a fox")
    assert job.due_at
    assert job.due_at > clock.now()
    assert engine.deliver(engine.webhooks()[0]) == 200
    job = engine.finish(job)
    assert (job.status, job.cost_usd, engine.statuses(job)) == ("completed", PRICE, ["accepted"])
    assert len(engine.submits()) == 1


def test_a_webhook_whose_ring_was_lost_is_found_in_the_inbox(engine: Engine) -> None:
    job = lost(engine, "[fault:accept-reset] [time:0.1] a fox")
    assert engine.store(engine.webhooks()[0]) == 200
    job = engine.run(engine.due(job))
    assert (clock.now() - engine.attempt(job).started_at).total_seconds() <= 60
    job = engine.finish(job)
    assert (job.status, job.cost_usd, len(engine.submits())) == ("completed", PRICE, 1)


def test_a_webhook_in_the_inbox_settles_an_unknown_outcome_without_a_ring(engine: Engine) -> None:
    job = engine.finish(lost(engine, "[fault:accept-reset] [time:0.1] a fox"))
    assert engine.store(engine.webhooks()[0]) == 200
    attempt = engine.resolve(engine.attempt(job))
    assert (attempt.status, attempt.billed) == ("failed", "yes")
    assert (engine.absorbed(job), engine.hold(job)) == (PRICE, "released")


def test_a_silent_provider_is_given_up_without_a_second_order(engine: Engine, impatient: None) -> None:
    job = lost(engine, "[fault:hang=30] a fox")
    job = engine.finish(job)
    assert (job.status, job.error_code) == ("failed", "provider_outcome_unknown")
    assert [row["outcome"] for row in engine.submits()] == ["client gone"]
    assert (engine.hold(job), engine.statuses(job)) == ("held", ["unknown"])


def test_a_reset_before_the_order_holds_the_money_until_the_policy_frees_it(
    engine: Engine, settings: Any
) -> None:
    job = engine.finish(lost(engine, "[fault:reset] a fox"))
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "provider_outcome_unknown", True)
    assert [row["outcome"] for row in engine.submits()] == ["reset"]
    assert (engine.hold(job), engine.user.budget["held_usd"]) == ("held", "0.005")

    attempt = engine.resolve(engine.attempt(job))
    assert (attempt.status, engine.hold(job)) == ("unknown", "held")
    engine.time.set(attempt.started_at + timedelta(seconds=settings.UNKNOWN_HOLD_S - 1))
    assert engine.resolve(attempt).status == "unknown"
    attempt = engine.resolve(attempt)
    assert (attempt.status, attempt.billed) == ("failed", "no")
    assert (engine.hold(job), engine.user.budget["held_usd"]) == ("released", "0")


def test_work_that_turns_up_after_the_job_failed_is_the_platforms_loss(engine: Engine) -> None:
    job = engine.finish(lost(engine, "[fault:accept-reset] [time:0.1] a fox"))
    assert (job.status, job.error_code) == ("failed", "provider_outcome_unknown")
    assert engine.deliver(engine.webhooks()[0]) == 200
    attempt = engine.attempt(job)
    assert (attempt.status, attempt.billed) == ("failed", "yes")
    job = engine.fresh(job)
    assert (job.status, job.cost_usd, engine.absorbed(job)) == ("failed", FREE, PRICE)
    assert engine.hold(job) == "released"


def test_work_that_turns_up_and_failed_at_the_provider_frees_the_money(engine: Engine) -> None:
    job = engine.finish(lost(engine, "[fault:accept-reset] [fault:failed] [time:0.1] a fox"))
    assert engine.deliver(engine.webhooks()[0]) == 200
    assert (engine.attempt(job).status, engine.attempt(job).billed) == ("failed", "no")
    assert engine.hold(job) == "released"


def test_a_purchase_nobody_ever_hears_of_is_released_after_a_day(engine: Engine, settings: Any) -> None:
    job = engine.finish(lost(engine, "[fault:accept-reset] [fault:lost-webhook] [time:0.1] a fox"))
    assert engine.hold(job) == "held"
    engine.time.forward(settings.UNKNOWN_HOLD_S)
    engine.resolve(engine.attempt(job))
    assert engine.hold(job) == "released"
    # The comparison with the provider's bill finds it, not we.
    engine.unbooked_usd = PRICE


def test_a_ticket_the_provider_forgot_is_an_unknown_outcome_once_it_is_old(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:3000]"))
    engine.simulator.reset()
    job = engine.run(engine.due(job))
    assert job.status == "running", "right after the submit a provider may be forgetful"
    engine.time.forward(61)
    job = engine.run(job)
    assert (job.status, job.error_code) == ("failed", "provider_outcome_unknown")
    assert engine.hold(job) == "held"


def test_an_unknown_outcome_is_asked_for_until_it_is_known(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:60]"))
    engine.cancel(job)
    job = engine.run(job)
    attempt = engine.attempt(job)
    assert attempt.status == "unknown"
    assert sweep.unknown_attempts() == 0
    engine.time.forward(5)
    assert sweep.unknown_attempts() == 1
    attempt = engine.resolve(attempt)
    assert attempt.status == "unknown"
    assert attempt.check_at == clock.now() + timedelta(seconds=30)
    engine.provider_done()
    assert engine.resolve(attempt).status == "canceled"
    assert sweep.unknown_attempts() == 0


@pytest.mark.parametrize("times", [2, 5])
def test_resolving_twice_books_once(engine: Engine, times: int) -> None:
    job = engine.finish(lost(engine, "[fault:accept-reset] [time:0.1] a fox"))
    for _ in range(times):
        engine.deliver(engine.webhooks()[0])
        engine.time.forward(31)
        engine.resolve(engine.attempt(job))
    assert engine.absorbed(job) == PRICE
