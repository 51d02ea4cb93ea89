"""The admin's first page: today's figures, right, bounded, and only for those who may see them."""

import re
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import User
from apps.core import clock, workers
from apps.core.redis import client
from apps.jobs.states import AttemptStatus, JobStatus
from apps.ops import alerts, dashboard, health
from tests.ops import rows

pytestmark = pytest.mark.django_db


def index(**user: Any) -> Client:
    browser = Client()
    browser.force_login(User.objects.create(username="ops", is_staff=True, **user))
    return browser


def figures() -> dict[str, str]:
    """Title → value, as shown to a superuser."""
    html = index(is_superuser=True).get(reverse("admin:index")).content.decode()
    text = [line.strip() for line in re.sub(r"<[^>]+>", "\n", html).splitlines() if line.strip()]
    titles = (
        "Jobs today", "Spent today", "Held now", "Cache hit rate", "Error rate", "Queue",
        "Unknown outcomes", "Webhooks due", "Open alerts",
    )  # fmt: skip
    return {title: text[text.index(title) + 1] for title in titles}


def test_an_empty_platform_has_a_first_page() -> None:
    assert figures() == {
        "Jobs today": "0",
        "Spent today": "$0",
        "Held now": "$0",
        "Cache hit rate": "-",
        "Error rate": "-",
        "Queue": "0.0 s",
        "Unknown outcomes": "0",
        "Webhooks due": "0",
        "Open alerts": "0",
    }


def test_the_figures_are_those_of_the_rows() -> None:
    at = clock.now()
    rows.ended(JobStatus.COMPLETED, cost_usd=Decimal("0.08"))
    source = rows.ended(JobStatus.COMPLETED, cost_usd=Decimal("0.02"))
    rows.ended(JobStatus.COMPLETED, cached_from=source.pk, saved_usd=Decimal("0.02"))
    rows.ended(JobStatus.FAILED)
    rows.job(due_at=at - timedelta(seconds=90))
    lost = rows.job(due_at=at + timedelta(hours=1))
    rows.attempt(job=lost, status=AttemptStatus.UNKNOWN, check_at=at)
    rows.delivery(due_at=at)
    rows.alert()
    with clock.frozen(at):
        found = figures()
    assert found == {
        "Queue": "90.0 s",
        "Jobs today": "6",
        "Spent today": "$0.1",
        "Held now": "$0.05",
        "Cache hit rate": "16.7%",
        "Error rate": "25.0%",
        "Unknown outcomes": "1",
        "Webhooks due": "1",
        "Open alerts": "1",
    }


def test_yesterdays_jobs_are_not_todays() -> None:
    rows.ended(JobStatus.COMPLETED)
    with clock.frozen(clock.now() + timedelta(days=1)):
        assert figures()["Jobs today"] == "0"


def test_failures_are_listed_by_their_code_and_workers_by_their_last_sign() -> None:
    rows.ended(JobStatus.FAILED)
    client().hset(workers._KEY, "io@here", str(time.time()))
    html = index(is_superuser=True).get(reverse("admin:index")).content.decode()
    assert "generation_failed" in html
    assert "io@here" in html


def test_it_says_so_when_redis_is_away(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    away = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.1)
    monkeypatch.setattr(workers, "client", lambda: away)
    html = index(is_superuser=True).get(reverse("admin:index")).content.decode()
    assert "Redis does not answer" in html
    away.close()


def test_what_is_late_or_unknown_is_an_alarm() -> None:
    rows.job(due_at=clock.now() - timedelta(seconds=health.LATE_S + 5))
    rows.attempt(status=AttemptStatus.UNKNOWN, check_at=clock.now())
    alarms = {card.title for card in dashboard._machinery() if card.alarm}
    assert alarms == {"Queue", "Unknown outcomes"}
    rows.alert()
    assert "Open alerts" in {card.title for card in dashboard._machinery() if card.alarm}


def test_open_alerts_are_listed_with_their_page_until_they_are_resolved() -> None:
    alert = rows.alert()
    address = reverse("admin:ops_alert_change", args=[alert.pk])
    assert address in index(is_superuser=True).get(reverse("admin:index")).content.decode()
    alerts.resolve(alert.key)
    User.objects.all().delete()
    assert address not in index(is_superuser=True).get(reverse("admin:index")).content.decode()


def test_staff_without_the_right_to_see_jobs_see_no_figures() -> None:
    html = index().get(reverse("admin:index")).content.decode()
    assert "Spent today" not in html


def test_it_takes_the_same_few_queries_however_many_jobs_there_are() -> None:
    browser = index(is_superuser=True)
    browser.get(reverse("admin:index"))
    with CaptureQueriesContext(connection) as before:
        browser.get(reverse("admin:index"))
    for i in range(5):
        rows.attempt(i)
    with CaptureQueriesContext(connection) as after:
        browser.get(reverse("admin:index"))
    assert len(after) == len(before) <= 16


def test_every_query_over_a_growing_table_is_bounded_and_uses_an_index() -> None:
    with CaptureQueriesContext(connection) as queries, connection.cursor() as cursor:
        dashboard._today()
        dashboard._machinery()
        dashboard._rows(dashboard._HELD)
        ours = [query["sql"] for query in queries if query["sql"].lstrip().startswith("SELECT")]
        assert len(ours) == 7
        # A planner that dislikes reading whole tables shows whether an index could serve.
        cursor.execute("SET LOCAL enable_seqscan = off")
        for sql in ours:
            assert "LIMIT" in sql
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan" not in plan, f"{sql}\n{plan}"
