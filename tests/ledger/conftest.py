"""A user with a dollar a month."""

from decimal import Decimal

import pytest

from apps.accounts.models import User
from tests import factories


@pytest.fixture
def user(db: None) -> User:
    return factories.user(tier=factories.tier(monthly_budget_usd=Decimal(1)))
