"""When a provider may not be asked: another one is, or the job waits with its money held; nothing fails for that."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.catalog.models import Route
from apps.core import clock
from apps.core import redis as redis_of
from apps.jobs import sweep
from apps.providers import breaker_store, health, limiter
from apps.providers.models import Provider
from tests import factories
from tests.fakes.simulator import free_port
from tests.jobs import market
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")
DRAFT = "wavespeed-ai/fast-draft"


@pytest.fixture(autouse=True)
def _one_route(engine: Engine) -> None:
    market.only_wavespeed()


@pytest.fixture
def two(engine: Engine, settings: Any) -> Engine:
    """fast-draft is made by WaveSpeed, else by Replicate."""
    settings.PROVIDERS = market.configured(engine.simulator)
    market.offer("replicate")
    return engine


def open_breaker(provider: str = "wavespeed", model: str = DRAFT) -> None:
    breaker_store.force(market.breaker(provider, model), "open")


def reasons(engine: Engine, job: Any) -> list[tuple[str, str]]:
    return [(skip["provider"], skip["reason"]) for skip in engine.fresh(job).skipped]


def test_a_provider_whose_breaker_is_open_is_passed_over_without_an_attempt(two: Engine) -> None:
    open_breaker()
    job = two.finish(two.submit())
    assert (job.status, [a.provider for a in two.attempts(job)]) == ("completed", ["replicate"])
    assert reasons(two, job) == [("wavespeed", "forced_open")]


def test_when_no_breaker_lets_it_in_the_job_waits_and_goes_on_by_itself(engine: Engine) -> None:
    open_breaker()
    job = engine.run(engine.submit())
    shown = engine.user.api.get(f"/v1/jobs/{job.pk}").json()
    assert (shown["status"], shown["phase"], shown["waiting_for"]) == ("running", "waiting", "forced_open")
    assert (engine.attempts(job), engine.hold(job)) == ([], "held")
    assert job.due_at
    assert clock.now() < job.due_at <= clock.now() + timedelta(seconds=12)
    breaker_store.force(market.breaker("wavespeed", DRAFT), "")
    job = engine.finish(job)
    assert (job.status, job.cost_usd, job.waiting_for) == ("completed", PRICE, "")


def test_a_job_that_waited_until_its_deadline_fails_and_costs_nothing(engine: Engine) -> None:
    open_breaker()
    job = engine.run(engine.submit())
    engine.time.set(job.deadline_at)
    job = engine.run(job)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "no_provider_available", True)
    assert (engine.hold(job), engine.submits()) == ("released", [])


def test_failures_of_some_jobs_keep_the_next_ones_away_from_the_provider(two: Engine) -> None:
    two.simulator.faults("500", match="wavespeed-ai/")
    for index in range(6):
        job = two.finish(two.submit(f"fox {index}"))
        assert job.status == "completed"
    asked = [row for row in two.submits() if row["model"] == DRAFT]
    assert len(asked) == 5, "the fifth failure in a row opened the breaker"
    assert reasons(two, job) == [("wavespeed", "streak")]


def test_generations_that_fail_open_the_breaker_too(two: Engine) -> None:
    two.simulator.faults("failed", match="wavespeed-ai/")
    for index in range(6):
        assert two.finish(two.submit(f"fox {index}")).status == "completed"
    assert len([row for row in two.submits() if row["model"] == DRAFT]) == 5


def test_refused_prompts_do_not_open_the_breaker(engine: Engine) -> None:
    for index in range(6):
        job = engine.finish(engine.submit(f"[fault:nsfw] fox {index}"))
        assert job.error_code == "content_rejected"
    assert engine.finish(engine.submit()).status == "completed"


def test_what_a_provider_cant_make_is_made_by_one_that_can_and_nothing_was_tried(
    engine: Engine, settings: Any
) -> None:
    settings.PROVIDERS = market.configured(engine.simulator)
    Route.objects.filter(model_id="clip").update(position=9)
    market.offer("replicate", model="clip", usd="0.05")
    job = engine.finish(engine.submit(type="video", model="clip", params={"duration_s": 2.5}))
    assert [attempt.provider for attempt in engine.attempts(job)] == ["wavespeed"], engine.story(job)
    assert reasons(engine, job) == [("replicate", "unsupported")]


def test_what_a_provider_could_not_be_told_is_told_to_the_client(engine: Engine, settings: Any) -> None:
    settings.PROVIDERS = market.configured(engine.simulator)
    market.offer("openai", provider_model="gpt-image-1.5", usd="0.025")
    open_breaker()
    job = engine.finish(engine.submit(params={"width": 1024, "height": 1024, "seed": 7}))
    assert job.status == "completed", engine.story(job)
    shown = engine.user.api.get(f"/v1/jobs/{job.pk}").json()
    assert shown["attempts"][0]["changes"] == [{"param": "seed", "asked": 7, "sent": None}]


def test_a_429_makes_the_other_jobs_wait_as_long_as_it_asked(engine: Engine) -> None:
    throttled = engine.run(engine.submit("[fault:429=17*1] a fox"))
    other = engine.run(engine.submit("an owl"))
    assert len(engine.submits()) == 1, "nobody else is sent meanwhile"
    assert (engine.attempts(other), other.waiting_for) == ([], "rate_limited")
    assert other.due_at
    assert other.due_at >= clock.now() + timedelta(seconds=17)
    assert {engine.finish(job).status for job in (throttled, other)} == {"completed"}


def test_beyond_a_providers_concurrency_a_job_waits_for_one_to_end(engine: Engine) -> None:
    Provider.objects.create(slug="wavespeed", name="WaveSpeedAI", max_concurrency=1)
    first, second = engine.run(engine.submit("slow [time:1]")), engine.run(engine.submit("an owl"))
    assert (first.waiting_for, second.waiting_for) == ("", "concurrency")
    engine.finish(first)
    assert engine.finish(second).status == "completed"


def test_beyond_a_providers_rate_a_job_waits_for_the_next_minute(engine: Engine) -> None:
    Provider.objects.create(slug="wavespeed", name="WaveSpeedAI", max_per_minute=2)
    jobs = [engine.run(engine.submit(f"fox {index}")) for index in range(3)]
    assert [job.waiting_for for job in jobs] == ["", "", "rate"]
    assert all(engine.finish(job).status == "completed" for job in jobs)
    assert len(engine.submits()) == 3


def test_a_canceled_job_gives_its_place_at_the_provider_back(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    assert limiter.look("wavespeed")["open"] == 1
    engine.cancel(job)
    engine.run(job)
    assert limiter.look("wavespeed")["open"] == 0
    engine.resolve(engine.attempt(job))


def test_without_redis_jobs_run_all_the_same(engine: Engine, settings: Any) -> None:
    breaker_store._away_until = limiter._away_until = float("inf")
    job = engine.finish(engine.submit())
    assert (job.status, job.cost_usd) == ("completed", PRICE)


def test_each_model_says_how_it_is(two: Engine) -> None:
    def shown() -> dict[str, Any]:
        health.forget()
        models = two.user.api.get("/v1/models").json()["data"]
        found: dict[str, Any] = next(model["health"] for model in models if model["id"] == "fast-draft")
        return found

    assert shown() == {"status": "ok", "reason": None, "since": None}
    open_breaker()
    assert (shown()["status"], shown()["reason"]) == ("degraded", "forced")
    open_breaker("replicate", "replicate-ai/fast-draft")
    assert shown()["status"] == "down"
    assert shown()["since"]


def test_an_order_nobody_heard_of_again_is_made_by_another_provider_and_paid_once(two: Engine) -> None:
    job = two.finish(two.submit("[fault:reset*1] a fox"))
    assert two.statuses(job) == ["unknown", "accepted"]
    assert (job.status, job.cost_usd, two.absorbed(job), two.hold(job)) == (
        "completed",
        PRICE,
        FREE,
        "captured",
    )
    first = two.attempts(job)[0]
    two.time.set(first.started_at + timedelta(days=1))
    two.resolve(first)
    assert (two.statuses(job), two.hold(job)) == (["failed", "accepted"], "captured")


def test_what_turns_up_at_the_first_provider_after_all_is_the_platforms_loss(two: Engine) -> None:
    job = two.finish(two.submit("[fault:accept-reset*1] [time:0.1] a fox"))
    assert two.statuses(job) == ["unknown", "accepted"]
    early = next(hook for hook in two.webhooks(2) if "wavespeed" in hook.path)
    assert two.deliver(early) == 200
    assert (two.statuses(job), two.absorbed(job)) == (["failed", "accepted"], PRICE)
    assert (two.fresh(job).cost_usd, two.hold(job)) == (PRICE, "captured")


def test_when_the_other_provider_fails_too_the_money_waits_for_the_first_ones_truth(two: Engine) -> None:
    two.simulator.faults("500", match="replicate-ai/")
    job = two.finish(two.submit("[fault:reset*1] a fox"))
    assert (job.status, two.statuses(job)[0], two.hold(job)) == ("failed", "unknown", "held")
    first = two.attempts(job)[0]
    two.time.set(first.started_at + timedelta(days=1))
    two.resolve(first)
    assert two.hold(job) == "released"


def test_a_sweep_rings_for_who_waits(engine: Engine) -> None:
    open_breaker()
    job = engine.run(engine.submit())
    engine.due(job)
    assert sweep.due_jobs() == 1


def test_retries_are_a_tenth_of_what_a_provider_is_sent(engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(limiter, "FREE_RETRIES", 1)
    first = engine.run(engine.submit("[fault:500*1] a fox"))
    engine.finish(first)
    second = engine.run(engine.submit("[fault:500*1] an owl"))
    second = engine.run(engine.due(second))
    assert (second.waiting_for, len(engine.attempts(second))) == ("retry_budget", 1)
    assert engine.finish(second).status == "completed"


def test_the_estimate_of_who_waits_is_still_in_the_job(engine: Engine) -> None:
    open_breaker()
    someone = factories.someone()
    job = engine.run(engine.submit(by=someone))
    assert someone.api.get(f"/v1/jobs/{job.pk}").json()["estimated_cost_usd"] == "0.005"


def test_a_429_that_does_not_say_how_long_makes_the_others_wait_a_moment(engine: Engine) -> None:
    throttled = engine.run(engine.submit("[fault:429-absent*1] a fox"))
    other = engine.run(engine.submit("an owl"))
    assert (len(engine.submits()), other.waiting_for) == (1, "rate_limited")
    assert other.due_at
    assert timedelta() < other.due_at - clock.now() <= timedelta(seconds=3)
    assert {engine.finish(job).status for job in (throttled, other)} == {"completed"}


def test_without_redis_a_process_leaves_a_dead_provider_alone_by_itself(two: Engine) -> None:
    breaker_store._away_until = limiter._away_until = float("inf")
    two.simulator.faults("500", match="wavespeed-ai/")
    for index in range(7):
        assert two.finish(two.submit(f"fox {index}")).status == "completed"
    assert len([row for row in two.submits() if row["model"] == DRAFT]) == 5


def test_a_redis_that_hangs_up_stops_no_order(engine: Engine, settings: Any) -> None:
    settings.CACHE_REDIS_URL = f"redis://127.0.0.1:{free_port()}"
    for cached in (redis_of.client, breaker_store._script, limiter._script):
        cached.cache_clear()
    try:
        job = engine.finish(engine.submit())
    finally:
        for cached in (redis_of.client, breaker_store._script, limiter._script):
            cached.cache_clear()
    assert (job.status, job.cost_usd) == ("completed", PRICE)
