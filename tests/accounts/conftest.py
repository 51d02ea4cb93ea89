"""People to speak for. Every test begins with nobody remembered."""

from collections.abc import Iterator

import pytest

from apps.accounts import caller
from apps.accounts.models import Team, Tier, User


@pytest.fixture(autouse=True)
def _nobody_remembered() -> Iterator[None]:
    caller.forget()
    yield
    caller.forget()


@pytest.fixture
def user(db: None) -> User:
    tier = Tier.objects.create(
        slug="test", name="Test", monthly_budget_usd=5, requests_per_minute=3, concurrency=2, max_quality=7
    )
    team = Team.objects.create(name="Initech")
    return User.objects.create(username="peter", team=team, tier=tier, timezone="Europe/Berlin")
