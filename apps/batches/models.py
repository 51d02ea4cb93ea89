"""A batch: jobs that were accepted together, and the sums of what has become of them."""

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from apps.accounts.models import Team, User
from apps.core import clock, money
from apps.core.ids import uuid7


class BatchStatus(models.TextChoices):
    IN_PROGRESS = "in_progress"
    CANCELING = "canceling", "canceling: asked for, and not everything has ended yet"
    COMPLETED = "completed", "completed: every item has ended, well or not"
    CANCELED = "canceled"
    EXPIRED = "expired", "expired: its time was over before every item had ended"


OPEN = (BatchStatus.IN_PROGRESS, BatchStatus.CANCELING)


class Batch(models.Model):
    """Its items are jobs with its `batch_id`; the counters follow them (roll_up)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_index=False, related_name="+")
    user = models.ForeignKey(User, on_delete=models.PROTECT, db_index=False, related_name="batches")
    status = models.CharField(max_length=11, choices=BatchStatus, default=BatchStatus.IN_PROGRESS)

    # What was asked.
    callback_url = models.TextField(default="")
    metadata = models.JSONField(default=dict)
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL keeps it out of the unique index
    request_digest = models.BinaryField(max_length=32, null=True)
    accepted_body = models.TextField(null=True)  # noqa: DJ001 - the answer replayed byte for byte

    # The trace that it and its items belong to (W3C Trace Context), where traces are made.
    traceparent = models.CharField(max_length=55, null=True)  # noqa: DJ001 - NULL: none

    # Items: those accepted, those that ended by how, and of the completed those that the cache answered.
    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    canceled = models.PositiveIntegerField(default=0)
    expired = models.PositiveIntegerField(default=0)
    cached = models.PositiveIntegerField(default=0)
    # Lines that became no job.
    refused = models.PositiveIntegerField(default=0)
    estimated_cost_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    held_usd = models.DecimalField(
        **money.AMOUNT, default=money.ZERO, help_text="For items that have not ended"
    )
    cost_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    saved_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)

    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    cancel_requested_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(condition=Q(status__in=BatchStatus.values), name="status_of_batch_known"),
            models.CheckConstraint(
                condition=Q(status__in=OPEN, finished_at__isnull=True)
                | (~Q(status__in=OPEN) & Q(finished_at__isnull=False)),
                name="ended_batch_has_finished_at",
            ),
            models.CheckConstraint(
                condition=Q(total__gte=F("completed") + F("failed") + F("canceled") + F("expired"))
                & Q(completed__gte=F("cached")),
                name="counts_of_batch_add_up",
            ),
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                name="one_batch_per_idempotency_key",
                condition=Q(idempotency_key__isnull=False),
            ),
        ]
        indexes = [
            # Serves GET /v1/batches: one user's, newest first (ids are time-ordered).
            models.Index(fields=["user", "-id"], name="batch_by_user"),
            # Serves the sweep, and the limit of open items.
            models.Index(fields=["user"], name="batch_open", condition=Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def has_ended(self) -> bool:
        return self.status not in OPEN

    @property
    def ended(self) -> int:
        """Items that have ended."""
        return self.completed + self.failed + self.canceled + self.expired

    @property
    def progress(self) -> float:
        """0 to 1: the part of the items that has ended."""
        return self.ended / self.total

    def ends_at(self, at: datetime) -> datetime | None:
        """When it is done at the pace so far, that of the items that had to be made; None while nothing tells."""
        if self.finished_at:
            return None
        made = self.ended - self.cached
        if made <= 0:
            return None
        return min(self.expires_at, at + (at - self.created_at) * ((self.total - self.ended) / made))


class Refusal(models.Model):
    """A line of a batch accepted in part that became no job. Its id stands among those of the jobs in the order of the
    lines."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, db_index=False, related_name="refusals")
    line = models.PositiveIntegerField()
    custom_id = models.CharField(max_length=255, default="")
    # Each with field, message and code.
    errors = models.JSONField()

    class Meta:
        indexes = [
            # Serves the refusals of a batch, in the order of its lines.
            models.Index(fields=["batch", "id"], name="refusal_of_batch"),
        ]


class Tally(models.Model):
    """What the end of an item adds to the counters of its batch, written by a trigger in Postgres with that end.

    So the ends of a batch's items do not wait for each other at one row; `roll_up` takes these rows into the counters.
    """

    id = models.BigAutoField(primary_key=True)
    batch_id = models.UUIDField(db_index=True)
    completed = models.SmallIntegerField()
    failed = models.SmallIntegerField()
    canceled = models.SmallIntegerField()
    expired = models.SmallIntegerField()
    cached = models.SmallIntegerField()
    cost_usd = models.DecimalField(**money.AMOUNT)
    saved_usd = models.DecimalField(**money.AMOUNT)
    freed_usd = models.DecimalField(**money.AMOUNT, help_text="No longer held for an item that has not ended")
