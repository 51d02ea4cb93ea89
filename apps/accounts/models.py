"""Who asks: teams, their users, the tier that limits a user, and the keys that speak for them."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from apps.accounts.regions import validate_country
from apps.core import clock, money
from apps.core.ids import uuid7


def validate_timezone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValidationError(f"{value!r} is not a time zone of the IANA database") from error


def validate_slugs(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(slug, str) and slug for slug in value):
        raise ValidationError('a list of names, e.g. ["fast-draft"]')


class Tier(models.Model):
    """What a user may do: edited by ops in the admin."""

    slug = models.SlugField(primary_key=True)
    name = models.CharField(max_length=60)
    monthly_budget_usd = models.DecimalField(**money.AMOUNT, validators=[MinValueValidator(Decimal(0))])
    daily_budget_usd = models.DecimalField(
        **money.AMOUNT,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="A cap for each day within the month; empty: none",
    )
    max_job_usd = models.DecimalField(
        **money.AMOUNT,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="A cap for the upper bound of one job; empty: none",
    )
    requests_per_minute = models.PositiveIntegerField(help_text="API requests of one user, all keys together")
    concurrency = models.PositiveIntegerField(help_text="Jobs of one user running at once")
    max_open_jobs = models.PositiveIntegerField(
        default=1000, help_text="Jobs of one user queued and running; more are refused"
    )
    max_batch_items = models.PositiveIntegerField(
        default=50_000, help_text="Items of one user's batches queued and running; more are refused"
    )
    max_quality = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(10)],
        help_text="Best model quality allowed",
    )
    allowed_models = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_slugs],
        help_text='The only models allowed, e.g. ["fast-draft", "clip"]; none: all up to the quality above',
    )
    prefers_cheapest = models.BooleanField(
        default=False, help_text="Take the cheapest model unless a request asks for a quality"
    )

    def __str__(self) -> str:
        return self.name


class SemanticCache(models.TextChoices):
    """Tier 3 of the cache, where a job does not say."""

    OFF = "off"
    SHADOW = "shadow", "shadow: look-alikes are noted with what they would save, never served"
    ON = "on", "on: look-alikes that the guard lets pass are served"


class Team(models.Model):
    """Owns jobs, artifacts and cached results together; another team's are invisible."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120, unique=True)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="The team budget's month begins here",
    )
    region = models.CharField(
        max_length=2,
        blank=True,
        default="",
        validators=[validate_country],
        help_text="Its country, e.g. DE. Without it no model is used whose licence leaves regions out",
    )
    is_commercial = models.BooleanField(
        default=False,
        help_text="All it makes is for commercial use: only models whose licence allows that",
    )
    semantic_cache = models.CharField(
        max_length=6,
        choices=SemanticCache,
        default=SemanticCache.SHADOW,
        help_text="Whether results may answer prompts that mean the same in other words",
    )
    # Raised to rotate the team's webhook secret, which is derived and never stored.
    webhook_secret_version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    def __str__(self) -> str:
        return self.name


class User(AbstractUser):
    """A person or service of one team. Ops staff need no team and no tier."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, blank=True, related_name="users")
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, null=True, blank=True, related_name="users")
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="The budget's month begins here",
    )
    is_team_admin = models.BooleanField(
        default=False, help_text="Sees the usage of the whole team, and says which webhooks it gets"
    )

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(
                condition=models.Q(team__isnull=True, tier__isnull=True)
                | models.Q(team__isnull=False, tier__isnull=False),
                name="user_has_team_and_tier_or_neither",
            )
        ]


class ApiKey(models.Model):
    """A credential. Only an HMAC of the secret is stored; the key itself is shown once."""

    class Scope(models.TextChoices):
        JOBS_WRITE = "jobs:write", "Submit and cancel jobs"
        JOBS_READ = "jobs:read", "Read jobs, models, estimates, budget, usage and statements"
        WEBHOOKS = "webhooks", "List, add and remove the team's webhook endpoints (team admins)"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(
        max_length=24, editable=False, help_text="The start of the key, to recognise it"
    )
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_valid(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)
