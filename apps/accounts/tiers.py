"""The tiers a new installation begins with. From then on they belong to ops, in the admin."""

from decimal import Decimal
from typing import Any

from apps.accounts.models import Tier

STANDARD: dict[str, dict[str, Any]] = {
    "free": {
        "name": "Free",
        "monthly_budget_usd": Decimal(1),
        "requests_per_minute": 60,
        "concurrency": 2,
        "max_open_jobs": 100,
        "max_batch_items": 1000,
        "max_quality": 5,
        "prefers_cheapest": True,
    },
    "pro": {
        "name": "Pro",
        "monthly_budget_usd": Decimal(100),
        "requests_per_minute": 600,
        "concurrency": 20,
        "max_open_jobs": 2000,
        "max_batch_items": 50_000,
        "max_quality": 9,
    },
    "enterprise": {
        "name": "Enterprise",
        "monthly_budget_usd": Decimal(10_000),
        "requests_per_minute": 6000,
        "concurrency": 500,
        "max_open_jobs": 50_000,
        "max_batch_items": 200_000,
        "max_quality": 10,
    },
}


def ensure() -> dict[str, Tier]:
    """The standard tiers by slug, made where missing; one that ops edited stays as it is."""
    return {
        slug: Tier.objects.get_or_create(slug=slug, defaults=values)[0] for slug, values in STANDARD.items()
    }
