"""One Redis client per process for rate limits and notifications. Callers treat every failure as absence."""

from functools import cache

import redis
from django.conf import settings


@cache
def client(timeout_s: float | None = None) -> "redis.Redis":
    """Short timeouts: what lives here may be lost, so nobody waits for it. `timeout_s`: shorter than usual."""
    timeout = timeout_s or settings.REDIS_TIMEOUT_S
    return redis.Redis.from_url(
        settings.CACHE_REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=True,
    )
