"""Ops switch a provider off in the admin: nothing new is bought there, what was bought before is still fetched."""

from apps.jobs.states import JobStatus
from apps.providers.models import Provider
from tests.jobs.engine import Engine


def switch_off() -> None:
    Provider.objects.update_or_create(slug="wavespeed", defaults={"name": "WaveSpeedAI", "enabled": False})


def test_a_provider_that_is_switched_off_is_sent_nothing(engine: Engine) -> None:
    switch_off()
    job = engine.submit()
    engine.finish(job)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_retryable) == (
        JobStatus.FAILED,
        "no_provider_available",
        True,
    )
    assert engine.simulator.ledger()["submits"] == []
    assert engine.attempts(job) == [], "a route that is off is passed over, it has not failed"
    assert {skip["reason"] for skip in job.skipped} == {"provider_off"}


def test_the_switch_holds_within_a_second(engine: Engine) -> None:
    before = engine.submit("while it is on")
    engine.run(before)
    switch_off()
    engine.time.forward(1)
    after = engine.submit("after")
    assert engine.finish(after).error_code == "no_provider_available"
    assert len(engine.submits()) == 1
    assert engine.finish(before).status == JobStatus.COMPLETED


def test_what_was_bought_before_is_still_fetched(engine: Engine) -> None:
    job = engine.submit()
    engine.run(job)
    switch_off()
    engine.finish(job)
    job.refresh_from_db()
    assert job.status == JobStatus.COMPLETED
