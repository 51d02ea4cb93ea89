"""Files that we hold for a team."""

from django.db import models
from django.db.models import Q

from apps.accounts.models import Team
from apps.core import clock
from apps.core.ids import uuid7


class Artifact(models.Model):
    """One file in storage. Each row owns its file, so that a file goes when its row expires."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="artifacts")
    sha256 = models.CharField(max_length=64, help_text="Of the content, in hex")
    media_type = models.CharField(max_length=40, help_text="As found in the content, never as claimed")
    size_bytes = models.PositiveBigIntegerField()
    width = models.PositiveIntegerField(null=True, blank=True, help_text="Pixels")
    height = models.PositiveIntegerField(null=True, blank=True, help_text="Pixels")
    duration_s = models.FloatField(null=True, blank=True)
    storage_key = models.CharField(max_length=160, unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="When the file went; the row stays")
    quarantined_at = models.DateTimeField(
        null=True, blank=True, help_text="Refused: shown to ops only, and deleted when its time is over"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="artifact_sha256_is_hex"
            ),
            models.CheckConstraint(condition=Q(size_bytes__gt=0), name="artifact_is_not_empty"),
            models.CheckConstraint(
                condition=Q(duration_s__isnull=True) | Q(duration_s__gte=0),
                name="artifact_duration_s_positive",
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"],
                condition=Q(deleted_at__isnull=True, expires_at__isnull=False),
                name="artifact_to_expire",
            )
        ]

    def __str__(self) -> str:
        return f"{self.media_type}, {self.size_bytes} bytes"


class Spooled(models.Model):
    """The content of an artifact that came while the storage was away and exists nowhere else. The first who reads it
    once the storage is back moves it there."""

    artifact = models.OneToOneField(Artifact, on_delete=models.CASCADE, primary_key=True)
    content = models.BinaryField()
