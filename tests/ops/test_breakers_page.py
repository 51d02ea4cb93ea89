"""Ops open and close a breaker by hand, and it is known who did."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import User
from apps.providers import breaker_store
from apps.providers.breaker_store import Name, Wish
from apps.providers.models import Provider
from tests import factories

pytestmark = pytest.mark.django_db

NAME = Name("wavespeed", "wavespeed-ai/fast-draft", "submit")
PAGE = "/admin/providers/provider/wavespeed/breakers/"


@pytest.fixture
def ops(settings: Any) -> Client:
    settings.PROVIDER_STATE_TIMEOUT_S = 5.0
    Provider.objects.create(slug="wavespeed", name="WaveSpeedAI")
    breaker_store.admit([Wish(NAME, 60, ramp=True)], token="t")
    client = Client()
    client.force_login(factories.user(is_staff=True, is_superuser=True))
    return client


def is_open() -> bool:
    return not isinstance(breaker_store.admit([Wish(NAME, 60)], token="x"), list)


def test_a_breaker_is_opened_and_left_to_the_rules_again_by_hand(ops: Client) -> None:
    assert NAME.model in ops.get(PAGE).content.decode()
    assert ops.post(PAGE, {"breaker": NAME.key, "hand": "open"}).status_code == 302
    assert is_open()
    assert "forced open" in ops.get(PAGE).content.decode()
    ops.post(PAGE, {"breaker": NAME.key, "hand": "automatic"})
    assert not is_open()


def test_the_log_says_who_did_it(ops: Client) -> None:
    ops.post(PAGE, {"breaker": NAME.key, "hand": "open"})
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user) == ("wavespeed", User.objects.get(is_superuser=True))
    assert "fast-draft: open" in entry.get_change_message()


def test_what_is_no_breaker_of_the_provider_is_refused(ops: Client) -> None:
    for posted in ({"breaker": "limit:wavespeed", "hand": "open"}, {"breaker": NAME.key, "hand": "burn"}):
        assert ops.post(PAGE, posted).status_code == 400
    assert not is_open()


def test_who_may_not_change_providers_sees_no_breakers() -> None:
    Provider.objects.create(slug="wavespeed", name="WaveSpeedAI")
    client = Client()
    client.force_login(factories.user(is_staff=True))
    assert client.get(PAGE).status_code == 403


def test_the_list_of_providers_says_how_each_is(ops: Client, settings: Any) -> None:
    settings.PROVIDERS = {"wavespeed": {"base_url": "", "api_key": "k", "webhook_secret": ""}}
    breaker_store.force(NAME, "open")
    assert "forced" in ops.get("/admin/providers/provider/").content.decode()
