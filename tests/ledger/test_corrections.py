"""Refunds and adjustments: opposite entries with who and why, never more than there is."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import corrections, holds, statements
from apps.ledger.models import Budget, BudgetPeriod, Entry, Hold, UsageDay, UsageRecord
from tests import factories
from tests.concurrency.workers import at_once
from tests.ledger.purchases import books_agree, buy, charge, reserve


def refund(reference: uuid.UUID, amount: str) -> None:
    with transaction.atomic():
        corrections.refund(
            reference=reference, amount_usd=Decimal(amount), reason="came out blurred", by="grace"
        )


def adjust(user: User, amount: str) -> None:
    with transaction.atomic():
        corrections.adjust(user=user, amount_usd=Decimal(amount), reason="goodwill", by="grace")


def spent() -> Decimal:
    return BudgetPeriod.objects.get(scope="user_month").spent_usd


def test_a_refund_is_an_opposite_entry_that_says_who_and_why(user: User) -> None:
    reference = buy(user, "0.10")
    refund(reference, "0.04")
    entry = Entry.objects.get(kind="refund")
    assert (entry.amount_usd, entry.spent_delta_usd) == (Decimal("0.04"), Decimal("-0.04"))
    assert (entry.reference, entry.by, entry.reason) == (reference, "grace", "came out blurred")
    assert spent() == Decimal("0.06")
    assert books_agree()


def test_refunds_are_at_most_what_was_paid_in_total(user: User) -> None:
    reference = reserve(user, "0.10")
    with pytest.raises(corrections.RefundTooLarge):
        refund(reference, "0.01")  # nothing is paid yet
    charge(reference, "0.30")  # beyond the hold too
    with pytest.raises(corrections.RefundTooLarge):
        refund(reference, "0.3000000001")
    refund(reference, "0.20")
    with pytest.raises(corrections.RefundTooLarge):
        refund(reference, "0.1000000001")
    refund(reference, "0.10")
    with pytest.raises(corrections.RefundTooLarge):
        refund(reference, "0.0000000001")
    assert spent() == 0
    assert books_agree()


def test_what_the_platform_absorbed_is_not_refunded(user: User) -> None:
    reference = reserve(user, "0.90")
    assert charge(reference, "1.50") == Decimal("0.90")
    with pytest.raises(corrections.RefundTooLarge):
        refund(reference, "1")


@pytest.mark.parametrize("amount", ["0", "-1"])
def test_a_refund_gives_something_back(user: User, amount: str) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        refund(buy(user, "0.10"), amount)


def test_a_late_refund_belongs_to_the_month_that_paid(user: User) -> None:
    with clock.frozen(datetime(2026, 11, 30, 12, tzinfo=UTC)):
        reference = buy(user, "0.10")
    with clock.frozen(datetime(2027, 2, 3, tzinfo=UTC)):
        refund(reference, "0.10")
        now = statements.balance(user_id=user.pk, timezone="UTC")
        assert [now.spent_usd, now.starts_at.month] == [0, 2]
    entry = Entry.objects.get(kind="refund")
    assert (entry.period.first_day.month, entry.posted_at) == (11, datetime(2027, 2, 3, tzinfo=UTC))
    assert set(BudgetPeriod.objects.values_list("spent_usd", flat=True)) == {Decimal(0)}
    assert books_agree()


def test_a_refund_reduces_usage_by_a_record_of_its_own(user: User) -> None:
    refund(buy(user, "0.10"), "0.04")
    records = UsageRecord.objects.order_by("id").values_list("jobs", "cost_usd", "model")
    assert list(records) == [(1, Decimal("0.10"), "standard"), (0, Decimal("-0.04"), "standard")]
    day = UsageDay.objects.get()
    assert (day.jobs, day.cost_usd, day.estimated_usd) == (1, Decimal("0.06"), Decimal("0.10"))


def test_an_adjustment_corrects_the_running_periods(user: User) -> None:
    buy(user, "0.50")
    adjust(user, "0.25")
    assert spent() == Decimal("0.75")
    adjust(user, "-1")  # a credit: more than was spent
    assert spent() == Decimal("-0.25")
    reserve(user, "1.25")
    kinds = (
        Entry.objects.filter(kind="adjustment").order_by("id").values_list("amount_usd", "spent_delta_usd")
    )
    assert list(kinds) == [(Decimal("0.25"), Decimal("0.25")), (Decimal(1), Decimal(-1))]
    assert books_agree()


def test_an_adjustment_is_the_first_thing_in_a_month_too(user: User) -> None:
    adjust(user, "-0.10")
    assert spent() == Decimal("-0.10")
    with pytest.raises(ValueError, match="not 0"):
        adjust(user, "0")


def test_an_adjustment_keeps_to_the_limit_except_when_it_gives(user: User) -> None:
    reserve(user, "1")
    with pytest.raises(holds.BudgetExceeded):
        adjust(user, "0.01")
    Budget.objects.create(user=user, limit_usd=Decimal("0.10"))
    adjust(user, "-0.01")
    assert books_agree()


@pytest.mark.parametrize("missing", ["by", "reason"])
def test_a_correction_without_who_or_why_is_refused_by_the_table(user: User, missing: str) -> None:
    said = {"by": "grace", "reason": "goodwill", missing: ""}
    with pytest.raises(DatabaseError, match="entry_by_hand"), transaction.atomic():
        corrections.adjust(user=user, amount_usd=Decimal("-0.10"), **said)
    assert not Entry.objects.exists()


@pytest.mark.parametrize("table", ["ledger_entry", "ledger_usagerecord"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_books_are_never_changed(user: User, table: str, change: str) -> None:
    buy(user, "0.10")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            f"ALTER TABLE {table} ENABLE TRIGGER {table}_is_kept"
        )  # off for the tests' own clearing
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            cursor.execute(change.format(table))


@pytest.mark.django_db(transaction=True)
def test_refunds_at_once_never_exceed_what_was_paid() -> None:
    user = factories.user()
    reference = buy(user, "0.10")

    def one() -> bool:
        try:
            refund(reference, "0.04")
        except corrections.RefundTooLarge:
            return False
        return True

    assert sorted(at_once([one] * 8)) == [False] * 6 + [True] * 2
    assert Hold.objects.get().refunded_usd == Decimal("0.08")
    assert books_agree()
