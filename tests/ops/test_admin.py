import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django_celery_results.models import TaskResult

from apps.accounts import keys, tiers
from apps.accounts.models import ApiKey, Team, User
from apps.catalog import snapshot, sync
from apps.catalog.models import GenerationModel, Price, Route

pytestmark = pytest.mark.django_db
PAGES = sorted(admin.site._registry, key=lambda model: model._meta.label)


@pytest.fixture
def ops() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def rows() -> Iterator[None]:
    """One of everything this room and those below it register."""
    sync.sync()
    team = Team.objects.create(name="Acme")
    user = User.objects.create(username="wile", team=team, tier=tiers.ensure()["pro"])
    keys.issue(user, name="ci", scopes=["jobs:read"])
    Group.objects.create(name="ops")
    TaskResult.objects.create(task_id="1", task_name="jobs.sweep", status="FAILURE", traceback="<b>boom</b>")
    yield
    snapshot.forget()


def url(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, f"{address}: {response.status_code}"
    return response.content.decode()


def post(client: Client, address: str, **data: Any) -> HttpResponse:
    return client.post(address, data, follow=True)  # type: ignore[return-value]  # the test client's own class


@pytest.mark.parametrize("model", PAGES, ids=lambda model: model._meta.label)
def test_every_registered_page_renders(ops: Client, rows: None, model: type[Model]) -> None:
    may_add = admin.site._registry[model].has_add_permission(ops_request(ops))
    html = page(ops, url(model, "changelist"))
    assert "genplatform" in html
    page(ops, url(model, "changelist") + "?q=x")
    assert ops.get(url(model, "add")).status_code == (200 if may_add else 403)
    if row := model._default_manager.first():
        page(ops, url(model, "change", row.pk))
        page(ops, url(model, "history", row.pk))


def ops_request(client: Client) -> Any:
    return client.get(reverse("admin:index")).wsgi_request


def test_every_model_of_these_rooms_has_a_row_to_render(rows: None) -> None:
    for model in (ApiKey, Team, User, GenerationModel, Route, Price, TaskResult, Group):
        assert model._default_manager.exists()


def test_the_sidebar_lists_every_registered_page(ops: Client) -> None:
    html = page(ops, reverse("admin:index"))
    for model in PAGES:
        assert url(model, "changelist") in html


def test_no_page_loads_anything_from_elsewhere(ops: Client, rows: None) -> None:
    for address in (reverse("admin:index"), url(ApiKey, "changelist"), url(User, "add")):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page(ops, address))


def test_a_stranger_is_sent_to_the_login_page() -> None:
    response = Client().get(reverse("admin:index"))
    assert response.status_code == 302
    assert "genplatform" in page(Client(), reverse("admin:login"))


def test_staff_without_permissions_see_no_pages() -> None:
    client = Client()
    client.force_login(User.objects.create(username="guest", is_staff=True))
    assert url(ApiKey, "changelist") not in page(client, reverse("admin:index"))
    assert client.get(url(ApiKey, "changelist")).status_code == 403


def test_a_key_is_shown_once_when_it_is_issued_and_its_digest_never(ops: Client, rows: None) -> None:
    user = User.objects.get(username="wile")
    response = post(ops, url(ApiKey, "add"), user=user.pk, name="new", scopes=["jobs:read"])
    shown = re.search(r"gp_live_[0-9A-Za-z]{38}", response.content.decode())
    assert shown
    key = ApiKey.objects.get(name="new")
    assert (keys.parse(shown[0]), key.scopes) == (bytes(key.digest), ["jobs:read"])
    for address in (url(ApiKey, "changelist"), url(ApiKey, "change", key.pk)):
        html = page(ops, address)
        assert shown[0] not in html
        assert bytes(key.digest).hex() not in html
        assert "digest" not in html


def test_a_key_for_a_user_without_a_team_is_refused_in_the_form(ops: Client) -> None:
    response = post(ops, url(ApiKey, "add"), user=User.objects.get().pk, name="new", scopes=["jobs:read"])
    assert "This user has no team" in response.content.decode()
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_by_an_action_and_it_is_on_record(ops: Client, rows: None) -> None:
    key = ApiKey.objects.get()
    post(ops, url(ApiKey, "changelist"), action="revoke", _selected_action=[key.pk])
    key.refresh_from_db()
    assert key.revoked_at
    assert "revoked" in page(ops, url(ApiKey, "history", key.pk))


def test_rotating_shows_the_successor_and_leaves_the_old_key_a_day(ops: Client, rows: None) -> None:
    key = ApiKey.objects.get()
    response = post(ops, url(ApiKey, "changelist"), action="rotate", _selected_action=[key.pk])
    assert re.search(r"gp_live_[0-9A-Za-z]{38}", response.content.decode())
    key.refresh_from_db()
    assert key.expires_at
    assert ApiKey.objects.count() == 2


def test_a_key_is_neither_changed_nor_deleted(ops: Client, rows: None) -> None:
    key = ApiKey.objects.get()
    assert ops.post(url(ApiKey, "change", key.pk), {"name": "x"}).status_code == 403
    assert ops.post(url(ApiKey, "delete", key.pk), {"post": "yes"}).status_code == 403


def test_a_price_is_added_as_the_next_version_and_never_changed(ops: Client, rows: None) -> None:
    route = Route.objects.get(model="premium", provider="wavespeed")
    values = {
        "route": route.pk,
        "unit": "image",
        "unit_price_usd": "0.09",
        "multipliers": "{}",
        "batch_discount": "0",
    }
    when = {"effective_at_0": "2026-01-01", "effective_at_1": "00:00:00"}
    post(ops, url(Price, "add"), **values, **when)
    price = route.prices.get(version=2)
    assert (str(price.unit_price_usd), price.managed) == ("0.09000000000000", False)
    assert ops.post(url(Price, "change", price.pk), values).status_code == 403
    assert ops.post(url(Price, "delete", price.pk), {"post": "yes"}).status_code == 403


def model_form(**changes: Any) -> dict[str, Any]:
    inline = {"routes-TOTAL_FORMS": 0, "routes-INITIAL_FORMS": 0}
    values = {
        "name": "Premium",
        "kind": "image",
        "quality": 8,
        "version": "1",
        "active": "on",
        "routing": "priority",
        "limits": '{"max_n": 2}',
        "defaults": "{}",
        "expected_s_p50": 1,
        "expected_s_p95": 2,
    }
    return {**values, **inline, **changes}


def test_an_edited_model_is_kept_from_the_next_sync_until_it_is_given_back(ops: Client, rows: None) -> None:
    post(ops, url(GenerationModel, "change", "premium"), **model_form())
    model = GenerationModel.objects.get(slug="premium")
    assert (model.quality, model.managed) == (8, False)
    sync.sync()
    model.refresh_from_db()
    assert model.quality == 8
    post(ops, url(GenerationModel, "changelist"), action="give_back", _selected_action=["premium"])
    sync.sync()
    model.refresh_from_db()
    assert (model.quality, model.managed) == (9, True)


def test_defaults_outside_the_limits_are_refused_in_the_form(ops: Client, rows: None) -> None:
    response = post(ops, url(GenerationModel, "change", "premium"), **model_form(defaults='{"n": 3}'))
    assert "not within the limits" in response.content.decode()
    assert GenerationModel.objects.get(slug="premium").managed


def test_a_user_needs_both_a_team_and_a_tier(ops: Client, rows: None) -> None:
    password = {"password1": "correct horse", "password2": "correct horse", "usable_password": "true"}
    team = Team.objects.get().pk
    post(ops, url(User, "add"), username="half", timezone="UTC", team=team, **password)
    assert not User.objects.filter(username="half").exists()
    post(ops, url(User, "add"), username="whole", timezone="UTC", team=team, tier="pro", **password)
    assert User.objects.get(username="whole").check_password("correct horse")


def test_task_results_are_history_and_their_text_is_escaped(ops: Client, rows: None) -> None:
    result = TaskResult.objects.get()
    html = page(ops, url(TaskResult, "change", result.pk))
    assert "<b>boom</b>" not in html
    assert "&lt;b&gt;boom" in html
    assert ops.post(url(TaskResult, "delete", result.pk), {"post": "yes"}).status_code == 403
