"""What happened, whom it is told, and every try to tell."""

from datetime import datetime

from django.db import models
from django.db.models import Q

from apps.accounts.models import Team
from apps.core import clock
from apps.core.ids import uuid7


class EventType(models.TextChoices):
    """What endpoints may be told of."""

    JOB_COMPLETED = "job.completed", "A job has its result"
    JOB_FAILED = "job.failed", "A job ended without one"
    JOB_CANCELED = "job.canceled", "A job ended as its user asked"
    BATCH_COMPLETED = "batch.completed", "Every item of a batch has ended"
    BATCH_CANCELED = "batch.canceled", "A batch ended as its user asked"
    BATCH_EXPIRED = "batch.expired", "The time of a batch was over before all of its items had ended"
    BUDGET_WARNING = "budget.warning", "A threshold of a budget was passed"
    SPEND_WARNING = "spend.warning", "A user of the team spends far more a minute than is usual"
    QUALITY_WARNING = "quality.warning", "The quality of a model that the team uses has fallen"


def _every_type() -> list[str]:
    return list(EventType.values)


class Endpoint(models.Model):
    """An address of a team that is told of every event of the chosen types, besides a job's own callback URL."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, db_index=False, related_name="endpoints")
    url = models.CharField(max_length=2048)
    event_types = models.JSONField(default=_every_type)
    active = models.BooleanField(default=True, help_text="Ends when the receiver answers 410 Gone")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            # Also serves the endpoints of a team.
            models.UniqueConstraint(fields=["team", "url"], name="one_endpoint_per_url"),
        ]

    def __str__(self) -> str:
        return self.url


class Event(models.Model):
    """Something that happened to a subject. Its id is the `webhook-id` of every delivery, so receivers can
    drop doubles; ids rise with time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="events")
    type = models.CharField(max_length=60, help_text="For example job.completed")
    subject_id = models.UUIDField(db_index=True)
    payload = models.JSONField()
    # The trace that its deliveries belong to (W3C Trace Context).
    traceparent = models.CharField(max_length=55, null=True, editable=False)  # noqa: DJ001 - NULL: none
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.type


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self, at: datetime) -> "DeliveryQuerySet":
        return self.filter(status=Delivery.Status.PENDING, due_at__lte=at)

    def unheard(self, since: datetime) -> "DeliveryQuerySet":
        """Nobody came for the last ring, which was before `since` or never."""
        return self.filter(Q(rung_at=None) | Q(rung_at__lte=since))


class Delivery(models.Model):
    """One event for one address. Pending until told, given up, or told to stop; `due_at` says when next.

    A claim sets a fresh `lease` and moves `due_at` to the lease's end, so a delivery whose worker died is
    simply due again.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        EXHAUSTED = "exhausted", "Given up after the last attempt"
        DISABLED = "disabled", "The receiver answered 410 Gone"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    url = models.CharField(max_length=2048)
    # None: to a job's own callback URL, or to an endpoint that was removed since.
    endpoint = models.ForeignKey(Endpoint, on_delete=models.SET_NULL, null=True, related_name="deliveries")
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    due_at = models.DateTimeField(null=True, default=clock.now)
    rung_at = models.DateTimeField(null=True, default=clock.now, help_text="Last rung since it became due")
    lease = models.UUIDField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Begun, counted when claimed")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "exhausted", "disabled"]),
                name="delivery_status_known",
            ),
            models.CheckConstraint(
                condition=Q(status="pending", due_at__isnull=False)
                | Q(~Q(status="pending"), due_at__isnull=True, lease__isnull=True),
                name="delivery_pending_means_due_at",
            ),
            models.CheckConstraint(
                condition=Q(lease__isnull=True, lease_expires_at__isnull=True)
                | Q(lease__isnull=False, lease_expires_at__isnull=False),
                name="delivery_lease_has_an_end",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="delivery_due"),
        ]

    def __str__(self) -> str:
        return f"{self.url} ({self.status})"


class DeliveryAttempt(models.Model):
    """One POST and what came of it. Only ever added."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="history")
    at = models.DateTimeField(default=clock.now, editable=False)
    status_code = models.PositiveSmallIntegerField(null=True, help_text="Empty if there was no answer")
    error = models.CharField(max_length=200, blank=True, help_text="Empty if it was delivered")
    latency_ms = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.status_code or self.error}"
