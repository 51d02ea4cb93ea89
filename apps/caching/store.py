"""Look up, keep, purge and expire cached results. Scope: the team.

There is no Redis in front. A lookup is one indexed read inside the statement that accepts the job (0.1 ms at a
million rows), so a Redis before it would add a round trip to every miss and a second place to purge to every
tombstone; what it could save is less than that.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from apps.caching.canonical import form
from apps.caching.models import CachedResult, Tombstone
from apps.core import clock, rows
from apps.core.ids import uuid7

Tier = Literal["exact", "canonical", "semantic", "shared"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A result that may be served: `cost_usd` is what it cost and so what serving it saves."""

    outputs: list[dict[str, Any]]
    source_id: uuid.UUID
    cost_usd: Decimal
    tier: Tier
    similarity: float | None = None


# By hand: the ORM's general path costs as much again as the query, on every request. Tiers 1 and 2 at once.
# `also`: the canonical key, NULL for tier 1 alone; `asked`: by what a tombstone knows the question.
LOOKUP = """
SELECT r.outputs, r.source_id, r.cost_usd,
       CASE WHEN r.fingerprint = %(fingerprint)s THEN 'exact' ELSE 'canonical' END AS tier
FROM caching_cachedresult r
WHERE r.team_id = %(team_id)s AND r.expires_at > %(now)s
  AND (r.fingerprint = %(fingerprint)s OR r.canonical = %(also)s::bytea)
  AND NOT EXISTS (SELECT 1 FROM caching_tombstone t
                  WHERE t.team_id = r.team_id AND t.asked = %(asked)s AND t.source_id = r.source_id)
ORDER BY r.fingerprint = %(fingerprint)s DESC, r.created_at DESC LIMIT 1
"""

_KEEP = """
INSERT INTO caching_cachedresult
       (id, team_id, fingerprint, canonical, compatibility, model, prompt, source_id, outputs, cost_usd, created_at,
        expires_at)
VALUES (%(id)s, %(team_id)s, %(fingerprint)s, %(canonical)s::bytea, %(compatibility)s, %(model)s, %(prompt)s,
        %(source_id)s, %(outputs)s::jsonb, %(cost_usd)s, %(now)s, %(expires_at)s)
ON CONFLICT (team_id, fingerprint) DO UPDATE SET
    canonical = EXCLUDED.canonical, compatibility = EXCLUDED.compatibility, model = EXCLUDED.model,
    prompt = EXCLUDED.prompt, source_id = EXCLUDED.source_id, outputs = EXCLUDED.outputs,
    cost_usd = EXCLUDED.cost_usd, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
"""


def keep(
    *,
    team_id: uuid.UUID,
    fingerprint: bytes,
    canonical: bytes | None,
    compatibility: bytes,
    model: str,
    prompt: str,
    source_id: uuid.UUID,
    outputs: Sequence[dict[str, Any]],
    cost_usd: Decimal,
    expires_at: datetime,
) -> None:
    """Keeps the newest result of a fingerprint. `canonical`: None if only its exact request may get it."""
    values = {
        "id": uuid7(),
        "team_id": team_id,
        "fingerprint": fingerprint,
        "canonical": canonical,
        "compatibility": compatibility,
        "model": model,
        "prompt": prompt,
        "source_id": source_id,
        "outputs": json.dumps(list(outputs)),
        "cost_usd": cost_usd,
        "now": clock.now(),
        "expires_at": expires_at,
    }
    rows.execute(_KEEP, values)


def bury(*, team_id: uuid.UUID, asked: bytes, source_id: uuid.UUID) -> None:
    """From now on the result of `source_id` is no answer to `asked`."""
    Tombstone.objects.get_or_create(team_id=team_id, asked=asked, source_id=source_id)


def purge(
    *,
    team_id: uuid.UUID,
    source_id: uuid.UUID | None = None,
    model: str | None = None,
    prompt: str | None = None,
) -> int:
    """Forgets the team's results, with their vectors: of one purchase, one model, one prompt in any of its certain
    rewordings, or all. At once; returns how many."""
    found = CachedResult.objects.filter(team_id=team_id)
    if source_id is not None:
        found = found.filter(source_id=source_id)
    if model is not None:
        found = found.filter(model=model)
    if prompt is not None:
        wanted = form.of(prompt)
        alike = [pk for pk, text in found.values_list("pk", "prompt").iterator() if form.of(text) == wanted]
        found = found.filter(pk__in=alike)
    return found.delete()[1].get("caching.CachedResult", 0)


def withdraw(*, source_id: uuid.UUID) -> int:
    """Forgets what `source_id` made: it is not served again. Returns how many results that were."""
    withdrawn, _ = CachedResult.objects.filter(source_id=source_id).delete()
    return withdrawn


def expire() -> int:
    """Deletes what has expired, and tombstones that no result can need any more. Returns how many results."""
    Tombstone.objects.filter(created_at__lt=clock.now() - timedelta(days=365)).delete()
    return CachedResult.objects.filter(expires_at__lte=clock.now()).delete()[1].get("caching.CachedResult", 0)
