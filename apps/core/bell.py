"""Ring a Celery task for one row, after the transaction that made the row due has committed.

A ring may be lost, doubled or late; the sweeps find the row by its `due_at`. So a broker that is down
costs seconds, never an accepted job: publishing gives up quickly and stays quiet for a moment.
"""

import time
import uuid
from functools import cache

import redis
import structlog
from django.conf import settings
from django.db import transaction

log = structlog.get_logger(__name__)

VERSION = 1
_QUIET_S = 1.0
_quiet_until = 0.0


def ring(task: str, *, id: uuid.UUID | str, queue: str) -> None:  # noqa: A002 - the message's own word
    """Publishes `{v, id}` for `task` on `queue` once the current transaction commits (or at once)."""
    transaction.on_commit(lambda: publish(task, id=str(id), queue=queue), robust=True)


def publish(task: str, *, id: str, queue: str) -> bool:  # noqa: A002
    """Publishes now. False if the broker did not take it (the sweep will ring again)."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return False
    from genplatform.celery import app

    try:
        app.send_task(task, kwargs={"v": VERSION, "id": id}, queue=queue, retry=False)
    except Exception as error:  # noqa: BLE001 - whatever the transport raises, the row stays due
        _quiet_until = time.monotonic() + _QUIET_S
        log.warning("bell.unheard", task=task, error=type(error).__name__)
        return False
    return True


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
