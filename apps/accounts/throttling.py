"""The rate limit of a tier, per user: a token bucket that holds one minute's requests.

The bucket is kept as one number, the time at which it will be full again (GCRA, ITU-T I.371): a request moves
it by 60 s / requests_per_minute and is refused if that puts it more than 60 s ahead. Redis keeps it for all
processes, one round trip each. While Redis is away each process applies the same rule alone.
"""

import math
import threading
import time
from typing import TYPE_CHECKING

import redis
import structlog
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.accounts import caller
from apps.core.redis import client

if TYPE_CHECKING:  # rest_framework.views itself imports this module, by the settings
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)

_WINDOW_S = 60.0
_MAX_BUCKETS = 10_000

# KEYS[1]: the bucket; ARGV[1]: microseconds that one request costs. Returns the microseconds to wait, 0 = go.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + tonumber(ARGV[1])
local wait = full_at - now - 60000000
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""


class TierThrottle(BaseThrottle):
    """`Throttled` with the seconds to wait beyond `requests_per_minute`; a tier with 0 may not call."""

    wait_s = 0.0

    def allow_request(self, request: Request, view: "APIView") -> bool:
        asker = caller.of(request)
        if asker is None:
            return True  # a public route: nobody to count
        rate = asker.tier.requests_per_minute
        self.wait_s = buckets.take(str(asker.user_id), _WINDOW_S / rate) if rate else _WINDOW_S
        return self.wait_s <= 0

    def wait(self) -> float:
        return math.ceil(self.wait_s)


class Buckets:
    """Shared buckets in Redis, and those of this process for when it is away."""

    retry_after_s = 1.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        self._away_until = 0.0  # 0: Redis answered last time

    def take(self, name: str, cost_s: float) -> float:
        """Takes one request, each worth `cost_s` seconds of refilling. Seconds to wait, 0 if it was there."""
        if time.monotonic() < self._away_until:
            return self._take_here(name, cost_s)
        if self._away_until:
            # Only this thread tries again; the others must not wait for a Redis that still hangs.
            self._away_until = time.monotonic() + self.retry_after_s
        try:
            wait_us = client().eval(_TAKE, 1, f"rate:{name}", str(round(cost_s * 1_000_000)))
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + self.retry_after_s
            log.warning("throttle.redis_away", error=type(error).__name__)
            return self._take_here(name, cost_s)
        self._away_until = 0.0
        return float(str(wait_us)) / 1_000_000

    def _take_here(self, name: str, cost_s: float) -> float:
        with self._lock:
            now = time.monotonic()
            full_at = max(self._full_at.get(name, 0.0), now) + cost_s
            wait_s = full_at - now - _WINDOW_S
            if wait_s > 0:
                return wait_s
            if len(self._full_at) >= _MAX_BUCKETS:
                self._full_at.clear()
            self._full_at[name] = full_at
            return 0.0


buckets = Buckets()
