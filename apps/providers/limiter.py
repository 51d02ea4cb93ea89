"""How much a provider is sent: its caps as ops know them, and what it lets us feel by its 429s.

Additive increase, multiplicative decrease (Chiu & Jain 1989; Netflix' concurrency-limits): a 429 takes the orders under
way, and those of the last minute, as too many and allows 70 % of them; successes raise that again until it binds
nobody. `Retry-After` holds for all processes. Retries at one provider are at most a tenth of what it was sent in the
last minute, so that we do not beat what is down (a few are always free). Of whatever the limit is, orders that can wait
(priority batch) get a fifth, and at least one place, so that they never keep an interactive one from its own.
Decided and counted in one Lua script on Redis' clock; without Redis everything is let through: the provider's own word
is then the limit.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import redis
import structlog
from django.conf import settings

from apps.core import clock
from apps.core.redis import client
from apps.providers.breaker import Refused

log = structlog.get_logger(__name__)

RETRY_SHARE: Final = 0.1
BATCH_SHARE: Final = 0.2
FREE_RETRIES: Final = 10
_AWAY_S = 1.0

# State: paused_until (ms), cut_at (ms), limit (orders under way) and rate (orders a minute) or nothing, seconds: second
# → [orders, retries, orders that can wait]. The orders under way are a sorted set by when they count as lost, and those
# of them that can wait another.
_SCRIPT: Final = """
local op, args = ARGV[1], cjson.decode(ARGV[2])
local now = args.now
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local text = redis.call('GET', KEYS[1])
local s = text and cjson.decode(text) or {paused_until = 0, cut_at = 0, seconds = {}}
local second, orders, retries, patient, oldest, kept = math.floor(now / 1000), 0, 0, 0, nil, {}
for at, counted in pairs(s.seconds) do
    if tonumber(at) > second - 60 then
        kept[at] = counted
        orders, retries, patient = orders + counted[1], retries + counted[2], patient + (counted[3] or 0)
        if not oldest or tonumber(at) < oldest then oldest = tonumber(at) end
    end
end
s.seconds = kept
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local open = redis.call('ZCARD', KEYS[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)

local function save()
    redis.call('SET', KEYS[1], cjson.encode(s), 'PX', 3600000)
end
local function least(a, b)
    if a and b then return math.min(a, b) end
    return a or b
end

if op == 'take' then
    if s.paused_until > now then return {'rate_limited', s.paused_until - now} end
    local limit, rate = least(args.max_concurrency, s.limit), least(args.max_per_minute, s.rate)
    if limit and open >= math.floor(limit) then return {'concurrency', 1000} end
    if rate and orders >= math.floor(rate) then
        return {'rate', math.max(100, ((oldest or second) + 60) * 1000 - now)}
    end
    local function is_more_than_its_share(taken, most)
        return args.can_wait and most and taken >= math.max(1, math.floor(args.batch_share * most))
    end
    if is_more_than_its_share(redis.call('ZCARD', KEYS[3]), limit) or is_more_than_its_share(patient, rate) then
        return {'batch_share', 1000}
    end
    if args.retry and retries >= math.max(args.free_retries, orders * args.retry_share) then
        return {'retry_budget', 2000}
    end
    local at = string.format('%d', second)
    local counted = kept[at] or {0, 0, 0}
    kept[at] = counted
    counted[1] = counted[1] + 1
    if args.retry then counted[2] = counted[2] + 1 end
    redis.call('ZADD', KEYS[2], now + args.lease_ms, args.token)
    redis.call('PEXPIRE', KEYS[2], 90000000)
    if args.can_wait then
        counted[3] = (counted[3] or 0) + 1
        redis.call('ZADD', KEYS[3], now + args.lease_ms, args.token)
        redis.call('PEXPIRE', KEYS[3], 90000000)
    end
    save()
    return {'', 0}
elseif op == 'throttled' then
    s.paused_until = math.max(s.paused_until, now + args.pause_ms)
    -- Answers to what was sent before the last cut say nothing about what is allowed since.
    if now - s.cut_at >= 1000 then
        s.cut_at = now
        if open >= 2 then s.limit = math.max(1, math.floor(0.7 * open)); s.limit_cut = open end
        if orders >= 10 then s.rate = math.max(1, math.floor(0.7 * orders)); s.rate_cut = orders end
    end
    save()
elseif op == 'done' then
    redis.call('ZREM', KEYS[2], args.token)
    redis.call('ZREM', KEYS[3], args.token)
    if args.ok and (s.limit or s.rate) then
        if s.limit then s.limit = s.limit + 1 / s.limit end
        if s.rate then s.rate = s.rate + 1 / 4 end
        if s.limit and s.limit > 2 * s.limit_cut then s.limit = nil end
        if s.rate and s.rate > 2 * s.rate_cut then s.rate = nil end
        save()
    end
elseif op == 'look' then
    return cjson.encode({open = open, orders = orders, retries = retries, limit = s.limit, rate = s.rate,
                         paused_ms = math.max(0, s.paused_until - now)})
end
return {'', 0}
"""


@dataclass(frozen=True, slots=True)
class Caps:
    """What ops allow; None: no limit but the provider's own."""

    max_concurrency: int | None = None
    max_per_minute: int | None = None


_away_until = 0.0


def take(
    provider: str, caps: Caps, *, token: str, lease_s: float, retry: bool, can_wait: bool = False
) -> Refused | None:
    """Counts one order, or says why it must wait: rate_limited, concurrency, rate, batch_share or retry_budget.

    `token` is given back by `done`; a lost one counts as under way for `lease_s`.
    """
    answer = _run(
        "take",
        provider,
        token=token,
        lease_ms=round(lease_s * 1000),
        retry=retry,
        retry_share=RETRY_SHARE,
        free_retries=FREE_RETRIES,
        can_wait=can_wait,
        batch_share=BATCH_SHARE,
        **{
            name: cap
            for name in ("max_concurrency", "max_per_minute")
            if (cap := getattr(caps, name)) is not None
        },
    )
    if not answer or not answer[0]:
        return None
    return Refused(str(answer[0]), int(answer[1]))


def throttled(provider: str, *, pause_s: float) -> None:
    """The provider said 429: nobody asks it for `pause_s`, and then for less at once."""
    _run("throttled", provider, pause_ms=round(pause_s * 1000))


def done(provider: str, *, token: str, ok: bool) -> None:
    """The order ended; `ok`: it was taken, which makes room for more."""
    _run("done", provider, token=token, ok=ok)


def look(provider: str) -> dict[str, Any]:
    """For ops: orders under way (`open`), `orders` and `retries` of the last minute, the learned `limit` and `rate`
    where there are, `paused_ms`. Empty while Redis is away."""
    answer = _run("look", provider)
    return dict(json.loads(answer)) if answer else {}


def _run(op: str, provider: str, **args: Any) -> Any:
    global _away_until
    if time.monotonic() < _away_until:
        return None
    if at := clock.frozen_at():
        args["now"] = round(at.timestamp() * 1000)
    try:
        name = f"limit:{provider}"
        return _script()(keys=[name, f"{name}:open", f"{name}:batch"], args=[op, json.dumps(args)])
    except (redis.RedisError, OSError) as error:
        _away_until = time.monotonic() + _AWAY_S
        log.warning("limiter.redis_away", error=type(error).__name__)
        return None


def forget() -> None:
    """For tests: Redis is there."""
    global _away_until
    _away_until = 0.0


@cache
def _script() -> Callable[..., Any]:
    registered: Callable[..., Any] = client(settings.PROVIDER_STATE_TIMEOUT_S).register_script(_SCRIPT)
    return registered
