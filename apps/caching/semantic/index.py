"""Prompts by nearness, in pgvector. Among few candidates every distance is computed; among many HNSW finds them.

Measured with 100,000 vectors: a filtered HNSW search for a rare key finds one in twenty without iterative scans,
while sorting what a btree finds is exact and takes under a millisecond up to some thousand rows.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction

from apps.core import clock, rows

# From so many candidates on HNSW is faster than sorting them all.
CUT_OVER = 3000
NEIGHBOURS = 5

_PUT = """
INSERT INTO caching_cachedvector (result_id, team_id, compatibility, embedder, embedding)
SELECT id, team_id, compatibility, %(embedder)s, %(vector)s::halfvec FROM caching_cachedresult
WHERE team_id = %(team_id)s AND source_id = %(source_id)s AND canonical IS NOT NULL
ON CONFLICT (result_id) DO UPDATE SET
    compatibility = EXCLUDED.compatibility, embedder = EXCLUDED.embedder, embedding = EXCLUDED.embedding
"""
_OF_KEY = "v.team_id = %(team_id)s AND v.compatibility = %(compatibility)s AND v.embedder = %(embedder)s"
_COUNT = (
    f"SELECT count(*) FROM (SELECT 1 FROM caching_cachedvector v WHERE {_OF_KEY} LIMIT {CUT_OVER + 1}) few"  # noqa: S608
)
# MATERIALIZED: the planner is not to take HNSW for it.
_EXACT = f"""
WITH few AS MATERIALIZED (
    SELECT v.result_id, v.embedding <=> %(vector)s::halfvec AS distance FROM caching_cachedvector v WHERE {_OF_KEY}
), near AS (SELECT * FROM few ORDER BY distance LIMIT %(limit)s)
"""  # noqa: S608
_HNSW = f"""
WITH near AS MATERIALIZED (
    SELECT v.result_id, v.embedding <=> %(vector)s::halfvec AS distance FROM caching_cachedvector v WHERE {_OF_KEY}
    ORDER BY v.embedding <=> %(vector)s::halfvec LIMIT %(limit)s
)
"""  # noqa: S608
_RESULTS = """
SELECT r.prompt, r.outputs, r.source_id, r.cost_usd, 1 - near.distance
FROM near JOIN caching_cachedresult r ON r.id = near.result_id
WHERE r.expires_at > %(now)s AND near.distance <= %(furthest)s
  AND NOT EXISTS (SELECT 1 FROM caching_tombstone t
                  WHERE t.team_id = r.team_id AND t.asked = %(asked)s AND t.source_id = r.source_id)
ORDER BY near.distance
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A result whose prompt is near. `similarity`: the cosine, at most 1."""

    prompt: str
    outputs: list[dict[str, Any]]
    source_id: uuid.UUID
    cost_usd: Decimal
    similarity: float


def put(*, team_id: uuid.UUID, source_id: uuid.UUID, embedder: str, vector: Sequence[float]) -> int:
    """Remembers where the prompt of the purchase's results lies. Results that only their exact request may get are
    left out. Returns how many."""
    values = {"team_id": team_id, "source_id": source_id, "embedder": embedder, "vector": _text(vector)}
    return rows.execute(_PUT, values)


def nearest(
    *,
    team_id: uuid.UUID,
    compatibility: bytes,
    asked: bytes,
    embedder: str,
    vector: Sequence[float],
    floor: float,
) -> list[Candidate]:
    """The nearest live results of the same team, compatibility and embedder, at a cosine of at least `floor`."""
    values: dict[str, Any] = {
        "team_id": team_id,
        "compatibility": compatibility,
        "asked": asked,
        "embedder": embedder,
        "vector": _text(vector),
        "limit": NEIGHBOURS,
        "furthest": 1.0 - floor,
        "now": clock.now(),
    }
    with transaction.atomic():
        count = rows.select(_COUNT, values)[0][0]
        if count > CUT_OVER:
            rows.execute("SET LOCAL hnsw.iterative_scan = strict_order", {})
            rows.execute("SET LOCAL hnsw.ef_search = 100", {})
        search = _HNSW if count > CUT_OVER else _EXACT
        found = rows.select(search + _RESULTS, values)
    return [Candidate(prompt, json.loads(outputs), *rest) for prompt, outputs, *rest in found]


def _text(vector: Sequence[float]) -> str:
    return "[" + ",".join(f"{value:.7g}" for value in vector) + "]"
