"""Which ends of a job are usage: what was charged, and what the cache saved."""

from datetime import timedelta
from decimal import Decimal

from apps.caching.models import CachedResult
from apps.core import clock
from apps.jobs import tally
from apps.jobs.models import Uncounted
from apps.ledger.models import Entry, UsageDay, UsageRecord
from tests import factories
from tests.jobs.engine import SMALL, Engine


def recorded() -> list[tuple[str, str, bool, Decimal, Decimal]]:
    tally.all_of_them()
    found = UsageRecord.objects.order_by("id")
    return list(found.values_list("model", "provider", "cached", "cost_usd", "saved_usd"))


def test_a_completed_job_and_an_answer_from_the_cache_are_recorded(engine: Engine) -> None:
    job = engine.finish(engine.submit(cache="exact"))
    answer = engine.user.api.post("/v1/jobs", factories.body(params=SMALL), format="json")
    assert answer.status_code == 200, answer.content
    assert recorded() == [
        ("fast-draft", "wavespeed", False, Decimal("0.005"), Decimal(0)),
        ("fast-draft", "cache", True, Decimal(0), Decimal("0.005")),
    ]
    [record] = UsageRecord.objects.filter(reference=job.pk)
    assert (record.kind, record.estimated_usd) == ("image", Decimal("0.005"))
    assert record.generation_ms >= 0


def test_an_answer_from_the_cache_is_recorded_once_on_the_day_on_which_it_was_given(engine: Engine) -> None:
    """However late it is counted, and however often."""
    engine.finish(engine.submit(cache="exact"))
    tally.all_of_them()
    engine.time.set(clock.now() + timedelta(days=40))
    CachedResult.objects.update(expires_at=clock.now() + timedelta(days=1))
    answer = engine.user.api.post("/v1/jobs", factories.body(params=SMALL), format="json").json()
    assert not UsageRecord.objects.filter(reference=answer["id"]).exists()
    day = clock.now().date()
    engine.time.forward(86_400)
    for _ in range(2):
        assert recorded()[1:] == [("fast-draft", "cache", True, Decimal(0), Decimal("0.005"))]
        Uncounted.objects.create(job_id=answer["id"])
    assert UsageRecord.objects.get(reference=answer["id"]).day == day
    [sums] = UsageDay.objects.filter(cached=True)
    assert (sums.day, sums.jobs, sums.saved_usd) == (day, 1, Decimal("0.005"))
    [entry] = Entry.objects.filter(reference=answer["id"])
    assert (entry.kind, entry.amount_usd, entry.saved_usd) == ("charge", Decimal(0), Decimal("0.005"))
    assert entry.day_period.first_day == day


def test_a_failed_job_is_not_usage(engine: Engine) -> None:
    assert engine.finish(engine.submit("[fault:nsfw] a wolf")).status == "failed"
    assert recorded() == []


def test_canceled_work_is_usage_if_it_was_charged(engine: Engine) -> None:
    """Fetched before the cancel was seen, and delivered by the provider after it."""
    engine.simulator.settings(time_scale=0)
    fetched = engine.run(engine.submit("a fox"))
    engine.cancel(fetched)
    engine.run(fetched)
    engine.simulator.settings(time_scale=1)
    late = engine.run(engine.submit("an owl [time:0.1]"))
    engine.cancel(late)
    engine.run(late)
    engine.provider_done()
    engine.resolve(engine.attempt(late))
    assert [cost for *_, cost, _ in recorded()] == [Decimal("0.005")] * 2
