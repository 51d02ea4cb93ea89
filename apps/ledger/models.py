"""Money of the platform: what may be spent, what is held, what was spent, every posting, and what it was spent on."""

from decimal import Decimal

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from apps.accounts.models import Team
from apps.core import clock, money
from apps.core.ids import uuid7


def _warning_percents() -> "ArrayField[list[int] | None, list[int] | None]":
    percent = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(100)])
    return ArrayField(
        percent,
        null=True,
        blank=True,
        help_text="Percent used at which to warn, comma-separated; empty: the usual",
    )


class Budget(models.Model):
    """A user's own limits where they differ from the tier's. Edited by ops."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="budget")
    limit_usd = models.DecimalField(
        **money.AMOUNT, null=True, blank=True, help_text="Instead of the tier's monthly budget"
    )
    daily_limit_usd = models.DecimalField(
        **money.AMOUNT, null=True, blank=True, help_text="Instead of the tier's daily budget"
    )
    max_job_usd = models.DecimalField(
        **money.AMOUNT, null=True, blank=True, help_text="Instead of the tier's cap for one job"
    )
    warning_percents = _warning_percents()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(limit_usd__gte=0) | Q(limit_usd=None), name="budget_limit_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(daily_limit_usd__gte=0) | Q(daily_limit_usd=None),
                name="budget_daily_limit_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(max_job_usd__gte=0) | Q(max_job_usd=None), name="budget_job_cap_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"own limits of {self.user_id}"


class TeamBudget(models.Model):
    """What all users of a team may spend together in a month of the team's time zone. Edited by ops."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="budget")
    limit_usd = models.DecimalField(**money.AMOUNT, help_text="A month, all users together")
    warning_percents = _warning_percents()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit_usd__gte=0), name="team_budget_limit_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.limit_usd} USD a month"


class Scope(models.TextChoices):
    """Whose money over which time: every purchase belongs to one period of each.

    In the order in which their rows are locked: descending by name, the most wanted row last.
    """

    USER_MONTH = "user_month", "the user's month"
    USER_DAY = "user_day", "the user's day"
    TEAM_MONTH = "team_month", "the team's month"


class BudgetPeriod(models.Model):
    """One calendar month or day of a user or a team: `[starts_at, ends_at)` in UTC, frozen from the owner's time
    zone when it opened.

    `spent_usd` and `held_usd` are the sums of the period's entries (M2), kept here so that admission is one
    statement. They are kept whether or not the period has a limit: a cap that is set later counts from the start.
    `spent_usd` is below zero where ops gave a credit.
    """

    scope = models.CharField(max_length=10, choices=Scope)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        db_index=False,
        related_name="budget_periods",
    )
    team = models.ForeignKey(
        Team, on_delete=models.PROTECT, null=True, db_index=False, related_name="budget_periods"
    )
    first_day = models.DateField(help_text="The local date it is named by: 2026-11-01 is November")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    spent_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    held_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)

    class Meta:
        constraints = [
            # Serve admission: the periods of a user and of a team that contain now are the first that end after it.
            models.UniqueConstraint(
                fields=["user", "ends_at", "scope"],
                name="one_period_per_user_and_end",
                condition=Q(user__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["team", "ends_at", "scope"],
                name="one_period_per_team_and_end",
                condition=Q(team__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(scope__in=("user_month", "user_day"), user__isnull=False, team__isnull=True)
                | Q(scope="team_month", user__isnull=True, team__isnull=False),
                name="period_is_of_a_user_or_a_team",
            ),
            models.CheckConstraint(condition=Q(starts_at__lt=F("ends_at")), name="period_has_length"),
            models.CheckConstraint(condition=Q(held_usd__gte=0), name="held_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.first_day:%Y-%m-%d}" if self.scope == Scope.USER_DAY else f"{self.first_day:%Y-%m}"


class Hold(models.Model):
    """Money set aside for one purchase: an upper bound of its cost (M3), resolved exactly once."""

    class State(models.TextChoices):
        HELD = "held"
        CAPTURED = "captured"
        RELEASED = "released"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # What the money is for; the ledger does not know what lies behind it.
    reference = models.UUIDField(unique=True)
    # Those in which it was admitted: whatever is charged or given back later belongs to them (M6).
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="holds")
    day_period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="+", db_index=False)
    team_period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount_usd = models.DecimalField(**money.AMOUNT)
    # All that the user was charged, also beyond the hold, and what of it was given back.
    captured_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    refunded_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    state = models.CharField(max_length=8, choices=State, default=State.HELD)
    price_id = models.UUIDField(help_text="The price version this was quoted at (M9)")
    created_at = models.DateTimeField(default=clock.now)
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_usd__gt=0), name="hold_amount_positive"),
            # M7: a refund is at most the original, in total.
            models.CheckConstraint(
                condition=Q(refunded_usd__gte=0, refunded_usd__lte=F("captured_usd")),
                name="refunds_within_the_charge",
            ),
            models.CheckConstraint(
                condition=Q(state="held", resolved_at__isnull=True)
                | Q(state__in=("captured", "released"), resolved_at__isnull=False),
                name="hold_is_held_or_resolved",
            ),
        ]
        permissions = [("refund_hold", "Can give back what was paid")]
        indexes = [
            # Serves reconcile: what is still held, oldest first.
            models.Index(fields=["created_at"], name="hold_open", condition=Q(state="held")),
        ]


_RARE = Q(kind__in=("charge", "refund", "adjustment", "platform_absorbed"))


class Entry(models.Model):
    """One posting. Never updated or deleted (a trigger refuses it): a mistake is corrected by another entry.

    `amount_usd` is how much, `spent_delta_usd` and `held_delta_usd` what it does to the balances of its periods.
    """

    class Kind(models.TextChoices):
        HOLD = "hold"
        CAPTURE = "capture"
        RELEASE = "release"
        CHARGE = "charge", "charge beyond the hold, or of 0 for a cached result"
        REFUND = "refund"
        ADJUSTMENT = "adjustment"
        PLATFORM_ABSORBED = "platform_absorbed"

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=17, choices=Kind)
    reference = models.UUIDField(db_index=True)
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="entries")
    # What follows is copied from the hold or its periods by the statement that posts: not proved a second time.
    day_period = models.ForeignKey(
        BudgetPeriod, on_delete=models.PROTECT, related_name="+", db_constraint=False
    )
    team_period = models.ForeignKey(
        BudgetPeriod, on_delete=models.PROTECT, related_name="+", db_constraint=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    team = models.ForeignKey(
        Team, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    price_id = models.UUIDField(null=True, help_text="The price version, where there was a price (M9)")
    amount_usd = models.DecimalField(**money.AMOUNT)
    spent_delta_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    held_delta_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    saved_usd = models.DecimalField(
        **money.AMOUNT, default=money.ZERO, help_text="By answering from the cache"
    )
    reason = models.CharField(max_length=200, blank=True)
    by = models.CharField(max_length=150, blank=True, help_text="Who refunded or adjusted")
    posted_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "entries"
        permissions = [("adjust_entry", "Can adjust what a user has spent")]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_usd__gte=0, saved_usd__gte=0), name="entry_amount_not_negative"
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=("refund", "adjustment")) | (~Q(by="") & ~Q(reason="")),
                name="entry_by_hand_says_who_and_why",
            ),
        ]
        indexes = [
            # Serve GET /v1/usage/entries: of one user, of one team, newest first ...
            models.Index(fields=["user", "-posted_at", "-id"], name="entry_by_user"),
            models.Index(fields=["team", "-posted_at", "-id"], name="entry_by_team"),
            # ... and of one kind among very many others.
            models.Index(
                fields=["user", "kind", "-posted_at", "-id"], name="entry_rare_by_user", condition=_RARE
            ),
            models.Index(
                fields=["team", "kind", "-posted_at", "-id"], name="entry_rare_by_team", condition=_RARE
            ),
            # Serves the alert on what the platform pays.
            models.Index(fields=["posted_at"], name="entry_absorbed", condition=Q(kind="platform_absorbed")),
            # Serves reconcile: what was booked lately. Entries come in the order of time: a page's range says enough.
            BrinIndex(fields=["posted_at"], name="entry_by_time", pages_per_range=32),
        ]


class BudgetWarning(models.Model):
    """A period passed a threshold of its limit: once each, with the figures of that moment."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="warnings")
    threshold = models.PositiveSmallIntegerField(help_text="Percent of the limit")
    used_usd = models.DecimalField(**money.AMOUNT, help_text="Spent and held")
    limit_usd = models.DecimalField(**money.AMOUNT)
    created_at = models.DateTimeField(default=clock.now)
    announced_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "threshold"], name="one_warning_per_threshold")
        ]
        indexes = [
            # Serves the sweep: those whose ring was lost.
            models.Index(
                fields=["created_at"], name="warning_unannounced", condition=Q(announced_at__isnull=True)
            )
        ]

    @property
    def percent_used(self) -> int:
        """Whole percents, rounded down."""
        return int(self.used_usd * 100 // self.limit_usd)

    @property
    def remaining_usd(self) -> Decimal:
        return max(money.ZERO, self.limit_usd - self.used_usd)


class UsageRecord(models.Model):
    """What one job was and cost; never updated or deleted. A refund is a record of its own with a cost below zero."""

    id = models.BigAutoField(primary_key=True)
    reference = models.UUIDField()
    # The user's month that paid. This and the owners: copied by the statement that records, not proved twice.
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="+", db_constraint=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    team = models.ForeignKey(
        Team, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    day = models.DateField(help_text="The user's day in which the money was admitted")
    kind = models.CharField(max_length=8, help_text="image, video or audio")
    model = models.CharField(max_length=100)
    provider = models.CharField(max_length=50)
    cached = models.BooleanField()
    jobs = models.PositiveSmallIntegerField(help_text="1, or 0 for a refund")
    cost_usd = models.DecimalField(**money.AMOUNT)
    estimated_usd = models.DecimalField(**money.AMOUNT)
    saved_usd = models.DecimalField(**money.AMOUNT)
    generation_ms = models.PositiveIntegerField()
    at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["reference"], name="one_usage_record_per_job", condition=Q(jobs=1)
            )
        ]
        indexes = [
            # Serves reconcile: what was recorded lately.
            BrinIndex(fields=["at"], name="usage_record_by_time", pages_per_range=32),
        ]


class UsageDay(models.Model):
    """The sums of the usage records of one user, day, model and provider: kept in the statement that records."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    team = models.ForeignKey(
        Team, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    day = models.DateField()
    model = models.CharField(max_length=100)
    provider = models.CharField(max_length=50)
    cached = models.BooleanField()
    jobs = models.PositiveIntegerField()
    cost_usd = models.DecimalField(**money.AMOUNT)
    estimated_usd = models.DecimalField(**money.AMOUNT)
    saved_usd = models.DecimalField(**money.AMOUNT)
    generation_ms = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            # Serves the upsert, and GET /v1/usage of one user.
            models.UniqueConstraint(
                fields=["user", "day", "model", "provider", "cached", "team"], name="one_usage_row_per_day"
            )
        ]
        indexes = [
            # Serves GET /v1/usage of a team.
            models.Index(fields=["team", "day"], name="usage_by_team_and_day"),
            # Serves the drift of the estimates over all.
            models.Index(fields=["day"], name="usage_by_day"),
        ]
