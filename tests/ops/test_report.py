"""`manage.py report`: the headline figures are those of the rows, in text and as a page."""

import re
import time
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum

from apps.core import clock
from apps.jobs.models import Job, ProviderBatch
from apps.jobs.states import BatchStatus, JobStatus
from apps.ledger.models import UsageRecord
from apps.ops import report
from apps.ops.anomalies import series
from apps.ops.report import Feature
from tests import factories
from tests.ledger import many as ledger
from tests.ops import many, rows
from tests.ops.many import Lot

pytestmark = pytest.mark.django_db


def feature(made: report.Report, name: str) -> Feature:
    [found] = [each for each in made.features if each.name.startswith(name)]
    return found


def test_latency_hits_and_errors_are_those_of_the_jobs() -> None:
    now = clock.now()
    route = many.route()
    many.jobs(
        route, Lot(1000, now - timedelta(days=3), now - timedelta(days=1), failed=10, cached=40, took_s=10)
    )
    many.jobs(route, Lot(100, now - timedelta(days=9), now - timedelta(days=8), took_s=99))
    made = report.make(now - timedelta(days=5), now - timedelta(hours=1))
    total, image = made.kinds
    assert (total.name, image.name, total.jobs) == ("all", "image", 1000)
    jobs = Job.objects.filter(
        model=route.model_id, created_at__gte=now - timedelta(days=5), metadata__pattern=True
    )
    mine = jobs.filter(created_at__lt=now - timedelta(hours=1))
    assert total.failed == mine.filter(status="failed").count()
    assert total.cached == mine.filter(cached_from__isnull=False).count()
    assert total.error_rate == pytest.approx(total.failed / 1000)
    assert total.all_s
    assert total.all_s[0] < 11
    assert total.generated_s
    assert 8 <= total.generated_s[0] <= total.generated_s[1] <= total.generated_s[2] <= 12
    assert feature(made, "cache: the same").jobs == total.cached
    assert feature(made, "cache: the same").saved_usd == mine.aggregate(saved=Sum("saved_usd"))["saved"]


def test_money_is_that_of_the_ledger() -> None:
    user = factories.user()
    ledger.entries(user, 1000)
    rows.ended(JobStatus.COMPLETED)
    made = report.make(clock.now() - timedelta(days=30), clock.now() + timedelta(minutes=1))
    assert made.kinds[0].cost_usd == UsageRecord.objects.aggregate(cost=Sum("cost_usd"))["cost"] > 0
    assert made.kinds[0].job_usd == made.kinds[0].cost_usd


def test_each_feature_is_worth_what_its_rows_say() -> None:
    selection = {"alternatives": [{"estimated_cost_usd": "0.1"}, {"estimated_cost_usd": "0.04"}]}
    chosen = rows.ended(JobStatus.COMPLETED, selection=selection, estimated_cost_usd=Decimal("0.03"))
    rows.ended(JobStatus.COMPLETED, cached_from=chosen.pk, cache_tier="shared", saved_usd=Decimal("0.5"))
    rescued = rows.ended(JobStatus.COMPLETED)
    for number, status in enumerate(("failed", "accepted"), start=1):
        rows.attempt(job=rescued, number=number, status=status, finished_at=clock.now())
    ProviderBatch.objects.create(
        route_id=chosen.pk, provider="openai", provider_model="m", status=BatchStatus.ENDED, ended_at=clock.now(),
        size=7, room=10, waited_s=3, saved_usd=Decimal("0.25"),
    )  # fmt: skip
    made = report.make(clock.now() - timedelta(hours=1), clock.now() + timedelta(minutes=1))
    assert feature(made, "selection") == Feature(feature(made, "selection").name, 1, Decimal("0.07"))
    assert feature(made, "single-flight").saved_usd == Decimal("0.5")
    assert (feature(made, "batches").jobs, feature(made, "batches").saved_usd) == (7, Decimal("0.25"))
    assert feature(made, "fallback").rescued == 1
    compared = {name: (before, after) for name, before, after in report.tables(made)[1].rows}
    assert compared["failed"] == ("33.3%", "0.0%")
    assert compared["cost"] == ("$0.82", "$0.00")


def test_it_is_told_as_text_and_as_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    rows.ended(JobStatus.COMPLETED)
    out, page = StringIO(), tmp_path / "report.html"
    call_command("report", "--days", "7", "--html", str(page), stdout=out)
    text, html = out.getvalue(), page.read_text()
    for words in ("genplatform: 7 days to", "hit rate", "image", "What each feature was worth"):
        assert words in text
        assert words in html
    assert not re.search(r"(?:src|href)=|url\(", html)
    assert html.count("<table>") == html.count("</table>") == 3


def test_where_nothing_happened_it_says_so() -> None:
    out = StringIO()
    call_command("report", stdout=out)
    assert re.search(r"^all +0 +– +– ", out.getvalue(), flags=re.M)
    with pytest.raises(CommandError):
        call_command("report", "--days", "0")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_jobs_take_seconds_to_report_and_a_minute_of_them_little_to_watch() -> None:
    now = clock.now()
    many.jobs(many.route(), Lot(1_000_000, now - timedelta(days=29), now, failed=2, cached=50))
    began = time.monotonic()
    made = report.make(now - timedelta(days=30), now)
    report_s = time.monotonic() - began
    assert made.kinds[0].jobs >= 999_000
    minute = int(now.timestamp()) // 60 - 2
    series.read(minute, minute)
    began = time.monotonic()
    for _ in range(5):
        found: Any = series.read(minute, minute)
        series.waiting(minute)
    watch_s = (time.monotonic() - began) / 5
    assert found[minute]
    print(f"report {report_s:.1f} s, a minute of the watch {watch_s * 1000:.0f} ms")  # noqa: T201
    assert report_s < 30
    assert watch_s < 0.2
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('event_by_time'), count(*) FROM jobs_jobevent")
        size, events = cursor.fetchone()
    assert size < events
