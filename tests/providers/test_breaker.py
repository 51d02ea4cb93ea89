"""The breaker's rules, and that Redis and a process alone decide the same."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from apps.core import clock
from apps.providers import breaker, breaker_store
from apps.providers.breaker import RULES, Refused, State
from apps.providers.breaker_store import Name, Wish

NOW = 1_800_000_000_000
SECOND = 1000


def tell(state: State, verdict: breaker.Verdict, at: int = NOW, *, slow: bool = False) -> None:
    breaker.report(
        state, token="t", generation=state.generation, verdict=verdict, slow=slow, now=at, chance=0.5
    )


def let_in(
    state: State, at: int, token: str = "t", *, ramp: bool = False, wary: bool = False
) -> Refused | None:
    return breaker.admit(state, token=token, now=at, lease_ms=60 * SECOND, ramp=ramp, wary=wary)


def opened(at: int = NOW) -> State:
    state = State()
    for _ in range(RULES.streak):
        tell(state, "failure", at)
    assert state.state == "open"
    return state


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    state = State()
    for _ in range(4):
        tell(state, "failure")
    assert state.state == "closed"
    tell(state, "failure")
    assert (state.state, state.reason, state.until - NOW) == ("open", "streak", 15 * SECOND)


def test_a_success_ends_a_streak() -> None:
    state = State()
    for verdict in ["failure"] * 4 + ["ok"] + ["failure"] * 4:
        tell(state, verdict)  # type: ignore[arg-type]  # words of the list above
    assert state.state == "closed"


def test_half_of_twenty_calls_failing_opens_it() -> None:
    state = State()
    for index in range(20):
        assert state.state == "closed"
        tell(state, "ok" if index % 2 else "failure", NOW + index * SECOND)
    assert (state.state, state.reason) == ("open", "failures")


def test_calls_that_left_the_window_do_not_count() -> None:
    state = State()
    for index in range(10):
        tell(state, "failure" if index % 2 else "ok", NOW)
    for index in range(19):
        tell(state, "failure" if index % 3 == 0 else "ok", NOW + 61 * SECOND)
    assert sum(kept[0] for kept in state.buckets.values()) == 19
    assert state.state == "closed"


def test_four_of_five_slow_calls_open_it_though_they_succeed() -> None:
    state = State()
    for index in range(20):
        tell(state, "ok", slow=index % 5 != 0)
    assert (state.state, state.reason) == ("open", "slow")


def test_one_video_a_minute_opens_it_too() -> None:
    state = State()
    for minute in range(5):
        tell(state, "failure", NOW + minute * 60 * SECOND)
    assert state.state == "open"


def test_with_little_traffic_three_of_four_failing_opens_it_without_a_streak() -> None:
    state = State()
    for index in range(20):
        tell(state, "ok" if index % 4 == 0 else "failure", NOW + index * 60 * SECOND)
    assert state.state == "open"


def test_refusals_of_a_request_neither_open_nor_close_it() -> None:
    state = State()
    for _ in range(100):
        tell(state, "neutral")
    assert (state.state, state.buckets) == ("closed", {})


@pytest.mark.parametrize("seed", range(10))
def test_a_provider_that_fails_three_calls_of_ten_does_not_flap(seed: int) -> None:
    """Ten calls a second for ten minutes, after a first minute of the usual traffic."""
    rng, state = random.Random(seed), State()
    for call in range(6600):
        failed = rng.random() < (0.085 if call < 600 else 0.3)
        tell(state, "failure" if failed else "ok", NOW + call * 100)
    assert state.openings == 0


@pytest.mark.parametrize("seed", range(5))
def test_with_a_call_every_two_seconds_it_does_not_flap_either(seed: int) -> None:
    """Half of the twenty or thirty calls of a minute fail by accident every few minutes."""
    rng, state = random.Random(seed), State(usual=0.3, baseline=0.3)
    for call in range(2000):
        tell(state, "failure" if rng.random() < 0.3 else "ok", NOW + call * 2 * SECOND)
    assert state.openings == 0


def test_what_fails_half_the_time_is_left_even_if_it_long_did() -> None:
    rng, state = random.Random(1), State(usual=0.6, baseline=0.6)
    for call in range(600):
        tell(state, "failure" if rng.random() < 0.6 else "ok", NOW + call * 100)
    assert state.openings > 0


@pytest.mark.parametrize("rate", [0.0, 0.085])
def test_a_provider_that_dies_gets_few_more_calls(rate: float) -> None:
    rng, state = random.Random(1), State()
    for call in range(600):
        tell(state, "failure" if rng.random() < rate else "ok", NOW + call * 100)
    calls = 0
    while state.state == "closed":
        tell(state, "failure", NOW + 60_000 + calls)
        calls += 1
    assert calls <= 8


def test_of_those_who_call_while_it_dies_no_more_get_in_than_it_takes_to_know() -> None:
    state = State()
    for index in range(10):
        assert let_in(state, NOW, f"under way {index}", wary=True) is None
    tell(state, "failure")
    late = [let_in(state, NOW, f"late {index}", wary=True) for index in range(50)]
    assert sum(one is None for one in late) == RULES.streak - 1
    assert late[-1] == Refused("suspected", 500)
    tell(state, "ok")
    assert let_in(state, NOW, "next", wary=True) is None, "it lives"


def test_open_it_lets_nobody_in_until_the_time_has_come_then_three_at_once() -> None:
    state = opened()
    assert let_in(state, NOW + 14 * SECOND) == Refused("streak", SECOND)
    at = NOW + 15 * SECOND
    assert [let_in(state, at, token) for token in "abc"] == [None] * 3
    assert let_in(state, at, "d") == Refused("half_open", SECOND)


def test_a_probe_that_was_never_reported_gives_its_place_back() -> None:
    state = opened()
    at = NOW + 15 * SECOND
    for token in "abc":
        let_in(state, at, token)
    assert let_in(state, at + 61 * SECOND, "d") is None


def test_four_successes_of_five_close_it() -> None:
    state = opened()
    let_in(state, NOW + 15 * SECOND)
    for verdict in ("ok", "failure", "ok", "ok"):
        tell(state, verdict, NOW + 16 * SECOND)
    assert state.state == "half_open"
    tell(state, "ok", NOW + 16 * SECOND)
    assert state.state == "closed"


def test_two_failed_probes_open_it_again_for_twice_as_long_and_at_most_five_minutes() -> None:
    state, at, spans = opened(), NOW, []
    for _ in range(7):
        spans.append((state.until - at) // SECOND)
        at = state.until
        let_in(state, at)
        tell(state, "failure", at)
        tell(state, "failure", at)
    assert spans == [15, 30, 60, 120, 240, 300, 300]


def test_the_time_it_stays_open_is_jittered_by_a_fifth() -> None:
    for chance, expected in ((0.0, 12.0), (1.0, 18.0)):
        state = State()
        for _ in range(5):
            breaker.report(
                state, token="", generation=1, verdict="failure", slow=False, now=NOW, chance=chance
            )
        assert (state.until - NOW) / SECOND == expected


def test_a_result_of_a_call_from_before_the_change_is_ignored() -> None:
    state = State()
    before = state.generation
    for _ in range(5):
        tell(state, "failure")
    let_in(state, NOW + 15 * SECOND)
    for _ in range(4):
        breaker.report(
            state, token="x", generation=before, verdict="ok", slow=False, now=NOW + 16 * SECOND, chance=0.5
        )
    assert (state.state, state.successes) == ("half_open", 0)


def test_it_forgets_its_openings_after_five_calm_minutes() -> None:
    state = opened()
    let_in(state, NOW + 15 * SECOND)
    for _ in range(4):
        tell(state, "ok", NOW + 16 * SECOND)
    for _ in range(5):
        tell(state, "failure", NOW + 400 * SECOND)
    assert state.until - (NOW + 400 * SECOND) == 15 * SECOND


def test_what_nobody_used_yet_lets_few_in_until_some_succeeded() -> None:
    state = State()
    granted = [let_in(state, NOW, str(index), ramp=True) is None for index in range(100)]
    assert sum(granted) == 5
    for index in range(5):
        breaker.report(state, token=str(index), generation=1, verdict="ok", slow=False, now=NOW, chance=0.5)
    assert sum(let_in(state, NOW, f"b{index}", ramp=True) is None for index in range(100)) == 10
    for index in range(10):
        tell(state, "ok")
        breaker.report(state, token=f"b{index}", generation=1, verdict="ok", slow=False, now=NOW, chance=0.5)
    assert all(let_in(state, NOW, f"c{index}", ramp=True) is None for index in range(100))


def test_a_ping_that_succeeds_after_one_that_failed_lets_probes_in_at_once() -> None:
    state = opened()
    breaker.ping(state, up=True, now=NOW + 1)
    assert let_in(state, NOW + 2), "it never failed: the trouble is not that the provider is away"
    breaker.ping(state, up=False, now=NOW + 5 * SECOND)
    breaker.ping(state, up=True, now=NOW + 10 * SECOND)
    assert let_in(state, NOW + 10 * SECOND) is None


def test_while_pings_fail_nobody_pays_for_a_probe() -> None:
    state = opened()
    for seconds in range(8, 100, 17):
        breaker.ping(state, up=False, now=NOW + seconds * SECOND)
    assert let_in(state, NOW + 120 * SECOND)
    assert let_in(state, NOW + 124 * SECOND) is None, "nobody pings any more: the usual time counts"


def test_by_hand_it_stays_as_it_was_put() -> None:
    state = State()
    breaker.force(state, to="open", now=NOW)
    assert let_in(state, NOW + 3600 * SECOND) == Refused("forced_open", 10 * SECOND)
    breaker.force(state, to="closed", now=NOW)
    for _ in range(30):
        tell(state, "failure")
    assert let_in(state, NOW) is None
    breaker.force(state, to="", now=NOW)
    assert (state.state, state.forced) == ("closed", "")


def test_a_worker_killed_while_it_orders_keeps_a_breaker_that_warms_up_for_ten_seconds() -> None:
    state = State()
    for index in range(RULES.ramp_start):
        assert let_in(state, NOW, f"killed {index}", ramp=True) is None
    refused = let_in(state, NOW + 9 * SECOND, "next", ramp=True)
    assert refused is not None
    assert refused.reason == "warming_up"
    assert let_in(state, NOW + 10 * SECOND, "next", ramp=True) is None


def test_a_slow_probe_keeps_its_place_until_its_call_is_cut_off() -> None:
    state, at = opened(), NOW + 15 * SECOND
    for index in range(RULES.probes):
        assert let_in(state, at, f"slow {index}", ramp=True) is None
    assert let_in(state, at + 59 * SECOND, "next", ramp=True)
    assert let_in(state, at + 60 * SECOND, "next", ramp=True) is None


@pytest.mark.parametrize("seed", range(12))
def test_redis_and_a_process_alone_decide_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls, results, pings and hands, at the same times, to the script and to the rules."""
    rng, at = random.Random(seed), datetime(2026, 5, 1, tzinfo=UTC)
    name, alone = Name("p", "m", "submit"), State()
    monkeypatch.setattr(breaker_store, "_chance", lambda: 0.25)
    monkeypatch.setattr(settings, "PROVIDER_STATE_TIMEOUT_S", 5.0)
    breaker_store.forget()
    failing, generations = 0.1, {}
    for step in range(400):
        at += timedelta(milliseconds=rng.choice([1, 50, 400, 3000, 20_000]))
        failing = rng.choice([0.05, 0.3, 1.0]) if step % 40 == 0 else failing
        token, now = f"t{step}", round(at.timestamp() * 1000)
        ramp, wary = rng.random() < 0.8, rng.random() < 0.8
        with clock.frozen(at):
            match rng.choices(["call", "late", "ping", "force"], [90, 10, 4, 1])[0]:
                case "call":
                    shared = breaker_store.admit([Wish(name, 30.0, ramp=ramp, wary=wary)], token=token)
                    own = breaker.admit(alone, token=token, now=now, lease_ms=30_000, ramp=ramp, wary=wary)
                    if own:
                        assert shared == own
                        continue
                    assert shared == [alone.generation]
                    generations[token] = alone.generation
                    if rng.random() < 0.9:
                        _both(alone, name, token, generations.pop(token), rng, failing, now)
                case "late":
                    if generations:
                        token = rng.choice(list(generations))
                        _both(alone, name, token, generations.pop(token), rng, failing, now)
                case "ping":
                    up = rng.random() < 0.5
                    breaker_store.ping([name], up=up)
                    breaker.ping(alone, up=up, now=now)
                case "force":
                    to = rng.choice(["open", "closed", ""])
                    breaker_store.force(name, to)  # type: ignore[arg-type]  # one of its words
                    breaker.force(alone, to=to, now=now)
        _same(breaker_store.states([name]).get(name), alone)


def _both(
    alone: State, name: Name, token: str, generation: int, rng: random.Random, failing: float, now: int
) -> None:
    verdict: Any = rng.choices(["failure", "ok", "neutral"], [failing, 1 - failing, 0.05])[0]
    told: dict[str, Any] = {"token": token, "verdict": verdict, "slow": rng.random() < 0.3}
    breaker_store.report(name, generation=generation, **told)
    breaker.report(alone, generation=generation, now=now, chance=0.25, **told)


def _same(shared: State | None, alone: State) -> None:
    if shared:
        learned = {"usual": pytest.approx(alone.usual), "baseline": pytest.approx(alone.baseline)}
        assert shared.to_json() == {**alone.to_json(), **learned}
