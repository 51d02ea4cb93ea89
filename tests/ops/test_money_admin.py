"""Ops put money right by hand: with a permission of its own, a reason, and a record of who did it."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Tier, User
from apps.core import clock
from apps.jobs.models import Job
from apps.ledger.models import BudgetPeriod, Entry, Hold
from apps.ops import reconcile
from tests import factories
from tests.ledger.purchases import buy, reserve, serve
from tests.ops import rows

pytestmark = pytest.mark.django_db


def ops(*permissions: str, superuser: bool = False) -> Client:
    person = User.objects.create(username="anna", is_staff=True, is_superuser=superuser)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def root() -> Client:
    return ops(superuser=True)


@pytest.fixture(autouse=True)
def _books_agree() -> Any:
    yield
    assert reconcile.differences() == []


def address(row: Model, page: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def correct(client: Client, row: Model, amount: str, reason: str = "blurred") -> Any:
    act = "refund" if isinstance(row, Hold) else "adjust"
    return client.post(address(row, act), {"amount_usd": amount, "reason": reason}, follow=True)


def spent(user: User) -> Decimal:
    return BudgetPeriod.objects.get(user=user, scope="user_month").spent_usd


def test_a_refund_is_booked_with_its_reason_and_who_did_it(root: Client) -> None:
    user = factories.user()
    hold = Hold.objects.get(reference=buy(user, "0.05"))
    assert "at most $0.05 is left" in root.get(address(hold, "refund")).content.decode()
    page = correct(root, hold, "0.02").content.decode()
    assert "refunded $0.02: blurred" in page
    entry = Entry.objects.get(kind="refund")
    assert (entry.spent_delta_usd, entry.reason, entry.by) == (Decimal("-0.02"), "blurred", "anna")
    assert spent(user) == Decimal("0.03")
    assert "refunded $0.02: blurred" in root.get(address(hold, "history")).content.decode()


@pytest.mark.parametrize(
    ("amount", "reason", "says"),
    [
        ("0.06", "too much", "more than what is left"),
        ("-0.01", "backwards", "more than 0"),
        ("0", "nothing", "more than 0"),
        ("", "no amount", "required"),
        ("0.01", "", "required"),
        ("NaN", "x", "Enter a number"),
        ("0.00000000001", "x", "10 decimal places"),
    ],
)
def test_a_refund_that_cannot_be_is_refused_and_says_why(
    root: Client, amount: str, reason: str, says: str
) -> None:
    user = factories.user()
    hold = Hold.objects.get(reference=buy(user, "0.05"))
    response = correct(root, hold, amount, reason)
    assert response.redirect_chain == []
    assert says in response.content.decode()
    assert spent(user) == Decimal("0.05")
    assert "refunded" not in root.get(address(hold, "history")).content.decode()


@pytest.mark.parametrize(("amount", "shown"), [("1.5", "$1.5"), ("-1.5", "-$1.5")])
def test_an_adjustment_is_booked_with_its_reason_and_who_did_it(
    root: Client, amount: str, shown: str
) -> None:
    user = factories.user()
    page = correct(root, user, amount, "late invoice").content.decode()
    assert f"adjusted by {shown}: late invoice" in page
    entry = Entry.objects.get(kind="adjustment")
    assert (entry.spent_delta_usd, entry.by) == (Decimal(amount), "anna")
    assert spent(user) == Decimal(amount)
    assert "late invoice" in root.get(address(user, "history")).content.decode()


def test_an_adjustment_beyond_the_budget_is_refused(root: Client) -> None:
    user = factories.user(tier=factories.tier(monthly_budget_usd=1))
    response = correct(root, user, "1.01")
    assert response.redirect_chain == []
    assert "1 USD remain" in response.content.decode()
    assert not Entry.objects.exists()


def test_money_is_put_right_by_those_with_that_permission_only() -> None:
    user = factories.user()
    hold = Hold.objects.get(reference=buy(user, "0.05"))
    looker = ops("view_hold", "change_hold", "view_user", "change_user", "view_entry", "change_entry")
    for row in (hold, user):
        assert correct(looker, row, "0.01").status_code == 403
        act = address(row, "refund" if row is hold else "adjust")
        assert looker.get(act).status_code == 403
        assert act not in looker.get(address(row, "change")).content.decode()
    assert spent(user) == Decimal("0.05")
    User.objects.get(username="anna").delete()
    refunder = ops("refund_hold", "view_hold")
    assert correct(refunder, hold, "0.01").status_code == 200
    assert correct(refunder, user, "0.01").status_code == 403
    assert spent(user) == Decimal("0.04")


def test_what_is_not_there_cannot_be_corrected(root: Client) -> None:
    for page in ("ledger_hold_refund", "accounts_user_adjust"):
        for key in ("1", "0190163d-8694-739b-aea5-966c26f8ad91"):
            assert root.get(reverse(f"admin:{page}", args=[key])).status_code == 404
    assert root.get(address(User.objects.get(username="anna"), "adjust")).status_code == 404  # of no team


# --- A user's page ----------------------------------------------------------------------------


def test_a_users_page_shows_budgets_spend_by_model_and_holds_with_their_jobs(root: Client) -> None:
    tier = factories.tier(monthly_budget_usd=1, daily_budget_usd=Decimal("0.5"))
    user = factories.user(tier=tier)
    buy(user, "0.2", model="premium")
    serve(user, "0.2", model="premium")
    job = rows.job(user=user)
    html = root.get(address(user, "change")).content.decode()
    assert "$0.2 spent and $0.025 held of $1" in html
    assert "22.5 %" in html
    assert "45 %" in html
    for text in ("premium", "$0.2", reverse("admin:jobs_job_change", args=[job.pk]), "$0.025"):
        assert text in html, text
    assert Job.objects.count() == 1


def test_a_page_of_a_user_who_can_spend_nothing_shows_no_money(root: Client) -> None:
    anna = User.objects.get(username="anna")
    assert "open holds" not in root.get(address(anna, "change")).content.decode().lower()
    assert root.get(reverse("admin:accounts_user_add")).status_code == 200


def test_who_may_not_see_money_sees_none() -> None:
    user = factories.user()
    reserve(user, "0.2")
    html = ops("view_user").get(address(user, "change")).content.decode()
    assert user.username in html
    assert "$0.2" not in html


def test_saving_a_user_changes_its_tier_and_nothing_of_its_money(root: Client) -> None:
    user, other = factories.user(timezone="Europe/Berlin"), factories.tier()
    buy(user, "0.2")
    at = clock.now()
    data = {
        "username": user.username,
        "team": user.team_id,
        "tier": other.pk,
        "timezone": user.timezone,
        "is_team_admin": "on",
        "is_active": "on",
        "date_joined_0": f"{at:%Y-%m-%d}",
        "date_joined_1": f"{at:%H:%M:%S}",
    }
    response = root.post(address(user, "change"), data, follow=True)
    assert response.redirect_chain, response.content.decode()
    user.refresh_from_db()
    assert (user.tier_id, user.is_team_admin, spent(user)) == (other.pk, True, Decimal("0.2"))


def test_every_limit_of_a_tier_is_edited(root: Client) -> None:
    tier = factories.tier()
    data = {
        "name": "Studio",
        "monthly_budget_usd": "500",
        "daily_budget_usd": "50",
        "max_job_usd": "5",
        "requests_per_minute": "900",
        "concurrency": "30",
        "max_open_jobs": "700",
        "max_batch_items": "800",
        "max_quality": "9",
        "allowed_models": "[]",
    }
    response = root.post(address(tier, "change"), data, follow=True)
    assert response.redirect_chain, response.content.decode()
    found = Tier.objects.get(pk=tier.pk)
    limits = (found.daily_budget_usd, found.max_job_usd, found.max_open_jobs, found.max_batch_items)
    assert limits == (Decimal(50), Decimal(5), 700, 800)
