"""A threshold of a budget was passed: its people are told once, by webhook, e-mail and alert."""

import smtplib
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail as outbox
from django.core.mail.backends.locmem import EmailBackend

from apps.accounts.models import User
from apps.core import clock
from apps.ledger.models import BudgetWarning, TeamBudget
from apps.ops import announce, mail
from apps.ops.models import Alert, Email
from apps.webhooks import endpoints
from apps.webhooks.models import Delivery, Endpoint
from tests import factories
from tests.factories import Someone
from tests.jobs.bells import clear, waiting
from tests.ledger.purchases import buy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    endpoints.forget()
    yield
    endpoints.forget()


@pytest.fixture
def spender() -> Someone:
    """Of a team with one admin, one endpoint and colleagues who have nothing to do with it."""
    team = factories.team()
    tier = factories.tier(monthly_budget_usd=Decimal(1))
    factories.user(team=team, username="boss", email="boss@example.com", is_team_admin=True)
    factories.user(team=team, username="colleague", email="colleague@example.com")
    factories.user(username="other-boss", email="other@example.com", is_team_admin=True)
    Endpoint.objects.create(team=team, url="https://example.com/hook", event_types=["budget.warning"])
    return factories.someone(team=team, tier=tier, username="spender", email="spender@example.com")


def warned(someone: Someone, spent: str = "0.85") -> BudgetWarning:
    buy(someone.user, spent)
    return BudgetWarning.objects.latest("created_at")


def sent() -> list[tuple[str, str]]:
    """Address and subject of every e-mail that was sent by now."""
    for email in Email.objects.filter(due_at__isnull=False):
        mail.send(email.pk)
    return sorted((message.to[0], str(message.subject)) for message in outbox.outbox)


def test_the_warning_rings_for_its_announcement(
    spender: Someone, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        warning = warned(spender)
    rung = [message for message in waiting("control") if message.task == "ops.budget_warning"]
    assert [message.id for message in rung] == [str(warning.pk)]


def test_the_user_and_the_teams_admins_are_written_to(spender: Someone) -> None:
    announce.announce(warned(spender).pk)
    subject = "85 % of the monthly budget of spender is used"
    assert sent() == [("boss@example.com", subject), ("spender@example.com", subject)]
    text = str(outbox.outbox[0].body)
    assert "0.85 of 1 USD" in text
    assert "0.15 USD remain" in text


def test_the_teams_endpoints_get_the_figures(spender: Someone) -> None:
    warning = warned(spender)
    announce.announce(warning.pk)
    delivery = Delivery.objects.get()
    assert delivery.event.type == "budget.warning"
    data = delivery.event.payload["data"]
    assert {name: data[name] for name in ("id", "scope", "threshold", "percent_used", "remaining_usd")} == {
        "id": str(warning.pk),
        "scope": "user_month",
        "threshold": 80,
        "percent_used": 85,
        "remaining_usd": "0.15",
    }
    assert data["user_id"] == str(spender.user.pk)


def test_ops_get_an_alert_that_grows_graver_at_the_limit(spender: Someone) -> None:
    announce.announce(warned(spender).pk)
    assert Alert.objects.get().severity == "info"
    announce.announce(warned(spender, "0.15").pk)
    assert list(Alert.objects.order_by("id").values_list("severity", flat=True)) == ["info", "warning"]
    assert "spender@example.com" not in str(Alert.objects.values())


def test_a_warning_is_announced_once(spender: Someone) -> None:
    warning = warned(spender)
    assert [announce.announce(warning.pk) for _ in range(3)] == [True, False, False]
    assert (Delivery.objects.count(), Email.objects.count(), Alert.objects.get().count) == (1, 2, 1)


def test_a_teams_warning_goes_to_its_admins(spender: Someone) -> None:
    assert spender.user.team_id
    TeamBudget.objects.create(team_id=spender.user.team_id, limit_usd=Decimal("0.5"))
    buy(spender.user, "0.41")
    warning = BudgetWarning.objects.get(period__scope="team_month")
    announce.announce(warning.pk)
    assert [address for address, _ in sent()] == ["boss@example.com"]
    assert Delivery.objects.get().event.payload["data"]["user_id"] is None


def test_who_has_no_address_or_left_is_not_written_to(spender: Someone) -> None:
    factories.user(team=spender.user.team, email="gone@example.com", is_team_admin=True, is_active=False)
    factories.user(team=spender.user.team, email="", is_team_admin=True)
    announce.announce(warned(spender).pk)
    assert Email.objects.count() == 2


def test_who_has_left_every_team_is_still_told(spender: Someone) -> None:
    warning = warned(spender)
    User.objects.filter(pk=spender.user.pk).update(team=None, tier=None)
    assert announce.announce(warning.pk) is True
    assert [address for address, _ in sent()] == ["spender@example.com"]
    assert (Delivery.objects.count(), Alert.objects.count()) == (0, 1)


def test_a_lost_ring_is_made_up_for(spender: Someone, django_capture_on_commit_callbacks: Any) -> None:
    warning = warned(spender)
    clear("control")
    with clock.frozen(warning.created_at + timedelta(seconds=5)):
        assert announce.sweep() == 0  # the ring may still be heard
    with clock.frozen(warning.created_at + timedelta(seconds=11)):
        with django_capture_on_commit_callbacks(execute=True):
            assert announce.sweep() == 1
        announce.announce(warning.pk)
        assert announce.sweep() == 0
    assert {message.id for message in waiting("control")} == {str(warning.pk)}


def test_the_alert_is_gone_with_its_period(spender: Someone) -> None:
    warning = warned(spender)
    announce.announce(warning.pk)
    assert announce.resolve_past() == 0
    with clock.frozen(warning.period.ends_at):
        assert announce.resolve_past() == 1
    assert not Alert.objects.open().exists()


# --- E-mail -----------------------------------------------------------------------------------


class NoServer(EmailBackend):
    """A mail server that is away."""

    def send_messages(self, messages: Any) -> int:
        raise smtplib.SMTPServerDisconnected("secret@example.com: connection unexpectedly closed")


@pytest.fixture
def email() -> Email:
    return mail.queue(factories.user(email="a@example.com"), subject="A line\nand another", body="Hello")


def fails(email: Email, at: datetime, settings: Any) -> Email:
    settings.EMAIL_BACKEND = f"{__name__}.NoServer"
    with clock.frozen(at):
        assert mail.send(email.pk) is False
    email.refresh_from_db()
    return email


def test_a_subject_is_one_line_and_the_message_has_one_id(email: Email) -> None:
    assert mail.send(email.pk) is True
    [message] = outbox.outbox
    assert message.subject == "A line and another"
    assert message.message()["Message-ID"] == f"<{email.pk}@localhost>"


def test_it_is_sent_once(email: Email) -> None:
    assert [mail.send(email.pk) for _ in range(3)] == [True, False, False]
    assert len(outbox.outbox) == 1


def test_it_is_tried_again_later_and_later_and_the_address_is_not_written_down(
    email: Email, settings: Any
) -> None:
    assert email.due_at
    at = email.due_at
    for wait_s in (60, 120, 240):
        email = fails(email, at, settings)
        assert email.due_at == at + timedelta(seconds=wait_s)
        at = email.due_at
    assert email.error == "SMTPServerDisconnected"


def test_at_last_it_is_given_up_with_an_alert(email: Email, settings: Any) -> None:
    for _ in range(mail.MAX_ATTEMPTS):
        assert email.due_at
        email = fails(email, email.due_at, settings)
    assert (email.due_at, email.sent_at) == (None, None)
    alert = Alert.objects.get(kind="email.undelivered")
    assert "@" not in alert.message + alert.subject


def test_a_sender_who_died_does_not_keep_it(email: Email) -> None:
    now = clock.now()
    Email.objects.filter(pk=email.pk).update(due_at=now + timedelta(seconds=60), attempts=1)  # and died
    assert mail.send(email.pk) is False
    with clock.frozen(now + timedelta(seconds=61)):
        assert mail.send(email.pk) is True


def test_what_is_due_is_rung_for(email: Email, django_capture_on_commit_callbacks: Any) -> None:
    clear("io")
    with django_capture_on_commit_callbacks(execute=True):
        assert mail.sweep() == 1
    assert [(message.task, message.id) for message in waiting("io")] == [("ops.send_email", str(email.pk))]
    mail.send(email.pk)
    assert mail.sweep() == 0


def test_an_email_of_nobody_is_none() -> None:
    assert mail.send(uuid.uuid4()) is False
