"""Whatever the provider does wrong: another try or a clear end, one charge, and a bill that equals the books."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from apps.caching.models import CachedResult
from apps.catalog import snapshot
from apps.catalog.models import GenerationModel, Price, Route
from apps.core import clock
from tests import factories
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


def test_a_provider_that_fails_twice_is_tried_again(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:500*2] a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["failed", "failed", "accepted"])
    assert [attempt.error_kind for attempt in engine.attempts(job)] == ["server_error", "server_error", ""]
    assert job.cost_usd == PRICE
    assert [attempt.billed for attempt in engine.attempts(job)] == ["no", "no", "yes"]


def test_between_tries_the_job_waits_a_random_moment_that_grows(engine: Engine) -> None:
    job = engine.submit("[fault:500*2] a fox")
    for longest_s in (2, 4):
        job = engine.run(engine.due(job))
        assert job.due_at
        assert 0 < (job.due_at - clock.now()).total_seconds() <= longest_s
    engine.finish(job)


def test_retry_after_is_obeyed_to_the_second(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:429=17*1] a fox"))
    assert job.due_at == clock.now() + timedelta(seconds=17)
    assert engine.attempt(job).error_kind == "rate_limited"
    engine.time.forward(16)
    engine.run(job)
    assert len(engine.submits()) == 1
    job = engine.finish(job)
    assert (job.status, len(engine.submits())) == ("completed", 2)


def test_a_generation_that_fails_is_not_charged_and_tried_again(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:failed*1] a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["failed", "accepted"])
    assert engine.attempts(job)[0].error_kind == "generation_failed"
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, FREE)


def test_when_all_tries_fail_the_job_ends_and_costs_nothing(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:500] a fox"))
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "generation_failed", True)
    assert engine.statuses(job) == ["failed"] * 3
    assert (job.cost_usd, engine.hold(job)) == (FREE, "released")
    assert engine.user.budget["held_usd"] == "0"


def test_a_broken_image_is_the_platforms_loss_not_the_users(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:truncated*1] a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, PRICE)
    rejected, accepted = engine.attempts(job)
    assert (rejected.error_kind, rejected.billed) == ("bad_output", "yes")
    assert [kept["sha256"] for kept in job.outputs] == [kept["sha256"] for kept in accepted.outputs]
    assert rejected.outputs[0]["sha256"] != job.outputs[0]["sha256"]


def test_only_broken_images_end_the_job_uncharged(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:truncated] a fox"))
    assert (job.status, job.error_code, job.outputs) == ("failed", "generation_failed", [])
    assert engine.statuses(job) == ["rejected"] * 3
    assert (job.cost_usd, engine.absorbed(job), engine.hold(job)) == (FREE, 3 * PRICE, "released")


def test_one_broken_image_of_several_rejects_them_all(engine: Engine) -> None:
    job = engine.finish(
        engine.submit("[fault:truncated*1] a fox", params={"width": 64, "height": 64, "n": 3})
    )
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert (job.cost_usd, engine.absorbed(job)) == (3 * PRICE, 3 * PRICE)


def test_what_the_provider_flags_as_unsafe_is_neither_delivered_nor_charged_nor_bought_elsewhere(
    engine: Engine,
) -> None:
    job = engine.finish(engine.submit("[fault:nsfw] a fox", fallback_models=["standard"]))
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "content_rejected", False)
    assert (job.outputs, job.cost_usd, engine.absorbed(job)) == ([], FREE, PRICE)
    assert engine.statuses(job) == ["rejected"]
    assert len(engine.submits()) == 1


def test_a_fallback_model_is_used_at_once_and_paid_at_its_own_price(engine: Engine) -> None:
    engine.simulator.faults("500", match="fast-draft")
    job = engine.submit(fallback_models=["standard"])
    job = engine.run(job)
    assert job.due_at == clock.now()
    job = engine.finish(job)
    assert [attempt.model for attempt in engine.attempts(job)] == ["fast-draft", "standard"]
    assert (job.status, job.cost_usd) == ("completed", Decimal("0.025"))


def test_a_fallbacks_picture_is_not_served_to_who_asks_for_the_model(engine: Engine) -> None:
    engine.simulator.faults("500", match="fast-draft")
    first = engine.finish(engine.submit(cache="exact", fallback_models=["standard"]))
    assert engine.attempts(first)[-1].model == "standard"
    assert not CachedResult.objects.exists()
    engine.simulator.clear_faults()
    second = engine.finish(engine.submit(cache="exact"))
    assert (second.cached_from, engine.attempt(second).model) == (None, "fast-draft")
    assert CachedResult.objects.get().source_id == second.pk


def test_a_fallback_is_priced_with_what_it_would_be_sent(engine: Engine) -> None:
    """Not with its own defaults: the provider bills the size that it gets."""
    GenerationModel.objects.filter(slug="standard").update(defaults={"width": 2048, "height": 2048})
    by_size = {"unit": Price.Unit.MEGAPIXEL, "unit_price_usd": Decimal("0.01"), "version": 2}
    Price.objects.create(route=Route.objects.get(model_id="standard", provider="wavespeed"), **by_size)
    snapshot.forget()
    asked = factories.body(fallback_models=["standard"])
    estimate = engine.user.api.post("/v1/estimates", asked, format="json").json()
    assert estimate["upper_bound_usd"] == "0.01048576"  # 1024 by 1024, fast-draft's default


def test_a_fallback_that_is_not_needed_is_not_paid_for(engine: Engine) -> None:
    job = engine.submit(fallback_models=["premium"])
    assert engine.user.budget["held_usd"] == "0.08"
    job = engine.finish(job)
    assert job.cost_usd == PRICE
    assert engine.user.budget["held_usd"] == "0"


def test_with_fallbacks_no_more_than_four_purchases_are_tried(engine: Engine) -> None:
    engine.simulator.faults("500")
    job = engine.finish(engine.submit(fallback_models=["standard", "premium"]))
    models = [attempt.model for attempt in engine.attempts(job)]
    assert (models[:3], len(models)) == (["fast-draft", "standard", "premium"], 4)
    assert (job.status, job.error_code) == ("failed", "generation_failed")


def test_a_provider_that_does_not_take_our_key_is_not_asked_again(engine: Engine, settings: Any) -> None:
    settings.PROVIDERS = {"wavespeed": {**settings.PROVIDERS["wavespeed"], "api_key": "wrong"}}
    job = engine.finish(engine.submit())
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "generation_failed", True)
    assert [attempt.error_kind for attempt in engine.attempts(job)] == ["authentication"]
    assert engine.hold(job) == "released"


def test_a_provider_that_is_down_is_tried_again_and_nothing_is_owed(engine: Engine, settings: Any) -> None:
    settings.PROVIDERS = {"wavespeed": {**settings.PROVIDERS["wavespeed"], "base_url": "http://127.0.0.1:9"}}
    job = engine.finish(engine.submit())
    assert [attempt.error_kind for attempt in engine.attempts(job)] == ["connect"] * 3
    assert (job.status, engine.hold(job), engine.submits()) == ("failed", "released", [])


def test_the_next_job_of_a_failed_one_is_not_served_from_the_cache(engine: Engine) -> None:
    failed = engine.finish(engine.submit("[fault:truncated*3] a fox", cache="exact"))
    assert failed.status == "failed"
    job = engine.finish(engine.submit("[fault:truncated*3] a fox", cache="exact"))
    assert (job.status, job.cached_from) == ("completed", None)


def test_a_model_that_its_provider_retired_is_made_by_another_one(engine: Engine) -> None:
    engine.simulator.faults("404", match="fast-draft")
    job = engine.finish(engine.submit(fallback_models=["standard"]))
    assert (job.status, engine.statuses(job)) == ("completed", ["failed", "accepted"])
    assert engine.attempts(job)[0].error_kind == "invalid_request"
    assert [row["outcome"] for row in engine.submits()] == ["404", "accepted"]


def test_a_prompt_that_one_provider_refused_is_not_shown_to_another(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:refused] a fox", fallback_models=["standard"]))
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "content_rejected", False)
    assert (job.cost_usd, engine.absorbed(job), engine.hold(job)) == (FREE, FREE, "released")
    assert len(engine.submits()) == 1
