"""Money of the platform: what a user may spend in a month, what is held, what was spent, and every posting."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from apps.core import clock, money
from apps.core.ids import uuid7


class Budget(models.Model):
    """A user's own monthly limit where it differs from the tier's. Edited by ops."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="budget")
    limit_usd = models.DecimalField(**money.AMOUNT, help_text="Instead of the tier's monthly budget")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit_usd__gte=0), name="budget_limit_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.limit_usd} USD a month"


class BudgetPeriod(models.Model):
    """One user's calendar month: `[starts_at, ends_at)` in UTC, frozen from the user's time zone when it opened.

    `spent_usd` and `held_usd` are the sums of the period's entries (M2), kept here so that admission is one UPDATE.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="budget_periods"
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    spent_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    held_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)

    class Meta:
        constraints = [
            # Serves admission: the period of a user that contains now.
            models.UniqueConstraint(fields=["user", "starts_at"], name="one_period_per_user_and_start"),
            models.CheckConstraint(condition=Q(starts_at__lt=F("ends_at")), name="period_has_length"),
            models.CheckConstraint(
                condition=Q(spent_usd__gte=0, held_usd__gte=0), name="balances_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m}"


class Hold(models.Model):
    """Money set aside for one purchase: an upper bound of its cost (M3), resolved exactly once."""

    class State(models.TextChoices):
        HELD = "held"
        CAPTURED = "captured"
        RELEASED = "released"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # What the money is for; the ledger does not know what lies behind it.
    reference = models.UUIDField(unique=True)
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="holds")
    amount_usd = models.DecimalField(**money.AMOUNT)
    captured_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    state = models.CharField(max_length=8, choices=State, default=State.HELD)
    price_id = models.UUIDField(help_text="The price version this was quoted at (M9)")
    created_at = models.DateTimeField(default=clock.now)
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_usd__gt=0), name="hold_amount_positive"),
            models.CheckConstraint(
                condition=Q(state="held", resolved_at__isnull=True)
                | Q(state__in=("captured", "released"), resolved_at__isnull=False),
                name="hold_is_held_or_resolved",
            ),
        ]
        indexes = [
            # Serves reconcile: what is still held, oldest first.
            models.Index(fields=["created_at"], name="hold_open", condition=Q(state="held")),
        ]


class Entry(models.Model):
    """One posting. Never updated or deleted (a trigger refuses it): a mistake is corrected by another entry."""

    class Kind(models.TextChoices):
        HOLD = "hold"
        CAPTURE = "capture"
        RELEASE = "release"
        CHARGE = "charge", "charge beyond the hold"
        REFUND = "refund"
        ADJUSTMENT = "adjustment"
        PLATFORM_ABSORBED = "platform_absorbed"

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=17, choices=Kind)
    reference = models.UUIDField(db_index=True)
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="entries")
    amount_usd = models.DecimalField(**money.AMOUNT)
    spent_delta_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    held_delta_usd = models.DecimalField(**money.AMOUNT, default=money.ZERO)
    reason = models.CharField(max_length=200, blank=True)
    posted_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.CheckConstraint(condition=Q(amount_usd__gte=0), name="entry_amount_not_negative")
        ]
