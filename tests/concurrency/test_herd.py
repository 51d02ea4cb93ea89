"""Many equal requests at the same moment: one of them buys."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.jobs.models import Job
from tests import factories
from tests.jobs import bells
from tests.jobs.engine import SMALL, Engine

pytestmark = pytest.mark.django_db(transaction=True)
HERD = 500


def test_five_hundred_equal_requests_at_once_are_one_provider_call(engine: Engine) -> None:
    asked = factories.body(prompt="a lighthouse [time:1]", params=SMALL)

    def post(_: int) -> int:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {engine.user.key}")
        try:
            return client.post("/v1/jobs", asked, format="json").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(post, range(HERD)))
    assert set(answers) == {202}
    leader = Job.objects.get(flight="leads")
    assert Job.objects.filter(flight="follows", status="queued").count() == HERD - 1
    assert [message.task for message in bells.waiting("io")] == ["jobs.run"]
    leader = engine.finish(leader)
    for message in bells.waiting("io"):
        engine.run(Job.objects.get(pk=message.id))
    served = Job.objects.filter(status="completed", cached_from=leader.pk, cost_usd=0)
    assert served.count() == HERD - 1
    assert len(engine.submits()) == 1
