"""What the money was spent on: a record for each job, the day's sums, and how far estimates drift."""

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import usage
from apps.ledger.models import BudgetPeriod, Entry, UsageDay, UsageRecord
from tests import factories
from tests.concurrency.workers import at_once
from tests.ledger.purchases import books_agree, buy, charge, reserve


def from_cache(user: User, saved: str) -> uuid.UUID:
    reference = uuid.uuid4()
    with transaction.atomic():
        usage.record_cached(
            user_id=user.pk,
            timezone=user.timezone,
            reference=reference,
            kind="image",
            model="standard",
            estimated_usd=Decimal(saved),
            saved_usd=Decimal(saved),
        )
    return reference


def test_a_day_sums_up_its_records(user: User) -> None:
    for _ in range(3):
        buy(user, "0.10")
    from_cache(user, "0.10")
    bought, cached = UsageDay.objects.order_by("cached")
    assert (bought.jobs, bought.cost_usd, bought.estimated_usd, bought.generation_ms) == (
        3, Decimal("0.3"), Decimal("0.3"), 4500,
    )  # fmt: skip
    assert (cached.jobs, cached.cost_usd, cached.saved_usd, cached.provider) == (
        1, Decimal(0), Decimal("0.10"), usage.CACHE,
    )  # fmt: skip
    assert UsageRecord.objects.count() == 4
    assert books_agree()


def test_a_cached_answer_is_an_entry_of_nothing_with_what_it_saved(user: User) -> None:
    reference = from_cache(user, "0.10")
    entry = Entry.objects.get()
    assert (entry.reference, entry.kind, entry.amount_usd, entry.saved_usd) == (
        reference, "charge", Decimal(0), Decimal("0.10"),
    )  # fmt: skip
    assert (entry.user_id, entry.team_id) == (user.pk, user.team_id)
    assert set(BudgetPeriod.objects.values_list("spent_usd", "held_usd")) == {(Decimal(0), Decimal(0))}


def test_usage_counts_on_the_day_that_admitted_it(db: None) -> None:
    user = factories.user(timezone="Asia/Kathmandu")  # midnight is at 18:15 UTC
    with clock.frozen(datetime(2026, 11, 30, 18, 14, tzinfo=UTC)):
        reference = reserve(user, "0.10")
    with clock.frozen(datetime(2026, 11, 30, 18, 16, tzinfo=UTC)):
        charge(reference, "0.10")
        buy(user, "0.20")
    days = dict(UsageDay.objects.values_list("day", "cost_usd"))
    assert days == {date(2026, 11, 30): Decimal("0.10"), date(2026, 12, 1): Decimal("0.20")}
    # As the ledger has it: November's charge is November's.
    months = dict(BudgetPeriod.objects.filter(scope="user_month").values_list("first_day", "spent_usd"))
    assert months == {date(2026, 11, 1): Decimal("0.10"), date(2026, 12, 1): Decimal("0.20")}


def test_a_job_is_recorded_once(user: User) -> None:
    reference = buy(user, "0.10")
    with pytest.raises(IntegrityError), transaction.atomic():
        usage.record(
            reference=reference,
            kind="image",
            model="standard",
            provider="wavespeed",
            cost_usd=Decimal("0.10"),
            estimated_usd=Decimal("0.10"),
            generation_ms=0,
        )
    assert books_agree()


def test_drift_compares_estimates_and_costs_of_each_model(user: User) -> None:
    for cost, model in (("0.10", "standard"), ("0.12", "standard"), ("0.01", "fast-draft")):
        charge(reserve(user, cost), cost, model=model, estimated="0.10" if model == "standard" else "0.02")
    from_cache(user, "0.10")
    drafts, standard = usage.drift(clock.now().date())
    assert (drafts.model, drafts.percent) == ("fast-draft", Decimal("-50.00"))
    assert (standard.jobs, standard.estimated_usd, standard.cost_usd, standard.percent) == (
        2, Decimal("0.20"), Decimal("0.22"), Decimal("10.00"),
    )  # fmt: skip
    assert usage.drift(date(2100, 1, 1)) == []


@pytest.mark.django_db(transaction=True)
def test_jobs_that_end_at_once_are_all_in_the_sums() -> None:
    user = factories.user()
    at_once(
        [lambda: buy(user, "0.01") for _ in range(8)] + [lambda: from_cache(user, "0.01") for _ in range(8)]
    )
    assert list(UsageDay.objects.order_by("cached").values_list("jobs", flat=True)) == [8, 8]
    assert books_agree()
