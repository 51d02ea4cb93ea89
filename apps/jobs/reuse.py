"""The first step of a run: whether somebody else's result answers the job, before anything is bought.

What has followed an equal request looks for its result (single-flight); then tier 3 looks for look-alikes. Tiers 1
and 2 were looked up when the job was accepted.
"""

from decimal import Decimal

from django.conf import settings

from apps.accounts.models import SemanticCache, Team
from apps.caching.models import SemanticMatch
from apps.caching.semantic import lookup
from apps.caching.semantic.lookup import Match
from apps.caching.store import Hit
from apps.jobs import cached, leases, settle
from apps.jobs.models import Job
from apps.jobs.states import CachePolicy, CacheTier, Flight


def answers(job: Job) -> bool:
    """True if the job needs nothing more now: it ended with another's result, or goes on waiting for one."""
    if job.cache == CachePolicy.OFF:
        return False
    if job.flight == Flight.FOLLOWS:
        hit = cached.lookup(job)
        if hit:
            return settle.complete_from_cache(
                job, hit, tier=CacheTier.SHARED, share=Decimal(settings.SINGLE_FLIGHT_SHARE)
            )
        if not leases.lead(job):
            return leases.leave(job, next_at=job.deadline_at)
    return _look_alike(job)


def _look_alike(job: Job) -> bool:
    """Tier 3: served, or in shadow only noted with what it would have saved.

    Looked up once: a job that waits for a provider is touched every few seconds, and is not embedded each time.
    """
    if not settings.EMBEDDER or job.canonical is None or job.waiting_for:
        return False
    mode = _mode(job)
    if mode == SemanticCache.OFF:
        return False
    asked = bytes(job.canonical)
    match = lookup.find(
        team_id=job.team_id, compatibility=bytes(job.compatibility), asked=asked, prompt=job.prompt
    )
    if match is None or not cached.is_alive(match.candidate.outputs):
        return False
    serves = mode == SemanticCache.ON
    _note(job, match, served=serves)
    if not serves:
        return False
    found = match.candidate
    hit = Hit(found.outputs, found.source_id, found.cost_usd, "semantic", round(found.similarity, 4))
    return settle.complete_from_cache(job, hit, tier=CacheTier.SEMANTIC)


def _mode(job: Job) -> str:
    if job.cache == CachePolicy.SEMANTIC:
        return SemanticCache.ON
    if job.cache == CachePolicy.ACCOUNT:
        return Team.objects.values_list("semantic_cache", flat=True).get(pk=job.team_id)
    return SemanticCache.OFF


def _note(job: Job, match: Match, *, served: bool) -> None:
    SemanticMatch.objects.get_or_create(
        subject_id=job.pk,
        defaults={
            "team_id": job.team_id,
            "source_id": match.candidate.source_id,
            "served": served,
            "similarity": match.candidate.similarity,
            "probability": match.verdict.probability,
            "signature": match.verdict.signature,
            "saved_usd": match.candidate.cost_usd,
        },
    )
