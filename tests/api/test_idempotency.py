"""Idempotency-Key: however often a request is sent, it is done once and answered the same."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from apps.accounts.models import Tier
from apps.catalog import snapshot
from apps.catalog.models import GenerationModel
from apps.core import clock
from apps.jobs import sweep
from apps.jobs.models import Job
from apps.ledger.models import Entry, Hold
from tests import factories
from tests.factories import Someone, body

Work = Callable[[str], Job]


def post(someone: Someone, key: str = "order-7", **changes: Any) -> Any:
    return someone.api.post("/v1/jobs", body(**changes), format="json", HTTP_IDEMPOTENCY_KEY=key)


def test_the_same_request_is_replayed_byte_for_byte(pro: Someone, work: Work) -> None:
    first = post(pro)
    work(first.json()["id"])
    again = post(pro)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again["Location"] == first["Location"]
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Job.objects.count() == 1


def test_the_order_of_the_fields_makes_no_other_request(pro: Someone) -> None:
    first = post(pro)
    turned = dict(reversed(list(body().items())))
    again = pro.api.post("/v1/jobs", turned, format="json", HTTP_IDEMPOTENCY_KEY="order-7")
    assert again.content == first.content


def test_a_cached_answer_is_replayed_as_200(pro: Someone, work: Work) -> None:
    work(post(pro, "first").json()["id"])
    hit = post(pro, "second")
    later = clock.now() + timedelta(days=2)
    with clock.frozen(later):  # the cached result has expired, the answer was given
        again = post(pro, "second")
    assert (hit.status_code, again.status_code) == (200, 200)
    assert again.content == hit.content
    assert again["Idempotent-Replayed"] == "true"


def test_another_body_under_the_key_is_422(pro: Someone, stored: Callable[[], Any]) -> None:
    post(pro)
    before = stored()
    for change in ({"prompt": "another"}, {"metadata": {"a": 1}}, {"params": {"n": 1}}):
        response = post(pro, **change)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert stored() == before


def test_each_user_has_keys_of_their_own(pro: Someone) -> None:
    colleague = factories.someone(team=pro.user.team)
    assert post(pro).json()["id"] != post(colleague, prompt="another").json()["id"]


@pytest.mark.parametrize("key", ["", " ", "two words", "k" * 256, "schlüssel", "a\tb", "a\x7f", "\x80"])
def test_a_bad_key_is_named(pro: Someone, stored: Callable[[], Any], key: str) -> None:
    response = post(pro, key)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["Idempotency-Key"]
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize("key", ["k", "k" * 255, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"])
def test_any_printable_key_is_good(pro: Someone, key: str) -> None:
    assert post(pro, key).status_code == 202
    assert post(pro, key)["Idempotent-Replayed"] == "true"


def test_a_refused_request_leaves_its_key_free() -> None:
    poor = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal("0.005")))
    assert post(poor, params={"n": 2}).status_code == 402
    assert post(poor, params={"n": 0}).status_code == 422
    assert post(poor, model="nope").status_code == 404
    accepted = post(poor)
    assert (accepted.status_code, "Idempotent-Replayed" in accepted) == (202, False)


def test_the_answer_stays_when_the_world_has_changed(pro: Someone) -> None:
    """Model retired, budget gone, tier lowered: what was answered once is answered again."""
    first = post(pro)
    GenerationModel.objects.filter(slug="fast-draft").update(retired_at=clock.now())
    Tier.objects.filter(pk=pro.user.tier_id).update(monthly_budget_usd=0, max_quality=1)
    snapshot.forget()
    again = post(pro)
    assert (again.status_code, again.content) == (202, first.content)
    assert post(pro, "a-new-one").status_code == 410


def test_a_key_is_kept_thirty_days(pro: Someone) -> None:
    first = post(pro)
    for days, replayed in ((29, True), (31, False)):
        with clock.frozen(clock.now() + timedelta(days=days)):
            sweep.old_idempotency_keys()
            assert (post(pro).content == first.content) is replayed


@pytest.mark.django_db(transaction=True)
def test_fifty_requests_at_once_with_one_key_are_one_job(pro: Someone) -> None:
    start = threading.Barrier(50)

    def send(_: int) -> tuple[int, bytes, bool]:
        api = APIClient()
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {pro.key}", HTTP_IDEMPOTENCY_KEY="at-once")
        start.wait()
        try:
            response = api.post("/v1/jobs", body(), format="json")
            return response.status_code, response.content, "Idempotent-Replayed" in response
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert {status for status, _, _ in answers} == {202}
    assert len({content for _, content, _ in answers}) == 1
    assert [replayed for _, _, replayed in answers].count(False) == 1
    assert (Job.objects.count(), Hold.objects.count(), Entry.objects.count()) == (1, 1, 1)
