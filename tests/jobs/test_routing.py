"""Which routes are left, in which order, and from when: the pure rules."""

import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from apps.catalog.snapshot import PriceInfo, RouteInfo, StatsInfo
from apps.jobs import routing
from apps.jobs.models import Attempt

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def route(provider: str, amount: str = "0.01", model: str = "m") -> dict[str, Any]:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{provider}/{model}"))
    return {"route_id": name, "provider": provider, "model": model, "amount_usd": amount}


def attempt(at: dict[str, Any], error_kind: str = "server_error", **changes: Any) -> Attempt:
    values = {"provider": at["provider"], "route_id": at["route_id"], "error_kind": error_kind}
    return Attempt(**{"started_at": NOW, "finished_at": NOW, "status": "failed", **values, **changes})


def info(
    at: dict[str, Any], *, rate: float = 1.0, p50_s: float | None = 1.0, samples: int = 100, weight: int = 1
) -> tuple[str, RouteInfo]:
    price = PriceInfo(uuid.uuid4(), 1, "image", Decimal("0.01"), {})
    stats = StatsInfo(samples, rate, p50_s, p50_s, NOW)
    return at["route_id"], RouteInfo(
        uuid.UUID(at["route_id"]), at["provider"], "x", price, weight=weight, stats=stats
    )


def left(routes: list[dict[str, Any]], attempts: list[Attempt], **changes: Any) -> list[str]:
    found = routing.choices(routes, attempts, **{"now": NOW, "max_attempts": 4, **changes})
    return [choice.route["provider"] for choice in found]


def ordered(
    routes: list[dict[str, Any]], *known: tuple[str, RouteInfo], policy: str, seed: int = 1
) -> list[str]:
    found = routing.order(routes, dict(known), policy={"m": policy}, rng=random.Random(seed))
    return [one["provider"] for one in found]


A, B, C = route("a", "0.03"), route("b", "0.01"), route("c", "0.02")


def test_what_was_tried_least_comes_first_and_at_once() -> None:
    found = routing.choices([A, B], [attempt(A)], now=NOW, max_attempts=4)
    assert [(choice.route["provider"], choice.is_retry) for choice in found] == [("b", False), ("a", True)]
    assert found[0].ready_at == NOW
    assert NOW < found[1].ready_at <= NOW + timedelta(seconds=2)


def test_a_retry_waits_the_same_moment_whenever_one_looks() -> None:
    tried = attempt(A)
    first, second = (
        routing.choices([A], [tried], now=NOW + timedelta(seconds=s), max_attempts=4)[0] for s in (0, 0.1)
    )
    assert first.ready_at == second.ready_at


def test_a_429_is_no_try_but_ten_of_them_are_enough() -> None:
    throttled = [attempt(A, "rate_limited") for _ in range(9)]
    assert left([A], throttled) == ["a"]
    assert left([A], [*throttled, attempt(A, "rate_limited")]) == []


def test_retry_after_is_never_cut_short() -> None:
    found = routing.choices([A], [attempt(A, "rate_limited")], now=NOW, max_attempts=4, retry_after_s=90)
    assert found[0].ready_at == NOW + timedelta(seconds=90)


def test_a_provider_whose_outcome_is_unknown_is_asked_for_nothing_more() -> None:
    elsewhere = route("a", model="other")
    assert left([A, elsewhere, B], [attempt(A, "", status="unknown")]) == ["b"]


def test_a_refusal_that_no_retry_helps_ends_the_route_not_the_job() -> None:
    assert left([A, B], [attempt(A, "authentication")]) == ["b"]


def test_what_may_not_be_shopped_around_ends_all_routes() -> None:
    first, second = route("a"), route("b")
    tried = [attempt(first, "content_rejected")]
    assert routing.choices([first, second], tried, now=NOW, max_attempts=4) == []


def test_after_so_many_tries_nothing_is_left() -> None:
    assert left([A, B, C], [attempt(A), attempt(B), attempt(C), attempt(A)]) == []
    assert left([A], [attempt(A)] * 3) == []


def test_by_priority_the_quotes_order_stays() -> None:
    assert ordered([A, B, C], policy="priority") == ["a", "b", "c"]


def test_the_cheapest_for_the_request_comes_first() -> None:
    assert ordered([A, B, C], policy="cheapest") == ["b", "c", "a"]


def test_the_fastest_of_late_comes_first_and_who_was_never_measured_before_it() -> None:
    known = [info(A, p50_s=5), info(B, p50_s=9)]
    assert ordered([A, B, C], *known, policy="fastest") == ["c", "a", "b"]


def test_weights_are_shares_of_the_first_choices() -> None:
    known = [info(A, weight=3), info(B, weight=1)]
    first = Counter(ordered([A, B], *known, policy="weighted", seed=seed)[0] for seed in range(2000))
    assert 0.71 < first["a"] / 2000 < 0.79


def test_the_order_of_models_is_the_quotes_whatever_their_prices() -> None:
    dear, cheap = route("a", "0.05"), route("a", "0.01", model="fallback")
    found = routing.order(
        [dear, cheap], {}, policy={"m": "cheapest", "fallback": "cheapest"}, rng=random.Random(1)
    )
    assert [one["model"] for one in found] == ["m", "fallback"]


def test_an_outlier_comes_last_but_for_one_job_in_twenty() -> None:
    known = [info(A, rate=0.5), info(B, rate=0.95)]
    first = Counter(ordered([A, B], *known, policy="priority", seed=seed)[0] for seed in range(2000))
    assert 0.03 < first["a"] / 2000 < 0.07


def test_few_attempts_make_no_outlier() -> None:
    known = [info(A, rate=0.0, samples=5), info(B, rate=1.0)]
    assert ordered([A, B], *known, policy="priority") == ["a", "b"]
