"""Whoever the settings name is told of an alert, once; not while it is silenced; and until the channel takes it."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.core import clock
from apps.ops import alerts, notices, tasks
from apps.ops.models import Alert, Notice, Silence
from tests.fakes.receiver import Answer, Receiver
from tests.jobs.bells import clear, waiting
from tests.ops import rows

pytestmark = pytest.mark.django_db
SECRET = "s3cr3t-token"


@pytest.fixture
def pager(settings: Any) -> Iterator[Receiver]:
    """Wants warnings and what is graver; its address holds a secret."""
    with Receiver() as running:
        settings.ALERT_URLS = {"warning": [f"json://ops:{SECRET}@127.0.0.1:{running.port}/hook/{SECRET}"]}
        yield running


def raised(severity: Alert.Severity = Alert.Severity.WARNING, key: str = "a", **changes: Any) -> Alert:
    alerts.raise_(kind="books", severity=severity, key=key, subject="x", message="words", **changes)
    return Alert.objects.filter(key=key).latest("id")


def send() -> list[str]:
    """What came of every notice that is due."""
    due = Notice.objects.filter(due_at__lte=clock.now()).order_by("id")
    return [notices.send(notice.pk) for notice in due]


def told(pager: Receiver) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in pager.requests]


def test_an_alert_is_told_once_with_its_words_and_its_page(pager: Receiver) -> None:
    alert = raised()
    raised()
    assert send() == ["sent"]
    assert send() == []
    [message] = told(pager)
    assert message["title"] == "[warning] books: x"
    assert "words" in message["message"]
    assert f"/admin/ops/alert/{alert.pk}/" in message["message"]
    assert message["type"] == "warning"
    assert pager.requests[0].headers["authorization"].startswith("Basic ")


def test_it_rings_after_the_commit(pager: Receiver, django_capture_on_commit_callbacks: Any) -> None:
    clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        raised()
    notice = Notice.objects.get()
    assert [(ring.task, ring.id) for ring in waiting("io")] == [("ops.send_notice", str(notice.pk))]


def test_what_becomes_graver_is_told_again_and_what_becomes_lesser_is_not(pager: Receiver) -> None:
    for severity, outcome in (("warning", ["sent"]), ("info", []), ("critical", ["sent"]), ("critical", [])):
        raised(Alert.Severity(severity))
        assert send() == outcome
    assert [message["type"] for message in told(pager)] == ["warning", "failure"]


def test_every_channel_gets_what_it_wants(settings: Any) -> None:
    settings.ALERT_URLS = {
        "critical": ["json://127.0.0.1:1/pager"],
        "info": ["json://127.0.0.1:1/log"],
    }
    raised(Alert.Severity.WARNING, "a")
    raised(Alert.Severity.CRITICAL, "b")
    log, page = (notices.digest(settings.ALERT_URLS[each][0]) for each in ("info", "critical"))
    found = set(Notice.objects.values_list("alert__key", "channel"))
    assert found == {("a", log), ("b", log), ("b", page)}


def test_nobody_is_told_of_what_nobody_wants(settings: Any) -> None:
    settings.ALERT_URLS = {"critical": ["json://127.0.0.1:1/pager"]}
    raised(Alert.Severity.WARNING)
    settings.ALERT_URLS = {}
    raised(Alert.Severity.CRITICAL, "b")
    notices.sweep()
    assert not Notice.objects.exists()


def test_the_end_is_told_a_while_later_to_who_was_told_of_the_beginning(pager: Receiver) -> None:
    raised()
    send()
    at = clock.now()
    alerts.resolve("a")
    assert send() == []
    with clock.frozen(at + timedelta(seconds=notices.RESOLVED_AFTER_S + 1)):
        assert send() == ["sent"]
    assert [message["type"] for message in told(pager)] == ["warning", "success"]
    assert told(pager)[1]["title"].startswith("[resolved]")


def test_what_comes_and_goes_is_one_alert_and_one_message(pager: Receiver) -> None:
    at = clock.now()
    for minute in range(0, 20, 2):
        with clock.frozen(at + timedelta(minutes=minute)):
            raised(cool_down_s=1800)
            send()
        with clock.frozen(at + timedelta(minutes=minute + 1)):
            alerts.resolve_others("books", [])
            send()
    alert = Alert.objects.get()
    assert alert.count == 10
    assert len(pager.requests) == 1
    with clock.frozen(at + timedelta(hours=1)):
        assert send() == ["sent"]
        raised(cool_down_s=1800)
        assert Alert.objects.count() == 2


def test_a_channel_that_is_away_is_tried_later_and_later(pager: Receiver) -> None:
    pager.answers(Answer(500), Answer(500))
    raised()
    notice = Notice.objects.get()
    at = notice.due_at
    assert at
    for wait_s in (30, 60):
        with clock.frozen(at):
            assert notices.send(notice.pk) == "later"
        notice.refresh_from_db()
        assert notice.due_at == at + timedelta(seconds=wait_s)
        at = notice.due_at
        assert at
    with clock.frozen(at):
        assert notices.send(notice.pk) == "sent"
    assert len(pager.requests) == 3


def test_at_last_it_is_given_up_and_that_is_an_alert(pager: Receiver) -> None:
    raised()
    notice = Notice.objects.get()
    Notice.objects.update(attempts=notices.MAX_ATTEMPTS - 1)
    pager.answers(Answer(500))
    tasks.send_notice(v=1, id=str(notice.pk))
    notice.refresh_from_db()
    assert (notice.due_at, notice.sent_at) == (None, None)
    assert Alert.objects.open().filter(kind="alert.undelivered").count() == 1


def test_who_died_while_sending_does_not_keep_it(pager: Receiver) -> None:
    raised()
    notice = Notice.objects.get()
    now = clock.now()
    Notice.objects.update(due_at=now + timedelta(seconds=60), attempts=1)
    assert notices.send(notice.pk) == "nothing"
    with clock.frozen(now + timedelta(seconds=61)):
        assert notices.send(notice.pk) == "sent"


def test_lost_rings_are_made_up_for(pager: Receiver, django_capture_on_commit_callbacks: Any) -> None:
    raised()
    clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        assert notices.sweep() == 1
    assert [ring.task for ring in waiting("io")] == ["ops.send_notice"]
    send()
    assert notices.sweep() == 0


@pytest.mark.parametrize("pattern", ["a:1", "a:*", "*"])
def test_a_silenced_alert_is_raised_and_told_when_the_silence_is_over_and_it_is_not(
    pager: Receiver, pattern: str
) -> None:
    now = clock.now()
    Silence.objects.create(pattern=pattern, until=now + timedelta(hours=1), reason="known")
    raised(key="a:1")
    notices.sweep()
    assert not Notice.objects.exists()
    with clock.frozen(now + timedelta(hours=2)):
        notices.sweep()
        assert send() == ["sent"]


def test_a_silence_covers_what_it_names_only(pager: Receiver) -> None:
    Silence.objects.create(pattern="a:*", until=clock.now() + timedelta(hours=1), reason="known")
    raised(key="b:1")
    assert send() == ["sent"]


def test_an_acknowledged_alert_is_not_told_after_its_silence(pager: Receiver) -> None:
    now = clock.now()
    Silence.objects.create(pattern="*", until=now + timedelta(hours=1), reason="known")
    alerts.acknowledge(raised(), User.objects.create(username="me"))
    with clock.frozen(now + timedelta(hours=2)):
        assert notices.sweep() == 0


def test_no_address_is_written_down_or_logged(pager: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    pager.answers(Answer(500))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger().debug("what is not ours to hold back is seen here")
        raised()
        send()
        Notice.objects.update(due_at=clock.now())
        send()
    assert Notice.objects.get().sent_at
    assert "is seen here" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in str([*Notice.objects.values(), *Alert.objects.values()])


@pytest.mark.parametrize("urls", [{"warning": [f"nonsense://{SECRET}"]}, {"loud": ["json://127.0.0.1/"]}])
def test_a_setting_that_would_tell_nobody_stops_the_start_without_being_shown(
    settings: Any, urls: Any
) -> None:
    settings.ALERT_URLS = urls
    with pytest.raises(SystemCheckError) as refused:
        call_command("check")
    assert "ops.E001" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_ops_silence_in_the_admin_and_both_histories_say_who(pager: Receiver) -> None:
    alert = rows.alert()
    root = User.objects.create(username="root", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(root)
    page = reverse("admin:ops_alert_changelist")
    data = {"action": "silence", "_selected_action": [alert.pk]}
    assert "1 alerts silenced" in client.post(page, data, follow=True).content.decode()
    made = Silence.objects.get()
    assert (made.pattern, made.created_by) == (alert.key, root)
    assert made.until > clock.now() + timedelta(hours=3)
    assert "silenced" in client.get(reverse("admin:ops_alert_history", args=[alert.pk])).content.decode()
    # Ended early, by the same page that makes one.
    ends = {"pattern": made.pattern, "until_0": "2020-01-01", "until_1": "00:00:00", "reason": "over"}
    edited = client.post(reverse("admin:ops_silence_change", args=[made.pk]), ends)
    assert edited.status_code == 302
    assert not Silence.objects.in_force().exists()
    assert (
        "until" in client.get(reverse("admin:ops_silence_history", args=[made.pk])).content.decode().lower()
    )
    looker = User.objects.create(username="looker", is_staff=True)
    client.force_login(looker)
    assert client.post(page, data).status_code == 403
