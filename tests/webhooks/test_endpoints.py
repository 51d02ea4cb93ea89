"""A team's standing addresses: chosen by its admins, safe to connect to, told of just what they want."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.models import ApiKey
from apps.core import clock
from apps.webhooks import deliver, emit, endpoints, schemas
from apps.webhooks.models import Delivery, Endpoint, Event, EventType
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone
from tests.fakes.receiver import Answer, Receiver

pytestmark = pytest.mark.django_db
PATH = "/v1/webhooks/endpoints"
URL = "https://example.com/hook"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    endpoints.forget()
    yield
    endpoints.forget()


@pytest.fixture
def boss() -> Someone:
    return factories.someone(is_team_admin=True, scopes=[ApiKey.Scope.WEBHOOKS])


def added(someone: Someone, url: str = URL, **changes: Any) -> Endpoint:
    response = someone.api.post(PATH, {"url": url, **changes}, format="json")
    assert response.status_code == 201, response.content
    return Endpoint.objects.get(pk=response.json()["id"])


def emitted(someone: Someone, kind: str = "job.failed", url: str = "") -> list[str]:
    """The addresses that are told, sorted: nobody is promised to be the first."""
    assert someone.user.team_id
    subject_id = uuid.uuid4()
    emit.emit(team_id=someone.user.team_id, type=kind, subject_id=subject_id, data={"id": "1"}, url=url)
    return sorted(Delivery.objects.filter(event__subject_id=subject_id).values_list("url", flat=True))


# --- The API ----------------------------------------------------------------------------------


def test_an_endpoint_is_added_listed_and_removed(boss: Someone) -> None:
    response = boss.api.post(PATH, {"url": URL, "event_types": ["budget.warning"]}, format="json")
    assert (response.status_code, conforms(schemas.Endpoint, response.json())) == (201, True)
    address = response["Location"]
    listed = boss.api.get(PATH).json()
    assert conforms(schemas.Endpoints, listed)
    assert [(each["url"], each["event_types"], each["active"]) for each in listed["data"]] == [
        (URL, ["budget.warning"], True)
    ]
    assert boss.api.delete(address).status_code == 204
    assert boss.api.get(PATH).json() == {"data": []}
    assert boss.api.delete(address).status_code == 404


def test_without_a_choice_it_is_told_everything(boss: Someone) -> None:
    assert set(added(boss).event_types) == set(EventType.values)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "url"),
        ({"url": "http://127.0.0.1.nip.io@evil"}, "url"),
        ({"url": "https://169.254.169.254/latest"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "x" * 3000}, "url"),
        ({"url": 7}, "url"),
        ({"url": URL, "event_types": []}, "event_types"),
        ({"url": URL, "event_types": ["job.exploded"]}, "event_types[0]"),
        ({"url": URL, "event_types": "job.failed"}, "event_types"),
        ({"url": URL, "team_id": str(uuid.uuid4())}, "team_id"),
        ({"url": URL, "active": False}, "active"),
    ],
)
def test_bad_input_is_named_and_nothing_is_kept(boss: Someone, sent: dict[str, Any], field: str) -> None:
    response = boss.api.post(PATH, sent, format="json")
    assert response.status_code == 422, response.content
    assert field in [error["field"] for error in response.json()["errors"]]
    assert not Endpoint.objects.exists()


def test_an_address_is_told_once_and_a_team_has_only_so_many(boss: Someone) -> None:
    added(boss)
    again = boss.api.post(PATH, {"url": URL}, format="json")
    assert [error["code"] for error in again.json()["errors"]] == ["exists"]
    for number in range(endpoints.MAX_PER_TEAM - 1):
        added(boss, f"{URL}/{number}")
    one_more = boss.api.post(PATH, {"url": f"{URL}/more"}, format="json")
    assert [error["code"] for error in one_more.json()["errors"]] == ["too_many"]
    stranger = factories.someone(is_team_admin=True, scopes=[ApiKey.Scope.WEBHOOKS])
    added(stranger)


# --- Whom an event is told --------------------------------------------------------------------


def test_an_event_is_told_to_those_who_want_it_and_to_the_jobs_own_address_once(boss: Someone) -> None:
    added(boss, f"{URL}/1", event_types=["job.failed"])
    added(boss, f"{URL}/2", event_types=["budget.warning"])
    both = added(boss, f"{URL}/3")
    assert emitted(boss) == [f"{URL}/1", f"{URL}/3"]
    assert emitted(boss, "budget.warning") == [f"{URL}/2", f"{URL}/3"]
    assert emitted(boss, url="https://example.com/own") == [f"{URL}/1", f"{URL}/3", "https://example.com/own"]
    assert emitted(boss, url=both.url) == [f"{URL}/1", both.url]


def test_what_nobody_wants_is_not_stored(boss: Someone) -> None:
    stranger = factories.someone()
    added(boss)
    assert emitted(stranger) == []
    assert not Event.objects.exists()


def test_a_change_made_elsewhere_is_heard_within_seconds(boss: Someone) -> None:
    at = clock.now()
    assert boss.user.team_id
    with clock.frozen(at):
        assert emitted(boss) == []
        Endpoint.objects.create(team_id=boss.user.team_id, url=URL)  # in another process
        assert emitted(boss) == []
    with clock.frozen(at + timedelta(seconds=endpoints.REMEMBERED_S)):
        assert emitted(boss) == [URL]


def test_the_deliveries_of_one_event_have_one_id_and_bear_the_teams_signature(
    boss: Someone, settings: Any
) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with Receiver() as receiver:
        for number in (1, 2):
            added(boss, f"{receiver.url}/{number}")
        emitted(boss)
        for delivery in Delivery.objects.all():
            deliver.deliver(delivery.pk)
        received = receiver.wait_for(2)
    assert {request.path for request in received} == {"/1", "/2"}
    assert len({request.headers["webhook-id"] for request in received}) == 1
    assert json.loads(received[0].body)["type"] == "job.failed"


def test_a_receiver_that_is_gone_stops_its_endpoint_and_what_waits_for_it(
    boss: Someone, settings: Any
) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with Receiver() as receiver:
        receiver.answers(Answer(status=410))
        endpoint = added(boss, receiver.url)
        emitted(boss)
        emitted(boss)
        first, second = Delivery.objects.order_by("id")
        deliver.deliver(first.pk)
        deliver.deliver(second.pk)
        assert len(receiver.requests) == 1
    endpoint.refresh_from_db()
    second.refresh_from_db()
    assert (endpoint.active, second.status) == (False, "disabled")
    endpoints.forget()
    assert emitted(boss) == []


def test_what_a_removed_endpoint_was_to_be_told_is_dropped(boss: Someone) -> None:
    endpoint = added(boss)
    emitted(boss)
    boss.api.delete(f"{PATH}/{endpoint.pk}")
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.due_at, delivery.endpoint_id) == ("disabled", None, None)
    assert emitted(boss) == []
