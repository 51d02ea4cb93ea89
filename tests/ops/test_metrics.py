"""GET /metrics: the whole deployment in one answer, for those who may read it."""

import statistics
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from apps.accounts import caller
from apps.catalog import snapshot, sync
from apps.core import clock
from apps.core.telemetry import instruments
from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from apps.providers import breaker_store, health
from apps.providers.breaker_store import Name
from apps.webhooks import metrics as webhooks
from tests import factories
from tests.factories import body
from tests.ops import rows

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _platform(db: None, settings: Any, tmp_path: Path) -> Iterator[None]:
    """The standard catalog, and nothing counted before."""
    settings.METRICS_DIR = str(tmp_path)
    caller.forget()
    snapshot.forget()
    sync.sync()
    yield
    caller.forget()
    snapshot.forget()


def scrape_text() -> str:
    return Client().get("/metrics").content.decode()


def scrape(client: Client | None = None, **headers: str) -> dict[tuple[str, ...], float]:
    """Name and the labels' values → number."""
    answer = (client or Client()).get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_it_shows_what_is_open_held_and_due() -> None:
    someone = factories.someone()
    job = someone.api.post("/v1/jobs", body(), format="json").json()
    with clock.frozen(clock.now()):
        found = scrape()
    assert found["generation_queue_depth", job["model"], "queued"] == 1
    assert found["generation_queue_depth", "", "running"] == 0
    assert Decimal(str(found["ledger_held_usd",])) == Decimal(someone.budget["held_usd"])
    assert found["ledger_spent_usd",] == 0
    assert 0 <= found["jobs_oldest_due_seconds",] < 60
    assert found["http_accept_seconds_count", "202"] == 1


def test_it_shows_the_worse_breaker_of_a_route() -> None:
    for kind in ("submit", "outcome"):
        breaker_store.force(Name("wavespeed", "a/model", kind), "closed")
    breaker_store.force(Name("wavespeed", "a/model", "outcome"), "open")
    health.forget()
    assert scrape()["provider_breaker_state", "wavespeed", "a/model"] == 2


def test_it_adds_what_processes_counted() -> None:
    webhooks.attempted("delivered", 0.2)
    webhooks.attempted("pending", 15)
    found = scrape()
    assert found["webhook_deliveries_total", "delivered"] == 1
    assert found["webhook_deliveries_total", "retried"] == 1
    assert found["webhook_delivery_seconds_sum", "retried"] == 15


@pytest.mark.parametrize(
    ("address", "headers", "settings_", "status"),
    [
        ("127.0.0.1", {}, {}, 200),
        ("::1", {}, {}, 200),
        ("203.0.113.7", {}, {}, 403),
        ("", {}, {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, {}, 403),
        ("127.0.0.1", {}, {"PUBLIC_URL": "https://api.example.com"}, 403),
        ("10.1.2.3", {}, {"METRICS_NETWORKS": ["10.0.0.0/8"]}, 200),
        ("127.0.0.1", {}, {"METRICS_TOKEN": "t0ken"}, 401),
        ("127.0.0.1", {"Authorization": "Bearer other"}, {"METRICS_TOKEN": "t0ken"}, 401),
        ("203.0.113.7", {"Authorization": "Bearer t0ken"}, {"METRICS_TOKEN": "t0ken"}, 200),
    ],
)
def test_only_a_known_network_or_who_has_the_token_may_read_it(
    settings: Any, address: str, headers: dict[str, str], settings_: dict[str, Any], status: int
) -> None:
    for name, value in settings_.items():
        setattr(settings, name, value)
    client = Client(REMOTE_ADDR=address)
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert (b"ledger_held_usd" in answer.content) == (status == 200)


_OTHERS = [field.column for field in Job._meta.concrete_fields if field.column and field.column != "id"]
_MORE = f"""
INSERT INTO jobs_job (id, {", ".join(_OTHERS)})
SELECT gen_random_uuid(), {", ".join(_OTHERS)} FROM jobs_job, generate_series(1, %(count)s) WHERE id = %(like)s
"""
# As they would be with thirty models at three providers.
_SERIES = """
INSERT INTO jobs_total (name, labels, numbers)
SELECT i.name, ARRAY['model-' || m, 'provider-' || p, s.status, 'no'], array_fill(1.0::float8, ARRAY[i.size])
FROM (VALUES ('generation.requests.total', 1), ('generation.duration.seconds', 19)) AS i (name, size),
     generate_series(1, 30) m, generate_series(1, 3) p, (VALUES ('completed'), ('failed'), ('canceled')) AS s (status)
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_scrape_beside_a_million_jobs_takes_a_tenth_of_a_second() -> None:
    ended, waiting = rows.ended(JobStatus.COMPLETED), rows.job(status=JobStatus.QUEUED, lease=None)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        # Without triggers: they were counted long ago.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for job, times in ((ended, 1_000_000), (waiting, 1_000)):
            cursor.execute(_MORE, {"like": job.pk, "count": times})
        cursor.execute("SET LOCAL session_replication_role = origin")
        cursor.execute(_SERIES)
        cursor.execute("ANALYZE jobs_job")
    took = []
    for _ in range(20):
        began = time.perf_counter()
        found = scrape_text()
        took.append(time.perf_counter() - began)
    assert f'status="queued"}} {1_001}' in found
    assert min(took) <= 0.1, took
    print(f"scrape beside 1,000,000 jobs: {statistics.median(took) * 1000:.0f} ms, {len(found):,} bytes")  # noqa: T201 - a figure


def test_every_instrument_of_rows_has_a_room() -> None:
    assert {each.name.split(".")[0] for each in instruments.KNOWN.values() if each.rows} == {
        "generation", "jobs", "ledger", "provider",
    }  # fmt: skip
