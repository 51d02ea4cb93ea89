"""POST /v1/jobs/{id}/cancel: asked at any time, honoured at the next touch, harmless after the end."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import LazySettings

from apps.core import clock
from apps.jobs import run, schemas
from apps.jobs.models import Job
from apps.ledger.models import Hold
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body
from tests.fakes import simulator as fake

Work = Callable[[str], Job]


def submitted(someone: Someone, **changes: Any) -> str:
    job_id: str = someone.api.post("/v1/jobs", body(**changes), format="json").json()["id"]
    return job_id


def test_a_queued_job_ends_at_its_next_touch_and_its_money_is_free(pro: Someone) -> None:
    job_id = submitted(pro)
    response = pro.api.post(f"/v1/jobs/{job_id}/cancel")
    assert response.status_code == 202
    answer = response.json()
    assert conforms(schemas.JobDetail, answer)
    assert (answer["status"], answer["cancel_requested_at"] is None) == ("queued", False)
    run.run(uuid.UUID(job_id))
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert (answer["status"], answer["cost_usd"], answer["error"], answer["attempts"]) == (
        "canceled",
        "0",
        None,
        [],
    )
    assert Hold.objects.get(reference=job_id).state == Hold.State.RELEASED


def test_asking_twice_changes_nothing(pro: Someone) -> None:
    job_id = submitted(pro)
    first = pro.api.post(f"/v1/jobs/{job_id}/cancel")
    with clock.frozen(clock.now() + timedelta(minutes=1)):
        again = pro.api.post(f"/v1/jobs/{job_id}/cancel")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()


def test_a_job_that_has_ended_stays_as_it_is(pro: Someone, work: Work) -> None:
    work(done := submitted(pro))
    pro.api.post(f"/v1/jobs/{(canceled := submitted(pro, prompt='another'))}/cancel")
    run.run(uuid.UUID(canceled))
    for job_id in (done, canceled):
        with clock.frozen(clock.now()):
            before = pro.api.get(f"/v1/jobs/{job_id}").json()
            response = pro.api.post(f"/v1/jobs/{job_id}/cancel")
            assert (response.status_code, response.json()) == (200, before)


def test_a_job_the_provider_already_has_is_canceled_too(
    pro: Someone, simulator: fake.Simulator, settings: LazySettings
) -> None:
    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    simulator.settings(time_scale=100)
    job_id = submitted(pro)
    run.run(uuid.UUID(job_id))
    assert pro.api.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "running"
    run.run(uuid.UUID(job_id))  # due at once, although the provider would be asked later
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert (answer["status"], answer["cost_usd"], answer["outputs"]) == ("canceled", "0", [])


def test_a_job_that_waits_for_a_place_need_not_wait_to_be_canceled(
    simulator: fake.Simulator, settings: LazySettings
) -> None:
    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    simulator.settings(time_scale=100)
    single = factories.someone(tier=factories.tier(concurrency=1))
    first, second = submitted(single), submitted(single, prompt="another")
    run.run(uuid.UUID(first))
    run.run(uuid.UUID(second))
    assert Job.objects.get(pk=second).status == "queued"
    single.api.post(f"/v1/jobs/{second}/cancel")
    run.run(uuid.UUID(second))
    assert Job.objects.get(pk=second).status == "canceled"
    assert Job.objects.get(pk=first).status == "running"


def test_a_body_is_not_needed_and_not_read(pro: Someone) -> None:
    job_id = submitted(pro)
    assert pro.api.post(f"/v1/jobs/{job_id}/cancel", "{", content_type="application/json").status_code == 202


def test_the_key_must_be_allowed_to_write(pro: Someone) -> None:
    reader = factories.someone(scopes=[factories.ApiKey.Scope.JOBS_READ])
    assert reader.api.post(f"/v1/jobs/{submitted(pro)}/cancel").status_code == 403
