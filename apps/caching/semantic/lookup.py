"""Tier 3: a result made for other words that ask for the same picture. Every failure is a miss."""

import uuid
from dataclasses import dataclass

import structlog
from django.db import DatabaseError

from apps.caching.models import CachedResult
from apps.caching.semantic import embedders, guard, index, verdicts
from apps.caching.semantic.embedders import Embedder
from apps.caching.semantic.guard import Verdict
from apps.caching.semantic.index import Candidate
from apps.core import clock

_BATCH = 64

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate that veto, guard and the verdicts so far let pass."""

    candidate: Candidate
    verdict: Verdict


def find(*, team_id: uuid.UUID, compatibility: bytes, asked: bytes, prompt: str) -> Match | None:
    """The nearest result that may be served for `prompt`. None also when tier 3 is off or its parts are away."""
    try:
        embedder = embedders.configured()
        if embedder is None:
            return None
        (vector,) = embedder.embed([prompt])
        candidates = index.nearest(
            team_id=team_id,
            compatibility=compatibility,
            asked=asked,
            embedder=embedder.id,
            vector=vector,
            floor=guard.current().floor,
        )
        for candidate in candidates:
            verdict = guard.judge(prompt, candidate.prompt, candidate.similarity)
            if verdict.served and verdicts.may_serve(verdict.signature):
                return Match(candidate, verdict)
    except (embedders.EmbedderUnavailable, DatabaseError) as error:
        # Never the prompt: it is the user's.
        log.warning("semantic.away", error=type(error).__name__)
    return None


def remember(*, source_id: uuid.UUID) -> None:
    """Puts the prompt of a new result into the index; nothing without an embedder, or if it is gone again."""
    try:
        embedder = embedders.configured()
        result = CachedResult.objects.filter(source_id=source_id, canonical__isnull=False).first()
        if embedder and result:
            (vector,) = embedder.embed([result.prompt])
            index.put(team_id=result.team_id, source_id=source_id, embedder=embedder.id, vector=vector)
    except (embedders.EmbedderUnavailable, DatabaseError) as error:
        log.warning("semantic.not_remembered", error=type(error).__name__)


def catch_up(embedder: Embedder) -> int:
    """Embeds one batch of live results that have no vector of this embedder. Returns how many; 0: all have one.

    Raises EmbedderUnavailable.
    """
    behind = list(
        CachedResult.objects.filter(canonical__isnull=False, expires_at__gt=clock.now())
        .exclude(cachedvector__embedder=embedder.id)
        .order_by("pk")[:_BATCH]
    )
    vectors = embedder.embed([result.prompt for result in behind]) if behind else []
    for result, vector in zip(behind, vectors, strict=True):
        index.put(team_id=result.team_id, source_id=result.source_id, embedder=embedder.id, vector=vector)
    return len(behind)
