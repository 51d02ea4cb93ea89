"""The breakers as all processes see them: one Lua script in Redis, on Redis' clock.

Three kinds: `submit` and `outcome` for each provider and model (is an order taken? does what was ordered come?), and
`reach` for each provider (can it be asked about orders?). The script is `breaker`'s rules once more, so that deciding
and counting are one step. Without Redis each process applies the rules alone, for a second, then asks again.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple, TypeVar

import redis
import structlog
from django.conf import settings

from apps.core import clock
from apps.core.redis import client
from apps.providers import breaker
from apps.providers.breaker import RULES, Refused, State, Verdict

log = structlog.get_logger(__name__)

Kind = Literal["submit", "outcome", "reach"]
T = TypeVar("T")

# A permit that no state of Redis gave: its results count for nothing there.
UNKNOWN_GENERATION: Final = 0
_PREFIX, _INDEX = "breaker:", "breakers"
_RETRY_AFTER_S = 1.0
_MAX_LOCAL = 10_000


class Name(NamedTuple):
    """Of one breaker. `model` is the provider's own name of it; empty for `reach`."""

    provider: str
    model: str
    kind: Kind

    @property
    def key(self) -> str:
        return f"{_PREFIX}{self.kind}:{self.provider}:{self.model}"

    @classmethod
    def of(cls, key: str) -> "Name":
        kind, provider, model = key.removeprefix(_PREFIX).split(":", 2)
        return cls(provider, model, kind)  # type: ignore[arg-type]  # the index holds only our keys


@dataclass(frozen=True, slots=True)
class Wish:
    """One breaker to pass. `lease_s`: after how long a call that was never reported counts as lost. `ramp`, `wary`: as
    in `breaker.admit`."""

    name: Name
    lease_s: float
    ramp: bool = False
    wary: bool = False


_LUA = """
local R = cjson.decode('__RULES__')
local op, args = ARGV[1], cjson.decode(ARGV[2])
local now = args.now
if not now then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local index = KEYS[#KEYS]

local function load(key)
    local text = redis.call('GET', key)
    if text then
        local s = cjson.decode(text)
        s.baseline = s.baseline or R.usual
        return s
    end
    return {state='closed', forced='', generation=1, since=0, until_=0, reason='', openings=0, successes=0,
            failures=0, streak=0, streak_at=0, usual=R.usual, baseline=R.usual, last='', down=false, down_until=0,
            leases={}, buckets={}}
end

local function save(key, s)
    if s.forced ~= '' then redis.call('SET', key, cjson.encode(s))
    else redis.call('SET', key, cjson.encode(s), 'PX', 86400000) end
    redis.call('SADD', index, key)
end

local function become(s, word, reason)
    s.state, s.reason, s.since, s.until_ = word, reason, now, 0
    s.generation = s.generation + 1
    s.successes, s.failures, s.streak = 0, 0, 0
    s.last, s.leases, s.buckets = '', {}, {}
    s.down, s.down_until = false, 0
end

local function open(s, reason)
    if s.state == 'closed' and now - s.since > R.calm_s * 1000 then s.openings = 0 end
    local usual_s = math.min(R.open_max_s, R.open_s * 2 ^ s.openings)
    local open_s = math.min(R.open_max_s, usual_s * (1 + R.jitter * (2 * args.chance - 1)))
    s.openings = math.min(s.openings + 1, 10)
    become(s, 'open', reason)
    s.until_ = now + math.floor(open_s * 1000)
end

local function lease(s, lease_ms, most, reason, wait_ms)
    local kept, count = {}, 0
    for token, expiry in pairs(s.leases) do
        if expiry > now then kept[token] = expiry; count = count + 1 end
    end
    s.leases = kept
    if count >= most and not kept[args.token] then return {reason, wait_ms} end
    kept[args.token] = now + lease_ms
end

local function long_streak(s)
    local rate = math.min(math.max(s.usual, 0.01), R.failure_rate)
    return math.max(R.streak, math.ceil(math.log(R.chance) / math.log(rate)))
end

local function admit(s, wish)
    if s.forced ~= '' then
        if s.forced == 'open' then return {'forced_open', R.forced_again_s * 1000} end
        return nil
    end
    if s.state == 'open' then
        local again = math.max(s.until_, s.down_until)
        if now < again then return {s.reason, again - now} end
        become(s, 'half_open', s.reason)
        s.dirty = true
    end
    if s.state == 'half_open' then
        s.dirty = true
        return lease(s, wish.lease_ms, R.probes, 'half_open', R.probe_again_s * 1000)
    end
    if wish.wary and s.streak > 0 then
        s.dirty = true
        local lease_ms = math.min(wish.lease_ms, R.wary_lease_s * 1000)
        return lease(s, lease_ms, math.max(1, long_streak(s) - s.streak), 'suspected', R.wary_again_s * 1000)
    end
    if wish.ramp and s.successes < R.ramp then
        s.dirty = true
        local lease_ms = math.min(wish.lease_ms, R.ramp_lease_s * 1000)
        return lease(s, lease_ms, R.ramp_start + s.successes, 'warming_up', R.ramp_again_s * 1000)
    end
end

local function probed(s, failed)
    if failed then s.failures = s.failures + 1 else s.successes = s.successes + 1 end
    if s.failures >= R.reopen_after then open(s, s.reason)
    elseif s.successes >= R.close_after then
        become(s, 'closed', '')
        s.successes = R.close_after
    end
end

local function count(s, failed, slow)
    local second, kept = math.floor(now / 1000), {}
    for at, bucket in pairs(s.buckets) do
        if tonumber(at) > second - R.window_s then kept[at] = bucket end
    end
    s.buckets = kept
    local at = string.format('%d', second)
    local bucket = kept[at] or {0, 0, 0}
    kept[at] = bucket
    bucket[1] = bucket[1] + 1
    if failed then bucket[2] = bucket[2] + 1 end
    if slow then bucket[3] = bucket[3] + 1 end
    s.baseline = s.baseline + R.long_run * ((failed and 1 or 0) - s.baseline)
    s.last = string.sub(s.last .. (failed and '1' or '0'), -R.count)
    if failed then
        if s.streak == 0 then s.streak_at = now end
        s.streak = s.streak + 1
        return
    end
    s.successes = math.min(s.successes + 1, R.ramp)
    for _ = 1, s.streak do s.usual = s.usual + R.learning * (1 - s.usual) end
    s.usual = s.usual - R.learning * s.usual
    s.streak = 0
end

local function surprise(s, calls, failures)
    local expected, seen = math.min(math.max(s.baseline, 0.01), R.borne), failures / calls
    local rest = seen < 1 and (1 - seen) * math.log((1 - seen) / (1 - expected)) or 0
    return calls * (seen * math.log(seen / expected) + rest)
end

local function sign(s)
    local calls, failures, slow = 0, 0, 0
    for _, bucket in pairs(s.buckets) do
        calls, failures, slow = calls + bucket[1], failures + bucket[2], slow + bucket[3]
    end
    if calls >= R.min_calls and failures >= R.failure_rate * calls
            and surprise(s, calls, failures) >= -math.log(R.window_chance) then return 'failures' end
    if calls >= R.min_calls and slow >= R.slow_rate * calls then return 'slow' end
    local few = calls < R.min_calls
    if (few or now - s.streak_at <= R.streak_s * 1000) and s.streak >= long_streak(s) then return 'streak' end
    local _, ones = string.gsub(s.last, '1', '')
    if few and #s.last >= R.count and ones >= R.count_rate * R.count then return 'failures' end
end

if op == 'admit' then
    local states, refused = {}, nil
    for i, wish in ipairs(args.wishes) do
        states[i] = load(KEYS[i])
        refused = admit(states[i], wish)
        if refused then break end
    end
    local generations = {}
    for i, s in ipairs(states) do
        -- What one breaker let in another refused: no lease is left behind.
        if refused and s.leases[args.token] then s.leases[args.token] = nil end
        local dirty = s.dirty
        s.dirty = nil
        if dirty then save(KEYS[i], s) end
        generations[i] = s.generation
    end
    return cjson.encode({refused = refused or false, generations = generations})
elseif op == 'report' then
    local s = load(KEYS[1])
    local was = s.state
    s.leases[args.token] = nil
    if s.forced == '' and args.generation == s.generation and args.verdict ~= 'neutral' then
        local failed = args.verdict == 'failure'
        if s.state == 'half_open' then
            probed(s, failed or (args.slow and s.reason == 'slow'))
        elseif s.state == 'closed' then
            count(s, failed, args.slow)
            local reason = sign(s)
            if reason then open(s, reason) end
        end
    end
    save(KEYS[1], s)
    return (s.state == 'open' and was ~= 'open') and 'opened' or ''
elseif op == 'ping' then
    for i = 1, #KEYS - 1 do
        local s = load(KEYS[i])
        if s.state == 'open' then
            if not args.up then
                s.down, s.down_until = true, now + R.ping_holds_s * 1000
            elseif s.down then
                s.down, s.down_until, s.until_ = false, 0, math.min(s.until_, now)
            end
            save(KEYS[i], s)
        end
    end
elseif op == 'force' then
    local s = load(KEYS[1])
    s.forced = args.to
    become(s, 'closed', args.to ~= '' and 'forced' or '')
    save(KEYS[1], s)
end
"""
# `until` is a word of Lua: there the field has another name.
_SCRIPT: Final = _LUA.replace("__RULES__", json.dumps(asdict(RULES)))


class Local:
    """The breakers of this process alone, for when Redis is away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Name, State] = {}

    def admit(self, wishes: Sequence[Wish], token: str) -> Refused | None:
        with self._lock:
            for wish in wishes:
                state = self._state(wish.name)
                lease_ms = round(wish.lease_s * 1000)
                if refused := breaker.admit(
                    state, token=token, now=_now_ms(), lease_ms=lease_ms, ramp=wish.ramp, wary=wish.wary
                ):
                    for earlier in wishes:
                        self._state(earlier.name).leases.pop(token, None)
                    return refused
        return None

    def report(self, name: Name, *, token: str, verdict: Verdict, slow: bool) -> None:
        with self._lock:
            state = self._state(name)
            breaker.report(
                state,
                token=token,
                generation=state.generation,
                verdict=verdict,
                slow=slow,
                now=_now_ms(),
                chance=_chance(),
            )

    def forget(self) -> None:
        self._states.clear()

    def _state(self, name: Name) -> State:
        if len(self._states) > _MAX_LOCAL:
            self._states.clear()
        return self._states.setdefault(name, State())


local = Local()
_away_until = 0.0


def admit(wishes: Sequence[Wish], *, token: str) -> list[int] | Refused:
    """Passes all of the breakers or none. The generations to report with, or why not; after a `Refused` nothing is
    to be reported."""
    asked = [
        {"lease_ms": round(wish.lease_s * 1000), "ramp": wish.ramp, "wary": wish.wary} for wish in wishes
    ]
    answer = _shared(lambda: _run("admit", [wish.name for wish in wishes], token=token, wishes=asked))
    if answer is None:
        return local.admit(wishes, token) or [UNKNOWN_GENERATION] * len(wishes)
    decided = json.loads(answer)
    if decided["refused"]:
        reason, wait_ms = decided["refused"]
        return Refused(str(reason), int(wait_ms))
    return [int(generation) for generation in decided["generations"]]


def report(name: Name, *, token: str, generation: int, verdict: Verdict, slow: bool = False) -> None:
    """How a call ended that `admit` let in. One without a generation was let in while Redis was away."""
    if generation == UNKNOWN_GENERATION:
        local.report(name, token=token, verdict=verdict, slow=slow)
        return
    told = {"token": token, "generation": generation, "verdict": verdict, "slow": slow, "chance": _chance()}
    turned = _shared(lambda: _run("report", [name], **told))
    if turned == "opened":
        log.warning("breaker.open", provider=name.provider, model=name.model, kind=name.kind)


def ping(names: Sequence[Name], *, up: bool) -> None:
    """What a free call showed of the provider of these breakers."""
    _shared(lambda: _run("ping", names, up=up))


def force(name: Name, to: Literal["open", "closed", ""]) -> None:
    """By hand: nothing is sent, all is sent, or the rules decide again. Raises redis.RedisError if Redis is away."""
    _run("force", [name], to=to)


def states(names: Sequence[Name] | None = None) -> dict[Name, State]:
    """Those breakers that were ever used, or those named; empty while Redis is away."""
    return _shared(lambda: _read(names)) or {}


def _read(names: Sequence[Name] | None) -> dict[Name, State]:
    redis_client = _client()
    if names is None:
        names = [Name.of(str(key)) for key in sorted(redis_client.smembers(_INDEX), key=str)]
    if not names:
        return {}
    texts: list[Any] = redis_client.mget([name.key for name in names])
    return {name: _state(text) for name, text in zip(names, texts, strict=True) if text}


def _state(text: str) -> State:
    kept = json.loads(text)
    kept["until"] = kept.pop("until_")
    return State(**kept)


def _run(op: str, names: Sequence[Name], **args: Any) -> Any:
    at = clock.frozen_at()
    if at:
        args["now"] = round(at.timestamp() * 1000)
    keys = [*(name.key for name in names), _INDEX]
    return _script()(keys=keys, args=[op, json.dumps(args)])


def _shared(call: Callable[[], T]) -> T | None:
    """The answer of Redis. None while it is away: who waits for it each time would wait with every order."""
    global _away_until
    if time.monotonic() < _away_until:
        return None
    try:
        return call()
    except (redis.RedisError, OSError) as error:
        _away_until = time.monotonic() + _RETRY_AFTER_S
        log.warning("breaker.redis_away", error=type(error).__name__)
        return None


def forget() -> None:
    """For tests: no breaker of this process, and Redis is there."""
    global _away_until
    _away_until = 0.0
    local.forget()


def _client() -> "redis.Redis":
    return client(settings.PROVIDER_STATE_TIMEOUT_S)


@cache
def _script() -> Callable[..., Any]:
    registered: Callable[..., Any] = _client().register_script(_SCRIPT)
    return registered


def _now_ms() -> int:
    return round(clock.now().timestamp() * 1000)


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret
