"""Reserve, capture, release: exact under every order, and every posting adds up."""

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from apps.accounts.models import User
from apps.core import clock
from apps.ledger import holds, statements
from apps.ledger.models import Budget, BudgetPeriod, Entry, Hold
from apps.ops import reconcile
from tests import factories
from tests.ledger.purchases import reserve


def balance(user: User) -> tuple[Decimal, Decimal]:
    found = statements.balance(user_id=user.pk, timezone=user.timezone)
    return found.spent_usd, found.held_usd


def books_agree() -> bool:
    """M2 alone: these holds stand for no job."""
    return not [
        difference for difference in reconcile.differences() if difference["check"] in ("balance", "held")
    ]


def test_it_holds_then_charges_less_and_frees_the_rest(user: User) -> None:
    reference = reserve(user, "0.10")
    assert balance(user) == (Decimal(0), Decimal("0.10"))
    assert holds.capture(reference=reference, cost_usd=Decimal("0.04")) == Decimal("0.04")
    assert balance(user) == (Decimal("0.04"), Decimal(0))
    kinds = list(Entry.objects.order_by("id").values_list("kind", "amount_usd"))
    assert kinds == [("hold", Decimal("0.10")), ("capture", Decimal("0.04")), ("release", Decimal("0.06"))]
    assert books_agree()


def test_a_release_frees_all_and_says_why(user: User) -> None:
    reference = reserve(user, "0.10")
    holds.release(reference=reference, reason="canceled")
    assert balance(user) == (Decimal(0), Decimal(0))
    assert Entry.objects.get(kind="release").reason == "canceled"
    assert Hold.objects.get().state == "released"
    assert books_agree()


@pytest.mark.parametrize("first", ["capture", "release"])
def test_a_hold_resolves_once(user: User, first: str) -> None:
    reference = reserve(user, "0.10")
    if first == "capture":
        holds.capture(reference=reference, cost_usd=Decimal("0.10"))
    else:
        holds.release(reference=reference, reason="failed")
    before = balance(user)
    with pytest.raises(holds.HoldResolved):
        holds.capture(reference=reference, cost_usd=Decimal("0.10"))
    with pytest.raises(holds.HoldResolved):
        holds.release(reference=reference, reason="again")
    assert balance(user) == before


def test_over_budget_says_what_there_is_and_when_it_resets(user: User) -> None:
    with clock.frozen(datetime(2026, 11, 23, 12, tzinfo=UTC)):
        reserve(user, "0.75")
        with pytest.raises(holds.BudgetExceeded) as refused:
            reserve(user, "0.75")
    assert refused.value.status == 402
    assert refused.value.extra == {
        "scope": "user_month",
        "current": "0.75",
        "limit": "1",
        "requested": "0.75",
        "reset_date": "2026-12-01T00:00:00+00:00",
    }
    assert Hold.objects.count() == Entry.objects.count()


def test_the_last_cent_can_be_spent_but_not_one_more(user: User) -> None:
    reserve(user, "0.9999999999")
    reserve(user, "0.0000000001")
    with pytest.raises(holds.BudgetExceeded):
        reserve(user, "0.0000000001")
    assert balance(user) == (Decimal(0), Decimal(1))


def test_ops_override_and_tier_changes_hold_for_the_next_request(user: User) -> None:
    Budget.objects.create(user=user, limit_usd=Decimal("0.05"))
    with pytest.raises(holds.BudgetExceeded):
        reserve(user, "0.06")
    Budget.objects.filter(user=user).update(limit_usd=2)
    reserve(user, "1.50")
    Budget.objects.filter(user=user).update(limit_usd=1)
    assert balance(user) == (Decimal(0), Decimal("1.50"))  # a lowered limit blocks new holds only
    with pytest.raises(holds.BudgetExceeded):
        reserve(user, "0.01")


def test_a_cost_above_the_hold_is_charged_where_there_is_room(user: User) -> None:
    reference = reserve(user, "0.10")
    assert holds.capture(reference=reference, cost_usd=Decimal("0.30")) == Decimal("0.30")
    assert balance(user) == (Decimal("0.30"), Decimal(0))
    assert Entry.objects.get(kind="charge").amount_usd == Decimal("0.20")
    assert books_agree()


def test_a_cost_above_hold_and_budget_is_absorbed_by_the_platform(user: User) -> None:
    reserve(user, "0.85")
    reference = reserve(user, "0.10")
    assert holds.capture(reference=reference, cost_usd=Decimal("0.30")) == Decimal("0.10")
    assert balance(user) == (Decimal("0.10"), Decimal("0.85"))
    assert Entry.objects.get(kind="platform_absorbed").amount_usd == Decimal("0.20")
    assert books_agree()


def test_entries_are_never_changed(user: User) -> None:
    reserve(user, "0.10")
    for change in ("UPDATE ledger_entry SET amount_usd = 0", "DELETE FROM ledger_entry"):
        with (
            pytest.raises(DatabaseError, match="never changed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(change)
    assert Entry.objects.get().amount_usd == Decimal("0.10")


@pytest.mark.parametrize(
    ("timezone", "at", "starts_at", "ends_at"),
    [
        ("UTC", "2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("Europe/Berlin", "2026-11-30T23:30:00Z", "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z"),
        # The clocks change within the month: it is an hour longer.
        ("Europe/Berlin", "2026-10-10T00:00:00Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
        ("America/New_York", "2027-01-01T04:59:59Z", "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z"),
    ],
)
def test_a_period_is_the_month_of_the_users_time_zone(
    db: None, timezone: str, at: str, starts_at: str, ends_at: str
) -> None:
    user = factories.user(timezone=timezone)
    with clock.frozen(datetime.fromisoformat(at)):
        reserve(user, "0.10")
        period = BudgetPeriod.objects.get(scope="user_month")
        assert (period.starts_at, period.ends_at) == (
            datetime.fromisoformat(starts_at),
            datetime.fromisoformat(ends_at),
        )
    with clock.frozen(datetime.fromisoformat(ends_at)):
        reserve(user, "0.10")
        assert BudgetPeriod.objects.filter(scope="user_month").count() == 2


def test_a_late_charge_belongs_to_the_month_of_its_hold(user: User) -> None:
    with clock.frozen(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)):
        reference = reserve(user, "0.10")
    with clock.frozen(datetime(2026, 12, 1, 0, 5, tzinfo=UTC)):
        holds.capture(reference=reference, cost_usd=Decimal("0.10"))
        assert balance(user) == (Decimal(0), Decimal(0))
    capture = Entry.objects.get(kind="capture")
    assert capture.period.starts_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert capture.posted_at == datetime(2026, 12, 1, 0, 5, tzinfo=UTC)


@pytest.mark.django_db(transaction=True)
def test_64_threads_on_a_budget_of_20_get_exactly_20() -> None:
    user = factories.user(tier=factories.tier(monthly_budget_usd=Decimal("0.10")))
    accepted, refused = [], []
    barrier = threading.Barrier(64)

    def one() -> None:
        barrier.wait()
        try:
            accepted.append(reserve(user, "0.005"))
        except holds.BudgetExceeded as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(accepted), len(refused)) == (20, 44)
    assert balance(user) == (Decimal(0), Decimal("0.10"))
    assert books_agree()
