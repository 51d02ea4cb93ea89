"""Batch jobs: gathered, ordered together where the provider has batches, handed back one by one, each bought once."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from apps.catalog import snapshot
from apps.catalog.models import Price, Route
from apps.jobs import batching, polls, run, sweep, unknowns
from apps.jobs.models import Attempt, Job, ProviderBatch
from apps.ledger.models import Hold
from apps.providers import call
from apps.providers.errors import ErrorKind, ProviderError
from tests.fakes.simulator import wait_until
from tests.jobs import bells, market
from tests.jobs.engine import Engine

SINGLE, TOGETHER = Decimal("0.025"), Decimal("0.0125")
SIZE = 4


@pytest.fixture
def shop(engine: Engine, settings: Any) -> Route:
    """One model, made by OpenAI alone, in batches of four at half the price."""
    settings.PROVIDERS = market.configured(engine.simulator)
    Route.objects.update(active=False)
    engine.simulator.settings(drawing="tiny")
    return offered("openai", "gpt-image-2", batch_size=SIZE)


def offered(provider: str, provider_model: str, *, discount: str = "0.5", **changes: Any) -> Route:
    route = Route.objects.create(
        model_id="fast-draft", provider=provider, provider_model=provider_model, **changes
    )
    Price.objects.create(
        route=route,
        version=1,
        unit=Price.Unit.IMAGE,
        unit_price_usd=SINGLE,
        batch_discount=Decimal(discount),
    )
    snapshot.forget()
    return route


def submitted(engine: Engine, count: int, prompt: str = "a fox", **changes: Any) -> list[Job]:
    return [engine.submit(f"{prompt} {index}", priority="batch", **changes) for index in range(count)]


def sent(route: Route) -> ProviderBatch:
    """What one flush orders."""
    before = set(ProviderBatch.objects.values_list("pk", flat=True))
    batching.flush(route.pk)
    return ProviderBatch.objects.exclude(pk__in=before).get()


def ended(engine: Engine, batch: ProviderBatch) -> ProviderBatch:
    """After the provider has made it, and every order was handed to its job."""
    provider_done(batch)
    polled(engine, batch)
    assert batch.status == "ended"
    return batch


def provider_done(batch: ProviderBatch) -> None:
    """Returns when the provider has ended the batch."""

    def is_done() -> bool:
        answer = call.poll_batch(batch.provider, batching.Ticket.from_json(batch.ticket or ""))
        if isinstance(answer, batching.BatchPending):
            return False
        answer.close()
        return True

    batch.refresh_from_db()
    if batch.ticket:
        wait_until(is_done, timeout_s=20)


def polled(engine: Engine, batch: ProviderBatch) -> None:
    """One look, when it is due."""
    batch.refresh_from_db()
    if batch.due_at and batch.due_at > engine.time.now:
        engine.time.set(batch.due_at)
    batching.poll(batch.pk)
    batch.refresh_from_db()


def test_a_batch_job_waits_for_others_and_is_rung_for_by_nobody(
    engine: Engine, shop: Route, django_capture_on_commit_callbacks: Any
) -> None:
    [job] = submitted(engine, 1)
    assert (job.status, job.batch_route, job.due_at) == ("queued", shop.pk, job.deadline_at)
    bells.clear("io")
    assert batching.ring_due() == 0
    engine.time.forward(5)
    with django_capture_on_commit_callbacks(execute=True):
        assert batching.ring_due() == 1
    assert [(message.task, message.id) for message in bells.waiting("io_batch")] == [
        ("jobs.flush", str(shop.pk))
    ]
    bells.clear("io_batch")
    ended(engine, sent(shop))
    assert engine.finish(job).status == "completed"


def test_a_full_batch_is_one_order_whose_results_are_charged_one_by_one(engine: Engine, shop: Route) -> None:
    jobs = submitted(engine, SIZE + 1)
    assert batching.ring_due() == 1
    bells.clear("io_batch")
    batch = sent(shop)
    assert (batch.size, batch.room, batch.status) == (SIZE, SIZE, "submitted")
    assert [engine.fresh(job).batch_route for job in jobs] == [None] * SIZE + [shop.pk]
    ended(engine, batch)
    done = [engine.finish(job) for job in jobs[:SIZE]]
    assert {(job.status, job.cost_usd) for job in done} == {("completed", TOGETHER)}
    assert len({job.outputs[0]["sha256"] for job in done}) == SIZE
    orders = Counter(order["idempotency_key"] for order in engine.submits())
    assert orders == {str(engine.attempt(job).pk): 1 for job in done}
    batch.refresh_from_db()
    assert batch.saved_usd == SIZE * (SINGLE - TOGETHER)
    found = batching.figures(batch.created_at)
    assert (found.batches, found.orders, found.fill, found.saved_usd) == (1, SIZE, 1.0, batch.saved_usd)
    engine.cancel(jobs[-1])
    assert engine.run(jobs[-1]).status == "canceled"
