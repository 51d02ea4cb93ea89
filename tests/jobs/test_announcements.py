"""The user's own webhook: one signed event for the end of a job, by a stable id."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from apps.webhooks import deliver, sweep
from apps.webhooks.models import Delivery, Event
from tests.fakes.receiver import Answer, Received, Receiver
from tests.jobs.engine import Engine


@pytest.fixture
def customer() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


def send(engine: Engine) -> None:
    """What the workers would deliver now."""
    for delivery in Delivery.objects.due(engine.time.now):
        deliver.deliver(delivery.pk)


def verified(engine: Engine, received: Received) -> dict[str, Any]:
    """The body, if it is signed by the secret that the API tells."""
    secret = engine.user.api.get("/v1/webhooks/secret").json()["key"]
    body: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    return body


ENDS = {
    "completed": "a fox",
    "failed": "[fault:nsfw] a fox",
    "canceled": "a fox",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_job_is_told_once_and_signed(engine: Engine, customer: Receiver, end: str) -> None:
    job = engine.submit(ENDS[end], callback_url=f"{customer.url}/hook", metadata={"order": 7})
    if end == "canceled":
        engine.cancel(job)
    job = engine.finish(job)
    send(engine)
    send(engine)
    [received] = customer.requests
    body = verified(engine, received)
    assert body["type"] == f"job.{end}"
    assert received.headers["webhook-id"] == str(Event.objects.get(subject_id=job.pk).pk)
    told = body["data"]
    assert (told["id"], told["status"], told["metadata"]) == (str(job.pk), end, {"order": 7})
    assert told["cost_usd"] == ("0.005" if end == "completed" else "0")
    assert len(told["outputs"]) == (1 if end == "completed" else 0)
    assert (told["error"] or {}).get("code") == ("content_rejected" if end == "failed" else None)
    assert len(received.body) < 20_000
    assert b"a fox" not in received.body


def test_a_retried_delivery_keeps_its_id_and_body(engine: Engine, customer: Receiver) -> None:
    customer.answers(Answer(status=500), Answer(status=503))
    engine.finish(engine.submit(callback_url=customer.url))
    for _ in range(3):
        send(engine)
        engine.time.forward(400)
    first, *others = customer.requests
    assert len(others) == 2
    for other in others:
        assert other.headers["webhook-id"] == first.headers["webhook-id"]
        assert other.body == first.body
    for received in customer.requests:
        assert json.loads(received.body)["type"] == "job.completed"
    assert Delivery.objects.get().status == "delivered"
    assert sweep.sweep() == 0


def test_an_answer_from_the_cache_is_told_too(engine: Engine, customer: Receiver) -> None:
    engine.finish(engine.submit("a fox", cache="exact"))
    answer = engine.user.api.post(
        "/v1/jobs",
        {
            "type": "image",
            "prompt": "a fox",
            "model": "fast-draft",
            "params": {"width": 64, "height": 64},
            "callback_url": customer.url,
        },
        format="json",
    )
    assert answer.json()["cached"] is True
    send(engine)
    [received] = customer.requests
    assert verified(engine, received)["data"]["cost_usd"] == "0"


def test_without_a_callback_url_nobody_is_told(engine: Engine) -> None:
    engine.finish(engine.submit())
    assert not Event.objects.exists()
