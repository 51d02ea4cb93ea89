"""An order that was taken and whose answer was lost, at every provider: never bought twice, and always resolved."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from apps.catalog.models import Route
from apps.jobs.models import Attempt, Job
from apps.providers import breaker_store, call
from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import Capabilities, Ticket
from tests import factories
from tests.jobs import market
from tests.jobs.engine import FREE, SMALL, Engine, billed_usd

# Where the simulated provider knows only its own models.
MODELS = {"openai": "gpt-image-1.5", "stability": "core", "elevenlabs": "eleven_multilingual_v2"}
_LARGE = {"width": 1024, "height": 1024}
SIZES = {"openai": _LARGE, "stability": {}}
IMAGES = ("wavespeed", "replicate", "fal", "openai", "stability")


@pytest.fixture(autouse=True)
def _one_route(engine: Engine) -> None:
    market.only_wavespeed()


@pytest.fixture(params=[3, pytest.param(200, marks=pytest.mark.long)])
def count(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def only(request: pytest.FixtureRequest, engine: Engine, settings: Any) -> tuple[str, str]:
    """The one provider that makes the model: its name, and that of the model."""
    provider: str = request.param
    settings.PROVIDERS = {provider: market.configured(engine.simulator)[provider]}
    model = "speech" if provider == "elevenlabs" else "fast-draft"
    if provider != "wavespeed":
        market.offer(provider, model=model, provider_model=MODELS.get(provider, f"{provider}-ai/fast-draft"))
    return provider, model


def lost(engine: Engine, provider: str, model: str, index: int) -> Job:
    """An order whose answer is lost after it was accepted."""
    changes: dict[str, Any] = {"model": model, "params": SIZES.get(provider, SMALL)}
    if model == "speech":
        changes |= {"type": "audio", "params": {}}
    prompt = f"[fault:accept-reset*1] [time:0.1] fox {index}"
    return engine.run(engine.submit(prompt, by=factories.someone(), **changes))


def orders(engine: Engine) -> int:
    return len(engine.submits())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("only", [*IMAGES, "elevenlabs"], indirect=True)
def test_an_order_whose_answer_was_lost_is_never_bought_twice(
    engine: Engine, only: tuple[str, str], count: int, settings: Any
) -> None:
    provider, model = only
    # It would leave such a provider alone after five lost answers: an operator keeps it in use.
    provider_model = Route.objects.get(model_id=model, provider=provider, active=True).provider_model
    breaker_store.force(market.breaker(provider, provider_model), "closed")
    announced = call.capabilities(provider).webhooks
    for index in range(count):
        job = lost(engine, provider, model, index)
        if announced:
            assert engine.deliver(engine.webhooks(index + 1)[-1]) == 200
        job = engine.finish(job)
        assert len(engine.submits()) == index + 1, engine.story(job)
        if announced:
            assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])
        else:
            assert (job.status, job.error_code) == ("failed", "provider_outcome_unknown")
            assert engine.hold(job) == "held"
    engine.time.forward(settings.UNKNOWN_HOLD_S)
    for attempt in Attempt.objects.filter(status="unknown"):
        engine.resolve(attempt)
        assert attempt.job.cost_usd == FREE
    if not announced:
        # As the policy says: the comparison with the provider's bill finds what was billed for nothing.
        engine.unbooked_usd = billed_usd(engine.simulator)
    assert not Attempt.objects.filter(status="unknown").exists()


def test_the_same_key_is_sent_again_once_where_it_buys_once(engine: Engine, monkeypatch: Any) -> None:
    """WaveSpeed buys it twice; here its adapter claims the opposite, so the second order shows."""
    _claims(monkeypatch, idempotent=True)
    job = engine.run(engine.submit("[fault:reset*1] a fox"))
    assert (engine.statuses(job), orders(engine)) == (["started"], 1)
    job = engine.finish(job)
    assert (job.status, engine.statuses(job), orders(engine)) == ("completed", ["accepted"], 2)
    assert len({row["idempotency_key"] for row in engine.submits()}) == 1


def test_a_second_lost_answer_is_not_answered_by_a_third_order(engine: Engine, monkeypatch: Any) -> None:
    _claims(monkeypatch, idempotent=True)
    job = engine.finish(engine.submit("[fault:reset] a fox"))
    assert (job.error_code, orders(engine)) == ("provider_outcome_unknown", 2)
    assert engine.hold(job) == "held"


def test_an_error_of_the_second_order_says_nothing_of_the_first(engine: Engine, monkeypatch: Any) -> None:
    _claims(monkeypatch, idempotent=True)
    job = engine.run(engine.submit("[fault:reset*1] a fox"))
    engine.simulator.faults("500")
    job = engine.finish(job)
    assert (job.error_code, engine.hold(job)) == ("provider_outcome_unknown", "held")


def test_a_provider_that_can_tell_is_asked_what_became_of_it(engine: Engine, monkeypatch: Any) -> None:
    _claims(monkeypatch, finds=True)
    tasks = engine.simulator.ledger

    def find(self: Any, request: Any) -> Ticket | None:
        return Ticket(tasks()["tasks"][0]["id"])

    monkeypatch.setattr(WaveSpeed, "find", find)
    job = engine.finish(engine.submit("[fault:accept-reset*1] [fault:lost-webhook] a fox"))
    assert (job.status, engine.statuses(job), orders(engine)) == ("completed", ["accepted"], 1)


def test_where_nobody_will_tell_the_outcome_is_unknown_at_once(engine: Engine, monkeypatch: Any) -> None:
    _claims(monkeypatch, webhooks=False, synchronous=True)
    job = engine.run(engine.submit("[fault:reset] a fox"))
    assert (job.status, job.error_code) == ("failed", "provider_outcome_unknown")
    engine.time.forward(timedelta(days=1).total_seconds())
    engine.resolve(engine.attempt(job))
    assert engine.hold(job) == "released"


def _claims(monkeypatch: Any, **claimed: bool) -> None:
    """WaveSpeed's adapter says that its protocol can do otherwise than it can."""
    known = {field.name: getattr(WaveSpeed.capabilities, field.name) for field in fields(Capabilities)}
    monkeypatch.setattr(WaveSpeed, "capabilities", Capabilities(**{**known, **claimed}))
