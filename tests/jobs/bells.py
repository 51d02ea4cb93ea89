"""What waits in the broker: the messages that a worker would take next."""

import base64
import json
from dataclasses import dataclass

import redis
from django.conf import settings


@dataclass(frozen=True)
class Message:
    task: str
    id: str


def waiting(queue: str) -> list[Message]:
    """The messages of `queue`, first in first."""
    with redis.Redis.from_url(settings.BROKER_URL) as broker:
        raw = broker.lrange(queue, 0, -1)
    assert isinstance(raw, list)
    return [_message(each) for each in reversed(raw)]


def clear(queue: str) -> None:
    """As a flushed Redis."""
    with redis.Redis.from_url(settings.BROKER_URL) as broker:
        broker.delete(queue)


def _message(raw: bytes) -> Message:
    message = json.loads(raw)
    _, arguments, _ = json.loads(base64.b64decode(message["body"]))
    assert set(arguments) == {"v", "id"}, "ids, never content"
    return Message(message["headers"]["task"], arguments["id"])
