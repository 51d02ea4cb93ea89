"""The books are checked against themselves and against what providers bill; what disagrees is an alert until it
agrees."""

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from apps.core import clock
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, JobStatus
from apps.ledger import holds
from apps.ledger.models import BudgetPeriod, Entry, Hold, UsageDay
from apps.ops import bills, reconcile
from apps.ops.models import Alert
from apps.providers.contract import Ticket
from tests import factories
from tests.ledger.purchases import buy, reserve, serve
from tests.ops import rows

pytestmark = pytest.mark.django_db
LATER = timedelta(days=30)


def checks(since: datetime | None = None) -> set[str]:
    return {difference["check"] for difference in reconcile.differences(since)}


def recently() -> datetime:
    return clock.now() - timedelta(hours=48)


def completed(**changes: Any) -> Attempt:
    """A job that a provider delivered, with its money where it belongs."""
    user = factories.user()
    at = clock.now()
    job = rows.ended(JobStatus.COMPLETED, user=user, cost_usd=Decimal("0.025"))
    reference = buy(user)
    # The purchase is the job's.
    for model in (Hold, Entry):
        with _triggers_off(model._meta.db_table):
            model.objects.filter(reference=reference).update(reference=job.pk)
    values = {
        "job": job,
        "status": AttemptStatus.ACCEPTED,
        "billed": Billed.YES,
        "ticket": Ticket(f"task-{job.pk}").to_json(),
        "submitted_at": at,
        "finished_at": at,
    }
    return rows.attempt(**{**values, **changes})


class _triggers_off:  # noqa: N801 - reads as a statement
    """What nobody may do to the books, done to them."""

    def __init__(self, table: str) -> None:
        self.table = table

    def _say(self, word: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"ALTER TABLE {self.table} {word} TRIGGER USER")

    def __enter__(self) -> None:
        self._say("DISABLE")

    def __exit__(self, *_: object) -> None:
        self._say("ENABLE")


@pytest.fixture
def purchase() -> uuid.UUID:
    reference = buy(factories.user())
    assert reconcile.differences() == reconcile.differences(recently()) == []
    return reference


# --- Each check sees what it is for -----------------------------------------------------------


def spent_more() -> None:
    BudgetPeriod.objects.filter(scope="team_month").update(spent_usd=Decimal(1))


def holds_more() -> None:
    BudgetPeriod.objects.filter(scope="user_day").update(held_usd=Decimal(1))


def charged_less() -> None:
    Hold.objects.update(captured_usd=Decimal("0.01"))


def used_more() -> None:
    UsageDay.objects.update(jobs=2)


def job_says_less() -> None:
    Job.objects.update(cost_usd=0)


def absorbed_nothing() -> None:
    Attempt.objects.update(price_usd=1)


def held_for_ever() -> None:
    job = rows.job(status=JobStatus.QUEUED, lease=None)
    at = clock.now()
    Job.objects.filter(pk=job.pk).update(status=JobStatus.CANCELED, due_at=None, finished_at=at)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (spent_more, {"balance"}),
        (holds_more, {"balance", "held"}),
        (charged_less, {"purchase"}),
        (used_more, {"roll-up"}),
        (job_says_less, {"charge"}),
        (absorbed_nothing, {"attempts"}),
        (held_for_ever, {"phantom hold"}),
    ],
)
def test_damage_is_found_by_the_check_for_it(damage: Any, found: set[str]) -> None:
    completed()
    assert checks() == checks(recently()) == set()
    damage()
    assert checks() == checks(recently()) == found


def test_usage_that_was_not_recorded_is_found() -> None:
    user = factories.user()
    serve(user)
    holds.capture(reference=reserve(user), cost_usd=Decimal("0.025"))
    assert checks() == checks(recently()) == {"usage"}


def test_old_damage_is_found_by_looking_at_everything_only(purchase: uuid.UUID) -> None:
    with clock.frozen(clock.now() + 3 * LATER):
        used_more()
        assert checks(recently()) == set()
        assert checks() == {"roll-up"}


def test_what_is_open_is_looked_at_however_old_it_is() -> None:
    job = rows.job()
    with clock.frozen(clock.now() + 3 * LATER):
        # The row's id is of now, and so within the window: the past is made by hand.
        old = uuid.UUID(int=job.pk.int >> 40)
        Hold.objects.filter(reference=job.pk).update(id=old, state="released", resolved_at=clock.now())
        assert "phantom hold" in checks(recently())


# --- What providers bill ----------------------------------------------------------------------


def billed(*lines: tuple[str, str], at: datetime | None = None, **interval: Any) -> None:
    at = at or clock.now()
    bills.keep(
        "wavespeed", "may.csv", [bills.Line(task, Decimal(amount), at) for task, amount in lines], **interval
    )


def around() -> dict[str, datetime]:
    now = clock.now()
    return {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}


def task(attempt: Attempt) -> str:
    return Ticket.from_json(attempt.ticket or "").task_id


def details() -> list[str]:
    found = reconcile.differences()
    assert found == reconcile.differences(recently())
    return [difference["detail"] for difference in found]


def test_a_bill_that_agrees_is_no_difference() -> None:
    attempt = completed()
    billed((task(attempt), "0.025"), **around())
    assert details() == []


def test_what_is_billed_but_not_ours_is_found() -> None:
    billed(("t-unknown", "0.02"))
    assert details() == ["wavespeed bills 0.0200000000 for task t-unknown, which is not ours"]


def test_what_is_ours_but_not_billed_is_found_in_the_time_of_the_bill() -> None:
    first, second = completed(), completed()
    billed((task(first), "0.025"), **around())
    assert details() == [f"wavespeed does not bill task {task(second)}, we reckon with 0.0250000000"]


def test_what_lies_outside_the_time_of_the_bill_is_not_missed() -> None:
    first, _ = completed(), completed(finished_at=clock.now() + timedelta(hours=2))
    billed((task(first), "0.025"), **around())
    assert details() == []


def test_another_amount_is_found() -> None:
    attempt = completed()
    billed((task(attempt), "0.03"), **around())
    assert details() == [
        f"wavespeed bills 0.0300000000 for task {task(attempt)}, we reckon with 0.0250000000"
    ]


def test_what_we_think_costs_nothing_but_is_billed_is_found() -> None:
    attempt = completed()
    failed = rows.attempt(
        number=2,
        job=attempt.job,
        status=AttemptStatus.FAILED,
        billed=Billed.NO,
        ticket=Ticket("t2").to_json(),
    )
    billed((task(attempt), "0.025"), (task(failed), "0.025"), **around())
    assert details() == ["wavespeed bills 0.0250000000 for task t2, we reckon with 0"]


def test_an_outcome_that_is_still_unknown_may_be_billed_or_not() -> None:
    job = rows.job()
    rows.attempt(job=job, status=AttemptStatus.UNKNOWN, check_at=clock.now(), ticket=Ticket("t1").to_json())
    billed(("t1", "0.025"), **around())
    assert details() == []


def test_an_old_bill_is_compared_when_it_comes_in() -> None:
    attempt = completed()
    with clock.frozen(clock.now() + LATER):
        line = bills.Line(task(attempt), Decimal("0.03"), clock.now() - LATER)
        bills.keep("wavespeed", "late.csv", [line])
        assert len(details()) == 1


# --- Alerts -----------------------------------------------------------------------------------


def test_a_difference_is_an_alert_until_it_is_gone(purchase: uuid.UUID) -> None:
    used_more()
    for _ in range(2):
        reconcile.watch()
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.count) == ("books", "critical", 2)
    assert alert.message.startswith("jobs 2, records 1")
    UsageDay.objects.update(jobs=1)
    reconcile.watch()
    assert not Alert.objects.open().exists()


@pytest.mark.parametrize("damage", [spent_more, charged_less, used_more, job_says_less])
def test_an_alert_stays_while_its_difference_does_however_old_both_are(damage: Any) -> None:
    completed()
    damage()
    assert reconcile.watch()
    with clock.frozen(clock.now() + LATER):
        assert reconcile.watch()
        assert Alert.objects.open().count() == 1


def test_an_alert_about_a_bill_stays_while_its_difference_does() -> None:
    first, second = completed(), completed()
    at, interval = clock.now(), around()
    billed((task(first), "0.03"), **interval)
    reconcile.watch()
    with clock.frozen(clock.now() + LATER):
        found = reconcile.watch()
        assert {difference["check"] for difference in found} == {"billed", "unbilled"}
        assert "we reckon with 0.0250000000" in found[0]["detail"]
        billed((task(first), "0.025"), (task(second), "0.025"), at=at, **interval)
        assert reconcile.watch() == []
        assert not Alert.objects.open().exists()


def test_what_the_platform_pays_is_an_alert_above_its_threshold(settings: Any) -> None:
    settings.ABSORBED_ALERT_USD = Decimal("0.5")
    reference = buy(factories.user())
    holds.absorb(
        reference=reference, amount_usd=Decimal("0.5"), reason="attempt 1: bad_output", price_id=uuid.uuid4()
    )
    reconcile.watch()
    assert not Alert.objects.filter(kind="platform.absorbed").exists()
    holds.absorb(
        reference=reference, amount_usd=Decimal("0.01"), reason="attempt 2: bad_output", price_id=uuid.uuid4()
    )
    reconcile.watch()
    alert = Alert.objects.open().get(kind="platform.absorbed")
    assert alert.details == {"absorbed_usd": "0.51"}
    with clock.frozen(clock.now() + timedelta(hours=25)):
        reconcile.watch()
    assert not Alert.objects.open().filter(kind="platform.absorbed").exists()


# --- The command ------------------------------------------------------------------------------


def test_the_command_says_that_all_is_well(purchase: uuid.UUID, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("reconcile")
    call_command("reconcile", "--all")
    assert capsys.readouterr().out == "the books agree\n" * 2


def test_the_command_shows_differences_and_leaves_with_1(
    purchase: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    charged_less()
    with pytest.raises(SystemExit) as left:
        call_command("reconcile", "--hours", "1")
    assert left.value.code == 1
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["check", "row", "difference"]
    assert line.split()[:2] == ["purchase", str(purchase)]
    assert "charged 0.0100000000, entries 0.0250000000" in line
