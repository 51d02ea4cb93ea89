"""The admin pages of the rooms above accounts and catalog: history to look at, and the few things ops may do."""

import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import Team, User
from apps.artifacts.models import Artifact
from apps.caching.models import CachedResult
from apps.catalog.models import Price
from apps.core import clock, ids
from apps.core.admin import BoundedPaginator, HistoryAdmin, usd
from apps.jobs import run
from apps.jobs.models import Attempt, Job, JobEvent
from apps.jobs.states import AttemptStatus, Billed, JobStatus
from apps.ledger.models import Budget, BudgetPeriod, Entry, Hold
from apps.ops import reconcile
from apps.webhooks import deliver
from apps.webhooks.models import Delivery, Event
from tests import factories
from tests.fakes.receiver import Receiver
from tests.ops import rows

pytestmark = pytest.mark.django_db
PAGES = sorted(admin.site._registry, key=lambda model: model._meta.label)
HISTORY = [model for model in PAGES if isinstance(admin.site._registry[model], HistoryAdmin)]


@pytest.fixture
def ops() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture(autouse=True)
def _books_agree() -> Any:
    yield
    assert reconcile.differences() == []


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with Receiver() as running:
        yield running


def url(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, f"{address}: {response.status_code}"
    return response.content.decode()


def act(client: Client, model: type[Model], action: str, row: Model) -> str:
    data = {"action": action, "_selected_action": [row.pk]}
    return str(client.post(url(model, "changelist"), data, follow=True).content.decode())


def test_every_model_with_a_table_of_ours_has_its_page() -> None:
    from django.apps import apps

    ours = {
        model
        for config in apps.get_app_configs()
        if config.name.startswith("apps.")
        for model in config.get_models()
    }
    # A quote is in the job that it was for; a vector or a result on its way to the store is for nobody to read; what is
    # counted is shown by /metrics, or with its batch.
    shown_inside_another = {
        "CachedVector",
        "DeliveryAttempt",
        "RouteStats",
        "Quote",
        "Refusal",
        "Spooled",
        "Tally",
        "Total",
        "Uncounted",
    }
    assert {model.__name__ for model in ours - set(PAGES)} == shown_inside_another


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_a_list_of_twenty_takes_the_queries_of_a_list_of_one(ops: Client, model: type[Model]) -> None:
    rows.make[model](0)
    page(ops, url(model, "changelist"))  # what is remembered for the process is remembered now
    with CaptureQueriesContext(connection) as one:
        page(ops, url(model, "changelist"))
    for i in range(1, 20):
        rows.make[model](i)
    with CaptureQueriesContext(connection) as twenty:
        page(ops, url(model, "changelist"))
    assert model._default_manager.count() >= 20
    assert len(twenty) == len(one), "\n".join(query["sql"] for query in twenty.captured_queries)


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_every_page_renders_loads_nothing_from_elsewhere_and_has_no_input_for_a_status(
    ops: Client, model: type[Model]
) -> None:
    rows.make[model](0)
    row = model._default_manager.order_by("pk").last()
    assert row
    for address in (url(model, "changelist"), url(model, "change", row.pk)):
        html = page(ops, address)
        assert not re.search(
            r'<(?:input|select|textarea)[^>]*name="(?:[\w-]*-)?(?:status|state|phase)"', html
        )
        loaded = re.findall(r'<(?:script|link|img|source)[^>]*(?:src|href)="((?:https?:)?//[^"]+)"', html)
        assert [found for found in loaded if not found.startswith(settings.PUBLIC_URL)] == []
    page(ops, url(model, "changelist") + "?q=x")
    page(ops, url(model, "changelist") + f"?q={uuid.uuid4()}")


@pytest.mark.parametrize("model", HISTORY, ids=lambda model: model._meta.label)
def test_history_is_neither_added_nor_changed(ops: Client, model: type[Model]) -> None:
    rows.make[model](0)
    row = model._default_manager.order_by("pk").last()
    assert row
    assert ops.get(url(model, "add")).status_code == 403
    assert ops.post(url(model, "change", row.pk), {"status": "completed"}).status_code == 403
    if model is not CachedResult:
        assert ops.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", HISTORY, ids=lambda model: model._meta.label)
def test_a_list_counts_no_further_than_its_bound(
    ops: Client, model: type[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.core.admin._MAX_COUNTED", 2)
    for i in range(3):
        rows.make[model](i)
    with CaptureQueriesContext(connection) as queries:
        page(ops, url(model, "changelist"))
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 2" in sql for sql in counts)


def test_the_paginator_stops_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        factories.team()
    found = BoundedPaginator(Team.objects.order_by("pk"), per_page=2)
    assert (found.count, found.num_pages) == (5, 3)
    monkeypatch.setattr("apps.core.admin._MAX_COUNTED", 4)
    found = BoundedPaginator(Team.objects.order_by("pk"), per_page=2)
    assert (found.count, found.num_pages) == (4, 2)


def test_an_admin_left_alone_is_logged_out_and_one_at_work_is_not(ops: Client) -> None:
    def expires_at() -> datetime:
        return Session.objects.get(pk=ops.session.session_key).expire_date

    page(ops, reverse("admin:index"))
    first = expires_at()
    assert first < clock.now() + timedelta(hours=1, seconds=1)
    page(ops, reverse("admin:index"))
    assert expires_at() > first
    Session.objects.update(expire_date=clock.now() - timedelta(seconds=1))
    assert ops.get(reverse("admin:index")).status_code == 302


# --- Jobs -------------------------------------------------------------------------------------


def test_a_job_shows_its_attempts_its_events_and_its_prompt_escaped(ops: Client) -> None:
    attempt = rows.attempt(
        error_kind="server_error", error_message="<i>broken</i>", status=AttemptStatus.FAILED
    )
    html = page(ops, url(Job, "change", attempt.job_id))
    assert "&lt;b&gt;a fox&lt;/b&gt; 0" in html
    assert "server_error: &lt;i&gt;broken&lt;/i&gt;" in html
    assert url(Attempt, "change", attempt.pk) in html
    assert "running" in html
    assert "retrying" in html


def test_a_jobs_outputs_are_seen_by_signed_links(ops: Client) -> None:
    picture = rows.artifact(0)
    outputs = [{"artifact_id": str(picture.pk), "media_type": "image/png"}]
    job = rows.ended(JobStatus.COMPLETED, outputs=outputs)
    html = page(ops, url(Job, "change", job.pk))
    assert re.search(
        rf'<img src="[^"]*/v1/artifacts/{picture.pk}\?expires=\d+&amp;signature=[0-9a-f]{{64}}"', html
    )


def test_a_job_is_found_by_its_id_its_attempts_its_user_and_not_by_its_prompt(ops: Client) -> None:
    attempt = rows.attempt(0)
    other = rows.attempt(1)
    job = attempt.job
    for term in (str(job.pk), str(attempt.pk), str(job.user_id), job.user.username, job.team.name):
        html = page(ops, url(Job, "changelist") + f"?q={term}")
        assert str(job.pk) in html
        assert str(other.job_id) not in html
    assert str(job.pk) not in page(ops, url(Job, "changelist") + "?q=fox")


def test_searches_of_growing_tables_ask_for_one_key_at_a_time(ops: Client) -> None:
    job = rows.attempt().job
    rows.delivery()
    pages: list[tuple[type[Model], object]] = [
        (owned, "team") for owned in (Artifact, CachedResult, Event, Delivery)
    ]
    for used in (Job, Attempt, JobEvent, Hold, Entry):
        pages += [(used, job.pk), (used, job.user.username)]
    for model, term in pages:
        with CaptureQueriesContext(connection) as queries:
            page(ops, url(model, "changelist") + f"?q={term}")
        asked = [query["sql"] for query in queries if f'FROM "{model._meta.db_table}"' in query["sql"]]
        assert asked
        for sql in asked:
            assert " LIKE " not in sql
            assert " OR " not in sql


def test_jobs_are_filtered_by_status_type_model_and_time(ops: Client) -> None:
    rows.make[Price](0)  # the model "model-0" is in the catalog
    found = rows.ended(JobStatus.FAILED, model="model-0")
    rows.job(1)
    for choice in (
        "status__exact=failed",
        "model=model-0",
        "status__exact=failed&type__exact=image&since=hour",
    ):
        html = page(ops, url(Job, "changelist") + f"?{choice}")
        assert re.findall(r'name="_selected_action" value="([^"]+)"', html) == [str(found.pk)]


def test_time_filters_read_the_primary_key() -> None:
    at = clock.now()
    made = rows.job()
    assert ids.since(at - timedelta(seconds=1)) < made.pk < ids.since(clock.now() + timedelta(seconds=1))


def test_canceling_asks_once_is_on_record_and_the_next_touch_ends_the_job(ops: Client) -> None:
    job = rows.job(status=JobStatus.QUEUED, lease=None)
    assert "1 jobs will be canceled" in act(ops, Job, "cancel", job)
    assert "0 jobs will be canceled" in act(ops, Job, "cancel", job)
    run.run(job.pk)
    job.refresh_from_db()
    assert job.status == JobStatus.CANCELED
    assert Hold.objects.get(reference=job.pk).state == Hold.State.RELEASED
    assert "asked to cancel" in page(ops, url(Job, "history", job.pk))


def test_an_ended_job_is_not_canceled(ops: Client) -> None:
    job = rows.ended(JobStatus.COMPLETED)
    assert "0 jobs will be canceled" in act(ops, Job, "cancel", job)
    job.refresh_from_db()
    assert job.cancel_requested_at is None


@pytest.mark.parametrize(("model", "action"), [(Job, "cancel"), (Delivery, "send_again")])
def test_who_may_only_look_may_not_act(model: type[Model], action: str) -> None:
    from django.contrib.auth.models import Permission

    guest = User.objects.create(username="guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename=f"view_{model._meta.model_name}"))
    client = Client()
    client.force_login(guest)
    rows.make[model](0)
    row = model._default_manager.get()
    assert f'value="{action}"' not in page(client, url(model, "changelist"))
    act(client, model, action, row)
    before = row.__class__._default_manager.filter(pk=row.pk).values().get()
    assert before.get("cancel_requested_at") is None
    assert before["due_at"] == getattr(row, "due_at")  # noqa: B009


# --- Money ------------------------------------------------------------------------------------


def test_a_period_shows_what_is_spent_held_and_left_of_the_users_own_limit(ops: Client) -> None:
    job = rows.job()
    period = BudgetPeriod.objects.get(user=job.user, scope="user_month")
    html = page(ops, url(BudgetPeriod, "change", period.pk))
    assert "$99.975" in html
    Budget.objects.create(user=job.user, limit_usd=5)
    html = page(ops, url(BudgetPeriod, "changelist"))
    assert "$4.975" in html
    assert "$0.025" in html


def test_a_budget_set_here_holds_for_the_next_request(ops: Client) -> None:
    someone = factories.someone()
    response = ops.post(url(Budget, "add"), {"user": someone.user.pk, "limit_usd": "7.5"}, follow=True)
    assert response.status_code == 200
    assert someone.budget["limit_usd"] == "7.5"


def test_the_entries_of_a_period_are_one_click_away(ops: Client) -> None:
    job, _ = rows.job(0), rows.job(1)
    period = BudgetPeriod.objects.get(user=job.user, scope="user_month")
    html = page(ops, url(BudgetPeriod, "change", period.pk))
    for model in (Hold, Entry):
        address = f"{url(model, 'changelist')}?period__id__exact={period.pk}"
        assert address in html
        shown = page(ops, address)
        assert str(job.pk) in shown
        assert shown.count("$0.025") == (1 if model is Hold else 2)


def test_amounts_read_as_money() -> None:
    texts = [usd(Decimal(text)) for text in ("0.0250000000", "-0.0250000000", "0E-10", "100")]
    assert texts == ["$0.025", "-$0.025", "$0", "$100"]


# --- Files, cache, webhooks -------------------------------------------------------------------


def test_an_artifact_that_is_gone_has_no_preview(ops: Client) -> None:
    gone = rows.artifact(0, deleted_at=clock.now())
    html = page(ops, url(Artifact, "change", gone.pk))
    assert "<img src=" not in html.replace("/static/", "")
    assert "deleted" in html


def test_deleting_a_cached_result_purges_it(ops: Client) -> None:
    result = rows.cached_result()
    ops.post(url(CachedResult, "delete", result.pk), {"post": "yes"})
    assert not CachedResult.objects.exists()


@pytest.mark.parametrize("status", ["delivered", "exhausted", "disabled"])
def test_a_delivery_is_sent_again_with_the_same_id(ops: Client, status: str, receiver: Receiver) -> None:
    delivery = rows.delivery(status=status, due_at=None)
    Delivery.objects.filter(pk=delivery.pk).update(url=receiver.url)
    assert "1 deliveries will be sent now" in act(ops, Delivery, "send_again", delivery)
    deliver.deliver(delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [str(delivery.event_id)]
    assert "sent again" in page(ops, url(Delivery, "history", delivery.pk))


def test_a_delivery_under_way_is_not_sent_twice(ops: Client) -> None:
    later = clock.now() + timedelta(minutes=1)
    delivery = rows.delivery(lease=uuid.uuid4(), lease_expires_at=later, due_at=later)
    assert "0 deliveries will be sent now" in act(ops, Delivery, "send_again", delivery)


def test_an_event_shows_its_payload_and_its_deliveries(ops: Client) -> None:
    delivery = rows.delivery()
    html = page(ops, url(Event, "change", delivery.event_id))
    assert "https://example.com/0" in html
    assert url(Delivery, "change", delivery.pk) in html


def test_the_events_of_a_job_are_found_by_its_id(ops: Client) -> None:
    job = rows.moved()
    assert "queued" not in page(ops, url(JobEvent, "changelist") + f"?q={uuid.uuid4()}")
    assert "queued" in page(ops, url(JobEvent, "changelist") + f"?q={job.pk}")


def test_attempts_are_filtered_by_provider(ops: Client) -> None:
    attempt = rows.attempt(billed=Billed.NO)
    assert str(attempt.pk) in page(ops, url(Attempt, "changelist") + "?provider=wavespeed&billed__exact=no")
