"""E-mail that is not lost: a row until Django's backend (EMAIL_URL) took it. At least once, with one Message-ID."""

import smtplib
import uuid
from datetime import timedelta
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage

from apps.accounts.models import User
from apps.core import bell, clock
from apps.ops import alerts
from apps.ops.models import Alert, Email

# Who sends has this long; then it is due again.
_LEASE_S: Final = 60
_FIRST_DELAY_S: Final = 60
MAX_ATTEMPTS: Final = 8
_BATCH: Final = 100


def queue(user: User, *, subject: str, body: str) -> Email:
    """In the caller's transaction; it is sent after the commit."""
    email = Email.objects.create(user=user, subject=" ".join(subject.split())[:200], body=body)
    bell.ring("ops.send_email", id=email.pk, queue="io")
    return email


def send(email_id: uuid.UUID) -> bool:
    """One attempt, if it is due and nobody else makes it. False if it was not sent."""
    now = clock.now()
    email = Email.objects.select_related("user").filter(pk=email_id, due_at__lte=now).first()
    if email is None:
        return False
    claim = Email.objects.filter(pk=email_id, due_at=email.due_at, attempts=email.attempts)
    attempts = email.attempts + 1
    if not claim.update(due_at=now + timedelta(seconds=_LEASE_S), attempts=attempts):
        return False
    mine = Email.objects.filter(pk=email_id, attempts=attempts)
    try:
        _message(email).send()
    except (smtplib.SMTPException, OSError) as error:
        due_at = None
        if attempts < MAX_ATTEMPTS:
            due_at = now + timedelta(seconds=_FIRST_DELAY_S * 2 ** (attempts - 1))
        # The class alone: an answer of a mail server may name the address.
        mine.update(due_at=due_at, error=type(error).__name__)
        if due_at is None:
            _given_up(email)
        return False
    mine.update(due_at=None, sent_at=clock.now(), error="")
    return True


def sweep() -> int:
    """Rings for what is due: retries, and rings that were lost. How many."""
    due = Email.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    ids = list(due.values_list("pk", flat=True)[:_BATCH])
    for email_id in ids:
        bell.ring("ops.send_email", id=email_id, queue="io")
    return len(ids)


def _message(email: Email) -> EmailMessage:
    _, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    domain = Address(addr_spec=sender).domain
    return EmailMessage(
        email.subject, email.body, to=[email.user.email], headers={"Message-ID": f"<{email.pk}@{domain}>"}
    )


def _given_up(email: Email) -> None:
    alerts.raise_(
        kind="email.undelivered",
        severity=Alert.Severity.WARNING,
        key=f"email.undelivered:{email.user_id}",
        subject=email.user.username,
        message=f"An e-mail could not be sent in {MAX_ATTEMPTS} attempts: {email.subject}",
    )
