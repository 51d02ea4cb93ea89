"""What is known of a route: from its last attempts that tell something about it, at a cost that does not grow."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from apps.catalog import snapshot, sync
from apps.catalog.models import Route, RouteStats
from apps.core import clock
from apps.jobs import measure
from apps.jobs.models import Attempt, Job
from tests.ops import rows as made

pytestmark = pytest.mark.django_db


@pytest.fixture
def route() -> Route:
    sync.sync()
    return Route.objects.filter(model="standard").order_by("position")[0]


def ended(route: Route, took_s: float = 1.0, *, ago_s: float = 60, **changes: Any) -> Attempt:
    finished = clock.now() - timedelta(seconds=ago_s)
    times = {"started_at": finished - timedelta(seconds=took_s), "finished_at": finished}
    job = Job.objects.first() or made.job()
    number = Attempt.objects.count() + 1
    return made.attempt(
        job=job,
        number=number,
        route_id=route.pk,
        **{"status": "accepted", "billed": "yes", **times, **changes},
    )


def failed(route: Route, kind: str, **changes: Any) -> Attempt:
    return ended(route, status="failed", error_kind=kind, **changes)


def measured(route: Route) -> RouteStats:
    measure.routes()
    return RouteStats.objects.get(route=route)


def test_times_are_the_median_and_the_95th_of_accepted_attempts(route: Route) -> None:
    for took_s in range(1, 21):
        ended(route, took_s)
    failed(route, "server_error", took_s=1000)
    found = measured(route)
    assert (found.samples, found.p50_s) == (21, 10.5)
    assert found.p95_s == pytest.approx(19.05)


def test_the_rate_is_accepted_of_all_that_the_provider_answers_for(route: Route) -> None:
    for _ in range(3):
        ended(route)
    ended(route, status="rejected", error_kind="bad_output")
    assert measured(route).success_rate == 0.75


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed", "error_kind": "content_rejected"},
        {"status": "failed", "error_kind": "invalid_request"},
        {"status": "failed", "error_kind": "canceled"},
        {"status": "canceled"},
        {"status": "started", "finished_at": None},
        {"status": "unknown", "finished_at": None, "check_at": clock.now()},
    ],
    ids=lambda changes: changes.get("error_kind") or changes["status"],
)
def test_it_does_not_blame_the_route_for(route: Route, changes: dict[str, Any]) -> None:
    ended(route)
    ended(route, **changes)
    found = measured(route)
    assert (found.samples, found.success_rate) == (1, 1)


def test_only_the_latest_200_count(route: Route) -> None:
    for _ in range(200):
        ended(route, ago_s=10)
    for _ in range(5):
        failed(route, "server_error", ago_s=100)
    assert (measured(route).samples, measured(route).success_rate) == (200, 1)


def test_nothing_is_known_after_a_day_without_attempts(route: Route) -> None:
    ended(route)
    assert measured(route).samples == 1
    snapshot.forget()
    assert snapshot.current().models["standard"].routes[0].stats
    with clock.frozen(clock.now() + timedelta(days=1)):
        found = measured(route)
        assert (found.samples, found.success_rate, found.p50_s) == (0, None, None)
        snapshot.forget()
        assert snapshot.current().models["standard"].routes[0].stats is None


def test_no_time_is_known_of_a_route_that_never_delivered(route: Route) -> None:
    failed(route, "server_error")
    found = measured(route)
    assert (found.samples, found.success_rate, found.p50_s, found.p95_s) == (1, 0, None, None)


def test_the_catalog_shows_what_was_measured(route: Route) -> None:
    ended(route, 4)
    at = clock.now()
    with clock.frozen(at):
        measure.routes()
    snapshot.forget()
    stats = snapshot.current().models["standard"].routes[0].stats
    assert stats == snapshot.StatsInfo(samples=1, success_rate=1, p50_s=4, p95_s=4, measured_at=at)


def test_each_route_is_measured_by_its_own_attempts(route: Route) -> None:
    other = Route.objects.get(model="fast-draft", provider="wavespeed")
    ended(route, 2)
    ended(other, 5)
    assert (measured(route).p50_s, measured(other).p50_s) == (2, 5)


def test_it_reads_no_more_of_a_long_history_than_of_a_short_one(route: Route) -> None:
    ended(route)
    _history(route, 1, 1_000)
    short = _buffers_read()
    _history(route, 1_001, 20_000)
    # Twenty times as many rows. What the tests before left behind them in the index is read, too.
    assert _buffers_read() <= short * 3


def _history(route: Route, first: int, last: int) -> None:
    """Accepted attempts, one for each second of the past."""
    columns = [str(field.column) for field in Attempt._meta.concrete_fields]
    others = ", ".join(name for name in columns if name not in ("id", "number", "started_at", "finished_at"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO jobs_attempt (id, number, started_at, finished_at, {others})
            SELECT gen_random_uuid(), 1 + n, now() - n * interval '1 second', now() - n * interval '1 second', {others}
            FROM jobs_attempt, generate_series({first}, {last}) AS n WHERE number = 1
            """
        )
        cursor.execute("ANALYZE jobs_attempt")


def _buffers_read() -> int:
    """Pages that one measuring touches."""
    now = clock.now()
    values: dict[str, Any] = {"now": now, "since": now - timedelta(hours=24), "latest": 200}
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + measure._MEASURE, values)
        plan = cursor.fetchone()[0][0]["Plan"]
    assert "attempt_measured" in str(plan)
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
