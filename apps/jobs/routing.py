"""Which routes may be tried next, in which order, and from when. Pure: routes and past attempts in, decisions out."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from apps.catalog.snapshot import RouteInfo
from apps.jobs.models import Attempt
from apps.jobs.states import AttemptStatus
from apps.providers.errors import POLICIES, ErrorKind

MAX_TRIES_PER_ROUTE = 3
# A 429 costs nothing and says nothing about the route: it is no try, but no reason to go on for ever either.
MAX_REFUSALS_PER_ROUTE = 10
_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 30.0

# A route is put last when its share of successes is this far below the best one's, both known from enough attempts.
# One job in so many goes there all the same: without attempts its figures could never recover.
OUTLIER_GAP: Final = 0.3
OUTLIER_SAMPLES: Final = 20
_LOOK_AGAIN_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Choice:
    """A route of the job's quote, to be tried at `ready_at` or later; `is_retry`: the same provider failed before."""

    route: dict[str, Any]
    ready_at: datetime
    is_retry: bool = False


def choices(
    routes: Sequence[dict[str, Any]],
    attempts: Sequence[Attempt],
    *,
    now: datetime,
    max_attempts: int,
    retry_after_s: float | None = None,
) -> list[Choice]:
    """The routes that may still be tried, the least tried first, else in the order given; empty when nothing is left.

    Another route is tried at once; the same one again after full jitter (AWS, "Exponential backoff and jitter"),
    never earlier than its provider asked (`retry_after_s`, from now).
    """
    tried = [attempt for attempt in attempts if not _is_throttled(attempt)]
    if len(tried) >= max_attempts or any(_ends_all(attempt) for attempt in attempts):
        return []
    tries = Counter(str(attempt.route_id) for attempt in tried)
    refusals = Counter(str(attempt.route_id) for attempt in attempts if _is_throttled(attempt))
    given_up = {str(attempt.route_id) for attempt in attempts if not _may_retry(attempt)}
    # What may have been bought there is not bought there again.
    silent = {attempt.provider for attempt in attempts if attempt.status == AttemptStatus.UNKNOWN}
    failed_at = {attempt.provider for attempt in tried}
    last = {str(attempt.route_id): attempt for attempt in attempts}
    newest = str(attempts[-1].route_id) if attempts else ""
    found = []
    for route in sorted(routes, key=lambda one: tries[one["route_id"]] + refusals[one["route_id"]]):
        name = route["route_id"]
        if (
            route["provider"] in silent
            or name in given_up
            or tries[name] >= MAX_TRIES_PER_ROUTE
            or refusals[name] >= MAX_REFUSALS_PER_ROUTE
        ):
            continue
        ready_at = now
        if name in last:
            ready_at = _after(last[name], tries[name] + refusals[name])
            if name == newest and retry_after_s:
                ready_at = max(ready_at, now + timedelta(seconds=retry_after_s))
        found.append(Choice(route, ready_at, is_retry=route["provider"] in failed_at))
    return found


def order(
    routes: Sequence[dict[str, Any]],
    known: Mapping[str, RouteInfo],
    *,
    policy: Mapping[str, str],
    rng: random.Random,
) -> list[dict[str, Any]]:
    """The quote's routes as their models want them tried: models stay in the quote's order, within each its
    `policy` decides (priority, cheapest, fastest or weighted). `known`: what the catalog says of a route now, by id.
    """
    models = list(dict.fromkeys(route["model"] for route in routes))
    ranked: list[dict[str, Any]] = []
    for model in models:
        own = [route for route in routes if route["model"] == model]
        own = _by_policy(own, known, policy.get(model, "priority"), rng)
        ranked += _outliers_last(own, known, rng)
    return ranked


def _by_policy(
    routes: list[dict[str, Any]], known: Mapping[str, RouteInfo], policy: str, rng: random.Random
) -> list[dict[str, Any]]:
    if policy == "cheapest":
        return sorted(routes, key=lambda route: Decimal(route["amount_usd"]))
    if policy == "fastest":
        return sorted(routes, key=lambda route: _p50_s(known.get(route["route_id"])))
    if policy == "weighted":
        # Weighted sampling without replacement (Efraimidis & Spirakis 2006).
        return sorted(
            routes, key=lambda route: -(rng.random() ** (1 / _weight(known.get(route["route_id"]))))
        )
    return routes


def _outliers_last(
    routes: list[dict[str, Any]], known: Mapping[str, RouteInfo], rng: random.Random
) -> list[dict[str, Any]]:
    rates = {route["route_id"]: _success_rate(known.get(route["route_id"])) for route in routes}
    best = max((rate for rate in rates.values() if rate is not None), default=0.0)
    if rng.random() < _LOOK_AGAIN_SHARE:
        return routes

    def is_outlier(route: dict[str, Any]) -> bool:
        rate = rates[route["route_id"]]
        return rate is not None and rate <= best - OUTLIER_GAP

    return sorted(routes, key=is_outlier)


def _p50_s(info: RouteInfo | None) -> float:
    """Routes nobody measured yet come first: only so will they be."""
    return (info.stats.p50_s or 0.0) if info and info.stats else 0.0


def _weight(info: RouteInfo | None) -> int:
    return info.weight if info else 1


def _success_rate(info: RouteInfo | None) -> float | None:
    if info is None or info.stats is None or info.stats.samples < OUTLIER_SAMPLES:
        return None
    return info.stats.success_rate


def _after(attempt: Attempt, tries: int) -> datetime:
    """Full jitter, the same whenever it is asked for one attempt: it decides when to look, and then again."""
    rng = random.Random(str(attempt.pk))  # noqa: S311 - jitter, not a secret
    delay_s = rng.uniform(0, min(_MAX_DELAY_S, _FIRST_DELAY_S * 2**tries))
    return (attempt.finished_at or attempt.started_at) + timedelta(seconds=delay_s)


def _is_throttled(attempt: Attempt) -> bool:
    return bool(attempt.error_kind == ErrorKind.RATE_LIMITED)


def _may_retry(attempt: Attempt) -> bool:
    return not attempt.error_kind or POLICIES[ErrorKind(attempt.error_kind)].retry


def _ends_all(attempt: Attempt) -> bool:
    """What went wrong there is not taken elsewhere."""
    return bool(attempt.error_kind) and not POLICIES[ErrorKind(attempt.error_kind)].fall_back
