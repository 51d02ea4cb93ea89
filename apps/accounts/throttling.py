"""The rate limit of a tier, per user: a token bucket that holds one minute's requests.

The bucket is kept as one number, the time at which it will be full again (GCRA, ITU-T I.371): a request moves
it by 60 s / requests_per_minute and is refused if that puts it more than 60 s ahead. Redis keeps it for all
processes; while Redis is away Postgres does, by the same rule in one statement. The two do not know each other's
bucket: a change from one to the other gives each user at most one fresh minute.

A process takes as many requests at once as come back within a tenth of a second (10 at most, 1 where a tier has fewer
than 1,200 a minute), and asks Redis again when they are used up. So all processes together never let more through than
the bucket held, and one that has some left over keeps no more than that from the others.
"""

import math
import threading
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

# Taken at once: what comes back within this time, and never more than so many.
_AHEAD_US, _MOST_AHEAD = 100_000, 10
_MAX_REMEMBERED = 10_000

# KEYS[1]: the bucket; ARGV: microseconds that one request costs, and how many are wanted. Returns how many there were,
# and microseconds: to wait for one (0 = go), and until the bucket is full again.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local before = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local cost = tonumber(ARGV[1])
local given = math.min(tonumber(ARGV[2]), math.floor((now + 60000000 - before) / cost))
if given < 1 then return {0, math.ceil(before + cost - now - 60000000), math.ceil(before - now)} end
local full_at = before + given * cost
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return {given, 0, math.ceil(full_at - now)}
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


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Requests that this process has taken and not used. `full_at`: when the bucket is full again, monotonic."""

    left: int
    full_at: float


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
        self._ahead: dict[str, _Ahead] = {}
        self._lock = threading.Lock()

    def take(self, name: str, cost_s: float) -> Taken:
        """Takes one request, each worth `cost_s` seconds of refilling."""
        return self._of_those_taken(name, cost_s) or self._ask(name, cost_s)

    def _of_those_taken(self, name: str, cost_s: float) -> Taken | None:
        with self._lock:
            ahead = self._ahead.pop(name, None)
            if ahead is None:
                return None
            left = ahead.left - 1
            if left:
                self._ahead[name] = _Ahead(left, ahead.full_at)
        return Taken(0.0, max(0.0, ahead.full_at - time.monotonic() - left * cost_s))

    def _keep(self, name: str, left: int, full_in_s: float) -> None:
        with self._lock:
            if len(self._ahead) >= _MAX_REMEMBERED:
                self._ahead.clear()
            # Another thread may have asked meanwhile.
            known = self._ahead.get(name)
            self._ahead[name] = _Ahead(left + (known.left if known else 0), time.monotonic() + full_in_s)

    def _ask(self, name: str, cost_s: float) -> Taken:
        if time.monotonic() < self._away_until:
            return _take_in_postgres(name, cost_s)
        if self._away_until:
            # Only this thread tries again; the others must not wait for a Redis that still hangs.
            self._away_until = time.monotonic() + self.retry_after_s
        cost_us = max(1, round(cost_s * 1_000_000))
        wanted = max(1, min(_MOST_AHEAD, _AHEAD_US // cost_us))
        try:
            answer: Any = client().eval(_TAKE, 1, f"rate:{name}", str(cost_us), str(wanted))
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + self.retry_after_s
            log.warning("throttle.redis_away", error=type(error).__name__)
            return _take_in_postgres(name, cost_s)
        self._away_until = 0.0
        given, wait_us, full_us = cast(list[int], answer)
        wait_s, full_in_s = wait_us / 1_000_000, full_us / 1_000_000
        unused = max(0, given - 1)
        if unused:
            self._keep(name, unused, full_in_s)
        return Taken(wait_s, full_in_s - unused * cost_s)


def _take_in_postgres(name: str, cost_s: float) -> Taken:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_IN_POSTGRES, {"name": name, "cost": cost_s, "window": _WINDOW_S})
        refused, full_in_s = cursor.fetchone()
    wait_s = max(float(full_in_s) + cost_s - _WINDOW_S, 1e-6) if refused else 0.0
    return Taken(wait_s, float(full_in_s))


buckets = Buckets()
