"""Threads that want the same row, the same key or the last place."""

from functools import partial

import pytest

from apps.jobs import leases, validate
from apps.jobs.models import Job
from tests import factories
from tests.concurrency.workers import at_once
from tests.jobs.engine import Engine

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 16


def test_one_of_many_claims_the_job(engine: Engine) -> None:
    job = engine.submit()
    claims = at_once([partial(leases.claim, job.pk)] * THREADS)
    [mine] = [claim for claim in claims if claim]
    assert leases.leave(mine, next_at=engine.time.now)
    assert engine.finish(job).status == "completed"


def test_no_more_jobs_start_than_the_user_has_places(engine: Engine) -> None:
    engine.user = factories.someone(tier=factories.tier(concurrency=3))
    jobs = [engine.submit(f"{n}") for n in range(THREADS)]
    claims = [claim for claim in at_once([partial(leases.claim, job.pk) for job in jobs]) if claim]
    assert len(claims) == 3
    assert Job.objects.filter(status="running").count() == 3
    for claim in claims:
        leases.leave(claim, next_at=engine.time.now)
    # Who has a place first: the others wait for it.
    assert {engine.finish(job).status for job in [*claims, *jobs]} == {"completed"}


def test_a_webhook_delivered_by_many_at_once_settles_once(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    [webhook] = engine.webhooks()
    assert set(at_once([partial(engine.deliver, webhook)] * 8)) == {200}
    assert engine.statuses(job) == ["fetched"]
    at_once([partial(validate.validate, job.pk)] * 8)
    assert (engine.fresh(job).status, engine.statuses(job)) == ("completed", ["accepted"])
