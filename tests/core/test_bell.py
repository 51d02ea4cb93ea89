"""The message written by hand is the one Celery would have sent."""

import base64
import json
import uuid
from typing import Any

import pytest
import redis
from django.conf import settings

from apps.core import bell
from genplatform.celery import app

ROW = str(uuid.uuid4())


def sent(queue: str) -> dict[str, Any]:
    raw = redis.Redis.from_url(settings.BROKER_URL).rpop(queue)
    assert isinstance(raw, bytes)
    message: dict[str, Any] = json.loads(raw)
    return {**message, "body": json.loads(base64.b64decode(message["body"]))}


def test_it_has_the_shape_of_celerys_own_message() -> None:
    assert bell.publish("jobs.run", id=ROW, queue="io")
    app.send_task("jobs.run", kwargs={"v": bell.VERSION, "id": ROW}, queue="io")
    ours, theirs = sent("io"), sent("io")
    assert ours["body"] == theirs["body"]
    for part in ("headers", "properties"):
        assert ours[part].keys() == theirs[part].keys(), part
        for name in (
            "lang",
            "task",
            "retries",
            "timelimit",
            "delivery_info",
            "delivery_mode",
            "body_encoding",
        ):
            assert ours[part].get(name) == theirs[part].get(name), name
    assert {name: ours[name] for name in ("content-type", "content-encoding")} == {
        name: theirs[name] for name in ("content-type", "content-encoding")
    }


def test_two_rings_are_two_tasks() -> None:
    ids = {json.loads(bell.message("jobs.run", id=ROW, queue="io"))["headers"]["id"] for _ in range(2)}
    assert len(ids) == 2


def test_it_counts_what_waits() -> None:
    assert bell.depth("io") == 0
    bell.publish("jobs.run", id=ROW, queue="io")
    assert bell.depth("io") == 1


def test_a_broker_that_is_away_is_asked_again_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    away = redis.Redis.from_url("redis://127.0.0.1:1")
    monkeypatch.setattr(bell, "_quiet_until", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(bell, "_broker", lambda: away)
        assert not bell.publish("jobs.run", id=ROW, queue="io")
    assert not bell.publish("jobs.run", id=ROW, queue="io")  # quiet: no second wait for a dead broker
    monkeypatch.setattr(bell, "_quiet_until", 0.0)
    assert bell.publish("jobs.run", id=ROW, queue="io")
