"""GET /v1/usage, /v1/usage/entries, /v1/statements/{month} and every cap of /v1/budget."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from apps.core import clock
from apps.jobs import tally
from apps.ledger import corrections, schemas
from apps.ledger.models import Budget, BudgetPeriod, Entry, TeamBudget
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body
from tests.ledger.purchases import buy, reserve, serve

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def boss() -> Someone:
    return factories.someone(is_team_admin=True, username="boss")


def usage(someone: Someone, **query: Any) -> dict[str, Any]:
    response = someone.api.get("/v1/usage", query)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def groups(answer: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {group["key"]: (group["jobs"], group["cost_usd"]) for group in answer["data"]}


# --- Usage ------------------------------------------------------------------------------------


def test_jobs_of_a_month_by_day(pro: Someone) -> None:
    buy(pro.user, "0.03", at=NOON - timedelta(days=2))
    buy(pro.user, "0.02", at=NOON)
    buy(pro.user, "0.01", at=NOON)
    buy(pro.user, "5", at=NOON - timedelta(days=20))  # February's
    with clock.frozen(NOON):
        answer = usage(pro)
    assert conforms(schemas.Usage, answer)
    assert groups(answer) == {"2027-03-08": (1, "0.03"), "2027-03-10": (2, "0.03")}
    assert (answer["from"], answer["to"], answer["group_by"]) == ("2027-03-01", "2027-03-10", "day")
    total = {
        "jobs": 3,
        "cost_usd": "0.06",
        "estimated_usd": "0.06",
        "saved_usd": "0",
        "generation_s": "4.5",
    }
    assert answer["total"] == total


def test_the_bounds_are_days_and_both_are_included(pro: Someone) -> None:
    for day in (1, 2, 3, 4):
        buy(pro.user, "0.01", at=NOON.replace(day=day))
    answer = usage(pro, **{"from": "2027-03-02", "to": "2027-03-03"})
    assert list(groups(answer)) == ["2027-03-02", "2027-03-03"]


def test_a_day_is_that_of_the_users_zone(pro: Someone) -> None:
    pro.user.timezone = "Pacific/Kiritimati"
    pro.user.save(update_fields=["timezone"])
    buy(pro.user, at=NOON)  # 02:00 on the 11th there
    with clock.frozen(NOON):
        answer = usage(pro)
    assert (list(groups(answer)), answer["to"]) == (["2027-03-11"], "2027-03-11")


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("model", {"premium": (1, "0.08"), "standard": (2, "0.02")}),
        ("provider", {"fal": (1, "0.08"), "wavespeed": (1, "0.02"), "cache": (1, "0")}),
        ("cached", {"false": (2, "0.1"), "true": (1, "0")}),
    ],
)
def test_usage_is_grouped_dearest_first(
    pro: Someone, group_by: str, expected: dict[str, tuple[int, str]]
) -> None:
    buy(pro.user, "0.02")
    buy(pro.user, "0.08", model="premium", provider="fal")
    serve(pro.user, "0.02")
    answer = usage(pro, group_by=group_by)
    assert list(groups(answer).items()) == list(expected.items())
    assert (answer["total"]["jobs"], answer["total"]["saved_usd"]) == (3, "0.02")


def test_nothing_used_is_a_total_of_nothing(pro: Someone) -> None:
    answer = usage(pro)
    assert (answer["data"], answer["total"]["jobs"], answer["total"]["cost_usd"]) == ([], 0, "0")


def test_a_refund_lowers_the_cost_of_its_day(pro: Someone) -> None:
    reference = buy(pro.user, "0.05", at=NOON)
    with clock.frozen(NOON + timedelta(days=1)), transaction.atomic():
        corrections.refund(reference=reference, amount_usd=Decimal("0.02"), reason="blurred", by="ops")
    with clock.frozen(NOON + timedelta(days=1)):
        assert groups(usage(pro)) == {"2027-03-10": (1, "0.03")}


def test_a_job_is_counted_from_submission_to_result(pro: Someone, work: Any) -> None:
    for _ in range(2):
        work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    tally.all_of_them()  # as every five seconds
    found = usage(pro, group_by="cached")
    assert groups(found) == {"false": (1, "0.005"), "true": (1, "0")}
    assert found["total"]["saved_usd"] == "0.005"


def test_a_team_admin_sees_the_team_by_user_and_others_see_themselves(boss: Someone) -> None:
    member = factories.someone(team=boss.user.team, username="member")
    stranger = factories.someone()
    buy(boss.user, "0.01")
    buy(member.user, "0.02")
    buy(stranger.user, "0.04")
    answer = usage(boss, scope="team", group_by="user")
    named = [(group["key"], group["name"], group["cost_usd"]) for group in answer["data"]]
    assert named == [(str(member.user.pk), "member", "0.02"), (str(boss.user.pk), "boss", "0.01")]
    assert answer["total"]["cost_usd"] == "0.03"
    assert usage(boss)["total"]["cost_usd"] == "0.01"
    assert usage(member, group_by="user")["total"]["cost_usd"] == "0.02"


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/usage/entries", "/v1/statements/2026-01"])
def test_only_its_admins_see_a_team(pro: Someone, path: str) -> None:
    response = pro.api.get(path, {"scope": "team"})
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/usage", {"group_by": "week"}, "group_by"),
        ("/v1/usage", {"from": "yesterday"}, "from"),
        ("/v1/usage", {"from": "2026-02-30"}, "from"),
        ("/v1/usage", {"from": "2026-02-10", "to": "2026-02-09"}, "from"),
        ("/v1/usage", {"from": "2025-01-01", "to": "2026-02-09"}, "from"),
        ("/v1/usage", {"to": "2026-2-9"}, "to"),
        ("/v1/usage", {"scope": "everybody"}, "scope"),
        ("/v1/usage", {"user_id": "7"}, "user_id"),
        ("/v1/usage/entries", {"cursor": "x"}, "cursor"),
        ("/v1/usage/entries", {"cursor": "ZmFrZQ"}, "cursor"),
        ("/v1/usage/entries", {"cursor": "é"}, "cursor"),
        ("/v1/usage/entries", {"cursor": "A" * 5000}, "cursor"),
        ("/v1/usage/entries", {"kind": "gift"}, "kind"),
        ("/v1/usage/entries", {"from": "2026-01-01"}, "from"),
        ("/v1/usage/entries", {"to": "2026-01-01T00:00:00"}, "to"),
        ("/v1/usage/entries", {"reference": "7"}, "reference"),
        ("/v1/usage/entries", {"page_size": "-1"}, "page_size"),
        ("/v1/usage/entries", {"page_size": "100000"}, "page_size"),
        ("/v1/usage/entries", {"group_by": "day"}, "group_by"),
        ("/v1/statements/2026-13", {}, "month"),
        ("/v1/statements/0000-01", {}, "month"),
        ("/v1/statements/now", {}, "month"),
        ("/v1/statements/2026-01", {"format": "pdf"}, "format"),
        ("/v1/statements/2026-01", {"from": "x"}, "from"),
    ],
)
def test_bad_input_is_named(pro: Someone, path: str, query: dict[str, str], field: str) -> None:
    response = pro.api.get(path, query)
    assert response.status_code == 422, response.content
    assert [error["field"] for error in response.json()["errors"]] == [field]


# --- Entries ----------------------------------------------------------------------------------


def entries(someone: Someone, **query: Any) -> list[dict[str, Any]]:
    response = someone.api.get("/v1/usage/entries", query)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["data"]
    return found


def test_every_posting_is_there_newest_first(pro: Someone) -> None:
    reference = buy(pro.user, "0.05")
    response = pro.api.get("/v1/usage/entries").json()
    assert conforms(schemas.EntryPage, response)
    assert [(entry["kind"], entry["amount_usd"]) for entry in response["data"]] == [
        ("capture", "0.05"),
        ("hold", "0.05"),
    ]
    assert {entry["reference"] for entry in response["data"]} == {str(reference)}
    assert response["next"] is None


def test_pages_have_no_gaps_and_no_doubles_while_money_is_spent(pro: Someone) -> None:
    with clock.frozen(NOON):  # one moment for many
        for _ in range(4):
            buy(pro.user)
    everything = [entry["id"] for entry in entries(pro)]
    seen, query = [], {"page_size": "3"}
    while True:
        page = pro.api.get("/v1/usage/entries", query).json()
        seen += [entry["id"] for entry in page["data"]]
        buy(pro.user, at=NOON + timedelta(hours=len(seen)))
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == everything
    assert len(seen) == 8


def test_entries_are_found_by_time_kind_and_reference(pro: Someone) -> None:
    early = buy(pro.user, at=NOON)
    late = buy(pro.user, at=NOON + timedelta(hours=1))
    saved = serve(pro.user, at=NOON + timedelta(hours=2))
    hour = (NOON + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert {entry["reference"] for entry in entries(pro, to=hour)} == {str(early)}
    assert {entry["reference"] for entry in entries(pro, **{"from": hour})} == {str(late), str(saved)}
    assert [entry["reference"] for entry in entries(pro, kind="capture")] == [str(late), str(early)]
    assert [entry["saved_usd"] for entry in entries(pro, kind="charge")] == ["0.025"]
    assert len(entries(pro, reference=str(early))) == 2
    assert entries(pro, reference=str(early), kind="refund") == []


def test_who_corrected_it_is_not_told(pro: Someone) -> None:
    reference = buy(pro.user, "0.05")
    with transaction.atomic():
        corrections.refund(reference=reference, amount_usd=Decimal("0.05"), reason="blurred", by="ops-anna")
    [refund] = entries(pro, kind="refund")
    assert (refund["spent_delta_usd"], refund["reason"]) == ("-0.05", "blurred")
    assert "ops-anna" not in str(refund)


def test_a_team_admin_sees_the_entries_of_all_and_nobody_elses(boss: Someone) -> None:
    member, stranger = factories.someone(team=boss.user.team), factories.someone()
    for someone in (boss, member, stranger):
        buy(someone.user)
    of_team = {entry["user_id"] for entry in entries(boss, scope="team")}
    assert of_team == {str(boss.user.pk), str(member.user.pk)}
    assert {entry["user_id"] for entry in entries(boss)} == {str(boss.user.pk)}
    foreign = Entry.objects.filter(user=stranger.user).values_list("reference", flat=True)[0]
    assert entries(boss, scope="team", reference=str(foreign)) == []


# --- Statements -------------------------------------------------------------------------------


def statement(someone: Someone, month: str = "2027-03", **query: Any) -> dict[str, Any]:
    with clock.frozen(NOON):
        response = someone.api.get(f"/v1/statements/{month}", query)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def refunded_month(someone: Someone) -> None:
    """Two models, a cached answer, a refund, an adjustment, and something still held."""
    first = buy(someone.user, "0.05", at=NOON - timedelta(days=3))
    buy(someone.user, "0.0000000001", model="fast-draft", at=NOON)
    serve(someone.user, "0.05", at=NOON)
    with clock.frozen(NOON):
        reserve(someone.user, "0.3")
        with transaction.atomic():
            corrections.refund(reference=first, amount_usd=Decimal("0.02"), reason="blurred", by="ops")
            corrections.adjust(user=someone.user, amount_usd=Decimal("-1"), reason="=goodwill()", by="ops")


def test_a_statement_adds_up_to_the_last_digit(pro: Someone) -> None:
    refunded_month(pro)
    found = statement(pro)
    assert conforms(schemas.Statement, found)
    amounts = {name: Decimal(found[f"{name}_usd"]) for name in ("spent", "charged", "refunded", "adjusted")}
    assert amounts["spent"] == amounts["charged"] - amounts["refunded"] + amounts["adjusted"]
    assert (
        amounts["charged"]
        == Decimal("0.0500000001")
        == sum(Decimal(line["charged_usd"]) for line in found["lines"])
    )
    period = BudgetPeriod.objects.get(user=pro.user, scope="user_month")
    assert amounts["spent"] == period.spent_usd == Decimal("-0.9699999999")
    assert (found["held_usd"], found["saved_usd"], found["jobs"]) == ("0.3", "0.05", 3)
    assert [(each["kind"], each["amount_usd"], each["reason"]) for each in found["corrections"]] == [
        ("refund", "-0.02", "blurred"),
        ("adjustment", "-1", "=goodwill()"),
    ]


def test_the_lines_are_by_day_model_and_provider(pro: Someone) -> None:
    refunded_month(pro)
    keys = [
        (line["day"], line["model"], line["provider"], line["cached"], line["jobs"])
        for line in statement(pro)["lines"]
    ]
    assert keys == [
        ("2027-03-07", "standard", "wavespeed", False, 1),
        ("2027-03-10", "fast-draft", "wavespeed", False, 1),
        ("2027-03-10", "standard", "cache", True, 1),
    ]


def test_what_month_it_is_is_the_users_word(pro: Someone) -> None:
    pro.user.timezone = "Pacific/Kiritimati"
    pro.user.save(update_fields=["timezone"])
    buy(pro.user, "0.05", at=datetime(2027, 2, 28, 12, tzinfo=UTC))  # March there
    assert statement(pro, "2027-02")["spent_usd"] == "0"
    march = statement(pro, "2027-03")
    assert march["spent_usd"] == "0.05"
    assert march["period"] == {"starts_at": "2027-02-28T10:00:00Z", "ends_at": "2027-03-31T10:00:00Z"}


def test_a_month_without_purchases_is_empty_and_one_to_come_is_not_there(pro: Someone) -> None:
    empty = statement(pro, "2026-12")
    assert (empty["spent_usd"], empty["lines"]) == ("0", [])
    assert empty["period"] == {"starts_at": "2026-12-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z"}
    with clock.frozen(NOON):
        assert pro.api.get("/v1/statements/2027-04").status_code == 404


def test_a_teams_statement_names_its_users(boss: Someone) -> None:
    member, stranger = factories.someone(team=boss.user.team, username="member"), factories.someone()
    for someone in (boss, member, stranger):
        buy(someone.user, "0.05", at=NOON)
    found = statement(boss, scope="team")
    assert [(line["user"], line["charged_usd"]) for line in found["lines"]] == [
        ("boss", "0.05"),
        ("member", "0.05"),
    ]
    assert found["spent_usd"] == "0.1"


@pytest.mark.parametrize("how", ["accept", "format"])
def test_a_spreadsheet_gets_the_same_figures_and_no_formula(pro: Someone, how: str) -> None:
    refunded_month(pro)
    buy(pro.user, "0.01", model="@evil", at=NOON)
    with clock.frozen(NOON):
        if how == "accept":
            response = pro.api.get("/v1/statements/2027-03", HTTP_ACCEPT="text/csv")
        else:
            response = pro.api.get("/v1/statements/2027-03", {"format": "csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="statement-user-2027-03.csv"'
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert [row["line"] for row in rows] == ["usage"] * 4 + ["adjustment", "total"]
    *lines, total = rows
    for column in ("charged_usd", "refunded_usd", "saved_usd"):
        assert sum(Decimal(row[column]) for row in lines) == Decimal(total[column]), column
    spent = Decimal(total["charged_usd"]) - Decimal(total["refunded_usd"])
    assert spent == BudgetPeriod.objects.get(user=pro.user, scope="user_month").spent_usd
    assert {"'=goodwill()", ""} == {row["reason"] for row in rows}
    assert "'@evil" in {row["model"] for row in rows}


def test_a_refusal_is_a_problem_also_for_a_spreadsheet(pro: Someone) -> None:
    response = pro.api.get("/v1/statements/nonsense", HTTP_ACCEPT="text/csv")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")


# --- Budget -----------------------------------------------------------------------------------


def test_every_cap_says_what_is_used_of_it() -> None:
    someone = factories.someone(tier=factories.tier(monthly_budget_usd=10, daily_budget_usd=2, max_job_usd=1))
    assert someone.user.team_id
    TeamBudget.objects.create(team_id=someone.user.team_id, limit_usd=40)
    buy(someone.user, "1")
    reserve(someone.user, "0.5")
    budget = someone.budget
    assert conforms(schemas.Budget, budget)
    used = {scope: cap["percent_used"] for scope, cap in budget["caps"].items() if scope != "max_job_usd"}
    assert used == {"user_month": "15", "user_day": "75", "team_month": "3.75"}
    assert budget["caps"]["max_job_usd"] == "1"
    assert budget["percent_used"] == "15"
    assert budget["caps"]["user_day"]["remaining_usd"] == "0.5"


def test_a_cap_that_is_not_there_is_null_and_a_limit_of_nothing_has_no_percent(pro: Someone) -> None:
    caps = pro.budget["caps"]
    assert (caps["user_day"], caps["team_month"], caps["max_job_usd"]) == (None, None, None)
    Budget.objects.create(user=pro.user, limit_usd=0)
    assert pro.budget["percent_used"] is None


def test_the_thresholds_passed_are_listed() -> None:
    someone = factories.someone(tier=factories.tier(monthly_budget_usd=1))
    assert someone.budget["warnings"] == []
    buy(someone.user, "0.85")
    [warning] = someone.budget["warnings"]
    assert (warning["scope"], warning["threshold"], warning["percent_used"]) == ("user_month", 80, 85)
    next_month = (clock.now().replace(day=28) + timedelta(days=10)).date()
    with clock.frozen(datetime.combine(next_month, datetime.min.time(), UTC)):
        assert someone.budget["warnings"] == []
