"""Accepting a job: decide model and price, answer from the cache or hold the money, and ring. One transaction."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from apps.accounts.caller import Caller
from apps.caching import fingerprint
from apps.catalog import pricing, selection
from apps.catalog.snapshot import ModelInfo
from apps.core import clock, http, money
from apps.core.errors import DomainError, InvalidRequest
from apps.jobs import capacity, leases, settle
from apps.jobs.models import Job
from apps.jobs.serializers import EstimateRequest, JobRequest
from apps.jobs.states import CachePolicy, JobStatus
from apps.ledger import holds
from apps.validation import request as request_checks


class IdempotencyKeyReused(DomainError):
    code, status, title = "idempotency_key_reused", 422, "This Idempotency-Key was used for another request"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes to, before anything is stored: JSON-ready where a job keeps it."""

    model: ModelInfo
    prompt: str
    params: dict[str, Any]
    selection: dict[str, Any]
    quote: dict[str, Any]
    estimated_usd: Decimal
    upper_bound_usd: Decimal
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key and the digest of the body it came with."""

    key: str
    digest: bytes


def plan(caller: Caller, asked: EstimateRequest, *, derive_seed: bool = True) -> Plan:
    """Chooses the model, fills in and checks the parameters, prices every route. No query, no network."""
    prompt = request_checks.normalise(asked.prompt)
    chosen = selection.choose(
        kind=asked.type,
        model=asked.model,
        quality=asked.requirements.quality,
        content_type=asked.requirements.content_type,
        max_quality=caller.tier.max_quality,
        cheapest=caller.tier.prefers_cheapest,
    )
    wanted = asked.params.model_dump(exclude_none=True)
    params = pricing.resolve(chosen.model, wanted)
    quote = pricing.quote(chosen.model, params=params, prompt=prompt)
    routes = [(chosen.model.slug, route) for route in quote.routes]
    for index, name in enumerate(asked.fallback_models):
        fallback = selection.choose(
            kind=asked.type,
            model=name,
            quality=None,
            content_type=None,
            max_quality=caller.tier.max_quality,
            field=f"fallback_models[{index}]",
        ).model
        # Priced, and held to its limits, with what it would be sent: the parameters of the model asked for.
        priced = pricing.quote(fallback, params=pricing.resolve(fallback, params), prompt=prompt)
        routes += [(name, route) for route in priced.routes]
    canonical = fingerprint.normalise(prompt, case_sensitive=chosen.model.case_sensitive)
    if "seed" not in params:
        seed = fingerprint.derive_seed(model=chosen.model.slug, prompt=canonical)
        params["seed"] = seed if derive_seed else secrets.randbelow(fingerprint.MAX_SEED)
    upper_bound = max(route.amount_usd for _, route in routes)
    return Plan(
        model=chosen.model,
        prompt=prompt,
        params=params,
        selection={
            "model": chosen.model.slug,
            "reason": chosen.reason,
            "alternatives": list(chosen.alternatives),
        },
        quote={
            "estimated_usd": money.text(quote.estimated_usd),
            "upper_bound_usd": money.text(upper_bound),
            "breakdown": quote.breakdown,
            "time_s": {"p50": chosen.model.expected_s_p50, "p95": chosen.model.expected_s_p95},
            "cache_ttl_s": chosen.model.cache_ttl_s,
            "routes": [
                {
                    "route_id": str(route.route_id),
                    "model": name,
                    "provider": route.provider,
                    "provider_model": route.provider_model,
                    "price_id": str(route.price_id),
                    "price_version": route.price_version,
                    "amount_usd": money.text(route.amount_usd),
                }
                for name, route in routes
            ],
        },
        estimated_usd=quote.estimated_usd,
        upper_bound_usd=upper_bound,
        fingerprint=fingerprint.of(
            model=chosen.model.slug, model_version=chosen.model.version, prompt=canonical, params=params
        ),
    )


def submit(caller: Caller, asked: JobRequest, *, once: Once | None) -> tuple[Job, bool]:
    """The job of the request, and whether it is a replay of an earlier one with the same Idempotency-Key.

    Raises BudgetExceeded, QueueFull, InvalidRequest, the catalog's refusals or IdempotencyKeyReused; then nothing is
    stored or held.
    """
    try:
        if asked.callback_url:
            _check_callback(asked.callback_url)
        planned = plan(caller, asked, derive_seed=asked.cache != "off")
    except DomainError:
        # What was accepted once is answered the same, even if it would be refused now (its model has been retired).
        earlier = _earlier(caller, once)
        if earlier is None:
            raise
        return earlier, True
    job = _new_job(caller, asked, planned, once)
    try:
        _insert(job, caller, planned)
    except IntegrityError:
        # Insert first instead of check-then-act: whoever loses the race reads the winner's job.
        earlier = _earlier(caller, once)
        if earlier is None:
            raise
        return earlier, True
    return job, False


@transaction.atomic(durable=True)
def _insert(job: Job, caller: Caller, planned: Plan) -> None:
    """Answers from the cache, or else holds the money and rings."""
    if job.cache != CachePolicy.OFF and settle.insert_cached(job, timezone=caller.timezone):
        return
    settle.insert(job)
    holds.reserve(
        user_id=caller.user_id,
        timezone=caller.timezone,
        reference=job.pk,
        amount_usd=planned.upper_bound_usd,
        price_id=uuid.UUID(planned.quote["routes"][0]["price_id"]),
    )
    capacity.check(caller, expected_s=planned.model.expected_s_p50)
    leases.ring(job.pk)


def _new_job(caller: Caller, asked: JobRequest, planned: Plan, once: Once | None) -> Job:
    at = clock.now()
    return Job(
        team_id=caller.team_id,
        user_id=caller.user_id,
        status=JobStatus.QUEUED,
        type=asked.type,
        prompt=planned.prompt,
        params=planned.params,
        requirements=asked.requirements.model_dump(exclude_none=True),
        metadata=asked.metadata,
        callback_url=asked.callback_url or "",
        priority=asked.priority,
        cache=asked.cache,
        idempotency_key=once.key if once else None,
        request_digest=once.digest if once else None,
        model=planned.model.slug,
        selection=planned.selection,
        quote=planned.quote,
        fingerprint=planned.fingerprint,
        estimated_cost_usd=planned.estimated_usd,
        created_at=at,
        deadline_at=at + timedelta(seconds=settings.JOB_DEADLINE_S),
        due_at=at,
        rung_at=at,
    )


def _earlier(caller: Caller, once: Once | None) -> Job | None:
    """The job that holds the key. Raises IdempotencyKeyReused if it came of another body."""
    if once is None:
        return None
    job = Job.objects.filter(user_id=caller.user_id, idempotency_key=once.key).first()
    if job and bytes(job.request_digest or b"") != once.digest:
        raise IdempotencyKeyReused("Use a new key for a new request; this one belongs to another body.")
    return job


def _check_callback(url: str) -> None:
    try:
        http.check_url(url)
    except http.UnsafeUrl as error:
        raise InvalidRequest.field("callback_url", str(error), "unsafe_url") from error
