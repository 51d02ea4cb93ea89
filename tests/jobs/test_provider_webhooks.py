"""The provider's webhook is a hint: early, doubled, wrong, late or lost, the job ends once and right."""

from apps.core import clock
from apps.jobs import attempts, inbound, leases
from apps.jobs.models import Attempt, Job
from apps.providers import call, inbox
from apps.providers.contract import GenerationRequest, Pending
from apps.providers.models import InboxEvent
from tests.jobs.engine import Engine


def test_a_signed_webhook_moves_the_job_at_once(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    assert job.due_at
    assert job.due_at > clock.now()
    [webhook] = engine.webhooks()
    assert engine.deliver(webhook) == 200
    assert engine.statuses(job) == ["fetched"]
    job = engine.validate(job)
    assert job.status == "completed"
    assert job.finished_at == engine.time.now


def test_a_forged_webhook_is_refused_and_moves_nothing(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    [webhook] = engine.webhooks()
    webhook.headers["webhook-signature"] = "v3," + "0" * 64
    assert engine.deliver(webhook) == 401
    assert InboxEvent.objects.count() == 0
    assert engine.statuses(job) == ["submitted"]
    engine.finish(job)


def test_a_webhook_sent_a_hundred_times_counts_once(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    [webhook] = engine.webhooks()
    assert {engine.deliver(webhook) for _ in range(100)} == {200}
    assert InboxEvent.objects.count() == 1
    job = engine.finish(job)
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])


def test_a_stored_webhook_worked_off_a_hundred_times_settles_once(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    engine.deliver(engine.webhooks()[0])
    event = InboxEvent.objects.get()
    for _ in range(50):
        inbound.receive(event.pk)
    job = engine.validate(job)
    for _ in range(50):
        inbound.receive(event.pk)
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])
    assert len(engine.submits()) == 1


def test_a_webhook_before_the_submit_has_returned_is_not_lost(engine: Engine) -> None:
    """The ticket is known and the job due again before its holder has read the provider's answer."""
    submitted = engine.submit("slow [time:0.1]")
    job = leases.claim(submitted.pk)
    assert job
    attempt = attempts.open_one(job, job.quote["routes"][0], number=1)
    assert attempt
    answer = call.submit("wavespeed", _request(job, attempt))
    assert isinstance(answer, Pending)
    assert engine.deliver(engine.webhooks()[0]) == 200
    attempts.submitted(job, attempt, answer, next_at=clock.now().replace(year=2100))
    job = engine.fresh(job)
    assert job.due_at == clock.now()
    job = engine.finish(job)
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])
    assert job.finished_at == engine.time.now


def _request(job: Job, attempt: Attempt) -> GenerationRequest:
    return GenerationRequest(
        attempt_id=str(attempt.pk),
        kind=job.type,
        model=attempt.provider_model,
        prompt=job.prompt,
        params=job.params,
        webhook_url=inbox.webhook_url(attempt.provider, attempt.pk),
    )


def test_a_webhook_about_another_task_moves_nothing(engine: Engine) -> None:
    first = engine.run(engine.submit("one [time:0.1]"))
    second = engine.run(engine.submit("two [time:40]"))
    [webhook] = engine.webhooks()
    assert engine.deliver(webhook, attempt=engine.attempt(second)) == 200
    due = engine.fresh(second)
    assert due.due_at
    assert due.due_at > clock.now()
    assert engine.attempt(second).polls == 1
    assert engine.finish(first).status == engine.finish(second).status == "completed"


def test_a_webhook_for_nobody_is_stored_and_forgotten(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    stranger = Attempt(provider="wavespeed")
    assert engine.deliver(engine.webhooks()[0], attempt=stranger) == 200
    assert engine.statuses(job) == ["submitted"]
    engine.finish(job)


def test_a_webhook_after_the_end_changes_nothing(engine: Engine) -> None:
    job = engine.finish(engine.submit("slow [time:0.1]"))
    assert engine.deliver(engine.webhooks()[0]) == 200
    again = engine.fresh(job)
    assert (again.status, again.due_at, again.cost_usd) == ("completed", None, job.cost_usd)
    assert engine.statuses(job) == ["accepted"]


def test_a_webhook_that_claims_an_end_too_early_is_checked_with_the_provider(engine: Engine) -> None:
    """The body says what it likes; only the poll counts."""
    job = engine.run(engine.submit("slow [time:30]"))
    engine.time.forward(1)
    assert engine.deliver(engine.signed_webhook(engine.attempt(job))) == 200
    attempt = engine.attempt(job)
    assert (attempt.status, attempt.polls) == ("submitted", 2)
    assert engine.finish(job).status == "completed"


def test_a_webhook_three_days_late_changes_nothing(engine: Engine) -> None:
    job = engine.finish(engine.submit("slow [time:0.1] [fault:lost-webhook]"))
    engine.time.forward(3 * 86_400)
    assert engine.deliver(engine.signed_webhook(engine.attempt(job))) == 200
    assert (engine.fresh(job).status, engine.statuses(job)) == ("completed", ["accepted"])


def test_an_old_webhook_that_is_sent_again_by_somebody_else_is_refused(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    [webhook] = engine.webhooks()
    # Five minutes, from when the provider signed it by the machine's clock.
    engine.time.forward(300 + 60)
    assert engine.deliver(webhook) == 401
    assert engine.finish(job).status == "completed"


def test_a_lost_webhook_costs_a_poll(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1] [fault:lost-webhook]"))
    started = engine.time.now
    job = engine.finish(job)
    assert job.status == "completed"
    assert (engine.time.now - started).total_seconds() <= 60
    assert engine.door.requests == []
