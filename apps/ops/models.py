"""What somebody should look at, what is usual, and what providers say we owe them."""

from fnmatch import fnmatchcase

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from apps.core import clock, money
from apps.core.ids import uuid7


class AlertQuerySet(models.QuerySet["Alert"]):
    """Chainable reads."""

    def open(self) -> "AlertQuerySet":
        return self.filter(resolved_at=None)


class Alert(models.Model):
    """Something that wants a look. Raised again while it is open, it counts; once it is gone, it is resolved."""

    class Severity(models.TextChoices):
        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=60, help_text="What sort of thing, for example books.balance")
    severity = models.CharField(max_length=8, choices=Severity)
    key = models.CharField(max_length=200, help_text="The same thing again has the same key")
    subject = models.CharField(max_length=200, help_text="The row, user or provider it is about")
    message = models.TextField()
    details = models.JSONField(default=dict)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(default=clock.now)
    last_at = models.DateTimeField(default=clock.now)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warning", "critical"]), name="alert_severity_known"
            ),
            # Also serves the list of what is open.
            models.UniqueConstraint(
                fields=["key"], name="one_open_alert_per_key", condition=Q(resolved_at__isnull=True)
            ),
        ]
        indexes = [
            # Serves the resolving of what a check no longer finds.
            models.Index(fields=["kind"], name="alert_open_by_kind", condition=Q(resolved_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"


class SilenceQuerySet(models.QuerySet["Silence"]):
    """Chainable reads."""

    def in_force(self) -> "SilenceQuerySet":
        return self.filter(until__gt=clock.now())


class Silence(models.Model):
    """Nobody is told of the alerts that it names until then; they are raised and listed all the same."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    pattern = models.CharField(
        max_length=200,
        help_text="Keys of alerts, * for any: anomaly.provider:wavespeed, anomaly.*, *",
    )
    until = models.DateTimeField()
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )

    objects = SilenceQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.pattern} until {self.until:%Y-%m-%d %H:%M} UTC"

    def covers(self, key: str) -> bool:
        return fnmatchcase(key, self.pattern)


class Notice(models.Model):
    """One alert, told over one channel. `due_at` says when it is tried next; empty once it was sent or given up."""

    class Event(models.TextChoices):
        OPENED = "opened"
        ESCALATED = "escalated", "escalated: graver than it was"
        RESOLVED = "resolved"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notices")
    event = models.CharField(max_length=9, choices=Event)
    channel = models.CharField(
        max_length=16, help_text="A digest of the address, which holds secrets and is in the settings only"
    )
    created_at = models.DateTimeField(default=clock.now)
    due_at = models.DateTimeField(null=True, default=clock.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=100, blank=True, help_text="Of the last attempt")

    class Meta:
        constraints = [
            # Nobody is told the same twice; also serves the notices of an alert.
            models.UniqueConstraint(fields=["alert", "event", "channel"], name="one_notice_per_event"),
            models.CheckConstraint(condition=Q(sent_at=None) | Q(due_at=None), name="notice_is_sent_once"),
        ]
        indexes = [
            # Serves the sweep: retries, and rings that were lost.
            models.Index(fields=["due_at"], name="notice_due", condition=Q(due_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.event}: {self.alert_id}"


class Baseline(models.Model):
    """What is usual for one series, learned from its minutes, and where its watch stands: a row of each series, read
    and written once a minute. docs/reference/anomalies.md says what the figures are."""

    metric = models.CharField(max_length=20)
    model = models.CharField(max_length=100, blank=True, help_text="Empty: all together")
    provider = models.CharField(max_length=50, blank=True)
    seen_at = models.DateTimeField(help_text="The last minute that was looked at")
    severity = models.CharField(max_length=8, blank=True, help_text="Empty: as usual")
    value = models.FloatField(help_text="Of the last bucket that was judged")
    usual = models.FloatField(help_text="What was expected of it")
    z = models.FloatField(help_text="How many standard deviations they are apart")
    hours = models.PositiveIntegerField(help_text="Learned from so many")
    median = models.FloatField()
    mad = models.FloatField()
    mean = models.FloatField()
    deviation = models.FloatField()
    season = models.JSONField(
        help_text="[weeks seen, level] of each hour of the week from Monday 00:00 UTC on"
    )
    memory = models.JSONField(help_text="The hour and the buckets under way")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["metric", "model", "provider"], name="one_baseline_per_series"),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, (self.metric, self.model, self.provider)))


class Email(models.Model):
    """Something to write to a user. `due_at` says when it is tried next; empty once it was sent or given up."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=200)
    body = models.TextField()
    created_at = models.DateTimeField(default=clock.now)
    due_at = models.DateTimeField(null=True, default=clock.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=100, blank=True, help_text="Of the last attempt")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(sent_at=None) | Q(due_at=None), name="email_is_sent_once"),
        ]
        indexes = [
            # Serves the sweep: retries, and rings that were lost.
            models.Index(fields=["due_at"], name="email_due", condition=Q(due_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.subject


class Bill(models.Model):
    """One statement of a provider: it claims to list everything billed in `[starts_at, ends_at]`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.CharField(max_length=50)
    source = models.CharField(max_length=200, help_text="The file it came in")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    imported_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            # A file that grew is imported under its name again.
            models.UniqueConstraint(fields=["provider", "source"], name="one_bill_per_source"),
            models.CheckConstraint(condition=Q(starts_at__lte=F("ends_at")), name="bill_has_length"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.source}"


class BillLine(models.Model):
    """What a provider bills for one of its tasks, charges and credits together."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    bill = models.ForeignKey(Bill, on_delete=models.PROTECT, related_name="lines")
    provider = models.CharField(max_length=50)
    task_id = models.CharField(max_length=200)
    amount_usd = models.DecimalField(**money.AMOUNT)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            # Also serves the search for a task.
            models.UniqueConstraint(fields=["task_id", "provider"], name="one_bill_line_per_task"),
        ]
        indexes = [
            # Serves the comparison of what was billed lately.
            models.Index(fields=["at"], name="bill_line_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.task_id}"
