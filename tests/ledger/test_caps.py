"""Every cap a purchase must fit into: the user's month and day, the team's month, and that of one job."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Team, Tier, User
from apps.core import clock
from apps.ledger import holds, statements
from apps.ledger.models import Budget, BudgetPeriod, Entry, Hold, TeamBudget
from tests import factories
from tests.ledger.purchases import PRICE, books_agree, buy, charge, reserve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def refusal(user: User, amount: str) -> dict[str, Any]:
    """What BudgetExceeded says; nothing may have been held."""
    before = Hold.objects.count(), Entry.objects.count()
    with pytest.raises(holds.BudgetExceeded) as refused:
        reserve(user, amount)
    assert (Hold.objects.count(), Entry.objects.count()) == before
    return refused.value.extra


def test_a_purchase_is_booked_in_the_users_month_and_day_and_the_teams_month(user: User) -> None:
    buy(user, "0.10")
    periods = BudgetPeriod.objects.values_list("scope", "user_id", "team_id", "spent_usd")
    assert set(periods) == {
        ("user_month", user.pk, None, Decimal("0.10")),
        ("user_day", user.pk, None, Decimal("0.10")),
        ("team_month", None, user.team_id, Decimal("0.10")),
    }
    assert books_agree()


def test_a_daily_cap_of_the_tier_refuses_until_tomorrow(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(daily_budget_usd=Decimal("0.30"))
    with clock.frozen(NOON):
        reserve(user, "0.25")
        assert refusal(user, "0.10") == {
            "scope": "user_day",
            "current": "0.25",
            "limit": "0.3",
            "requested": "0.1",
            "reset_date": "2026-11-24T00:00:00+00:00",
        }
    with clock.frozen(NOON.replace(day=24)):
        reserve(user, "0.30")
    assert books_agree()


def test_a_users_own_daily_cap_counts_what_was_spent_before_it_was_set(user: User) -> None:
    buy(user, "0.25")
    Budget.objects.create(user=user, daily_limit_usd=Decimal("0.30"))
    assert refusal(user, "0.06")["scope"] == "user_day"
    reserve(user, "0.05")


def test_own_limits_leave_the_others_to_the_tier(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(daily_budget_usd=Decimal("0.50"), max_job_usd=Decimal("0.20"))
    Budget.objects.create(user=user, max_job_usd=Decimal("0.80"))
    assert refusal(user, "0.60")["scope"] == "user_day"
    Budget.objects.filter(user=user).update(daily_limit_usd=2)
    reserve(user, "0.60")
    assert refusal(user, "0.60")["scope"] == "user_month"


def test_a_job_dearer_than_one_may_be_is_refused_for_good(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(max_job_usd=Decimal("0.20"))
    assert refusal(user, "0.21") == {
        "scope": "job",
        "current": "0",
        "limit": "0.2",
        "requested": "0.21",
        "reset_date": None,
    }
    reserve(user, "0.20")


def test_a_teams_cap_is_shared_and_counts_what_was_spent_before_it_was_set(user: User) -> None:
    other = factories.user(team=user.team, tier=user.tier)
    buy(user, "0.40")
    assert user.team
    TeamBudget.objects.create(team=user.team, limit_usd=Decimal("0.50"))
    said = refusal(other, "0.20")
    assert (said["scope"], said["current"], said["limit"]) == ("team_month", "0.4", "0.5")
    reserve(other, "0.10")
    stranger = factories.user(tier=user.tier)
    reserve(stranger, "0.20")
    assert books_agree()


def test_a_lowered_team_cap_blocks_new_holds_only(user: User) -> None:
    assert user.team
    budget = TeamBudget.objects.create(team=user.team, limit_usd=Decimal("0.50"))
    reference = reserve(user, "0.40")
    TeamBudget.objects.filter(pk=budget.pk).update(limit_usd=Decimal("0.10"))
    assert refusal(user, "0.01")["scope"] == "team_month"
    assert charge(reference, "0.40") == Decimal("0.40")
    assert books_agree()


def test_the_teams_month_begins_in_the_teams_time_zone(user: User) -> None:
    assert user.team
    Team.objects.filter(pk=user.team.pk).update(timezone="Pacific/Kiritimati")
    TeamBudget.objects.create(team=user.team, limit_usd=Decimal("0.50"))
    with clock.frozen(datetime(2026, 11, 30, 9, 59, tzinfo=UTC)):
        reserve(user, "0.50")
        assert refusal(user, "0.10")["reset_date"] == "2026-11-30T10:00:00+00:00"
    with clock.frozen(datetime(2026, 11, 30, 10, 0, tzinfo=UTC)):
        # December there; the user's own November goes on.
        reserve(user, "0.50")
        assert refusal(user, "0.10")["scope"] == "team_month"


def test_where_several_caps_refuse_the_one_that_stays_longest_is_named(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(daily_budget_usd=Decimal("0.50"))
    assert refusal(user, "2")["scope"] == "user_month"


def test_the_overdraft_is_the_only_way_past_a_limit(user: User, settings: Any) -> None:
    settings.BUDGET_OVERDRAFT_USD = Decimal("0.50")
    reserve(user, "1.50")
    assert refusal(user, "0.0000000001")["limit"] == "1"


@pytest.mark.parametrize(("room", "paid", "absorbed"), [("1", "0.3", "0"), ("0.29", "0.1", "0.2")])
def test_a_cost_of_three_times_the_hold_is_charged_where_there_is_room_in_every_cap(
    user: User, room: str, paid: str, absorbed: str
) -> None:
    assert user.team
    TeamBudget.objects.create(team=user.team, limit_usd=Decimal(room))
    reference = reserve(user, "0.10")
    assert charge(reference, "0.30") == Decimal(paid)
    entries = Entry.objects.filter(kind="platform_absorbed")
    assert sum(entry.amount_usd for entry in entries) == Decimal(absorbed)
    assert all("team_month" in entry.reason for entry in entries)
    assert books_agree()


def test_a_cost_above_the_cap_of_one_job_is_absorbed(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(max_job_usd=Decimal("0.20"))
    reference = reserve(user, "0.10")
    assert charge(reference, "0.30") == Decimal("0.10")
    assert "room in job" in Entry.objects.get(kind="platform_absorbed").reason


def test_a_hold_is_raised_where_there_is_room(user: User) -> None:
    reference = reserve(user, "0.10")
    holds.extend(reference=reference, amount_usd=Decimal("0.90"), price_id=PRICE)
    assert Hold.objects.get().amount_usd == 1
    with pytest.raises(holds.BudgetExceeded):
        holds.extend(reference=reference, amount_usd=Decimal("0.01"), price_id=PRICE)
    assert charge(reference, "1") == 1
    with pytest.raises(holds.HoldResolved):
        holds.extend(reference=reference, amount_usd=Decimal("0.01"), price_id=PRICE)
    assert books_agree()


def test_raising_a_hold_keeps_to_the_cap_of_one_job(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(max_job_usd=Decimal("0.20"))
    reference = reserve(user, "0.15")
    with pytest.raises(holds.BudgetExceeded) as refused:
        holds.extend(reference=reference, amount_usd=Decimal("0.10"), price_id=PRICE)
    assert refused.value.extra["scope"] == "job"
    assert refused.value.extra["current"] == "0.15"


# Each purchase commits: within one transaction a row that is changed ever again gets slower with each change.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("charges", "total"),
    [(500, "0.02"), pytest.param(25_000, "1", marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
)
def test_many_charges_of_a_fraction_of_a_cent_add_up_exactly(user: User, charges: int, total: str) -> None:
    """25,000 times $0.00004 = $1.0000000000, and the budget of a dollar then takes no more."""
    Budget.objects.create(user=user, limit_usd=Decimal(total))
    for _ in range(charges):
        buy(user, "0.00004")
    assert str(BudgetPeriod.objects.get(scope="user_month").spent_usd) == f"{Decimal(total):.10f}"
    assert refusal(user, "0.0000000001")["scope"] == "user_month"
    assert books_agree()


def test_every_cap_is_read_by_one_query_before_and_after_the_periods_open(user: User) -> None:
    Tier.objects.filter(pk=user.tier_id).update(daily_budget_usd=Decimal("0.50"), max_job_usd=Decimal("0.20"))
    assert user.team
    TeamBudget.objects.create(team=user.team, limit_usd=Decimal(5))
    for spent in (Decimal(0), Decimal("0.1")):
        with CaptureQueriesContext(connection) as queries:
            caps = statements.caps(user_id=user.pk, timezone=user.timezone)
        assert len(queries) == 1
        assert caps.user_day
        assert caps.team_month
        assert caps.max_job_usd == Decimal("0.20")
        found = (caps.user_month.remaining_usd, caps.user_day.remaining_usd, caps.team_month.remaining_usd)
        assert found == (1 - spent, Decimal("0.5") - spent, 5 - spent)
        buy(user, "0.1")
