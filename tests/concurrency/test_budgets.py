"""Processes that all want the last dollar of one budget: exactly what fits is admitted, and nobody deadlocks."""

import multiprocessing
import uuid
from collections import Counter
from decimal import Decimal

import pytest
from django.db import DEFAULT_DB_ALIAS, connection, connections

from apps.ledger import holds
from apps.ledger.models import BudgetPeriod, Hold, TeamBudget
from apps.ops import reconcile
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

PRICE_USD = Decimal("0.01")
# Processes, requests of each, how many the limit fits, runs.
SHORT = (8, 60, 100, 1)
LONG = pytest.param((32, 500, 1000, 5), marks=[pytest.mark.long, pytest.mark.timeout(1800)])


def ask(users: list[uuid.UUID], requests: int, together: "multiprocessing.synchronize.Barrier") -> None:
    """One process: asks `requests` times, for one user after the other, and exits with an error if anything but a
    refusal happens."""
    together.wait()
    for number in range(requests):
        try:
            holds.reserve(
                user_id=users[number % len(users)],
                timezone="UTC",
                reference=uuid.uuid4(),
                amount_usd=PRICE_USD,
                price_id=uuid.uuid4(),
            )
        except holds.BudgetExceeded:
            continue
    connection.close()


def hammer(users: list[uuid.UUID], processes: int, requests: int) -> None:
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(processes)
    # A forked child must not speak over the parent's connections.
    connection.close()
    connections[DEFAULT_DB_ALIAS].close_pool()  # type: ignore[attr-defined]  # of the Postgres backend
    asking = [fork.Process(target=ask, args=(users, requests, together)) for _ in range(processes)]
    for process in asking:
        process.start()
    for process in asking:
        process.join()
    assert Counter(process.exitcode for process in asking) == {0: processes}


@pytest.mark.parametrize("size", [SHORT, LONG])
def test_a_users_budget_admits_exactly_what_fits(size: tuple[int, int, int, int]) -> None:
    processes, requests, fits, runs = size
    for _ in range(runs):
        user = factories.user(tier=factories.tier(monthly_budget_usd=PRICE_USD * fits))
        hammer([user.pk], processes, requests)
        assert Hold.objects.filter(period__user=user).count() == fits
        assert BudgetPeriod.objects.get(user=user, scope="user_month").held_usd == PRICE_USD * fits
    assert reconcile.differences() == []


@pytest.mark.parametrize("size", [SHORT, LONG])
def test_a_teams_cap_shared_by_20_users_admits_exactly_what_fits(size: tuple[int, int, int, int]) -> None:
    processes, requests, fits, runs = size
    for _ in range(runs):
        team, tier = factories.team(), factories.tier(monthly_budget_usd=PRICE_USD * fits)
        TeamBudget.objects.create(team=team, limit_usd=PRICE_USD * fits)
        users = [factories.user(team=team, tier=tier).pk for _ in range(20)]
        hammer(users, processes, requests)
        assert Hold.objects.filter(period__user__team=team).count() == fits
        assert BudgetPeriod.objects.get(team=team).held_usd == PRICE_USD * fits
    assert reconcile.differences() == []
