"""Which workers are alive: each says so every few seconds, in Redis."""

import time
from collections.abc import Mapping
from typing import Any

import redis
import structlog
from celery import signals

from apps.core.redis import client

log = structlog.get_logger(__name__)
_KEY = "gp:workers"
# A worker's heartbeat is two seconds; one that missed several is not counted.
_FRESH_S = 15.0
_FORGET_S = 3600.0


@signals.heartbeat_sent.connect(dispatch_uid="core.workers")
def _say_alive(sender: Any = None, **_: Any) -> None:
    name = sender.eventer.hostname
    try:
        client().hset(_KEY, name, str(time.time()))
    except redis.RedisError as error:
        log.warning("workers.not_said", error=type(error).__name__)


def listen(name: str) -> bool:
    """Whether workers of that name (`io` of `io@host`) were seen lately; True if Redis does not say."""
    try:
        return name in fresh(seen())
    except redis.RedisError:
        return True


def fresh(ages: Mapping[str, float]) -> set[str]:
    """The names of those that are alive, without their hosts."""
    return {name.partition("@")[0] for name, age in ages.items() if age <= _FRESH_S}


def seen() -> dict[str, float]:
    """Name → seconds since it was last seen, of the workers seen within the hour. Raises redis.RedisError."""
    now = time.time()
    ages = {str(name): now - float(at) for name, at in client().hgetall(_KEY).items()}
    gone = [name for name, age in ages.items() if age > _FORGET_S]
    if gone:
        client().hdel(_KEY, *gone)
    return {name: round(age, 1) for name, age in ages.items() if age <= _FORGET_S}
