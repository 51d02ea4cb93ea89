"""Who a request speaks for: one query, then remembered in this process for a second."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from rest_framework.request import Request

from apps.accounts.models import ApiKey, Tier
from apps.core import clock
from apps.core.errors import NotAuthenticated

# A revoked key stops working within this time.
REMEMBERED_S = 1.0
_MAX_REMEMBERED = 10_000
_remembered: dict[bytes, tuple[datetime, "Caller"]] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """The tier of the caller, as it was when the key was looked up."""

    slug: str
    monthly_budget_usd: Decimal
    requests_per_minute: int
    concurrency: int
    max_open_jobs: int
    max_batch_items: int
    max_quality: int
    prefers_cheapest: bool
    # Empty: all.
    allowed_models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """`request.user` of the API: everything the hot path needs to know, with no further query."""

    is_authenticated: ClassVar[bool] = True

    user_id: uuid.UUID
    team_id: uuid.UUID
    key_id: uuid.UUID
    scopes: frozenset[str]
    timezone: str
    is_team_admin: bool
    tier: Limits
    key_expires_at: datetime | None
    # Of the team: its country (ISO 3166-1, empty if not known), and whether all it makes is for commercial use.
    region: str = ""
    is_commercial: bool = False


def of(request: Request) -> Caller | None:
    """The caller of an API request, None on a public route."""
    user: object = request.user
    return user if isinstance(user, Caller) else None


def required(request: Request) -> Caller:
    """The caller; the permission class lets nobody else through to a view."""
    found = of(request)
    if found is None:
        raise NotAuthenticated("Send an API key as 'Authorization: Bearer gp_…'")
    return found


def find(digest: bytes) -> Caller | None:
    """The caller whose key has this digest; None if unknown, revoked, expired or inactive."""
    now = clock.now()
    looked_up_at, caller = _remembered.get(digest, (None, None))
    age_s = (now - looked_up_at).total_seconds() if looked_up_at else -1.0
    # A clock that was set back must not keep a revoked key alive.
    if not 0 <= age_s < REMEMBERED_S:
        caller = _look_up(digest)
        _remember(digest, now, caller)
    if caller and caller.key_expires_at and caller.key_expires_at <= now:
        return None
    return caller


def forget() -> None:
    """For tests: the next request looks its key up again."""
    _remembered.clear()


def _remember(digest: bytes, at: datetime, caller: Caller | None) -> None:
    # An unknown key is not remembered: guesses must not push callers out.
    if caller is None:
        _remembered.pop(digest, None)
        return
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[digest] = (at, caller)


def _look_up(digest: bytes) -> Caller | None:
    key = (
        ApiKey.objects.filter(digest=digest, revoked_at=None, user__is_active=True)
        .select_related("user__tier", "user__team")
        .first()
    )
    if key is None or key.user.team is None or key.user.tier is None:
        return None
    return Caller(
        user_id=key.user_id,
        team_id=key.user.team.pk,
        key_id=key.id,
        scopes=frozenset(key.scopes),
        timezone=key.user.timezone,
        is_team_admin=key.user.is_team_admin,
        tier=_limits(key.user.tier),
        key_expires_at=key.expires_at,
        region=key.user.team.region,
        is_commercial=key.user.team.is_commercial,
    )


def _limits(tier: Tier) -> Limits:
    return Limits(
        slug=tier.slug,
        monthly_budget_usd=tier.monthly_budget_usd,
        requests_per_minute=tier.requests_per_minute,
        concurrency=tier.concurrency,
        max_open_jobs=tier.max_open_jobs,
        max_batch_items=tier.max_batch_items,
        max_quality=tier.max_quality,
        prefers_cheapest=tier.prefers_cheapest,
        allowed_models=frozenset(tier.allowed_models),
    )
