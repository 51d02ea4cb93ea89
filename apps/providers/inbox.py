"""Webhooks from providers: verify the raw bytes, store once, ring. The work is done later, elsewhere."""

import hashlib
import uuid
from collections.abc import Mapping

from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse

from apps.core import bell
from apps.providers import registry
from apps.providers.contract import Ticket
from apps.providers.models import InboxEvent


def webhook_url(provider: str, attempt_id: uuid.UUID | str) -> str:
    """Where `provider` shall tell the end of our attempt."""
    path = reverse("provider-webhook", kwargs={"provider": provider, "attempt_id": attempt_id})
    return settings.PUBLIC_URL + path


def ticket(provider: str, attempt_id: uuid.UUID, *, model: str) -> Ticket | None:
    """The task that the provider has named for our attempt: what a lost ring would have told.

    `model`: the provider's name of what was bought.
    """
    told = InboxEvent.objects.filter(subject_id=attempt_id, provider=provider).order_by("id")
    task_id = told.values_list("task_id", flat=True).first()
    return Ticket.named(task_id, model=model) if task_id else None


def take(provider: str, attempt_id: uuid.UUID, raw: bytes, headers: Mapping[str, str]) -> InboxEvent | None:
    """Stores the event and rings `jobs.provider_event`; None if it was already there.

    `headers` by lower-case name. Raises errors.UnknownProvider and errors.WebhookRejected.
    """
    event = registry.adapter(provider).parse_webhook(raw, headers)
    try:
        with transaction.atomic():
            stored = InboxEvent.objects.create(
                provider=provider,
                event_id=event.event_id,
                subject_id=attempt_id,
                task_id=event.task_id,
                body_sha256=hashlib.sha256(raw).hexdigest(),
            )
            bell.ring("jobs.provider_event", id=stored.id, queue="io")
    except IntegrityError:
        return None
    return stored
