"""Equal requests at once share one render: the first buys, the others wait for it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.core import clock
from apps.jobs import leases
from apps.jobs.models import Job
from apps.ledger.models import Entry
from tests import factories
from tests.jobs import bells
from tests.jobs.engine import Engine

SAME = {"prompt": "a lighthouse [time:1]", "cache": "account"}


def test_who_asks_for_what_is_on_its_way_waits_and_is_answered_with_it(
    engine: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    first, second, third = [engine.submit(**SAME) for _ in range(3)]
    assert [job.flight for job in (first, second, third)] == ["leads", "follows", "follows"]
    assert engine.run(second).status == "queued", "it is not due while the first is on its way"
    with django_capture_on_commit_callbacks(execute=True):
        first = engine.finish(first)
    assert {message.id for message in bells.waiting("io")} >= {str(second.pk), str(third.pk)}
    second, third = engine.run(second), engine.run(third)
    for job in (second, third):
        assert (job.status, job.cached_from, job.cache_tier) == ("completed", first.pk, "shared")
        assert (job.outputs, job.cost_usd, job.saved_usd) == (first.outputs, Decimal(0), first.cost_usd)
        assert engine.hold(job) == "released"
    assert len(engine.submits()) == 1


def test_a_share_of_the_price_is_charged_where_the_policy_says_so(engine: Engine, settings: Any) -> None:
    settings.SINGLE_FLIGHT_SHARE = Decimal("0.2")
    first, second = engine.submit(**SAME), engine.submit(**SAME)
    first = engine.finish(first)
    second = engine.run(second)
    assert second.cost_usd == first.cost_usd * Decimal("0.2")
    assert second.saved_usd == first.cost_usd - second.cost_usd
    captured = Entry.objects.get(reference=second.pk, kind=Entry.Kind.CAPTURE)
    assert captured.amount_usd == second.cost_usd
    # What users pay beyond the provider's bill is the platform's.
    engine.unbooked_usd = -second.cost_usd


def test_when_the_leader_fails_a_follower_leads_and_the_others_wait_for_that(engine: Engine) -> None:
    asked = {"prompt": "[fault:refused] a fox", "cache": "account"}
    first, second, third = [engine.submit(**asked) for _ in range(3)]
    assert engine.finish(first).status == "failed"
    second = engine.fresh(second)
    assert second.due_at == clock.now()
    second = engine.finish(second)
    assert (second.flight, second.status) == ("leads", "failed")
    assert len(engine.attempts(second)) == 1
    assert engine.finish(third).status == "failed"


def test_when_the_leader_is_canceled_a_follower_leads(engine: Engine) -> None:
    first, second = engine.submit(**SAME), engine.submit(**SAME)
    engine.cancel(first)
    assert engine.run(first).status == "canceled"
    second = engine.finish(second)
    assert (second.flight, second.status, second.cached_from) == ("leads", "completed", None)


def test_a_follower_can_be_canceled_and_frees_its_money(engine: Engine) -> None:
    first, second = engine.submit(**SAME), engine.submit(**SAME)
    engine.cancel(second)
    assert engine.run(second).status == "canceled"
    assert engine.hold(second) == "released"
    assert engine.finish(first).status == "completed"


def test_a_follower_that_lost_its_leader_unnoticed_is_found_by_the_sweep(engine: Engine) -> None:
    first, second, third = [engine.submit(**SAME) for _ in range(3)]
    Job.objects.filter(pk=first.pk).update(flight="")
    assert leases.wake_orphans() == 1, "one of them leads from now on"
    assert engine.fresh(second).due_at == clock.now()
    assert engine.fresh(third).due_at == third.deadline_at
    assert engine.finish(second).status == "completed"
    assert engine.run(third).cached_from == second.pk
    engine.finish(first)


def test_a_follower_waits_no_longer_than_its_own_deadline(engine: Engine) -> None:
    first = engine.submit("a lighthouse", cache="account")
    second = engine.submit("a lighthouse", cache="account")
    assert second.due_at == second.deadline_at
    engine.time.set(second.deadline_at + timedelta(seconds=1))
    second = engine.run(second)
    assert (second.status, second.error_code) == ("failed", "deadline_exceeded")
    assert engine.finish(first).error_code == "deadline_exceeded"


@pytest.mark.parametrize("changes", [{"cache": "off"}, {"variation": True}], ids=str)
def test_who_wants_another_picture_follows_nobody(engine: Engine, changes: dict[str, Any]) -> None:
    asked = {**SAME, **changes}
    jobs = [engine.submit(**asked), engine.submit(**asked)]
    assert "follows" not in {job.flight for job in jobs}
    assert {engine.finish(job).cached_from for job in jobs} == {None}
    assert len(engine.submits()) == 2


def test_another_teams_equal_request_is_bought_apart(engine: Engine) -> None:
    first = engine.submit(**SAME)
    second = engine.submit(**SAME, by=factories.someone())
    assert second.flight == "leads"
    assert {engine.finish(job).cached_from for job in (first, second)} == {None}
