"""What a client sees of a job: the API's and the webhooks' one description of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from apps.accounts.caller import Caller
from apps.artifacts import store as artifacts
from apps.caching.store import Hit
from apps.catalog import selection
from apps.catalog.models import Quote
from apps.catalog.snapshot import ModelInfo
from apps.core import clock, money
from apps.core.errors import DomainError
from apps.jobs.models import Attempt, Job, JobEvent
from apps.jobs.plans import Plan
from apps.jobs.states import IN_PROGRESS, AttemptStatus, Billed, JobStatus, Review
from apps.providers import health

# A running job shows no more than this before its outputs are ours and checked.
_ALMOST = 0.95


def full(job: Job, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """GET /v1/jobs/{id}: everything, with the timeline of attempts."""
    at = clock.now()
    return {
        **brief(job, leading(attempts), at),
        "prompt": job.prompt,
        "params": job.params,
        "requirements": job.requirements,
        "selection": job.selection,
        "quality": job.quality,
        "waiting_for": job.waiting_for or None,
        "skipped": job.skipped,
        "attempts": [_attempt(attempt, at) for attempt in attempts],
    }


def leading(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that tells where a job stands: the one under way, else the newest."""
    under_way = (attempt for attempt in attempts if attempt.status in IN_PROGRESS)
    return next(under_way, attempts[-1] if attempts else None)


def brief(job: Job, attempt: Attempt | None, at: datetime) -> dict[str, Any]:
    """A job in a list, in an answer to its submission and in a webhook. `attempt`: the leading one."""
    return {
        "id": str(job.pk),
        "status": job.status,
        "phase": phase(job, attempt),
        "progress": progress(job, attempt, at),
        "type": job.type,
        "model": job.model,
        "cached": job.is_cached,
        "cache": _cache(job),
        "estimated_cost_usd": money.text(job.estimated_cost_usd),
        "estimated_time_s": job.quote["time_s"],
        "cost_usd": money.text(job.cost_usd),
        "saved_usd": money.text(job.saved_usd),
        "outputs": [output(kept) for kept in job.outputs],
        "error": _error(job),
        "batch_id": str(job.batch_id) if job.batch_id else None,
        "custom_id": job.custom_id or None,
        "metadata": job.metadata,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "cancel_requested_at": _time(job.cancel_requested_at),
        "urls": {
            "self": f"/v1/jobs/{job.pk}",
            "cancel": f"/v1/jobs/{job.pk}/cancel",
            "events": f"/v1/jobs/{job.pk}/events",
        },
    }


def accepted(job: Job) -> str:
    """The body that answers a submission, as JSON text."""
    return json.dumps(brief(job, None, job.created_at), ensure_ascii=False, separators=(",", ":"))


def estimate(plan: Plan, kept: Quote, hit: Hit | None, *, cache: str) -> dict[str, Any]:
    """The answer to a request for an estimate. `hit`: what the cache would serve for it now."""
    outlook = "off" if cache == "off" else "hit" if hit else "miss"
    return {
        "quote_id": str(kept.pk),
        "expires_at": _time(kept.expires_at),
        "model": plan.model.slug,
        "selection": plan.selection,
        # Without the cache each job draws a seed of its own: none can be told.
        "params": kept.document["params"] if cache == "off" else plan.params,
        "estimated_cost_usd": plan.quote["estimated_usd"],
        "upper_bound_usd": plan.quote["upper_bound_usd"],
        "breakdown": plan.quote["breakdown"],
        "estimated_time_s": plan.quote["time_s"],
        "cache": {
            "outlook": outlook,
            "tier": hit.tier if hit else None,
            "saves_usd": money.text(hit.cost_usd if hit else money.ZERO),
        },
    }


def model(offered: ModelInfo, asker: Caller) -> dict[str, Any]:
    """One of the models that can be asked for; `allowed`: by this caller."""
    licensed = selection.is_licensed(offered, asker.region, commercial=asker.is_commercial)
    time = selection.timing(offered)
    return {
        "id": offered.slug,
        "name": offered.name,
        "type": offered.kind,
        "quality": offered.quality,
        "allowed": licensed and selection.is_allowed(offered, asker.tier),
        "limits": dict(offered.limits),
        "defaults": dict(offered.defaults),
        "estimated_time_s": {"p50": time.p50_s, "p95": time.p95_s, "basis": time.basis},
        "licence": offered.licence,
        "commercial_use": offered.commercial_use,
        "excluded_regions": sorted(offered.excluded_regions),
        "retires_at": _time(offered.retired_at),
        "successor": offered.successor,
        "prices": [
            {
                "unit": route.price.unit,
                "unit_price_usd": money.text(route.price.unit_price_usd),
                "multipliers": {name: dict(rule) for name, rule in route.price.multipliers.items()},
            }
            for route in offered.routes
        ],
        "health": asdict(health.of((route.provider, route.provider_model) for route in offered.routes)),
    }


def feedback(refunded_usd: Decimal, fresh: Job | None, refusal: DomainError | None) -> dict[str, Any]:
    """What followed from a verdict."""
    error = refusal and {"code": refusal.code, "message": refusal.detail, "retryable": refusal.retryable}
    return {
        "refunded_usd": money.text(refunded_usd),
        "job": brief(fresh, None, clock.now()) if fresh else None,
        "error": error,
    }


def events(job: Job, moves: Sequence[JobEvent]) -> list[dict[str, Any]]:
    """Every status the job had, from its acceptance on."""
    first = moves[0].from_status if moves else job.status
    return [
        {"at": _time(job.created_at), "from_status": "", "to_status": first},
        *(
            {"at": _time(move.at), "from_status": move.from_status, "to_status": move.to_status}
            for move in moves
        ),
    ]


def output(kept: dict[str, Any]) -> dict[str, Any]:
    """One output with a link that is good for a while, without what only a takedown needs."""
    shown = {name: value for name, value in kept.items() if name not in ("made_sha256", "phash")}
    return {"url": artifacts.signed_url(kept["artifact_id"]), **shown}


def phase(job: Job, attempt: Attempt | None) -> str:
    """Where the job is, finer than its status: derived, never stored."""
    if job.status == JobStatus.QUEUED and job.review == Review.PENDING:
        return "review"
    if job.status != JobStatus.RUNNING:
        return job.status
    if job.waiting_for and (attempt is None or attempt.status not in IN_PROGRESS):
        return "waiting"
    match attempt.status if attempt else None:
        case None:
            return "starting"
        case AttemptStatus.STARTED:
            return "submitting"
        case AttemptStatus.SUBMITTED:
            return attempt.provider_status if attempt and attempt.provider_status else "submitted"
        case AttemptStatus.FETCHED | AttemptStatus.ACCEPTED:
            return "validating"
        case _:
            return "retrying"


def progress(job: Job, attempt: Attempt | None, at: datetime) -> float:
    """0 to 1: what the provider says, else the share of the usual time that has passed."""
    if job.status == JobStatus.COMPLETED:
        return 1.0
    if job.status != JobStatus.RUNNING or attempt is None:
        return 0.0
    if attempt.status == AttemptStatus.FETCHED:
        return _ALMOST
    if attempt.progress is not None:
        return min(attempt.progress, _ALMOST)
    usual_s = float(job.quote["time_s"]["p50"]) or 1.0
    return round(min(_ALMOST, attempt.latency_s(at) / usual_s), 2)


def _cache(job: Job) -> dict[str, Any] | None:
    """Whose result it is, if not its own."""
    if not job.is_cached:
        return None
    return {
        "tier": job.cache_tier or "exact",
        "similarity": job.similarity,
        "job_id": str(job.cached_from),
        "saved_usd": money.text(job.saved_usd),
    }


def _attempt(attempt: Attempt, at: datetime) -> dict[str, Any]:
    error = {"kind": attempt.error_kind, "message": attempt.error_message} if attempt.error_kind else None
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "model": attempt.model,
        "status": attempt.status,
        "started_at": _time(attempt.started_at),
        "finished_at": _time(attempt.finished_at),
        "latency_s": round(attempt.latency_s(at), 3),
        "price_usd": money.text(attempt.price_usd),
        "cost_usd": _cost(attempt),
        "billed": attempt.billed,
        "hedged": attempt.hedged,
        "changes": attempt.changes,
        "error": error,
    }


def _cost(attempt: Attempt) -> str | None:
    """What the provider bills us for it; None while that is not known."""
    if attempt.billed == Billed.UNKNOWN:
        return None
    return money.text(attempt.price_usd if attempt.billed == Billed.YES else money.ZERO)


def _error(job: Job) -> dict[str, Any] | None:
    if not job.error_code:
        return None
    return {"code": job.error_code, "message": job.error_message, "retryable": job.error_retryable}


def _time(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
