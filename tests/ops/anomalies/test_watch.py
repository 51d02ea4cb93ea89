"""From rows of jobs to an alert, and back to none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.catalog.models import Route
from apps.core import clock, ids
from apps.ops.anomalies import series, tell, watch
from apps.ops.anomalies.detect import Memory
from apps.ops.anomalies.metrics import Family
from apps.ops.anomalies.series import Key
from apps.ops.models import Alert, Baseline
from apps.webhooks import endpoints
from apps.webhooks.models import Delivery, Endpoint
from tests import factories
from tests.ops import many
from tests.ops.many import Lot

pytestmark = pytest.mark.django_db(transaction=True)
HOURS = 5


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    endpoints.forget()
    yield
    endpoints.forget()


@pytest.fixture
def now() -> datetime:
    """The start of a minute of the past, so that what is made until a few minutes later has been."""
    return (clock.now() - timedelta(minutes=60)).replace(second=0, microsecond=0)


@pytest.fixture
def bought(now: datetime) -> Route:
    """Twenty jobs a minute for hours, of which one in fifty failed."""
    route = many.route()
    many.jobs(route, Lot(HOURS * 60 * 20, now - timedelta(hours=HOURS), now, failed=2))
    return route


def look(at: datetime) -> list[str]:
    """What is found a moment after the minute that ends at `at`."""
    with clock.frozen(at + timedelta(seconds=10)):
        return [group.key for group in watch.watch()]


def test_a_provider_that_fails_is_an_alert_within_minutes_and_is_over_when_it_is(
    bought: Route, now: datetime
) -> None:
    assert look(now) == []
    baseline = Baseline.objects.get(metric="error_rate")
    assert baseline.hours >= HOURS - 1
    assert 0.005 < baseline.usual < 0.05
    many.jobs(bought, Lot(5 * 20, now, now + timedelta(minutes=5), failed=90))
    found = [look(now + timedelta(minutes=minute)) for minute in range(1, 6)]
    assert "anomaly.provider:wavespeed" in found[3]
    alert = Alert.objects.open().get(kind="anomaly.provider")
    assert alert.severity == "critical"
    assert "error rate of model-x at wavespeed" in alert.message
    many.jobs(bought, Lot(15 * 20, now + timedelta(minutes=5), now + timedelta(minutes=20), failed=2))
    for minute in range(6, 20):
        look(now + timedelta(minutes=minute))
    assert not Alert.objects.open().filter(kind="anomaly.provider").exists()
    assert Alert.objects.filter(kind="anomaly.provider").count() == 1


def test_whoever_dies_or_comes_again_learns_the_same(bought: Route, now: datetime) -> None:
    """In one go; or in parts, with another process each time, one of which looked twice."""
    look(now)
    once = {str(row): (row.median, row.mad, row.season, row.memory) for row in Baseline.objects.all()}
    Baseline.objects.all().delete()
    for minutes in (200, 120, 61, 60, 60, 1, 0):
        look(now - timedelta(minutes=minutes))
    again = {str(row): (row.median, row.mad, row.season, row.memory) for row in Baseline.objects.all()}
    once.pop("queue_depth model-x", None)
    again.pop("queue_depth model-x", None)
    assert again == once


def test_the_series_are_what_the_rows_say(now: datetime) -> None:
    route = many.route()
    user = many.jobs(
        route, Lot(60, now, now + timedelta(seconds=30), failed=50, cached=40, took_s=10, usd=0.5)
    )
    minute = int(now.timestamp()) // 60
    found = series.read(minute, minute)[minute]
    asked, where = 60, ("model-x", "wavespeed")
    assert found[Key("traffic")].value == found[Key("traffic", "model-x")].value == asked
    attempts = found[Key("error_rate", *where)]
    assert 0.2 < attempts.value < 0.8
    assert found[Key("cost", *where)].value == pytest.approx(0.5)
    assert found[Key("quality", *where)].value == pytest.approx(0.9)
    assert 10 < found[Key("latency_p95", *where)].value <= 12
    hits = found[Key("hit_rate", "model-x")]
    assert attempts.count + hits.value * hits.count == pytest.approx(asked)
    assert found[Key("failure_rate", "model-x")].value == pytest.approx(attempts.value)
    spent = found[Key("user_spend")]
    assert spent.about == str(user.pk)
    assert spent.value == pytest.approx(0.5 * found[Key("cost", *where)].count)


def test_a_request_at_fault_and_a_job_in_review_are_not_counted(now: datetime) -> None:
    route = many.route()
    many.jobs(route, Lot(20, now, now + timedelta(seconds=30), failed=100))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE jobs_job SET error_code = 'content_rejected' WHERE status = 'failed'")
        cursor.execute("UPDATE jobs_attempt SET error_kind = 'content_rejected' WHERE status = 'failed'")
    minute = int(now.timestamp()) // 60
    assert set(series.read(minute, minute)[minute]) == {Key("traffic"), Key("traffic", "model-x")}


def test_before_the_first_job_nothing_is_learned() -> None:
    assert watch.watch() == []
    assert not Baseline.objects.exists()


def test_what_is_long_over_is_learned_and_told_to_nobody(bought: Route, now: datetime) -> None:
    """Half a day is made up for at once: after five hours of usual traffic, seven more, whose last minutes were bad."""
    bad_until = now + timedelta(hours=7)
    many.jobs(bought, Lot(10 * 20, bad_until - timedelta(minutes=10), bad_until, failed=90))
    assert "anomaly.provider:wavespeed" in look(now + timedelta(hours=20))
    assert not Alert.objects.exists()


def test_teams_that_use_a_model_are_told_when_its_quality_falls(bought: Route, now: datetime) -> None:
    team = factories.team()
    Endpoint.objects.create(team=team, url="https://example.com/quality", event_types=["quality.warning"])
    Endpoint.objects.create(team=factories.team(), url="https://example.com/other")
    look(now)
    user = factories.user(team=team)
    many.jobs(bought, Lot(100, now, now + timedelta(minutes=5), score=0.5), user)
    for minute in range(1, 6):
        look(now + timedelta(minutes=minute))
    [delivery] = Delivery.objects.all()
    data: dict[str, Any] = delivery.event.payload["data"]
    assert (delivery.event.type, delivery.url) == ("quality.warning", "https://example.com/quality")
    assert (data["model"], data["provider"], data["value"]) == ("model-x", "wavespeed", 0.5)
    assert Alert.objects.open().filter(kind="anomaly.quality").count() == 1


def test_the_team_of_who_spends_far_more_than_usual_is_told() -> None:
    spender = factories.user()
    assert spender.team
    Endpoint.objects.create(team=spender.team, url="https://example.com/spend")
    Endpoint.objects.create(team=factories.team(), url="https://example.com/other")
    memory = Memory(severity="critical", value=12.5, usual=0.5, about=str(spender.pk))
    assert tell.teams(Family.SPEND, Key("user_spend"), memory) == 1
    [delivery] = Delivery.objects.all()
    assert (delivery.url, delivery.event.type) == ("https://example.com/spend", "spend.warning")
    assert delivery.event.payload["data"]["user_id"] == str(spender.pk)
    assert tell.teams(Family.LOAD, Key("traffic"), memory) == 0


def test_every_statement_over_a_growing_table_uses_an_index(bought: Route, now: datetime) -> None:
    minute = int(now.timestamp()) // 60 - 2
    with CaptureQueriesContext(connection) as captured:
        series.read(minute, minute)
        series.waiting(minute)
    assert len(captured) == 4
    # The last: any of the indexes that hold open jobs only.
    wanted = ("attempt_measured", "jobs_job_pkey", "event_by_time", "Index Scan using job_")
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        for query, index in zip(captured.captured_queries, wanted, strict=True):
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert index in plan, plan
        cursor.execute("RESET enable_seqscan")


def test_ids_of_the_pattern_are_of_their_time(now: datetime) -> None:
    """What the other tests stand on."""
    many.jobs(many.route(), Lot(10, now, now + timedelta(minutes=1)))
    with connection.cursor() as cursor:
        sql = "SELECT count(*) FROM jobs_job WHERE id >= %s AND id < %s"
        cursor.execute(sql, [ids.since(now), ids.since(now + timedelta(minutes=1))])
        assert cursor.fetchone()[0] == 10
    assert now.tzinfo == UTC
