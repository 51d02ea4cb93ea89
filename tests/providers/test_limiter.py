"""What a provider lets us feel, and what ops say it takes: one limit for all processes."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.core import clock
from apps.providers import limiter
from apps.providers.breaker import Refused
from apps.providers.limiter import Caps

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Time:
    def __init__(self, undo: ExitStack) -> None:
        self._undo, self.now = undo, START
        self.forward(0)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self._undo.enter_context(clock.frozen(self.now))


@pytest.fixture(autouse=True)
def time(settings: Any) -> Iterator[Time]:
    settings.PROVIDER_STATE_TIMEOUT_S = 5.0
    with ExitStack() as undo:
        yield Time(undo)


def take(token: str, caps: Caps | None = None, *, retry: bool = False) -> str:
    """Why it must wait; empty if it may go."""
    refused = limiter.take("p", caps or Caps(), token=token, lease_s=600, retry=retry)
    return refused.reason if refused else ""


def takes(count: int, caps: Caps | None = None, prefix: str = "t") -> int:
    return sum(not take(f"{prefix}{index}", caps) for index in range(count))


def test_without_caps_and_429s_all_may_go() -> None:
    assert takes(200) == 200


@pytest.mark.parametrize(("most", "share"), [(10, 2), (100, 20), (3, 1)])
@pytest.mark.parametrize("cap", ["max_concurrency", "max_per_minute"])
def test_orders_that_can_wait_get_a_fifth_and_the_others_all_the_rest(
    cap: str, most: int, share: int
) -> None:
    caps = Caps(**{cap: most})

    def taken(count: int, prefix: str, *, can_wait: bool) -> int:
        tokens = (f"{prefix}{index}" for index in range(count))
        given = (
            limiter.take("p", caps, token=token, lease_s=600, retry=False, can_wait=can_wait)
            for token in tokens
        )
        return sum(refused is None for refused in given)

    assert taken(most, "batch", can_wait=True) == share
    assert taken(most, "quick", can_wait=False) == most - share
    limiter.done("p", token="batch0", ok=True)
    assert taken(1, "next", can_wait=True) == (cap == "max_concurrency")


def test_a_place_is_free_again_when_its_order_has_ended_or_is_lost(time: Time) -> None:
    caps = Caps(max_concurrency=2)
    assert takes(3, caps) == 2
    limiter.done("p", token="t0", ok=True)
    assert take("next", caps) == ""
    assert take("more", caps) == "concurrency"
    time.forward(601)
    assert take("later", caps) == ""


def test_no_minute_has_more_orders_than_the_cap(time: Time) -> None:
    caps = Caps(max_per_minute=10)
    assert takes(5, caps) == 5
    time.forward(30)
    assert takes(10, caps, "u") == 5
    refused = limiter.take("p", caps, token="v", lease_s=60, retry=False)
    assert refused == Refused("rate", 30_000)
    time.forward(30)
    assert takes(10, caps, "w") == 5


def test_retry_after_holds_for_everybody(time: Time) -> None:
    limiter.throttled("p", pause_s=17)
    assert limiter.take("p", Caps(), token="t", lease_s=60, retry=False) == Refused("rate_limited", 17_000)
    time.forward(16.9)
    assert take("t") == "rate_limited"
    time.forward(0.2)
    assert take("t") == ""


def test_a_shorter_pause_does_not_shorten_a_longer_one(time: Time) -> None:
    limiter.throttled("p", pause_s=17)
    limiter.throttled("p", pause_s=1)
    time.forward(5)
    assert take("t") == "rate_limited"


def test_a_429_allows_seven_tenths_of_what_was_under_way_and_successes_give_it_back(time: Time) -> None:
    assert takes(20) == 20
    limiter.throttled("p", pause_s=0)
    assert limiter.look("p")["limit"] == 14
    assert take("more") == "concurrency"
    for index in range(7):
        limiter.done("p", token=f"t{index}", ok=True)
    time.forward(61)
    assert take("again") == ""
    for index in range(2000):
        limiter.done("p", token=f"x{index}", ok=True)
    assert "limit" not in limiter.look("p"), "it binds nobody any more"


def test_a_burst_of_429s_is_one_sign_not_ten() -> None:
    takes(20)
    for _ in range(10):
        limiter.throttled("p", pause_s=0)
    assert limiter.look("p")["limit"] == 14


def test_failures_do_not_make_room(time: Time) -> None:
    takes(20)
    limiter.throttled("p", pause_s=0)
    for index in range(500):
        limiter.done("p", token=f"x{index}", ok=False)
    assert limiter.look("p")["limit"] == 14


def test_retries_are_at_most_a_tenth_but_a_few_are_always_free() -> None:
    assert [take(f"r{index}", retry=True) for index in range(11)] == [""] * 10 + ["retry_budget"]
    assert takes(200) == 200
    allowed = sum(not take(f"s{index}", retry=True) for index in range(50))
    assert 10 + allowed == pytest.approx(0.1 * (210 + allowed), abs=1)


def test_without_redis_the_providers_own_word_is_the_limit() -> None:
    limiter._away_until = float("inf")
    assert takes(5, Caps(max_concurrency=1)) == 5
