"""One open alert for each thing, however often it is raised; gone when it is gone."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.core import clock
from apps.ops import alerts
from apps.ops.models import Alert
from tests.ops import rows

pytestmark = pytest.mark.django_db


def raised(key: str = "a", message: str = "words") -> bool:
    return alerts.raise_(
        kind="books.balance", severity=Alert.Severity.WARNING, key=key, subject="x", message=message
    )


def test_the_same_thing_again_is_counted_and_takes_the_newest_words() -> None:
    at = clock.now()
    with clock.frozen(at):
        assert raised(message="first") is True
    with clock.frozen(at + timedelta(minutes=5)):
        assert raised(message="second") is False
    alert = Alert.objects.get()
    assert (alert.count, alert.message) == (2, "second")
    assert (alert.first_at, alert.last_at) == (at, at + timedelta(minutes=5))


def test_other_things_have_alerts_of_their_own() -> None:
    assert (raised("a"), raised("b")) == (True, True)


def test_what_comes_back_after_it_was_resolved_is_a_new_alert() -> None:
    raised()
    assert (alerts.resolve("a"), alerts.resolve("a")) == (True, False)
    assert raised() is True
    assert (Alert.objects.count(), Alert.objects.open().count()) == (2, 1)


def test_a_check_resolves_what_it_no_longer_finds_and_nothing_else() -> None:
    for key in ("a", "b", "c"):
        raised(key)
    rows.alert(kind="other", key="other")
    assert alerts.resolve_others("books.balance", ["b"]) == 2
    assert set(Alert.objects.open().values_list("key", flat=True)) == {"b", "other"}


@pytest.mark.django_db(transaction=True)
def test_many_who_raise_the_same_at_once_open_one() -> None:
    def one(_: int) -> bool:
        try:
            return raised()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))).count(True) == 1
    assert Alert.objects.get().count == 24


def test_who_acknowledges_first_is_on_record() -> None:
    alert, first, second = (
        rows.alert(),
        User.objects.create(username="first"),
        User.objects.create(username="second"),
    )
    assert (alerts.acknowledge(alert, first), alerts.acknowledge(alert, second)) == (True, False)
    alert.refresh_from_db()
    assert alert.acknowledged_by == first


def test_ops_acknowledge_in_the_admin_and_the_page_says_who() -> None:
    alert = rows.alert()
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    data = {"action": "acknowledge", "_selected_action": [alert.pk]}
    page = client.post(reverse("admin:ops_alert_changelist"), data, follow=True).content.decode()
    assert "1 alerts acknowledged" in page
    assert "0 alerts acknowledged" in str(
        client.post(reverse("admin:ops_alert_changelist"), data, follow=True).content.decode()
    )
    history = client.get(reverse("admin:ops_alert_history", args=[alert.pk])).content.decode()
    assert "acknowledged" in history
    for choice, shown in (("open", True), ("new", False), ("resolved", False)):
        html = client.get(reverse("admin:ops_alert_changelist"), {"is": choice}).content.decode()
        assert (str(alert.pk) in html) is shown, choice
    assert "&lt;b&gt;spent" in page
