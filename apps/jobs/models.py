"""The row is the queue: `due_at` says when a job next deserves attention, NULL when it has ended."""

import uuid
from datetime import datetime
from typing import Literal, cast

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q, Value

from apps.accounts.models import Team, User
from apps.core import clock, money
from apps.core.ids import uuid7
from apps.jobs.states import (
    ENDED,
    IN_PROGRESS,
    OPEN,
    AttemptStatus,
    BatchStatus,
    Billed,
    CachePolicy,
    CacheTier,
    Feedback,
    Flight,
    JobStatus,
    Kind,
    Priority,
    Review,
)


class JobQuerySet(models.QuerySet["Job"]):
    """Chainable reads."""

    def open(self) -> "JobQuerySet":
        return self.filter(status__in=OPEN)

    def held_by(self, lease: uuid.UUID | None) -> "JobQuerySet":
        """The fence: only the present holder of the lease may write; a zombie updates 0 rows."""
        return self.filter(status=JobStatus.RUNNING, lease=lease)


class Job(models.Model):
    """One generation asked for by a user."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, db_index=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, db_index=False, related_name="jobs")
    status = models.CharField(max_length=9, choices=JobStatus, default=JobStatus.QUEUED)

    # What was asked.
    type = models.CharField(max_length=8, choices=Kind)
    prompt = models.TextField()
    params = models.JSONField(default=dict)
    requirements = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)
    callback_url = models.TextField(default="")
    priority = models.CharField(max_length=11, choices=Priority, default=Priority.INTERACTIVE)
    # The route by which it waits to be sent together with others (priority batch); NULL: it waits for none.
    batch_route = models.UUIDField(null=True)
    cache = models.CharField(max_length=9, choices=CachePolicy, default=CachePolicy.ACCOUNT)
    # The batch it is an item of, which knows it by its `custom_id`.
    batch_id = models.UUIDField(null=True)
    custom_id = models.CharField(max_length=255, default="", db_default="")
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL keeps it out of the unique index
    request_digest = models.BinaryField(max_length=32, null=True)
    accepted_body = models.TextField(null=True)  # noqa: DJ001 - the answer replayed byte for byte

    # The trace it belongs to (W3C Trace Context), where traces are made.
    traceparent = models.CharField(max_length=55, null=True)  # noqa: DJ001 - NULL: none

    # What was decided: the model, the priced routes in order, frozen at submit.
    model = models.CharField(max_length=100)
    selection = models.JSONField(default=dict)
    quote = models.JSONField(default=dict)
    fingerprint = models.BinaryField(max_length=32)
    # The keys of tiers 2 and 3. No canonical key: only the very same request may share its result.
    canonical = models.BinaryField(max_length=32, null=True)
    compatibility = models.BinaryField(max_length=32, default=bytes)
    flight = models.CharField(max_length=7, choices=Flight, default=Flight.ALONE, blank=True)
    estimated_cost_usd = models.DecimalField(**money.AMOUNT)
    review = models.CharField(max_length=8, choices=Review, default=Review.NONE, db_default="", blank=True)
    # What the policy lists found in the prompt, for ops.
    findings = models.JSONField(null=True)
    # Why no provider is asked yet, and which routes were passed over.
    waiting_for = models.CharField(max_length=30, default="", db_default="")
    skipped = models.JSONField(default=list, db_default=Value([], models.JSONField()))

    # When it next deserves attention, and who is at it.
    created_at = models.DateTimeField(default=clock.now)
    started_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    rung_at = models.DateTimeField(null=True)
    lease = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    crashes = models.PositiveSmallIntegerField(default=0)
    cancel_requested_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    # How it ended.
    outputs = models.JSONField(default=list)
    cost_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    saved_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    cached_from = models.UUIDField(null=True)
    cache_tier = models.CharField(max_length=9, choices=CacheTier, default="", blank=True)
    similarity = models.FloatField(null=True)
    feedback = models.CharField(max_length=11, choices=Feedback, default=Feedback.NONE, blank=True)
    quality = models.JSONField(null=True)
    error_code = models.CharField(max_length=40, default="")
    error_message = models.TextField(default="")
    error_retryable = models.BooleanField(default=False)

    # The attempts so far, in order, as `reads` found them with the job; nobody else fills it in.
    past: "list[Attempt]"

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=JobStatus.values), name="job_status_known"),
            models.CheckConstraint(
                condition=Q(status=JobStatus.RUNNING, lease__isnull=False)
                | (~Q(status=JobStatus.RUNNING) & Q(lease__isnull=True)),
                name="job_running_iff_leased",
            ),
            models.CheckConstraint(
                condition=Q(status__in=ENDED, due_at__isnull=True, finished_at__isnull=False)
                | Q(status__in=OPEN, due_at__isnull=False, finished_at__isnull=True),
                name="job_ended_iff_never_due",
            ),
            models.CheckConstraint(
                condition=Q(status=JobStatus.FAILED) & ~Q(error_code="")
                | ~Q(status=JobStatus.FAILED) & Q(error_code=""),
                name="job_failed_iff_error_code",
            ),
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                name="one_job_per_idempotency_key",
                condition=Q(idempotency_key__isnull=False),
            ),
            # Makes equal requests take turns: whoever comes second follows.
            models.UniqueConstraint(
                fields=["team", "fingerprint"],
                name="one_leader_per_fingerprint",
                condition=Q(flight=Flight.LEADS, due_at__isnull=False),
            ),
        ]
        indexes = [
            # Serves sweep: what is due, oldest first.
            models.Index(fields=["due_at"], name="job_due", condition=Q(due_at__isnull=False)),
            # Serves the admin's list of what waits for a decision.
            models.Index(fields=["id"], name="job_in_review", condition=Q(review="pending")),
            # Serves GET /v1/jobs: one user's jobs, newest first (ids are time-ordered).
            models.Index(fields=["user", "-id"], name="job_by_user"),
            # Serves the wake-up of a user's next job: those that wait for a place, apart from those on their way.
            models.Index(
                fields=["user", "id"],
                name="job_waiting_for_place",
                condition=Q(status=JobStatus.QUEUED, rung_at__isnull=True),
            ),
            # Serves the end of a leader: who waits for it.
            models.Index(
                fields=["team", "fingerprint", "id"],
                name="job_follower",
                condition=Q(flight=Flight.FOLLOWS, status=JobStatus.QUEUED),
            ),
            # Serves the concurrency limit and the cap on what a user has open, items of batches apart.
            models.Index(
                fields=["user", "priority", "status", "batch_id", "id"],
                name="job_open_by_user",
                condition=Q(due_at__isnull=False),
            ),
            # Serves the flush of a batch: who waits to be sent by a route, the oldest first.
            models.Index(
                fields=["batch_route", "id"],
                name="job_gathering",
                condition=Q(batch_route__isnull=False, due_at__isnull=False),
            ),
            # Serves the items of a batch, in their order.
            models.Index(fields=["batch_id", "id"], name="job_of_batch", condition=Q(batch_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def kind(self) -> Literal["image", "video", "audio"]:
        """`type`, as the word that the rooms below know it by."""
        return cast(Literal["image", "video", "audio"], self.type)

    @property
    def is_cached(self) -> bool:
        return self.cached_from is not None


# What tells how well a route works: attempts that ended, except by a client's wish or because of what it asked for.
MEASURED = Q(
    status__in=[AttemptStatus.ACCEPTED, AttemptStatus.REJECTED, AttemptStatus.FAILED],
    finished_at__isnull=False,
) & ~Q(error_kind__in=["content_rejected", "invalid_request", "canceled"])


class ProviderBatch(models.Model):
    """Attempts that one call ordered together at a provider that has batches. Its id names it there.

    `due_at` says when the provider is next asked about it, NULL when every order in it has been handed to its job.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    route_id = models.UUIDField()
    provider = models.CharField(max_length=50)
    provider_model = models.CharField(max_length=200)
    status = models.CharField(max_length=9, choices=BatchStatus, default=BatchStatus.STARTED)
    ticket = models.TextField(null=True)  # noqa: DJ001 - NULL: the provider gave none yet
    provider_status = models.CharField(max_length=30, default="", blank=True)
    error_kind = models.CharField(max_length=30, default="", blank=True)
    # How many orders it has, of how many it had room for, and how long the first of them waited for it.
    size = models.PositiveIntegerField()
    room = models.PositiveIntegerField()
    waited_s = models.FloatField()
    # How many of them the provider has ended, as far as it told.
    done = models.PositiveIntegerField(default=0)
    # What the delivered ones cost less than if each had been ordered alone.
    saved_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    polls = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now)
    submitted_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "provider batches"
        constraints = [
            models.CheckConstraint(condition=Q(status__in=BatchStatus.values), name="batch_status_known"),
            models.CheckConstraint(
                condition=Q(
                    status__in=[BatchStatus.ENDED, BatchStatus.FAILED],
                    due_at__isnull=True,
                    ended_at__isnull=False,
                )
                | Q(
                    status__in=[BatchStatus.STARTED, BatchStatus.SUBMITTED],
                    due_at__isnull=False,
                    ended_at__isnull=True,
                ),
                name="batch_ended_iff_never_due",
            ),
        ]
        indexes = [
            # Serves sweep: which are to be asked about.
            models.Index(fields=["due_at"], name="batch_due", condition=Q(due_at__isnull=False)),
            # Serves the metrics: what was sent lately.
            models.Index(fields=["created_at"], name="batch_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.size} of {self.room}"


class AttemptQuerySet(models.QuerySet["Attempt"]):
    """Chainable reads."""

    def of(self, job: Job) -> "AttemptQuerySet":
        return self.filter(job=job).order_by("number")


class Attempt(models.Model):
    """One purchase at one provider. The row is committed before the paid call; its id is the provider's idempotency
    key where the provider has one, and names our webhook URL where it has none."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=9, choices=AttemptStatus, default=AttemptStatus.STARTED)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=100)
    provider_model = models.CharField(max_length=200)
    route_id = models.UUIDField()
    price_id = models.UUIDField()
    # What the provider charges for it by the price frozen at submit.
    price_usd = models.DecimalField(**money.AMOUNT)
    billed = models.CharField(max_length=7, choices=Billed, default=Billed.UNKNOWN)
    # What the provider was told otherwise than asked: [{param, asked, sent}].
    changes = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    # Of the breaker that let it in: its end counts only if that has not changed since.
    generation = models.PositiveIntegerField(default=0, db_default=0)
    # Sent again with the same key after a lost answer, where the provider buys the same key once.
    resends = models.PositiveSmallIntegerField(default=0, db_default=0)
    # What it was ordered in, together with others.
    provider_batch = models.ForeignKey(
        ProviderBatch, on_delete=models.PROTECT, null=True, db_index=False, related_name="attempts"
    )
    # One of two orders for the same work; or a second one was looked for, and none was allowed.
    hedged = models.BooleanField(default=False, db_default=False)
    ticket = models.TextField(null=True)  # noqa: DJ001 - NULL: the provider gave none yet
    provider_status = models.CharField(max_length=20, default="")
    progress = models.FloatField(null=True)
    polls = models.PositiveIntegerField(default=0)
    outputs = models.JSONField(default=list)
    quality = models.JSONField(null=True)
    started_at = models.DateTimeField(default=clock.now)
    submitted_at = models.DateTimeField(null=True)
    # When the provider was seen to be done, and when its outputs were ours.
    result_at = models.DateTimeField(null=True)
    fetched_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # For `unknown` only: when to ask the provider again.
    check_at = models.DateTimeField(null=True)
    error_kind = models.CharField(max_length=30, default="")
    error_message = models.TextField(default="")

    objects = AttemptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=AttemptStatus.values), name="attempt_status_known"),
            # Serves the attempts of a job, in order.
            models.UniqueConstraint(fields=["job", "number"], name="one_attempt_per_number"),
            models.UniqueConstraint(
                fields=["job"], name="one_open_attempt_per_job", condition=Q(status__in=IN_PROGRESS)
            ),
            models.CheckConstraint(
                condition=Q(status=AttemptStatus.UNKNOWN, check_at__isnull=False)
                | (~Q(status=AttemptStatus.UNKNOWN) & Q(check_at__isnull=True)),
                name="attempt_unknown_iff_checked",
            ),
        ]
        indexes = [
            # Serves the reconciliation of unknown outcomes.
            models.Index(fields=["check_at"], name="attempt_unknown", condition=Q(check_at__isnull=False)),
            # Serves the end of a provider's batch: the orders in it.
            models.Index(
                fields=["provider_batch", "status"],
                name="attempt_in_batch",
                condition=Q(provider_batch__isnull=False),
            ),
            # Serves measure: how each route did lately, from its last attempts that tell something about it.
            models.Index(fields=["route_id", "-finished_at"], name="attempt_measured", condition=MEASURED),
        ]

    def __str__(self) -> str:
        return f"{self.provider} #{self.number}"

    def latency_s(self, at: datetime) -> float:
        """Seconds from the start to the end, or to `at` while it goes on."""
        return ((self.finished_at or at) - self.started_at).total_seconds()


class JobEvent(models.Model):
    """Every change of a job's status, written by a trigger in Postgres, so that none can be forgotten."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    from_status = models.CharField(max_length=9)
    to_status = models.CharField(max_length=9)

    class Meta:
        indexes = [
            # Serves the watch for anomalies: what ended in a minute. Events come in the order of time.
            BrinIndex(fields=["at"], name="event_by_time", pages_per_range=16, autosummarize=True),
        ]


class Uncounted(models.Model):
    """A job that ended and is in no total yet. Written by a trigger in Postgres, taken by `tally`."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )


class Total(models.Model):
    """What was counted of ended jobs under one combination of an instrument's labels: a counter's sum, or a
    histogram's sum and the count of each bucket (apps.core.telemetry.instruments)."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=60)
    labels = ArrayField(models.TextField())
    numbers = ArrayField(models.FloatField())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "labels"], name="one_total_per_series"),
        ]
