"""GET /metrics: the whole deployment in one answer, for those who may read it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from apps.accounts import caller
from apps.catalog import snapshot, sync
from apps.core import clock
from apps.core.telemetry import instruments
from apps.providers import breaker_store, health
from apps.providers.breaker_store import Name
from apps.webhooks import metrics as webhooks
from tests import factories
from tests.factories import body

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


def test_every_instrument_of_rows_has_a_room() -> None:
    assert {each.name.split(".")[0] for each in instruments.KNOWN.values() if each.rows} == {
        "generation", "jobs", "ledger", "provider",
    }  # fmt: skip
