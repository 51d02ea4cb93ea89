"""What is known about providers, and the inbox of what they told us."""

from django.core.validators import MinValueValidator
from django.db import models

from apps.core import clock
from apps.core.ids import uuid7


class Provider(models.Model):
    """What ops say about a provider. One without a row is enabled; how it is reached stands in settings."""

    slug = models.SlugField(primary_key=True, help_text="As in settings.PROVIDERS")
    name = models.CharField(max_length=80)
    enabled = models.BooleanField(default=True, help_text="Off: no new attempt is made there")

    max_concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Orders under way there at once; empty: what it lets us feel",
    )
    max_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Orders a minute; empty: what it lets us feel",
    )

    def __str__(self) -> str:
        return self.name


class InboxEvent(models.Model):
    """One verified webhook, stored once however often it arrives. The body is not kept, only its digest:
    what it claims is asked of the provider again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.SlugField(max_length=50, db_index=False)
    event_id = models.CharField(max_length=255)
    subject_id = models.UUIDField(help_text="Our attempt, as named in the URL we gave the provider")
    task_id = models.CharField(max_length=255, help_text="The provider's task, as named in the body")
    body_sha256 = models.CharField(max_length=64)
    received_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "event_id"], name="inbox_event_once_per_provider")
        ]
        indexes = [
            # Serves an attempt whose ticket got lost: was it announced?
            models.Index(fields=["subject_id"], name="inbox_event_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_id}"
