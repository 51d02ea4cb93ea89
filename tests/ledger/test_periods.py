"""Months and days of the owner's time zone: half-open, never overlapping, frozen when they open (M6)."""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import holds, periods
from apps.ledger.models import BudgetPeriod, Entry
from tests import factories
from tests.concurrency.workers import at_once
from tests.ledger.purchases import books_agree, buy, charge, reserve


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("timezone", "moment", "first_day", "starts_at", "hours"),
    [
        ("Pacific/Kiritimati", "2026-11-30T10:00:00Z", "2026-12-01", "2026-11-30T10:00:00Z", 24),  # +14
        ("Pacific/Pago_Pago", "2026-12-01T10:59:59Z", "2026-11-30", "2026-11-30T11:00:00Z", 24),  # -11
        ("Asia/Kathmandu", "2026-11-30T18:15:00Z", "2026-12-01", "2026-11-30T18:15:00Z", 24),  # +5:45
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-24T22:00:00Z", 25),
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29", "2026-03-28T23:00:00Z", 23),
        ("America/New_York", "2026-11-01T12:00:00Z", "2026-11-01", "2026-11-01T04:00:00Z", 25),
        # Midnight itself is skipped there: the day begins at one.
        ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-24", "2026-04-23T22:00:00Z", 23),
    ],
)
def test_a_day_is_that_of_the_time_zone(
    timezone: str, moment: str, first_day: str, starts_at: str, hours: int
) -> None:
    span = periods.day_around(at(moment), timezone)
    assert (span.first_day, span.starts_at) == (date.fromisoformat(first_day), at(starts_at))
    assert span.ends_at - span.starts_at == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("timezone", "last", "first"),
    [
        ("Pacific/Kiritimati", "2026-11-30T09:59:59Z", "2026-11-30T10:00:00Z"),
        ("Pacific/Pago_Pago", "2026-12-01T10:59:59Z", "2026-12-01T11:00:00Z"),
        ("Asia/Kathmandu", "2026-11-30T18:14:59Z", "2026-11-30T18:15:00Z"),
        # The clocks change on the last day of the month, and on the first.
        ("Europe/Berlin", "2027-10-31T22:59:59Z", "2027-10-31T23:00:00Z"),
        ("America/New_York", "2026-11-01T03:59:59Z", "2026-11-01T04:00:00Z"),
    ],
)
def test_a_month_that_ends_in_the_middle_of_a_job_pays_for_it(
    db: None, timezone: str, last: str, first: str
) -> None:
    user = factories.user(timezone=timezone, tier=factories.tier(monthly_budget_usd=Decimal(1)))
    with clock.frozen(at(last)):
        reference = reserve(user, "1")
    with clock.frozen(at(first)):
        reserve(user, "1")  # the new month has its whole budget
        assert charge(reference, "3") == 1  # the old one has no room for more than the hold
    old, new = BudgetPeriod.objects.filter(scope="user_month").order_by("starts_at")
    assert (old.ends_at, new.starts_at) == (at(first), at(first))
    assert [old.spent_usd, old.held_usd, new.spent_usd, new.held_usd] == [1, 0, 0, 1]
    capture = Entry.objects.get(kind="capture")
    assert (capture.period_id, capture.posted_at) == (old.pk, at(first))
    assert books_agree()


def test_who_moves_west_at_the_end_of_a_month_gains_no_month(db: None) -> None:
    """From +14 to -11: the first hours of the new month are the last of the old one there."""
    user = factories.user(timezone="Pacific/Kiritimati", tier=factories.tier(monthly_budget_usd=Decimal(1)))
    with clock.frozen(at("2026-11-30T09:00:00Z")):
        reserve(user, "1")
    user.timezone = "Pacific/Pago_Pago"
    user.save(update_fields=["timezone"])
    with clock.frozen(at("2026-11-30T10:00:00Z")):
        reserve(user, "1")
    with clock.frozen(at("2026-12-01T12:00:00Z")), pytest.raises(holds.BudgetExceeded):
        reserve(user, "0.01")
    old, new = BudgetPeriod.objects.filter(scope="user_month").order_by("starts_at")
    assert (new.first_day, new.starts_at, new.ends_at) == (
        date(2026, 12, 1), old.ends_at, at("2027-01-01T11:00:00Z"),
    )  # fmt: skip


def test_who_moves_east_has_a_shorter_month(db: None) -> None:
    user = factories.user(timezone="Pacific/Pago_Pago")
    with clock.frozen(at("2026-12-01T10:00:00Z")):
        buy(user, "1")
    user.timezone = "Pacific/Kiritimati"
    user.save(update_fields=["timezone"])
    with clock.frozen(at("2026-12-01T11:00:00Z")):
        buy(user, "1")
    spans = BudgetPeriod.objects.filter(scope="user_month").order_by("starts_at")
    assert list(spans.values_list("first_day", "starts_at", "ends_at"))[1:] == [
        (date(2026, 12, 1), at("2026-12-01T11:00:00Z"), at("2026-12-31T10:00:00Z"))
    ]


def test_a_clock_that_went_back_opens_the_days_before(user: User) -> None:
    with clock.frozen(at("2026-11-30T12:00:00Z")):
        buy(user, "0.10")
    with clock.frozen(at("2026-11-29T12:00:00Z")):
        buy(user, "0.10")
    days = BudgetPeriod.objects.filter(scope="user_day").order_by("starts_at")
    assert list(days.values_list("first_day", "spent_usd")) == [
        (date(2026, 11, 29), Decimal("0.10")),
        (date(2026, 11, 30), Decimal("0.10")),
    ]
    assert books_agree()


def test_nothing_is_bought_for_nobodys_team(db: None) -> None:
    ops = User.objects.create(username="ops")
    with pytest.raises(LookupError):
        holds.reserve(
            user_id=ops.pk,
            timezone="UTC",
            reference=uuid.uuid4(),
            amount_usd=Decimal(1),
            price_id=uuid.uuid4(),
        )


@pytest.mark.django_db(transaction=True)
def test_a_month_that_everybody_opens_at_once_is_opened_once() -> None:
    team = factories.team()
    users = [factories.user(team=team) for _ in range(4)]
    at_once([partial(buy, user, "0.01") for user in users for _ in range(4)])
    assert BudgetPeriod.objects.filter(scope="team_month").count() == 1
    assert BudgetPeriod.objects.filter(scope="user_day").count() == 4
    assert BudgetPeriod.objects.get(scope="team_month").spent_usd == Decimal("0.16")
    assert books_agree()


@pytest.mark.django_db(transaction=True)
def test_a_month_that_begins_under_load_deadlocks_nobody() -> None:
    """The day, the month and the team's month end at different times: each combination is opened while the others
    are locked by purchases under way."""
    team = factories.team(timezone="Asia/Kathmandu")
    users = [factories.user(team=team, timezone=zone) for zone in ("UTC", "Europe/Berlin")]
    for moment in (
        "2026-11-29T23:30:00Z",
        "2026-11-30T18:20:00Z",
        "2026-11-30T23:30:00Z",
        "2026-12-01T00:00:00Z",
    ):
        with clock.frozen(at(moment).astimezone(UTC)):
            at_once([partial(buy, user, "0.01") for user in users for _ in range(8)])
    assert sum(
        BudgetPeriod.objects.filter(scope="team_month").values_list("spent_usd", flat=True)
    ) == Decimal("0.64")
    assert books_agree()
