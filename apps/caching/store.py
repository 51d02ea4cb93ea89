"""Look up, keep and expire cached results. Scope: the team."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from apps.caching.models import CachedResult
from apps.core import clock, rows
from apps.core.ids import uuid7


@dataclass(frozen=True, slots=True)
class Hit:
    """A result that may be served: `cost_usd` is what it cost and so what serving it saves."""

    outputs: list[dict[str, Any]]
    source_id: uuid.UUID
    cost_usd: Decimal


# By hand: the ORM's general path costs as much again as the query, on every request.
LOOKUP = """
SELECT outputs, source_id, cost_usd FROM caching_cachedresult
WHERE team_id = %(team_id)s AND fingerprint = %(fingerprint)s AND expires_at > %(now)s
"""


def lookup(*, team_id: uuid.UUID, fingerprint: bytes) -> Hit | None:
    """One query, by the unique index over team and fingerprint."""
    found = rows.select(LOOKUP, {"team_id": team_id, "fingerprint": fingerprint, "now": clock.now()})
    return next((Hit(json.loads(outputs), source, cost) for outputs, source, cost in found), None)


_KEEP = """
INSERT INTO caching_cachedresult
       (id, team_id, fingerprint, model, source_id, outputs, cost_usd, created_at, expires_at)
VALUES (%(id)s, %(team_id)s, %(fingerprint)s, %(model)s, %(source_id)s, %(outputs)s::jsonb, %(cost_usd)s,
        %(now)s, %(expires_at)s)
ON CONFLICT (team_id, fingerprint) DO UPDATE SET
    model = EXCLUDED.model, source_id = EXCLUDED.source_id, outputs = EXCLUDED.outputs,
    cost_usd = EXCLUDED.cost_usd, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
"""


def keep(
    *,
    team_id: uuid.UUID,
    fingerprint: bytes,
    model: str,
    source_id: uuid.UUID,
    outputs: Sequence[dict[str, Any]],
    cost_usd: Decimal,
    ttl_s: int,
) -> None:
    """Keeps the newest result of a fingerprint for `ttl_s` seconds."""
    at = clock.now()
    values = {
        "id": uuid7(),
        "team_id": team_id,
        "fingerprint": fingerprint,
        "model": model,
        "source_id": source_id,
        "outputs": json.dumps(list(outputs)),
        "cost_usd": cost_usd,
        "now": at,
        "expires_at": at + timedelta(seconds=ttl_s),
    }
    rows.execute(_KEEP, values)


def withdraw(*, source_id: uuid.UUID) -> int:
    """Forgets what `source_id` made: it is not served again. Returns how many results that were."""
    withdrawn, _ = CachedResult.objects.filter(source_id=source_id).delete()
    return withdrawn


def expire() -> int:
    """Deletes what has expired. Returns how many."""
    return CachedResult.objects.filter(expires_at__lte=clock.now()).delete()[0]
