"""A period that passes a threshold of its limit says so once, in the transaction that passed it."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.test import TestCase

from apps.accounts.models import Tier, User
from apps.core import clock
from apps.ledger import corrections, holds
from apps.ledger.models import Budget, BudgetPeriod, BudgetWarning, TeamBudget
from tests import factories
from tests.concurrency.workers import at_once
from tests.jobs import bells
from tests.ledger.purchases import PRICE, books_agree, charge, reserve


def warnings() -> list[tuple[str, int]]:
    found = BudgetWarning.objects.order_by("created_at", "period__scope", "threshold")
    return list(found.values_list("period__scope", "threshold"))


def test_each_threshold_warns_once_with_the_figures_of_its_moment(user: User) -> None:
    reserve(user, "0.79")
    assert warnings() == []
    reserve(user, "0.03")
    reserve(user, "0.03")
    assert warnings() == [("user_month", 80)]
    [warning] = BudgetWarning.objects.all()
    assert (warning.used_usd, warning.limit_usd) == (Decimal("0.82"), Decimal(1))
    assert (warning.percent_used, warning.remaining_usd) == (82, Decimal("0.18"))
    reserve(user, "0.15")
    assert warnings() == [("user_month", 80), ("user_month", 100)]


def test_one_purchase_can_pass_every_threshold_of_every_period(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(daily_budget_usd=Decimal(1))
    assert user.team
    TeamBudget.objects.create(team=user.team, limit_usd=Decimal(1))
    reserve(user, "1")
    scopes = ("team_month", "user_day", "user_month")
    assert warnings() == [(scope, threshold) for scope in scopes for threshold in (80, 100)]


def test_the_bell_rings_when_the_transaction_commits(user: User) -> None:
    bells.clear("control")
    with TestCase.captureOnCommitCallbacks(execute=True):
        reserve(user, "0.80")
        assert bells.waiting("control") == []
    [message] = bells.waiting("control")
    [warning] = BudgetWarning.objects.all()
    assert (message.task, message.id) == ("ops.budget_warning", str(warning.pk))


def test_money_given_back_and_spent_again_does_not_warn_twice(user: User) -> None:
    reference = reserve(user, "0.90")
    holds.release(reference=reference, reason="failed")
    reserve(user, "0.90")
    assert warnings() == [("user_month", 80)]


def test_a_lowered_limit_warns_at_the_next_purchase(user: User) -> None:
    reserve(user, "0.50")
    Budget.objects.create(user=user, limit_usd=Decimal("0.60"))
    reserve(user, "0.01")
    assert warnings() == [("user_month", 80)]


def test_a_new_month_warns_anew(user: User) -> None:
    for month in (10, 11):
        with clock.frozen(datetime(2026, month, 5, tzinfo=UTC)):
            reserve(user, "0.80")
    assert warnings() == [("user_month", 80)] * 2


def test_a_user_can_have_thresholds_of_their_own(user: User, settings: Any) -> None:
    Budget.objects.create(user=user, warning_percents=[50])
    reserve(user, "0.90")
    assert warnings() == [("user_month", 50)]
    settings.BUDGET_WARNING_PERCENTS = [90]
    other = factories.user(tier=user.tier)
    reserve(other, "0.95")
    assert warnings() == [("user_month", 50), ("user_month", 90)]


def test_what_is_charged_beyond_a_hold_raised_or_adjusted_warns_too(user: User) -> None:
    extended, charged, adjusted = (factories.user(tier=user.tier) for _ in range(3))
    holds.extend(reference=reserve(extended, "0.10"), amount_usd=Decimal("0.75"), price_id=PRICE)
    charge(reserve(charged, "0.10"), "0.85")
    corrections.adjust(user=adjusted, amount_usd=Decimal("0.85"), reason="a mistake", by="grace")
    assert warnings() == [("user_month", 80)] * 3


def test_a_refused_purchase_warns_of_nothing(user: User) -> None:
    with pytest.raises(holds.BudgetExceeded):
        reserve(user, "1.01")
    assert warnings() == []


@pytest.mark.django_db(transaction=True)
def test_many_at_once_pass_a_threshold_once() -> None:
    team = factories.team()
    tier = factories.tier(monthly_budget_usd=Decimal(1))
    TeamBudget.objects.create(team=team, limit_usd=Decimal("1.60"))
    users = [factories.user(team=team, tier=tier) for _ in range(2)]
    at_once([partial(reserve, user, "0.05") for user in users for _ in range(16)])
    assert sorted(warnings()) == [
        ("team_month", 80), ("team_month", 100), ("user_month", 80), ("user_month", 80),
    ]  # fmt: skip
    rung = [message.id for message in bells.waiting("control")]
    assert sorted(rung) == sorted(str(pk) for pk in BudgetWarning.objects.values_list("pk", flat=True))
    assert BudgetPeriod.objects.get(scope="team_month").held_usd == Decimal("1.60")
    assert books_agree()
