"""Batch jobs: gathered, ordered together where the provider has batches, handed back one by one, each bought once."""

import uuid
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from time import time
from typing import Any
from unittest import mock

import pytest

from apps.catalog import snapshot
from apps.catalog.models import Price, Route
from apps.core import bell, workers
from apps.core.redis import client
from apps.jobs import (
    flush,
    hand_out,
    leases,
    metrics,
    pacing,
    poll_batch,
    provider_batches,
    run,
    sweep,
    tally,
    validate,
)
from apps.jobs.models import Job, ProviderBatch
from apps.ledger.models import Hold
from apps.providers import call, permits, registry
from apps.providers.breaker import Refused
from apps.providers.contract import BatchPending, Ticket
from apps.providers.models import Provider
from tests import factories
from tests.fakes.simulator import wait_until
from tests.jobs import bells, market
from tests.jobs.engine import FREE, SMALL, Engine

SINGLE, TOGETHER = Decimal("0.025"), Decimal("0.0125")
SIZE = 4


@pytest.fixture
def shop(engine: Engine, settings: Any) -> Route:
    """One model, made by OpenAI alone, in batches of four at half the price."""
    settings.PROVIDERS = market.configured(engine.simulator)
    Route.objects.update(active=False)
    engine.simulator.settings(drawing="tiny")
    return offered("openai", "gpt-image-2", batch_size=SIZE)


@pytest.fixture
def batch_workers() -> None:
    """Those that take only batch work, seen throughout the test."""
    for queue in leases._HEARD_BY.values():
        client().hset(workers._KEY, f"{queue}@here", str(time() + 3600))


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
    flush.flush(route.pk)
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
        answer = call.poll_batch(batch.provider, Ticket.from_json(batch.ticket or ""))
        if isinstance(answer, BatchPending):
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
    poll_batch.poll(batch.pk)
    batch.refresh_from_db()


def test_a_batch_job_waits_for_others_and_is_rung_for_by_nobody(
    engine: Engine, shop: Route, batch_workers: None, django_capture_on_commit_callbacks: Any
) -> None:
    [job] = submitted(engine, 1)
    assert (job.status, job.batch_route, job.due_at) == ("queued", shop.pk, job.deadline_at)
    bells.clear("io")
    assert pacing.ring_due() == 0
    engine.time.forward(5)
    with django_capture_on_commit_callbacks(execute=True):
        assert pacing.ring_due() == 1
    assert [(message.task, message.id) for message in bells.waiting("io_batch")] == [
        ("jobs.flush", str(shop.pk))
    ]
    bells.clear("io_batch")
    ended(engine, sent(shop))
    assert engine.finish(job).status == "completed"


def test_a_full_batch_is_one_order_whose_results_are_charged_one_by_one(engine: Engine, shop: Route) -> None:
    jobs = submitted(engine, SIZE + 1)
    assert pacing.ring_due() == 1
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
    poll_batch.poll(batch.pk)
    assert tally.totals()[metrics.BATCH_SAVED.name, ("openai",)] == [float(batch.saved_usd)]
    engine.cancel(jobs[-1])
    assert engine.run(jobs[-1]).status == "canceled"


def drive(engine: Engine, jobs: list[Job]) -> list[Job]:
    """As workers and the sweep would, until all have ended and no batch is open."""
    for _ in range(100):
        for route_id in {job.batch_route for job in map(engine.fresh, jobs) if job.batch_route}:
            flush.flush(route_id)
        for batch in ProviderBatch.objects.filter(due_at__lte=engine.time.now):
            provider_done(batch)
            poll_batch.poll(batch.pk)
        for job in map(engine.fresh, jobs):
            if job.due_at and job.due_at <= engine.time.now:
                engine.provider_done()
                step = validate.validate if "fetched" in engine.statuses(job) else run.run
                step(job.pk)
        open_batches = ProviderBatch.objects.filter(due_at__isnull=False).exists()
        if all(job.has_ended for job in map(engine.fresh, jobs)) and not open_batches:
            return [engine.fresh(job) for job in jobs]
        engine.time.forward(2)
    raise AssertionError([engine.story(job) for job in jobs])


def orders(engine: Engine) -> Counter[str]:
    """Attempt → how often the provider was asked to make it."""
    return Counter(order["idempotency_key"] for order in engine.submits())


# --- Money ------------------------------------------------------------------------------------


def test_the_discount_shows_in_estimate_quote_hold_and_charge(engine: Engine, shop: Route) -> None:
    body = {"type": "image", "prompt": "a fox", "model": "fast-draft", "params": SMALL}
    asked = engine.user.api.post("/v1/estimates", {**body, "priority": "batch"}, format="json").json()
    assert Decimal(asked["estimated_cost_usd"]) == TOGETHER
    assert asked["breakdown"]["discount"] == "0.5"
    [job] = submitted(engine, 1)
    assert Hold.objects.get(reference=job.pk).amount_usd == TOGETHER
    ended(engine, sent(shop))
    assert engine.finish(job).cost_usd == TOGETHER


def test_what_fails_in_the_batch_goes_on_alone_and_its_user_pays_what_was_quoted(
    engine: Engine, shop: Route
) -> None:
    good, failed = [*submitted(engine, 1), *submitted(engine, 1, "[fault:failed*1] an owl")]
    done = drive(engine, [good, failed])
    assert [(job.status, job.cost_usd) for job in done] == [("completed", TOGETHER)] * 2
    assert engine.statuses(failed) == ["failed", "accepted"]
    assert [attempt.price_usd for attempt in engine.attempts(failed)] == [TOGETHER, SINGLE]
    assert engine.absorbed(failed) == SINGLE - TOGETHER
    assert engine.absorbed(good) == 0


def test_what_moderation_refuses_in_the_batch_is_refused(engine: Engine, shop: Route) -> None:
    good, refused = [*submitted(engine, 1), *submitted(engine, 1, "[fault:refused] an owl")]
    assert [job.status for job in drive(engine, [good, refused])] == ["completed", "failed"]
    assert (engine.fresh(refused).error_code, engine.statuses(refused)) == ("content_rejected", ["failed"])


def test_a_provider_without_batches_makes_them_one_by_one(
    engine: Engine, shop: Route, batch_workers: None, django_capture_on_commit_callbacks: Any
) -> None:
    Route.objects.update(active=False)
    route = offered("wavespeed", "wavespeed-ai/standard", discount="0.2")
    jobs = submitted(engine, 3)
    bells.clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        flush.flush(route.pk)
    assert [message.task for message in bells.waiting("io_batch")] == ["jobs.run"] * 3
    assert {job.status for job in drive(engine, jobs)} == {"completed"}
    assert not ProviderBatch.objects.exists()
    # The discount is the operator's: the provider gives none.
    assert {(engine.fresh(job).cost_usd, engine.absorbed(job)) for job in jobs} == {
        (Decimal("0.02"), Decimal("0.005"))
    }


def test_a_canceled_job_pays_for_what_its_batch_delivered(engine: Engine, shop: Route) -> None:
    jobs = submitted(engine, 2)
    batch = sent(shop)
    engine.cancel(jobs[0])
    assert engine.run(jobs[0]).status == "canceled"
    assert engine.attempt(jobs[0]).status == "unknown"
    engine.resolve(engine.attempt(jobs[0]))
    ended(engine, batch)
    assert engine.attempt(jobs[0]).billed == "yes"
    assert engine.fresh(jobs[0]).cost_usd == TOGETHER
    assert engine.finish(jobs[1]).status == "completed"


def test_a_job_whose_time_is_over_fails_and_the_platform_pays_what_comes_later(
    engine: Engine, shop: Route, settings: Any
) -> None:
    [job] = submitted(engine, 1)
    batch = sent(shop)
    engine.time.set(job.deadline_at)
    assert engine.run(job).error_code == "deadline_exceeded"
    ended(engine, batch)
    assert (engine.fresh(job).cost_usd, engine.absorbed(job)) == (FREE, TOGETHER)
    assert job.deadline_at - job.created_at == timedelta(seconds=settings.BATCH_DEADLINE_S)


def in_one_batch(engine: Engine, *prompts: str) -> tuple[list[Job], ProviderBatch]:
    """Jobs whose orders the provider makes one after the other, the first of them being made."""
    engine.simulator.settings(batch_at_once=1, time_scale=1.0)
    jobs = [engine.submit(prompt, priority="batch") for prompt in prompts]
    assert jobs[0].batch_route
    batch = sent(Route.objects.get(pk=jobs[0].batch_route))
    wait_until(engine.submits)
    return jobs, batch


def cancels(engine: Engine) -> int:
    """How often the provider was asked to cancel something."""
    asked: int = engine.simulator.summary()["calls"]["cancel"]
    return asked


def test_a_batch_that_no_job_waits_for_any_more_is_canceled_at_its_provider_once(
    engine: Engine, shop: Route, settings: Any
) -> None:
    """What was made by then is paid for by the user who canceled, and by the platform where time was over."""
    (made, other), batch = in_one_batch(engine, "a fox [time:3]", "an owl [time:3]")
    engine.cancel(made)
    assert engine.run(made).status == "canceled"
    polled(engine, batch)
    assert cancels(engine) == 0, "one still waits"
    engine.time.set(other.deadline_at)
    assert engine.run(other).error_code == "deadline_exceeded"
    polled(engine, batch)
    polled(engine, batch)
    assert (batch.provider_status, cancels(engine)) == ("cancelling", 1)
    ended(engine, batch)
    assert (engine.fresh(made).cost_usd, engine.attempt(made).billed) == (TOGETHER, "yes")
    assert (engine.hold(other), engine.attempt(other).billed) == ("released", "no")
    assert engine.absorbed(other) == 0
    assert len(orders(engine)) == 1


@pytest.mark.parametrize("reached", [True, False])
def test_a_worker_that_dies_canceling_a_batch_has_it_canceled_once(
    engine: Engine, shop: Route, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    [job], batch = in_one_batch(engine, "a fox [time:3]")
    engine.cancel(job)
    engine.run(job)
    real = call.cancel_batch

    def dying(provider: str, ticket: Ticket) -> bool:
        monkeypatch.setattr(call, "cancel_batch", real)
        if reached:
            real(provider, ticket)
        raise Killed

    monkeypatch.setattr(call, "cancel_batch", dying)
    with pytest.raises(Killed):
        polled(engine, batch)
    assert cancels(engine) == int(reached)
    polled(engine, batch)
    polled(engine, batch)
    assert (batch.provider_status, cancels(engine)) == ("cancelling", 1)
    ended(engine, batch)
    assert engine.fresh(job).cost_usd == TOGETHER


# --- Accidents --------------------------------------------------------------------------------


class Killed(BaseException):
    """As kill -9: nobody catches it, and nothing after it is done."""


@pytest.mark.parametrize(
    ("room", "step", "before"),
    [
        # Claimed; committed; ordered; the ticket kept; the first result fetched, or not; all handed out.
        (flush, "_order", True),
        (flush, "_send", True),
        (provider_batches, "adopt", True),
        (flush, "_leave", True),
        (run, "collect", True),
        (run, "collect", False),
        (hand_out, "close", True),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)).rpartition(".")[2],
)
def test_a_worker_killed_at_any_step_loses_nothing_and_buys_nothing_twice(
    engine: Engine, shop: Route, monkeypatch: pytest.MonkeyPatch, room: Any, step: str, before: bool
) -> None:
    jobs, real = submitted(engine, 3), getattr(room, step)

    def dying(*given: Any, **named: Any) -> None:
        monkeypatch.setattr(room, step, real)
        if not before:
            real(*given, **named)
        raise Killed

    monkeypatch.setattr(room, step, dying)
    with pytest.raises(Killed):
        drive(engine, jobs)
    assert {job.status for job in drive(engine, jobs)} == {"completed"}
    assert set(orders(engine).values()) == {1}
    assert len(orders(engine)) == 3


@pytest.mark.parametrize(
    ("fault", "times", "tried"),
    [
        # Taken, and the answer lost: found by its name.
        ("accept-reset", 1, ["accepted"]),
        # Never taken, which nobody knows before it is missing in the provider's list.
        ("reset", 1, ["failed", "accepted"]),
        # Refused: gathered again, and after the second time ordered alone.
        ("500", 1, ["failed", "accepted"]),
        ("429=1", 1, ["failed", "accepted"]),
        ("500", 2, ["failed", "failed", "accepted"]),
        ("404", 1, ["failed", "accepted"]),
    ],
)
def test_an_order_for_a_batch_that_goes_wrong_buys_each_once(
    engine: Engine, shop: Route, fault: str, times: int, tried: list[str]
) -> None:
    engine.simulator.faults(fault, times=times, match="batch")
    jobs = submitted(engine, 3)
    assert {job.status for job in drive(engine, jobs)} == {"completed"}
    assert [engine.statuses(job) for job in jobs] == [tried] * 3
    assert set(orders(engine).values()) == {1}
    assert len(orders(engine)) == 3
    alone = len(tried) == 3
    assert {engine.absorbed(job) for job in jobs} == {SINGLE - TOGETHER if alone else 0}


def test_two_that_flush_at_once_order_each_job_once(engine: Engine, shop: Route) -> None:
    """Whoever lost a job while it was being fitted orders nothing for it."""
    jobs = submitted(engine, 2)
    [zombie] = leases.claimed(flush._CLAIM, {"route": shop.pk, "room": 1})
    engine.time.forward(60)
    run.run(zombie.pk)
    batch = sent(shop)
    assert batch.size == 2
    flush._order([zombie], zombie.quote["routes"][0], room=1)
    assert ProviderBatch.objects.count() == 1
    drive(engine, jobs)
    assert set(orders(engine).values()) == {1}


def test_a_breaker_that_is_open_keeps_the_jobs_gathered(engine: Engine, shop: Route) -> None:
    jobs = submitted(engine, 2)
    refused = Refused("down", 1000)
    with mock.patch.object(permits, "ask", return_value=refused):
        flush.flush(shop.pk)
    assert {engine.fresh(job).batch_route for job in jobs} == {shop.pk}
    assert {job.status for job in drive(engine, jobs)} == {"completed"}
    assert {tuple(engine.statuses(job)) for job in jobs} == {("accepted",)}


# --- Beside interactive work ------------------------------------------------------------------


def test_batch_jobs_take_no_place_of_their_user(engine: Engine, shop: Route) -> None:
    someone = factories.someone(tier=factories.tier(concurrency=1))
    waiting = submitted(engine, 2, by=someone)
    batch = sent(shop)
    quick = engine.finish(engine.submit(by=someone))
    assert (quick.status, quick.cost_usd) == ("completed", SINGLE)
    ended(engine, batch)
    assert {engine.finish(job).status for job in waiting} == {"completed"}


def test_a_batch_job_without_a_place_gathers_again_until_it_has_waited_long(
    engine: Engine, shop: Route, settings: Any
) -> None:
    """One of five places is for those that can wait."""
    Route.objects.update(active=False)
    route = offered("wavespeed", "wavespeed-ai/standard")
    Provider.objects.update_or_create(slug="wavespeed", defaults={"max_concurrency": 5})
    registry.forget()
    first, second = submitted(engine, 2)
    flush.flush(route.pk)
    assert engine.statuses(engine.run(first)) == ["submitted"]
    waiting = engine.run(second)
    assert (waiting.batch_route, waiting.waiting_for, engine.statuses(second)) == (
        route.pk,
        "batch_share",
        [],
    )
    quick = engine.run(engine.submit())
    assert engine.statuses(quick) == ["submitted"]
    engine.time.forward(settings.BATCH_AGED_S)
    flush.flush(route.pk)
    assert engine.statuses(engine.run(second)) == ["submitted"]
    assert {job.status for job in drive(engine, [first, second, quick])} == {"completed"}


def test_a_worker_that_was_stopped_before_it_ordered_orders_nothing_when_it_wakes(
    engine: Engine, shop: Route
) -> None:
    jobs = submitted(engine, 2)
    real = call.submit_batch

    def late(*given: Any, begun_within_s: float, **named: Any) -> Ticket:
        return real(*given, begun_within_s=begun_within_s - 60, **named)

    with mock.patch.object(call, "submit_batch", late):
        flush.flush(shop.pk)
    assert engine.submits() == []
    assert {job.status for job in drive(engine, jobs)} == {"completed"}
    assert set(orders(engine).values()) == {1}


def test_who_waits_for_an_answer_follows_no_batch_job(engine: Engine, shop: Route) -> None:
    slow = engine.submit("a fox", priority="batch", cache="exact")
    second = engine.submit("a fox", priority="batch", cache="exact")
    quick = engine.submit("a fox", cache="exact")
    assert [job.flight for job in (slow, second, quick)] == ["leads", "follows", ""]
    assert engine.finish(quick).status == "completed"
    assert [job.status for job in drive(engine, [slow, second])] == ["completed", "completed"]
    assert len(engine.submits()) == 2


@pytest.mark.parametrize(
    ("waiting", "begun", "queue"), [(0, 3, "io_batch"), (3, 3, "io_batch"), (4, 1, "io"), (9, 2, "io")]
)
def test_one_piece_of_batch_work_joins_every_four_rings_that_wait(
    engine: Engine,
    shop: Route,
    batch_workers: None,
    django_capture_on_commit_callbacks: Any,
    waiting: int,
    begun: int,
    queue: str,
) -> None:
    jobs = submitted(engine, 3 * SIZE)
    bells.clear("io")
    for _ in range(waiting):
        bell.publish("jobs.run", id=str(uuid.uuid4()), queue="io")
    with django_capture_on_commit_callbacks(execute=True):
        assert pacing.ring_due() == begun
    rung = [message for message in bells.waiting(queue) if message.task == "jobs.flush"]
    assert len(rung) == begun
    for name in ("io", "io_batch"):
        bells.clear(name)
    assert {job.status for job in drive(engine, jobs)} == {"completed"}


def test_a_quarter_of_it_is_begun_while_interactive_jobs_come_in(engine: Engine, shop: Route) -> None:
    jobs = submitted(engine, 3 * SIZE)
    quick = engine.submit()
    bells.clear("io")
    assert pacing.ring_due() == 1
    engine.time.forward(60)
    assert pacing.ring_due() == 3
    assert {job.status for job in drive(engine, [quick, *jobs])} == {"completed"}


def test_what_was_rung_and_not_heard_waits_behind_nobody_the_next_time(
    engine: Engine, shop: Route, batch_workers: None, django_capture_on_commit_callbacks: Any
) -> None:
    [job] = submitted(engine, 1)
    Job.objects.filter(pk=job.pk).update(batch_route=None, due_at=engine.time.now, rung_at=None)
    bells.clear("io")
    for queue in ("io_batch", "io"):
        with django_capture_on_commit_callbacks(execute=True):
            sweep.due_jobs()
        assert [message.id for message in bells.waiting(queue)] == [str(job.pk)]
        bells.clear(queue)
        engine.time.forward(sweep.RING_AGAIN_S)
    drive(engine, [job])


def test_what_waits_behind_other_batch_work_is_not_rung_among_what_somebody_waits_for(
    engine: Engine, shop: Route, batch_workers: None, django_capture_on_commit_callbacks: Any
) -> None:
    [job] = submitted(engine, 1)
    Job.objects.filter(pk=job.pk).update(batch_route=None, due_at=engine.time.now, rung_at=engine.time.now)
    for _ in range(sweep._BACKLOG):
        bell.publish("jobs.validate", id=str(uuid.uuid4()), queue="cpu_batch")
    bells.clear("io")
    for seconds, rung in ((sweep._BEHIND_S - 1, []), (1, [str(job.pk)])):
        engine.time.forward(seconds)
        with django_capture_on_commit_callbacks(execute=True):
            sweep.due_jobs()
        assert [message.id for message in bells.waiting("io")] == rung
    bells.clear("io")
    drive(engine, [job])


def test_where_a_ring_goes_is_asked_for_when_the_transaction_is_over(
    engine: Engine, shop: Route, django_capture_on_commit_callbacks: Any
) -> None:
    [job] = submitted(engine, 1)
    with django_capture_on_commit_callbacks(execute=True):
        leases.ring(job.pk, can_wait=True)
        # Before it commits nobody has looked for workers.
        client().hset(workers._KEY, "batch@here", str(time()))
    assert [message.id for message in bells.waiting("io_batch")] == [str(job.pk)]
    drive(engine, [job])


def test_without_workers_of_its_own_batch_work_is_done_by_the_others(
    engine: Engine, shop: Route, django_capture_on_commit_callbacks: Any
) -> None:
    """All of it: the order, the question, and the checks of what was made."""

    def rung() -> list[str]:
        bells.clear("io")
        with django_capture_on_commit_callbacks(execute=True):
            pacing.ring_due()
        return [message.task for message in bells.waiting("io")]

    jobs = submitted(engine, SIZE)
    for _ in range(pacing._PIECES):
        # While there were some.
        bell.publish("jobs.flush", id=str(shop.pk), queue="io_batch")
    assert rung() == ["jobs.flush"]
    batch = sent(shop)
    batch.refresh_from_db()
    engine.time.set(batch.due_at or engine.time.now)
    assert rung() == ["jobs.poll_batch"]
    with django_capture_on_commit_callbacks(execute=True):
        ended(engine, batch)
    checks = {(message.task, message.id) for message in bells.waiting("cpu")}
    assert checks == {("jobs.validate", str(job.pk)) for job in jobs}
    assert {engine.validate(job).status for job in jobs} == {"completed"}
