"""What can be bought: models, the routes by which providers make them, and what each costs."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from apps.accounts.models import User
from apps.accounts.regions import validate_regions
from apps.catalog import parameters, rules
from apps.catalog.parameters import CHOICES, LIMITS
from apps.core import clock, money
from apps.core.errors import InvalidRequest
from apps.core.ids import uuid7

# The parameters by which a price's unit is counted: they need a default, so that every request has a price.
COUNTED_BY = {"second": {"duration_s"}, "megapixel": {"width", "height"}}

# Limits that list words; the others are numbers.
WORDS = {*CHOICES.values(), "sizes"}


def validate_limits(value: Any) -> None:
    if not isinstance(value, dict) or set(value) - LIMITS:
        raise ValidationError(f"limits are an object of {', '.join(sorted(LIMITS))}")
    for name, limit in value.items():
        if name in WORDS:
            valid = isinstance(limit, list) and limit and all(isinstance(one, str) for one in limit)
        else:
            valid = isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0
        if not valid:
            wanted = "a list of words" if name in WORDS else "a positive number"
            raise ValidationError(f"{name}: {limit!r} is not {wanted}")


def validate_multipliers(value: Any) -> None:
    if found := list(rules.faults(value)):
        raise ValidationError(found)


class Kept(models.Model):
    """A row of the catalog file until ops edits it in the admin: from then on `sync_catalog` leaves it."""

    managed = models.BooleanField(
        default=True, editable=False, help_text="Kept as in the catalog file; an edit here ends that"
    )

    class Meta:
        abstract = True


class GenerationModel(Kept):
    """A model under our own name. Where it is made, and at what cost, is its routes' business."""

    class Kind(models.TextChoices):
        IMAGE = "image", "Image"
        VIDEO = "video", "Video"
        AUDIO = "audio", "Audio"

    class Routing(models.TextChoices):
        """In which order the routes of a model are tried."""

        PRIORITY = "priority", "Priority: by position"
        CHEAPEST = "cheapest", "Cheapest for the request first"
        FASTEST = "fastest", "Fastest by recent attempts first"
        WEIGHTED = "weighted", "By chance, in proportion to the weights"

    slug = models.SlugField(primary_key=True, max_length=80)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    quality = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(10)], help_text="1 (draft) to 10 (best)"
    )
    version = models.CharField(
        max_length=60, default="1", help_text="Raise it when the same input gives another output"
    )
    active = models.BooleanField(default=True)
    limits = models.JSONField(default=dict, validators=[validate_limits])
    defaults = models.JSONField(default=dict, blank=True, help_text="Parameters of a request that names none")
    case_sensitive = models.BooleanField(
        default=False, help_text="Whether upper and lower case in a prompt give different outputs"
    )
    expected_s_p50 = models.FloatField(validators=[MinValueValidator(0)], help_text="Half are ready by then")
    expected_s_p95 = models.FloatField(
        validators=[MinValueValidator(0)], help_text="19 of 20 are ready by then"
    )
    licence = models.TextField(blank=True)
    commercial_use = models.BooleanField(default=True)
    excluded_regions = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_regions],
        help_text='Where its licence does not allow its use: ISO 3166-1 codes or EU, e.g. ["EU", "GB", "KR"]',
    )
    retired_at = models.DateTimeField(null=True, blank=True, help_text="Requests from then on are refused")
    successor = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    routing = models.CharField(
        max_length=8,
        choices=Routing.choices,
        default=Routing.PRIORITY,
        help_text="In which order routes are tried",
    )
    cache_ttl_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="How long a result is reused, seconds; empty: the platform's default"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=["image", "video", "audio"]), name="model_kind_is_known"
            ),
            models.CheckConstraint(
                condition=models.Q(quality__gte=1, quality__lte=10), name="model_quality_is_1_to_10"
            ),
            models.CheckConstraint(
                condition=models.Q(routing__in=["priority", "cheapest", "fastest", "weighted"]),
                name="model_routing_is_known",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        try:
            parameters.resolve({}, kind=self.kind, limits=self.limits, defaults=self.defaults)
        except (InvalidRequest, TypeError, AttributeError) as error:
            raise ValidationError({"defaults": f"not within the limits: {error}"}) from error


class Route(Kept):
    """One provider's way to make a model. In which order routes are tried is their model's `routing`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(GenerationModel, on_delete=models.PROTECT, related_name="routes")
    provider = models.SlugField(max_length=40)
    provider_model = models.CharField(max_length=200, help_text="The provider's name of the model")
    position = models.PositiveSmallIntegerField(default=0, help_text="Lowest is tried first")
    weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Its part of the requests where the model's routing is weighted",
    )
    hedge_after_s = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Order at the next route too when this one has not delivered by then; empty: never",
    )
    hedge_max_usd = models.DecimalField(
        **money.AMOUNT,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="The most that a second order may cost; empty: what the job's hold allows",
    )
    batch_size = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(50_000)],
        help_text="Jobs of priority batch that are sent together at most; empty: the platform's default",
    )
    batch_wait_s = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="How long such a job waits for others, seconds; empty: the platform's default",
    )
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="route_weight_is_positive"),
            models.CheckConstraint(
                condition=models.Q(batch_size__isnull=True) | models.Q(batch_size__gte=1),
                name="route_batch_size_is_positive",
            ),
            models.UniqueConstraint(
                fields=["model", "provider", "provider_model"], name="route_is_unique_for_its_model"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id} via {self.provider}"


class RouteStats(models.Model):
    """How a route did lately: measured from its last ended attempts, `samples` of them, canceled ones and what a client
    caused left out. Nothing of it is known while there are none; no time is known while none was accepted."""

    route = models.OneToOneField(Route, on_delete=models.CASCADE, primary_key=True, related_name="stats")
    samples = models.PositiveIntegerField()
    success_rate = models.FloatField(null=True, help_text="Accepted ÷ samples")
    p50_s = models.FloatField(null=True, help_text="Of accepted ones, from the order to the end")
    p95_s = models.FloatField(null=True)
    measured_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "route stats"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(samples=0, success_rate__isnull=True)
                | models.Q(samples__gt=0, success_rate__gte=0, success_rate__lte=1),
                name="route_stats_rate_iff_samples",
            )
        ]

    def __str__(self) -> str:
        return f"{self.route_id}: {self.samples} attempts"


class Price(Kept):
    """What a route costs from `effective_at` on. Append-only: a trigger refuses to change or delete one."""

    class Unit(models.TextChoices):
        IMAGE = "image", "Image"
        MEGAPIXEL = "megapixel", "Megapixel (10⁶ pixels)"
        SECOND = "second", "Second of output"
        CHARACTER = "character", "Character of the prompt"
        THOUSAND_CHARACTERS = "1k_characters", "1,000 characters of the prompt"
        TOKEN = "token", "Token of the output"
        REQUEST = "request", "Request"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    route = models.ForeignKey(Route, on_delete=models.PROTECT, related_name="prices")
    version = models.PositiveIntegerField(editable=False)
    unit = models.CharField(max_length=16, choices=Unit.choices)
    unit_price_usd = models.DecimalField(
        **money.UNIT_PRICE,
        validators=[MinValueValidator(Decimal(0))],
        help_text="Zero means unknown: the route is then not offered",
    )
    multipliers = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_multipliers],
        help_text='By parameter, e.g. {"resolution": {"1080p": "1.5"}, "duration_s": {"above": "5", "per": "5"}}',
    )
    prompt_token_usd = models.DecimalField(
        **money.UNIT_PRICE,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="On top, for each token of the prompt: as many as it has bytes, for it never has more",
    )
    batch_discount = models.DecimalField(
        max_digits=5,
        decimal_places=4,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(1))],
        help_text="What a job of priority batch saves here, as a part of 1",
    )
    priced_on = models.DateField(null=True, blank=True, help_text="When the provider's list said so")
    effective_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(batch_discount__gte=0, batch_discount__lte=1),
                name="price_batch_discount_is_0_to_1",
            ),
            models.UniqueConstraint(
                fields=["route", "version"], name="price_version_is_unique_for_its_route"
            ),
            models.CheckConstraint(condition=models.Q(unit_price_usd__gte=0), name="price_is_not_negative"),
            models.CheckConstraint(
                condition=models.Q(
                    unit__in=[
                        "image",
                        "megapixel",
                        "second",
                        "character",
                        "1k_characters",
                        "token",
                        "request",
                    ]
                ),
                name="price_unit_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"${money.text(self.unit_price_usd)} per {self.unit} (v{self.version})"

    def clean(self) -> None:
        model = self.route.model if self.route_id else None
        if model and (found := self.gaps(limits=model.limits, defaults=model.defaults)):
            raise ValidationError(
                [f"Not every request of {model} would have a price: {gap}" for gap in found]
            )

    def gaps(self, *, limits: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
        """Which requests of a model with these limits and defaults it gives no price for."""
        missing = COUNTED_BY.get(self.unit, set()) - set(defaults)
        found = [f"no default for {name}" for name in sorted(missing)]
        if self.unit == self.Unit.TOKEN and not any("else" in rule for rule in self.multipliers.values()):
            found.append("a price per token needs a rule with else, that says how many an output has at most")
        return [*found, *rules.gaps(self.multipliers, limits=limits, defaults=defaults)]


class Quote(models.Model):
    """What a user was told that a request would cost, and for how long that is kept to. No prompt: its digest."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, db_index=False, related_name="+")
    digest = models.BinaryField(max_length=32)
    document = models.JSONField()
    created_at = models.DateTimeField(default=clock.now)
    # Indexed for the purge.
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)
