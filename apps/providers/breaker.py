"""When to stop calling a provider, and when to try again: the rules of one circuit breaker, pure.

Nygard's breaker ("Release It!", 2nd ed., ch. 5) with the windows of resilience4j: closed → open → half-open → closed.
`breaker_store` runs the same rules as a Lua script in Redis, shared by all processes; a test holds the two together.
Here they serve a process that can't reach Redis. Times are Unix milliseconds.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Verdict = Literal["ok", "failure", "neutral"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Opens on any of three signs:

    - the window: of `min_calls` or more calls in `window_s`, `failure_rate` failed (and that is no accident, with what
      failed in the long run) or `slow_rate` were slow;
    - the streak: `streak` failures in a row within `streak_s` (or however long, where there are few calls);
    - the count window, for little traffic: of the last `count` calls, `count_rate` failed.

    A streak must be no accident: where a part `usual` of the calls fails anyway, it is as long as would come by chance
    once in 1 / `chance` calls. So a provider that fails three calls of ten does not flap, and a dead one is left after
    five or six. More than `borne` is never excused by the long run.
    """

    window_s: int = 60
    min_calls: int = 20
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    streak: int = 5
    streak_s: int = 30
    chance: float = 1e-6
    usual: float = 0.05
    learning: float = 0.05
    window_chance: float = 1e-4
    long_run: float = 0.005
    borne: float = 0.3
    count: int = 20
    count_rate: float = 0.75
    open_s: float = 15.0
    open_max_s: float = 300.0
    jitter: float = 0.2
    calm_s: float = 300.0
    probes: int = 3
    close_after: int = 4
    reopen_after: int = 2
    probe_again_s: float = 1.0
    # A breaker nobody has used yet, or one that a flush of Redis forgot, lets few calls in until some succeeded.
    ramp: int = 20
    ramp_start: int = 5
    ramp_again_s: float = 0.5
    # At most so long does a worker that was killed while it ordered keep others from a breaker that warms up.
    ramp_lease_s: float = 10.0
    # While the latest call failed, no more are under way than it takes to know whether the provider is dead. A worker
    # that was killed meanwhile takes no place for longer than this.
    wary_again_s: float = 0.5
    wary_lease_s: float = 20.0
    forced_again_s: float = 10.0
    # For so long a failed ping is the last word: nobody need pay for a probe to learn the same. Longer than from one
    # ping to the next.
    ping_holds_s: float = 30.0


RULES: Final = Rules()


@dataclass
class State:
    """What is remembered of one breaker; JSON in Redis, under these names.

    generation: rises with every change of `state`; a result of a call let in under an older one is stale.
    usual, baseline: the part of the calls that fails, of late and in the long run.
    openings: how often it opened without `calm_s` of peace between. leases: calls that are counted while they last,
    token → when they are given up. last: the latest results, "1" for a failure. down: its last ping failed.
    """

    state: str = "closed"
    forced: str = ""
    generation: int = 1
    since: int = 0
    until: int = 0
    reason: str = ""
    openings: int = 0
    successes: int = 0
    failures: int = 0
    streak: int = 0
    streak_at: int = 0
    usual: float = RULES.usual
    baseline: float = RULES.usual
    last: str = ""
    down: bool = False
    down_until: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    buckets: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason`: a stable word; `wait_ms`: when it is worth asking again."""

    reason: str
    wait_ms: int


def admit(
    state: State, *, token: str, now: int, lease_ms: int, ramp: bool, wary: bool = False, rules: Rules = RULES
) -> Refused | None:
    """Lets one call in, or says why not. Changes `state`. A call let in must be reported, or its lease runs out.

    `ramp`: few at once until some succeeded. `wary`: few at once while the latest failed.
    """
    if state.forced:
        return Refused("forced_open", _ms(rules.forced_again_s)) if state.forced == "open" else None
    if state.state == "open":
        until = max(state.until, state.down_until)
        if now < until:
            return Refused(state.reason, until - now)
        _become(state, "half_open", state.reason, now)
    if state.state == "half_open":
        return _lease(state, token, now, lease_ms, rules.probes, "half_open", _ms(rules.probe_again_s))
    if wary and state.streak:
        most, lease_ms = suspicion(state, rules), min(lease_ms, _ms(rules.wary_lease_s))
        return _lease(state, token, now, lease_ms, most, "suspected", _ms(rules.wary_again_s))
    if ramp and state.successes < rules.ramp:
        most, lease_ms = rules.ramp_start + state.successes, min(lease_ms, _ms(rules.ramp_lease_s))
        return _lease(state, token, now, lease_ms, most, "warming_up", _ms(rules.ramp_again_s))
    return None


def report(
    state: State,
    *,
    token: str,
    generation: int,
    verdict: Verdict,
    slow: bool,
    now: int,
    chance: float,
    rules: Rules = RULES,
) -> None:
    """Tells how a call ended. `chance`: a random number in [0, 1), for the jitter of the time it stays open."""
    state.leases.pop(token, None)
    if state.forced or generation != state.generation or verdict == "neutral":
        return
    if state.state == "half_open":
        _probed(
            state, failed=verdict == "failure" or (slow and state.reason == "slow"), now=now, chance=chance
        )
    elif state.state == "closed":
        _count(state, failed=verdict == "failure", slow=slow, now=now, rules=rules)
        if reason := _sign(state, now, rules):
            _open(state, reason, now, chance, rules)


def ping(state: State, *, up: bool, now: int, rules: Rules = RULES) -> None:
    """A free call showed whether the provider is up. One that is up again, after pings that failed, may be probed at
    once; one that always was up is broken otherwise, and the usual time counts."""
    if state.state != "open":
        return
    if not up:
        state.down, state.down_until = True, now + _ms(rules.ping_holds_s)
    elif state.down:
        state.down, state.down_until, state.until = False, 0, min(state.until, now)


def force(state: State, *, to: str, now: int) -> None:
    """`to`: "open" or "closed" by hand, "" to leave it to the rules again (closed at first)."""
    state.forced = to
    _become(state, "closed", "forced" if to else "", now)


def _lease(
    state: State, token: str, now: int, lease_ms: int, most: int, reason: str, wait_ms: int
) -> Refused | None:
    state.leases = {known: until for known, until in state.leases.items() if until > now}
    if len(state.leases) >= most and token not in state.leases:
        return Refused(reason, wait_ms)
    state.leases[token] = now + lease_ms
    return None


def _probed(state: State, *, failed: bool, now: int, chance: float, rules: Rules = RULES) -> None:
    if failed:
        state.failures += 1
    else:
        state.successes += 1
    if state.failures >= rules.reopen_after:
        _open(state, state.reason, now, chance, rules)
    elif state.successes >= rules.close_after:
        _become(state, "closed", "", now)
        state.successes = rules.close_after


def _count(state: State, *, failed: bool, slow: bool, now: int, rules: Rules) -> None:
    second = now // 1000
    state.buckets = {at: kept for at, kept in state.buckets.items() if int(at) > second - rules.window_s}
    bucket = state.buckets.setdefault(str(second), [0, 0, 0])
    bucket[0] += 1
    bucket[1] += failed
    bucket[2] += slow
    state.last = (state.last + ("1" if failed else "0"))[-rules.count :]
    state.baseline += rules.long_run * (failed - state.baseline)
    if failed:
        state.streak_at = state.streak_at if state.streak else now
        state.streak += 1
        return
    state.successes = min(state.successes + 1, rules.ramp)
    # What usually fails is learned from streaks that ended: the present one must not excuse itself.
    for _ in range(state.streak):
        state.usual += rules.learning * (1 - state.usual)
    state.usual -= rules.learning * state.usual
    state.streak = 0


def _sign(state: State, now: int, rules: Rules) -> str:
    calls, failures, slow = (sum(kept[index] for kept in state.buckets.values()) for index in range(3))
    if (
        calls >= rules.min_calls
        and failures >= rules.failure_rate * calls
        and surprise(calls, failures, state.baseline, rules) >= -math.log(rules.window_chance)
    ):
        return "failures"
    if calls >= rules.min_calls and slow >= rules.slow_rate * calls:
        return "slow"
    few = calls < rules.min_calls
    in_time = now - state.streak_at <= rules.streak_s * 1000
    if (in_time or few) and state.streak >= long_streak(state.usual, rules):
        return "streak"
    if few and len(state.last) >= rules.count and state.last.count("1") >= rules.count_rate * rules.count:
        return "failures"
    return ""


def long_streak(usual: float, rules: Rules = RULES) -> int:
    """How many failures in a row are no accident where a part `usual` of the calls fails."""
    # Never more than the window would need: beyond half, that opens it anyway.
    rate = min(max(usual, 0.01), rules.failure_rate)
    return max(rules.streak, math.ceil(math.log(rules.chance) / math.log(rate)))


def surprise(calls: int, failures: int, baseline: float, rules: Rules = RULES) -> float:
    """-ln of the bound on the chance that so many of the calls fail, or more, where a part `baseline` does: n times the
    Kullback-Leibler divergence (Chernoff; Hoeffding 1963, theorem 1)."""
    expected, seen = min(max(baseline, 0.01), rules.borne), failures / calls
    rest = (1 - seen) * math.log((1 - seen) / (1 - expected)) if seen < 1 else 0.0
    return calls * (seen * math.log(seen / expected) + rest)


def suspicion(state: State, rules: Rules = RULES) -> int:
    """How many more failures it takes to open."""
    return max(1, long_streak(state.usual, rules) - state.streak)


def _open(state: State, reason: str, now: int, chance: float, rules: Rules) -> None:
    if state.state == "closed" and now - state.since > _ms(rules.calm_s):
        state.openings = 0
    usual_s = min(rules.open_max_s, rules.open_s * 2**state.openings)
    open_s = min(rules.open_max_s, usual_s * (1 + rules.jitter * (2 * chance - 1)))
    state.openings = min(state.openings + 1, 10)
    _become(state, "open", reason, now)
    state.until = now + math.floor(open_s * 1000)


def _become(state: State, word: str, reason: str, now: int) -> None:
    state.state, state.reason, state.since, state.until = word, reason, now, 0
    state.generation += 1
    state.successes = state.failures = state.streak = 0
    state.last, state.leases, state.buckets = "", {}, {}
    state.down, state.down_until = False, 0


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
