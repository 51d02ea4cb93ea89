"""One shared cast: who asks, what is asked, and what the platform knows before."""

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rest_framework.test import APIClient

from apps.accounts import keys
from apps.accounts.models import ApiKey, Team, Tier, User

SCOPES = [ApiKey.Scope.JOBS_READ, ApiKey.Scope.JOBS_WRITE]


def tier(**changes: Any) -> Tier:
    slug = changes.pop("slug", f"tier-{uuid.uuid4().hex[:8]}")
    values = {
        "name": slug,
        "monthly_budget_usd": Decimal(100),
        "requests_per_minute": 100_000,
        "concurrency": 1000,
        "max_open_jobs": 1_000_000,
        "max_quality": 10,
    }
    return Tier.objects.create(slug=slug, **{**values, **changes})


def team(**changes: Any) -> Team:
    return Team.objects.create(**{"name": f"team-{uuid.uuid4().hex[:8]}", **changes})


def user(**changes: Any) -> User:
    values: dict[str, Any] = {"username": f"user-{uuid.uuid4().hex[:8]}"}
    if "team" not in changes:
        values["team"] = team()
    if "tier" not in changes:
        values["tier"] = tier()
    return User.objects.create(**{**values, **changes})


@dataclass(frozen=True)
class Someone:
    """A user with a key and an HTTP client that sends it."""

    user: User
    key: str
    api: APIClient

    @property
    def budget(self) -> dict[str, Any]:
        body: dict[str, Any] = self.api.get("/v1/budget").json()
        return body


def someone(*, scopes: list[ApiKey.Scope] = SCOPES, **changes: Any) -> Someone:
    member = user(**changes)
    _, text = keys.issue(member, name="test", scopes=scopes)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return Someone(member, text, api)


def body(**changes: Any) -> dict[str, Any]:
    """A small valid image job of the model `fast-draft` ($0.005)."""
    return {"type": "image", "prompt": "a lighthouse at dusk", "model": "fast-draft", **changes}
