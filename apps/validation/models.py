"""What ops decides about content: how good an output has to be, which words are refused, which files do not return."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from apps.accounts.models import Team
from apps.core import clock, money
from apps.core.ids import uuid7

CHECKS = ("technical_quality", "content_alignment", "content_safety", "legal_compliance")
_SHARE: dict[str, Any] = {
    "null": True,
    "blank": True,
    "validators": [MinValueValidator(0), MaxValueValidator(1)],
}


def validate_checks(value: Any) -> None:
    if not isinstance(value, list) or set(map(str, value)) - set(CHECKS):
        raise ValidationError(f"a list of checks, of {', '.join(CHECKS)}")


class QualityStandard(models.Model):
    """What outputs have to reach: of everything, of a model, of a team, or of a model for a team. What is empty here is
    taken from the wider one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.SlugField(max_length=80, blank=True, help_text="A model of the catalog; empty: all models")
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: all teams"
    )
    min_technical = models.FloatField(**_SHARE, help_text="Least technical score, 0 to 1")
    min_alignment = models.FloatField(**_SHARE, help_text="Least CLIPScore (2.5 × cosine), 0 to 1")
    max_unsafe = models.FloatField(**_SHARE, help_text="An output this surely unsafe is refused, 0 to 1")
    required = models.JSONField(
        null=True, blank=True, validators=[validate_checks], help_text="Checks without which none is accepted"
    )
    shadow = models.JSONField(
        null=True,
        blank=True,
        validators=[validate_checks],
        help_text="Checks that only report their failures",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model", "team"], name="one_standard_per_model_and_team", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.model or 'all models'} for {self.team or 'all teams'}"


class PolicyList(models.Model):
    """Words that decide about a request before money is spent. Each edit is a new version; the admin's history keeps
    who made it."""

    class Kind(models.TextChoices):
        TERMS = "terms", "Terms"
        PERSONS = "persons", "Named persons"
        TRADEMARKS = "trademarks", "Trademarks"

    class Action(models.TextChoices):
        BLOCK = "block", "Block: the request is refused"
        REVIEW = "review", "Review: the job waits until ops decides"
        ALLOW = "allow", "Allow: what is named here is no match of another list"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TERMS)
    action = models.CharField(max_length=6, choices=Action)
    category = models.SlugField(
        max_length=40, help_text="What the client is told, e.g. violence; never the word that was found"
    )
    terms = models.TextField(
        help_text="One a line. Case, accents of writing and look-alike letters do not matter"
    )
    active = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1, editable=False)
    changed_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(action__in=["block", "review", "allow"]), name="policy_list_action_known"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} (version {self.version})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A change is a new version."""
        if not self._state.adding:
            self.version += 1
            self.changed_at = clock.now()
        super().save(*args, **kwargs)


class JudgeDay(models.Model):
    """What the vision judge was asked on a day (UTC), and what that cost the platform at most."""

    day = models.DateField(primary_key=True)
    asked = models.PositiveIntegerField()
    spent_usd = models.DecimalField(**money.AMOUNT)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(spent_usd__gte=0), name="judge_day_not_negative")]

    def __str__(self) -> str:
        return f"{self.day}: ${money.text(self.spent_usd)}"


class Takedown(models.Model):
    """A file that must not be delivered again: the very bytes, or what looks like it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sha256 = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="Of the file, in hex; empty: by its look only"
    )
    phash = models.CharField(
        max_length=16, blank=True, help_text="Perceptual hash of a picture, in hex; empty: by its bytes only"
    )
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sha256__regex=r"^([0-9a-f]{64})?$", phash__regex=r"^([0-9a-f]{16})?$"),
                name="takedown_hashes_are_hex",
            ),
            models.CheckConstraint(condition=~Q(sha256="", phash=""), name="takedown_names_a_file"),
        ]

    def __str__(self) -> str:
        return self.reason
