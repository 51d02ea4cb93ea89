"""The rate limit of a tier, per user: a token bucket that holds one minute's requests.

The bucket is kept as one number, the time at which it will be full again (GCRA, ITU-T I.371): a request moves
it by 60 s / requests_per_minute and is refused if that puts it more than 60 s ahead. Redis keeps it for all
processes, one round trip each; while Redis is away Postgres does, by the same rule in one statement. The two
do not know each other's bucket: a change from one to the other gives each user at most one fresh minute.
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import redis
import structlog
from django.db import connection
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.accounts import caller
from apps.core.redis import client

if TYPE_CHECKING:  # rest_framework.views itself imports this module, by the settings
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)

_WINDOW_S = 60
_POLICY = '"tier"'

# KEYS[1]: the bucket; ARGV[1]: microseconds that one request costs. Returns microseconds: to wait (0 = go), and until
# the bucket is full again.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local before = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local full_at = before + tonumber(ARGV[1])
local wait = full_at - now - 60000000
if wait > 0 then return {math.ceil(wait), math.ceil(before - now)} end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return {0, math.ceil(full_at - now)}
"""

# The database's clock, for the processes share no other. It is read before the row is locked: who waited for the lock
# counts from when he came. A refused request leaves the bucket as it was.
_TAKE_IN_POSTGRES = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
INSERT INTO accounts_ratebucket AS bucket (name, full_at)
SELECT %(name)s, now + %(cost)s * interval '1 second' FROM clock
ON CONFLICT (name) DO UPDATE SET full_at =
    CASE WHEN GREATEST(bucket.full_at, (SELECT now FROM clock)) + %(cost)s * interval '1 second'
              <= (SELECT now FROM clock) + %(window)s * interval '1 second'
         THEN GREATEST(bucket.full_at, (SELECT now FROM clock)) + %(cost)s * interval '1 second'
         ELSE bucket.full_at END
RETURNING old.full_at IS NOT DISTINCT FROM new.full_at,
          EXTRACT(epoch FROM new.full_at - (SELECT now FROM clock))
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """`wait_s`: seconds to wait, 0 if the request was there. `full_in_s`: until the bucket is full again."""

    wait_s: float
    full_in_s: float


class TierThrottle(BaseThrottle):
    """`Throttled` with the seconds to wait beyond `requests_per_minute`; a tier with 0 may not call.

    Every answer to a counted request says where its caller stands: `RateLimit-Policy` and `RateLimit`
    (draft-ietf-httpapi-ratelimit-headers-10) and the three names of the draft's earlier versions.
    """

    taken = Taken(0, 0)

    def allow_request(self, request: Request, view: "APIView") -> bool:
        asker = caller.of(request)
        if asker is None:
            return True  # a public route: nobody to count
        rate = asker.tier.requests_per_minute
        if rate:
            self.taken = buckets.take(str(asker.user_id), _WINDOW_S / rate)
        else:
            self.taken = Taken(_WINDOW_S, _WINDOW_S)
        view.headers.update(_headers(rate, self.taken))
        return self.taken.wait_s <= 0

    def wait(self) -> float:
        return math.ceil(self.taken.wait_s)


def _headers(rate: int, taken: Taken) -> dict[str, str]:
    """With Retry-After both name the same moment, as the draft asks; else when the whole quota is there again."""
    free = 0 if taken.wait_s > 0 else int(rate * (1 - taken.full_in_s / _WINDOW_S) + 1e-6)
    remaining, reset_s = str(max(0, free)), str(math.ceil(taken.wait_s or taken.full_in_s))
    return {
        "RateLimit-Policy": f"{_POLICY};q={rate};w={_WINDOW_S}",
        "RateLimit": f"{_POLICY};r={remaining};t={reset_s}",
        "RateLimit-Limit": str(rate),
        "RateLimit-Remaining": remaining,
        "RateLimit-Reset": reset_s,
    }


class Buckets:
    """Buckets that all processes share: in Redis, and in Postgres for when it is away."""

    retry_after_s = 1.0

    def __init__(self) -> None:
        self._away_until = 0.0  # 0: Redis answered last time

    def take(self, name: str, cost_s: float) -> Taken:
        """Takes one request, each worth `cost_s` seconds of refilling."""
        if time.monotonic() < self._away_until:
            return _take_in_postgres(name, cost_s)
        if self._away_until:
            # Only this thread tries again; the others must not wait for a Redis that still hangs.
            self._away_until = time.monotonic() + self.retry_after_s
        try:
            answer: Any = client().eval(_TAKE, 1, f"rate:{name}", str(round(cost_s * 1_000_000)))
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + self.retry_after_s
            log.warning("throttle.redis_away", error=type(error).__name__)
            return _take_in_postgres(name, cost_s)
        self._away_until = 0.0
        wait_us, full_us = cast(list[int], answer)
        return Taken(wait_us / 1_000_000, full_us / 1_000_000)


def _take_in_postgres(name: str, cost_s: float) -> Taken:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_IN_POSTGRES, {"name": name, "cost": cost_s, "window": _WINDOW_S})
        refused, full_in_s = cursor.fetchone()
    wait_s = max(float(full_in_s) + cost_s - _WINDOW_S, 1e-6) if refused else 0.0
    return Taken(wait_s, float(full_in_s))


buckets = Buckets()
