"""Ended jobs are counted from their rows: each once, with where its time and money went."""

import pytest
from django.db import connection, transaction

from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import Totals
from apps.jobs import metrics, tally
from apps.jobs.models import Job, Uncounted
from apps.jobs.states import JobStatus
from tests.jobs.engine import Engine

pytestmark = pytest.mark.django_db
MODEL = "fast-draft"


def counted() -> Totals:
    tally.all_of_them()
    assert Uncounted.objects.count() == 0
    return tally.totals()


def histogram(totals: Totals, instrument: instruments.Instrument, *labels: str) -> tuple[float, float]:
    """How many observations, and their sum."""
    numbers = totals[instrument.name, labels]
    return sum(numbers[1:]), numbers[0]


def test_a_completed_job_is_counted_once_with_its_times_cost_and_score(engine: Engine) -> None:
    job = engine.finish(engine.submit(model=MODEL))
    assert job.status == JobStatus.COMPLETED
    totals = counted()
    assert totals == counted()
    whole = (MODEL, "wavespeed", "completed", "no")
    assert totals[metrics.REQUESTS.name, whole] == [1]
    took_s = (job.finished_at - job.created_at).total_seconds() if job.finished_at else 0
    assert histogram(totals, metrics.DURATION, *whole) == (1, took_s)
    assert totals[metrics.COST.name, (MODEL, "wavespeed")] == [float(job.cost_usd)]
    assert job.quality
    assert histogram(totals, metrics.QUALITY, MODEL, "wavespeed") == (1, job.quality["score"])
    assert metrics.ERRORS.name not in {name for name, _ in totals}


def test_a_jobs_phases_and_what_the_platform_added_make_up_its_time(engine: Engine) -> None:
    job = engine.submit(model=MODEL)
    engine.time.forward(1)
    engine.run(job)
    engine.time.forward(5)
    engine.provider_done()
    engine.due(job)
    ready_at = engine.time.now
    engine.run(job)
    engine.time.forward(0.25)
    job = engine.validate(job)
    assert job.status == JobStatus.COMPLETED
    totals = counted()
    generating_s = (ready_at - job.created_at).total_seconds() - 1
    assert histogram(totals, metrics.PHASE, "queue", "wavespeed") == (1, 1)
    assert histogram(totals, metrics.PHASE, "generate", "wavespeed") == pytest.approx((1, generating_s))
    assert histogram(totals, metrics.PHASE, "validate", "wavespeed") == (1, 0.25)
    assert histogram(totals, metrics.QUEUE, MODEL) == (1, 1)
    assert histogram(totals, metrics.OVERHEAD, "no") == pytest.approx((1, 1.25))


def test_an_answer_from_the_cache_is_a_hit_that_saved_its_price(engine: Engine) -> None:
    bought = engine.finish(engine.submit(model=MODEL, cache="exact"))
    body = {"type": "image", "prompt": bought.prompt, "model": MODEL, "params": {"width": 64, "height": 64}}
    assert engine.user.api.post("/v1/jobs", body, format="json").status_code == 200
    totals = counted()
    assert totals[metrics.REQUESTS.name, (MODEL, "cache", "completed", "yes")] == [1]
    assert totals[metrics.CACHE_HITS.name, (MODEL, "exact")] == [1]
    assert totals[metrics.SAVED.name, (MODEL, "exact")] == [float(bought.cost_usd)]
    assert histogram(totals, metrics.OVERHEAD, "yes")[0] == 1


def test_a_failed_job_is_counted_by_its_error_and_a_canceled_one_is_none(engine: Engine) -> None:
    failed = engine.finish(engine.submit("[fault:content-rejected] a fox", model=MODEL))
    canceled = engine.submit(model=MODEL)
    engine.cancel(canceled)
    engine.finish(canceled)
    totals = counted()
    assert totals[metrics.ERRORS.name, (MODEL, "wavespeed", failed.error_code)] == [1]
    assert totals[metrics.REQUESTS.name, (MODEL, "none", "canceled", "no")] == [1]
    errors = [numbers for (name, _), numbers in totals.items() if name == metrics.ERRORS.name]
    assert errors == [[1]]


def test_counting_that_is_undone_is_done_again(engine: Engine) -> None:
    engine.finish(engine.submit(model=MODEL))

    with transaction.atomic():
        assert tally.some() == 1
        transaction.set_rollback(True)
    assert counted()[metrics.REQUESTS.name, (MODEL, "wavespeed", "completed", "no")] == [1]


def test_a_model_that_the_catalog_does_not_have_is_other(engine: Engine) -> None:
    job = engine.finish(engine.submit(model=MODEL))
    Job.objects.filter(pk=job.pk).update(model="a name of somebody's own")
    assert counted()[metrics.REQUESTS.name, ("other", "wavespeed", "completed", "no")] == [1]


def test_a_sum_grows_by_what_is_counted_later(engine: Engine) -> None:
    for times in (1, 2):
        engine.finish(engine.submit(model=MODEL))
        totals = counted()
        assert totals[metrics.REQUESTS.name, (MODEL, "wavespeed", "completed", "no")] == [times]
        assert histogram(totals, metrics.DURATION, MODEL, "wavespeed", "completed", "no")[0] == times
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM jobs_total WHERE name = %s", [metrics.REQUESTS.name])
        assert cursor.fetchone() == (1,)
