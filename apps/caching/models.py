"""Results that may be served again."""

from django.db import models

from apps.accounts.models import Team
from apps.core import clock, money
from apps.core.ids import uuid7


class CachedResult(models.Model):
    """What one fingerprint gave, private to a team. The outputs are artifacts that we hold."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    fingerprint = models.BinaryField(max_length=32)
    model = models.CharField(max_length=100)
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
