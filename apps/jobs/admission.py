"""The first route that may be bought from now, or what the job waits for. Nothing is sent, and no attempt is made."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.catalog import snapshot
from apps.catalog.snapshot import RouteInfo
from apps.core import clock
from apps.core.ids import uuid7
from apps.jobs import routing
from apps.jobs.models import Job
from apps.jobs.routing import Choice
from apps.jobs.states import Priority
from apps.providers import call, inbox, permits, registry
from apps.providers.breaker import Refused
from apps.providers.contract import Fitted, GenerationRequest
from apps.providers.errors import ProviderError
from apps.providers.limiter import Caps
from apps.providers.permits import Permit

# Those who wait for the same provider do not all come back at once.
_SPREAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """`attempt_id` is the id that the attempt must get: the provider's limits know it by that."""

    attempt_id: uuid.UUID
    choice: Choice
    fitted: Fitted
    permit: Permit


@dataclass(slots=True)
class Found:
    """`admitted` None: nobody may be asked now. Then `look_at` says when it is worth looking again (None: never), and
    `waiting_for` why (a stable word). `skipped`: routes that were passed over, as the job keeps them."""

    admitted: Admitted | None = None
    look_at: datetime | None = None
    waiting_for: str = ""
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def wait(self, reason: str, until: datetime) -> None:
        if self.look_at is None or until < self.look_at:
            self.look_at, self.waiting_for = until, reason

    def skip(self, route: dict[str, Any], reason: str, at: datetime) -> None:
        where = {"provider": route["provider"], "model": route["model"]}
        self.skipped.append({**where, "reason": reason, "at": at.isoformat()})


def find(job: Job, choices: Sequence[Choice]) -> Found:
    """Asks the choices one by one: ready? in budget? can it make this? do its breakers and limits let us?"""
    found, at = Found(), clock.now()
    for choice in choices:
        if choice.ready_at > at:
            found.wait("retry", choice.ready_at)
            continue
        attempt_id, caps = uuid7(), registry.caps(choice.route["provider"])
        if caps is None:
            found.skip(choice.route, "provider_off", at)
            continue
        if Decimal(choice.route["amount_usd"]) > Decimal(job.quote["upper_bound_usd"]):
            found.skip(choice.route, "beyond_hold", at)
            continue
        try:
            fitted = _fit(job, choice.route, attempt_id)
        except ProviderError as error:
            found.skip(choice.route, error.kind.value, at)
            continue
        permit = _permit(job, choice, attempt_id, caps)
        if isinstance(permit, Permit):
            found.admitted = Admitted(attempt_id, choice, fitted, permit)
            break
        spread_s = random.uniform(0, _SPREAD_S)  # noqa: S311 - jitter, not a secret
        found.wait(permit.reason, at + timedelta(seconds=permit.wait_ms / 1000 + spread_s))
        found.skip(choice.route, permit.reason, at)
    return found


def ordered(job: Job) -> list[dict[str, Any]]:
    """The job's routes in the order that their models want them tried now."""
    models = snapshot.current().models
    known: dict[str, RouteInfo] = {}
    policy = {}
    for name in {route["model"] for route in job.quote["routes"]}:
        if name in models:
            policy[name] = models[name].routing
            known |= {str(info.id): info for info in models[name].routes}
    rng = random.Random()  # noqa: S311 - chance, not a secret
    return routing.order(job.quote["routes"], known, policy=policy, rng=rng)


def request_for(job: Job, attempt_id: uuid.UUID, provider: str, model: str) -> GenerationRequest:
    """What the job asks for, before the provider's adapter has fitted it."""
    return GenerationRequest(
        attempt_id=str(attempt_id),
        kind=job.type,
        model=model,
        prompt=job.prompt,
        params=job.params,
        webhook_url=inbox.webhook_url(provider, attempt_id),
    )


def _fit(job: Job, route: dict[str, Any], attempt_id: uuid.UUID) -> Fitted:
    """Raises ProviderError (unsupported): it can't make this."""
    return call.fit(
        route["provider"], request_for(job, attempt_id, route["provider"], route["provider_model"])
    )


def _permit(job: Job, choice: Choice, attempt_id: uuid.UUID, caps: Caps) -> Permit | Refused:
    return permits.ask(
        choice.route["provider"],
        choice.route["provider_model"],
        token=str(attempt_id),
        caps=caps,
        within_s=max(1.0, (job.deadline_at - clock.now()).total_seconds()),
        retry=choice.is_retry,
        can_wait=_can_wait(job),
    )


def _can_wait(job: Job) -> bool:
    """Batch jobs leave the larger part of a provider's places to interactive ones, until they have waited too long."""
    aged_at = job.created_at + timedelta(seconds=settings.BATCH_AGED_S)
    return job.priority == Priority.BATCH and clock.now() < aged_at
