"""Webhooks from providers: only genuine and fresh ones come in, each once, and each rings the bell."""

import base64
import hashlib
import hmac
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks
from pytest_django.live_server_helper import LiveServer

from apps.core import clock
from apps.providers import call, inbox
from apps.providers.contract import GenerationRequest, Pending
from apps.providers.models import InboxEvent
from tests.fakes.simulator import Simulator, wait_until

SECRET = "whsec_dGVzdA"
ATTEMPT = uuid.UUID("0198c0de-0000-7000-8000-000000000001")
PATH = f"/v1/providers/wavespeed/webhooks/{ATTEMPT}"
BODY = json.dumps({"id": "task-1", "status": "completed"}).encode()


@pytest.fixture(autouse=True)
def _configured(settings: Any) -> None:
    settings.PROVIDERS = {
        "wavespeed": {"base_url": "http://127.0.0.1:9", "api_key": "k", "webhook_secret": SECRET}
    }


def signed(
    body: bytes = BODY, *, secret: str = SECRET, event_id: str = "evt-1", age_s: int = 0
) -> dict[str, str]:
    timestamp = str(int(clock.now().timestamp()) - age_s)
    key = secret.removeprefix("whsec_").encode()
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": f"v3,{digest}"}


def knock(client: Client, headers: dict[str, str], body: bytes = BODY, path: str = PATH) -> int:
    return client.post(path, body, content_type="application/json", headers=headers).status_code


def rung() -> list[tuple[str, dict[str, Any]]]:
    """The messages on the broker's `io` queue: task name and keyword arguments."""
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as broker:
        messages = [json.loads(raw) for raw in broker.lrange("io", 0, -1)]
    return [(m["headers"]["task"], json.loads(base64.b64decode(m["body"]))[1]) for m in messages]


@pytest.mark.django_db
def test_a_genuine_webhook_is_stored_and_rings(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert knock(client, signed()) == 200
    event = InboxEvent.objects.get()
    assert (event.provider, event.event_id, event.subject_id, event.task_id) == (
        "wavespeed",
        "evt-1",
        ATTEMPT,
        "task-1",
    )
    assert event.body_sha256 == hashlib.sha256(BODY).hexdigest()
    assert rung() == [("jobs.provider_event", {"v": 1, "id": str(event.pk)})]


@pytest.mark.django_db
def test_a_duplicate_is_welcomed_and_changes_nothing(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert [knock(client, signed()) for _ in range(3)] == [200, 200, 200]
    assert InboxEvent.objects.count() == 1
    assert len(rung()) == 1


@pytest.mark.django_db
def test_two_events_of_one_task_are_both_stored(client: Client) -> None:
    assert [knock(client, signed(event_id=name)) for name in ("evt-1", "evt-2")] == [200, 200]
    assert InboxEvent.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_hundred_at_once_store_one_row_and_ring_once() -> None:
    headers = signed()

    def take(_: int) -> bool:
        try:
            return inbox.take("wavespeed", ATTEMPT, BODY, headers) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=20) as threads:
        stored = list(threads.map(take, range(100)))
    assert stored.count(True) == 1
    assert InboxEvent.objects.count() == 1
    assert len(rung()) == 1


def forgeries() -> dict[str, dict[str, str]]:
    good = signed()
    return {
        "no headers": {},
        "no id": {name: value for name, value in good.items() if name != "webhook-id"},
        "no signature": {name: value for name, value in good.items() if name != "webhook-signature"},
        "another secret": signed(secret="whsec_other"),
        "another body": signed(b"{}"),
        "another id": {**good, "webhook-id": "evt-2"},
        "another time": {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        "another version": {**good, "webhook-signature": good["webhook-signature"].replace("v3,", "v1,")},
        "no number": {**good, "webhook-timestamp": "now"},
        "odd characters": {**good, "webhook-signature": "v3,\u00e9"},
        "an id too long": signed(event_id="x" * 256),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("name", list(forgeries()))
def test_a_forged_webhook_is_refused_and_not_stored(client: Client, name: str) -> None:
    assert knock(client, forgeries()[name]) == 401
    assert not InboxEvent.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("age_s", "status"), [(299, 200), (-299, 200), (301, 401), (-301, 401), (10**9, 401)]
)
def test_an_old_webhook_is_refused(client: Client, age_s: int, status: int) -> None:
    with clock.frozen(clock.now().replace(microsecond=0)):
        assert knock(client, signed(age_s=age_s)) == status
    assert InboxEvent.objects.exists() == (status == 200)


@pytest.mark.django_db
def test_a_replay_hours_later_is_refused(client: Client) -> None:
    headers = signed()
    with clock.frozen(clock.now() + timedelta(hours=3)):
        assert knock(client, headers) == 401


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"{}", b'{"id": 7}', b'{"id": ""}', b"[" * 100_000]
)
def test_a_signed_body_that_names_no_task_is_refused(client: Client, body: bytes) -> None:
    assert knock(client, signed(body), body) == 401


@pytest.mark.django_db
def test_one_good_signature_of_several_is_enough(client: Client) -> None:
    headers = signed()
    headers["webhook-signature"] = f"v3,{'0' * 64} {headers['webhook-signature']}"
    assert knock(client, headers) == 200


@pytest.mark.django_db
def test_without_a_secret_nothing_can_be_verified(client: Client, settings: Any) -> None:
    settings.PROVIDERS = {"wavespeed": {"base_url": "", "api_key": "", "webhook_secret": ""}}
    assert knock(client, signed(secret="")) == 401


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", [PATH.replace("wavespeed", "nobody"), PATH.replace(str(ATTEMPT), "not-a-uuid"), PATH + "/more"]
)
def test_an_unknown_provider_or_address_is_not_found(client: Client, path: str) -> None:
    assert knock(client, signed(), path=path) == 404


def test_only_post_is_answered(client: Client) -> None:
    assert client.get(PATH).status_code == 405


def test_a_body_over_one_megabyte_is_refused_unread(client: Client) -> None:
    body = b" " * 1_000_001
    assert knock(client, signed(body), body) == 413


@pytest.mark.django_db(transaction=True)
def test_the_simulators_own_webhook_is_accepted(
    simulator: Simulator, live_server: LiveServer, settings: Any
) -> None:
    settings.PUBLIC_URL = live_server.url
    url = inbox.webhook_url("wavespeed", ATTEMPT)
    request = GenerationRequest(str(ATTEMPT), "image", "wavespeed-ai/fast-draft", "a red fox", {}, url)
    pending = call.submit("wavespeed", request)
    assert isinstance(pending, Pending)
    wait_until(lambda: InboxEvent.objects.exists())
    event = InboxEvent.objects.get()
    assert (event.subject_id, event.task_id) == (ATTEMPT, pending.ticket.task_id)
    sent = wait_until(lambda: simulator.ledger(pending.ticket.task_id)["webhooks"])
    assert [row["status"] for row in sent] == [200]
