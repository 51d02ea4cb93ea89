"""Ring a Celery task for one row, after the transaction that made the row due has committed.

A ring may be lost, doubled or late; the sweeps find the row by its `due_at`. So a broker that is down
costs seconds, never an accepted job: publishing gives up quickly and stays quiet for a moment.
"""

import base64
import json
import socket
import time
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import redis
import structlog
from django.conf import settings
from django.db import transaction

log = structlog.get_logger(__name__)

VERSION = 1
_QUIET_S = 1.0
_quiet_until = 0.0
_HEADERS: dict[str, Any] = {
    "lang": "py",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "()",
    "origin": f"bell@{socket.gethostname()}",
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
_PROPERTIES = {"reply_to": "", "delivery_mode": 2, "priority": 0, "body_encoding": "base64"}


def ring(task: str, *, id: uuid.UUID | str, queue: str | Callable[[], str]) -> None:  # noqa: A002 - the message's own word
    """Publishes `{v, id}` for `task` on `queue` once the current transaction commits (or at once). A queue that has to
    be asked for is asked for then, too: no transaction waits for Redis."""
    transaction.on_commit(
        lambda: publish(task, id=str(id), queue=queue() if callable(queue) else queue), robust=True
    )


def publish(task: str, *, id: str, queue: str) -> bool:  # noqa: A002
    """Publishes now. False if the broker did not take it (the sweep will ring again)."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return False
    try:
        _broker().lpush(queue, message(task, id=id, queue=queue))
    except redis.RedisError as error:
        _quiet_until = time.monotonic() + _QUIET_S
        log.warning("bell.unheard", task=task, error=type(error).__name__)
        return False
    return True


def message(task: str, *, id: str, queue: str) -> str:  # noqa: A002
    """A task message as Celery itself would put it into Redis (message protocol 2, kombu's envelope).

    Written here because the general path of `send_task` costs as much as all the rest of accepting a job; a test
    holds the two to the same shape.
    """
    task_id = str(uuid.uuid4())
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], {"v": VERSION, "id": id}, embedded])
    headers = {**_HEADERS, "task": task, "id": task_id, "root_id": task_id, "kwargsrepr": repr({"id": id})}
    properties = {
        **_PROPERTIES,
        "correlation_id": task_id,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_tag": task_id,
    }
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


def depth(queue: str) -> int | None:
    """How many messages wait on `queue`; None if the broker does not say."""
    try:
        return int(_broker().llen(queue))
    except redis.RedisError:
        return None


@cache
def _broker() -> "redis.Redis":
    timeout = settings.REDIS_TIMEOUT_S
    return redis.Redis.from_url(settings.BROKER_URL, socket_timeout=timeout, socket_connect_timeout=timeout)
