"""Results that may be served again, what they were made of, and what users said of serving them."""

from django.db import models

from apps.accounts.models import Team
from apps.core import clock, money
from apps.core.ids import uuid7


class CachedResult(models.Model):
    """What one fingerprint gave, private to a team. The outputs are artifacts that we hold."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    fingerprint = models.BinaryField(max_length=32)
    # The key of tier 2; NULL for what only its own exact request may get, as with a seed of the user's.
    canonical = models.BinaryField(max_length=32, null=True)
    # What two requests must share, their prompts aside, for one's result to answer the other.
    compatibility = models.BinaryField(max_length=32, default=bytes)
    model = models.CharField(max_length=100)
    prompt = models.TextField(default="")
    # The purchase that made it; caching does not know what lies behind the id.
    source_id = models.UUIDField()
    outputs = models.JSONField()
    cost_usd = models.DecimalField(**money.AMOUNT)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            # Serves lookup, and makes keeping a result an upsert.
            models.UniqueConstraint(
                fields=["team", "fingerprint"], name="one_result_per_team_and_fingerprint"
            )
        ]
        indexes = [
            # Serves lookup by the canonical key, the newest first.
            models.Index(
                fields=["team", "canonical", "-created_at"],
                name="cached_by_canonical",
                condition=models.Q(canonical__isnull=False),
            ),
            # Serves purge and feedback: everything that one purchase gave.
            models.Index(fields=["source_id"], name="cached_by_source"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class CachedVector(models.Model):
    """Where a result's prompt lies, for tier 3. The column `embedding`, halfvec(384), is Postgres's own: see index.

    Vectors of different embedders are never compared.
    """

    result = models.OneToOneField(CachedResult, on_delete=models.CASCADE, primary_key=True)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, db_index=False)
    compatibility = models.BinaryField(max_length=32)
    embedder = models.CharField(max_length=100)

    class Meta:
        indexes = [
            # Serves the exact search among what a request is compatible with.
            models.Index(fields=["team", "compatibility", "embedder"], name="vector_by_compatibility")
        ]


class Tombstone(models.Model):
    """A result that is not served again for one question: a user said that it was not what they asked for."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, db_index=False)
    asked = models.BinaryField(max_length=32)
    source_id = models.UUIDField()
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            # Serves lookup, and makes saying it twice one tombstone.
            models.UniqueConstraint(fields=["team", "asked", "source_id"], name="one_tombstone_per_pair")
        ]


class SemanticMatch(models.Model):
    """One look-alike that tier 3 found good enough: served, or only noted (in shadow) and generated all the same."""

    class Judged(models.TextChoices):
        NOT_YET = "", "not yet"
        RIGHT = "right"
        WRONG = "wrong"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    # The purchase that was (or would have been) spared, and the one whose result answers it.
    subject_id = models.UUIDField(unique=True)
    source_id = models.UUIDField()
    served = models.BooleanField()
    similarity = models.FloatField()
    probability = models.FloatField()
    signature = models.CharField(max_length=200)
    saved_usd = models.DecimalField(**money.AMOUNT)
    judged = models.CharField(max_length=5, choices=Judged, default=Judged.NOT_YET, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "semantic matches"
        constraints = [
            models.CheckConstraint(condition=models.Q(judged__in=["", "right", "wrong"]), name="judged_known")
        ]
        indexes = [
            # Serves the pooled verdicts on one signature, and the admin's sums.
            models.Index(fields=["signature", "judged"], name="match_by_signature")
        ]
