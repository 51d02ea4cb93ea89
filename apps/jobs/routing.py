"""Which route to try next, and when. Pure: routes and past attempts in, decision out."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apps.jobs.models import Attempt
from apps.providers.errors import POLICIES, ErrorKind

MAX_TRIES_PER_ROUTE = 3
_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 30.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A route of the job's quote, to be tried `delay_s` seconds from now."""

    route: dict[str, Any]
    delay_s: float


def choose(
    routes: Sequence[dict[str, Any]],
    attempts: Sequence[Attempt],
    *,
    max_attempts: int,
    retry_after_s: float | None = None,
) -> Choice | None:
    """The least tried route that may still be tried, in the quote's order; None when nothing is left.

    Another route is tried at once; the same one again after full jitter (AWS, "Exponential backoff and jitter"),
    never earlier than its provider asked.
    """
    if len(attempts) >= max_attempts:
        return None
    tries = Counter(str(attempt.route_id) for attempt in attempts)
    given_up = {str(attempt.route_id) for attempt in attempts if not _may_retry(attempt)}
    open_routes = [
        route
        for route in routes
        if route["route_id"] not in given_up and tries[route["route_id"]] < MAX_TRIES_PER_ROUTE
    ]
    if not open_routes:
        return None
    route = min(open_routes, key=lambda candidate: tries[candidate["route_id"]])
    tried = tries[route["route_id"]]
    if not tried:
        return Choice(route, 0.0)
    jitter_s = random.uniform(0, min(_MAX_DELAY_S, _FIRST_DELAY_S * 2**tried))  # noqa: S311 - jitter, not a secret
    return Choice(route, max(jitter_s, retry_after_s or 0.0))


def _may_retry(attempt: Attempt) -> bool:
    return not attempt.error_kind or POLICIES[ErrorKind(attempt.error_kind)].retry
