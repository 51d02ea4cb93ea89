"""Who may touch a job: one at a time, fenced, renewed while alive, taken over when dead."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.artifacts import store
from apps.artifacts.models import Artifact
from apps.core import clock
from apps.jobs import attempts, leases, outcomes, run, settle
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus
from apps.ledger.models import Entry
from apps.providers import call
from apps.providers.contract import Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from tests.jobs.engine import FREE, Engine


def claimed(job: Job) -> Job:
    """The job, held by us."""
    held = leases.claim(job.pk)
    assert held
    return held


def test_one_claim_at_a_time(engine: Engine) -> None:
    job = engine.submit()
    first = claimed(job)
    assert (first.status, first.started_at) == ("running", clock.now())
    assert leases.claim(job.pk) is None
    engine.time.forward(11.9)
    assert leases.claim(job.pk) is None
    engine.finish(job)


def test_a_lease_that_ran_out_goes_to_the_next_and_counts_as_a_crash(engine: Engine, settings: Any) -> None:
    job = engine.submit()
    dead = claimed(job)
    engine.time.forward(settings.JOB_LEASE_S)
    heir = claimed(job)
    assert heir.lease != dead.lease
    assert (dead.crashes, heir.crashes) == (0, 1)
    assert heir.started_at == dead.started_at
    leases.leave(heir, next_at=clock.now())
    assert engine.finish(job).status == "completed"


def test_a_job_left_properly_is_no_crash(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:3]"))
    engine.time.forward(3600 - 60)
    assert engine.run(job).crashes == 0
    engine.finish(job)


def test_three_crashes_quarantine_the_job_and_free_its_money(engine: Engine, settings: Any) -> None:
    job = engine.submit()
    for _ in range(3):
        claimed(job)
        engine.time.forward(settings.JOB_LEASE_S)
    job = engine.run(job)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "internal_error", False)
    assert (job.crashes, engine.hold(job), engine.submits()) == (3, "released", [])


def test_two_crashes_do_not(engine: Engine, settings: Any) -> None:
    job = engine.submit()
    for _ in range(2):
        claimed(job)
        engine.time.forward(settings.JOB_LEASE_S)
    assert engine.finish(job).status == "completed"


def test_a_quarantined_purchase_keeps_its_money_until_the_provider_tells(
    engine: Engine, settings: Any
) -> None:
    job = engine.run(engine.submit("slow [time:10]"))
    engine.due(job)
    for _ in range(3):
        claimed(job)
        engine.time.forward(settings.JOB_LEASE_S)
    job = engine.run(job)
    assert (job.status, job.error_code, engine.hold(job)) == ("failed", "internal_error", "held")
    engine.provider_done()
    engine.resolve(engine.attempt(job))
    assert (engine.hold(job), engine.absorbed(job)) == ("released", engine.attempt(job).price_usd)


def test_a_validator_that_always_dies_is_quarantined_and_the_work_not_charged(
    engine: Engine, settings: Any
) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    for _ in range(3):
        claimed(job)
        engine.time.forward(settings.JOB_LEASE_S)
    job = engine.validate(job)
    assert (job.status, job.error_code, job.cost_usd) == ("failed", "internal_error", FREE)
    engine.resolve(engine.attempt(job))
    assert (engine.hold(job), engine.absorbed(job)) == ("released", engine.attempt(job).price_usd)


def test_a_crash_before_the_order_was_sent_is_not_answered_by_a_second_order(
    engine: Engine, settings: Any
) -> None:
    """The row was committed, the worker died: whether the request left it, nobody can say."""
    job = claimed(engine.submit())
    attempts.open_one(job, job.quote["routes"][0], number=1)
    engine.time.forward(settings.JOB_LEASE_S)
    job = engine.finish(job)
    assert (job.status, job.error_code, engine.hold(job)) == ("failed", "provider_outcome_unknown", "held")
    assert engine.submits() == []


def test_a_crash_after_the_ticket_was_kept_goes_on_polling(engine: Engine, settings: Any) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    engine.due(job)
    claimed(job)
    engine.time.forward(settings.JOB_LEASE_S)
    job = engine.finish(job)
    assert (job.status, job.crashes) == ("completed", 1)
    assert len(engine.submits()) == 1


def test_a_crash_while_downloading_an_answer_that_was_the_result_buys_nothing_again(
    engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No webhook will come for a result that the submit's answer brought: its ticket must be safe first."""

    class PowerCut(BaseException):
        pass

    def dies(**_: Any) -> None:
        raise PowerCut

    engine.simulator.settings(time_scale=0)
    job = engine.submit()
    with monkeypatch.context() as patched:
        patched.setattr(store, "fetch", dies)
        with pytest.raises(PowerCut):
            run.run(job.pk)
    engine.time.forward(settings.JOB_LEASE_S)
    job = engine.run(job)
    assert engine.statuses(job) == ["fetched"]
    assert engine.finish(job).status == "completed"
    assert len(engine.submits()) == 1


ZOMBIES: dict[str, Callable[[Job, Attempt], object]] = {
    "leaves": lambda job, attempt: leases.leave(job, next_at=clock.now()),
    "completes": lambda job, attempt: settle.complete(job, attempt, outputs=[], quality={}),
    "fails": lambda job, attempt: settle.fail(job, code="x", message="", retryable=False),
    "cancels": lambda job, attempt: settle.cancel(job),
    "cancels and charges": lambda job, attempt: settle.cancel_billed(job, attempt),
    "expires": lambda job, attempt: outcomes.expire(job, attempt),
    "is unsure": lambda job, attempt: outcomes.unknown(job, attempt),
    "quarantines": lambda job, attempt: outcomes.quarantine(job, attempt),
}


@pytest.mark.parametrize("act", ZOMBIES.values(), ids=ZOMBIES.keys())
def test_who_lost_the_lease_writes_nothing(
    engine: Engine, settings: Any, act: Callable[[Job, Attempt], object]
) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    engine.due(job)
    zombie = claimed(job)
    engine.time.forward(settings.JOB_LEASE_S)
    heir = claimed(job)
    before = rows(job)
    act(zombie, engine.attempt(job))
    assert rows(job) == before
    leases.leave(heir, next_at=clock.now())
    assert engine.finish(job).status == "completed"


@pytest.mark.parametrize("act", ZOMBIES.values(), ids=ZOMBIES.keys())
def test_who_lost_the_lease_writes_nothing_after_the_end_either(
    engine: Engine, settings: Any, act: Callable[[Job, Attempt], object]
) -> None:
    job = engine.run(engine.submit("slow [time:1]"))
    engine.due(job)
    zombie = claimed(job)
    attempt = engine.attempt(job)
    engine.time.forward(settings.JOB_LEASE_S)
    engine.finish(job)
    before = rows(job)
    act(zombie, attempt)
    assert rows(job) == before


def rows(job: Job) -> list[Any]:
    """Everything that is known of the job."""
    return [
        list(Job.objects.filter(pk=job.pk).values()),
        list(Attempt.objects.of(job).values()),
        list(Entry.objects.order_by("id").values()),
    ]


def test_a_zombies_ticket_is_kept_because_it_is_a_fact(engine: Engine, settings: Any) -> None:
    job = claimed(engine.submit("slow [time:1]"))
    attempt = attempts.open_one(job, job.quote["routes"][0], number=1)
    assert attempt
    engine.time.forward(settings.JOB_LEASE_S)
    engine.run(job)
    attempts.submitted(job, attempt, Pending(Ticket("from-the-zombie")), next_at=clock.now())
    assert Ticket.from_json(engine.attempt(job).ticket or "").task_id == "from-the-zombie"
    heirs = engine.fresh(job).due_at
    assert heirs
    assert heirs > clock.now(), "the heir's plan stands"
    assert engine.finish(job).status == "failed"


def test_a_zombie_that_fetched_first_hands_its_work_to_the_present_holder(
    engine: Engine, settings: Any
) -> None:
    """Both downloaded the same result: one is validated, nobody waits for a lease, no crash is counted."""
    job = engine.run(engine.submit("slow [time:1]"))
    engine.provider_done()
    engine.due(job)
    zombie = claimed(job)
    stale = engine.attempt(job)
    engine.time.forward(settings.JOB_LEASE_S)
    heir = claimed(job)
    mine = engine.attempt(job)
    attempts.fetched(zombie, stale, None, outputs_of(engine, job), result_at=clock.now())
    attempts.fetched(heir, mine, None, [], result_at=clock.now())
    job = engine.fresh(job)
    assert (job.lease_expires_at, job.due_at) == (None, clock.now())
    job = engine.validate(job)
    assert (job.status, job.crashes) == ("completed", 1)


def outputs_of(engine: Engine, job: Job) -> list[dict[str, Any]]:
    """The downloaded result of the job's task."""
    answer = call.poll("wavespeed", Ticket.from_json(engine.attempt(job).ticket or ""))
    assert isinstance(answer, Result)
    kept = store.fetch(team_id=job.team_id, url=answer.outputs[0].url, kind="image")
    return [run._remembered(kept)]


@pytest.mark.django_db(transaction=True)
def test_two_holders_never_buy_twice(engine: Engine, settings: Any) -> None:
    """Whoever opens the attempt buys; the other one steps back, and looks again soon."""
    job = engine.submit("slow [time:1]")
    zombie = claimed(job)
    engine.time.forward(settings.JOB_LEASE_S)
    heir = claimed(job)
    outcomes.next_attempt(zombie, [], buy=run.buy)
    outcomes.next_attempt(heir, [], buy=run.buy)
    job = engine.fresh(job)
    assert (job.lease_expires_at, job.due_at) == (None, clock.now() + timedelta(seconds=1))
    job = engine.finish(job)
    assert (job.status, job.crashes, len(engine.submits())) == ("completed", 1, 1)


def test_a_zombies_failure_closes_its_attempt_and_the_heir_goes_on(engine: Engine, settings: Any) -> None:
    job = claimed(engine.submit())
    attempt = attempts.open_one(job, job.quote["routes"][0], number=1)
    assert attempt
    engine.time.forward(settings.JOB_LEASE_S)
    engine.run(job)
    outcomes.failed(job, attempt, ProviderError(ErrorKind.SERVER_ERROR, "500"))
    assert engine.statuses(job) == ["failed"]
    job = engine.finish(job)
    assert (job.status, engine.statuses(job)) == ("completed", ["failed", "accepted"])


def test_news_during_a_held_lease_make_the_job_due_when_its_holder_leaves(engine: Engine) -> None:
    job = claimed(engine.submit())
    assert leases.nudge(job.pk)
    assert leases.claim(job.pk) is None
    assert leases.leave(job, next_at=clock.now() + timedelta(hours=1))
    assert engine.fresh(job).due_at == clock.now()
    assert engine.finish(job).status == "completed"


def test_without_news_the_holder_says_when_the_job_is_due(engine: Engine) -> None:
    job = claimed(engine.submit())
    later = clock.now() + timedelta(hours=1)
    assert leases.leave(job, next_at=later)
    assert engine.fresh(job).due_at == later
    engine.time.set(job.deadline_at)
    engine.run(job)


def test_news_of_an_ended_job_move_nothing(engine: Engine) -> None:
    job = engine.finish(engine.submit())
    assert not leases.nudge(job.pk)
    assert not leases.nudge(uuid.uuid4())


def test_a_renewed_lease_is_not_taken_over(engine: Engine, settings: Any) -> None:
    job = claimed(engine.submit())
    assert job.lease
    for _ in range(5):
        engine.time.forward(settings.JOB_LEASE_S - 1)
        leases.renew({job.lease: job.pk})
        assert leases.claim(job.pk) is None
    assert engine.fresh(job).crashes == 0
    assert leases.leave(job, next_at=clock.now())
    assert engine.finish(job).status == "completed"


def test_a_renewal_keeps_the_news_that_came_meanwhile(engine: Engine, settings: Any) -> None:
    job = claimed(engine.submit())
    assert job.lease
    leases.nudge(job.pk)
    nudged_at = clock.now()
    engine.time.forward(settings.JOB_LEASE_S - 1)
    leases.renew({job.lease: job.pk})
    leases.leave(job, next_at=clock.now() + timedelta(hours=1))
    assert engine.fresh(job).due_at == nudged_at
    engine.finish(job)


def test_a_renewal_revives_neither_a_lost_lease_nor_one_given_back(engine: Engine, settings: Any) -> None:
    job = claimed(engine.submit())
    assert job.lease
    engine.time.forward(settings.JOB_LEASE_S)
    heir = claimed(job)
    before = rows(job)
    engine.time.forward(1)
    leases.renew({job.lease: job.pk})
    assert rows(job) == before
    leases.leave(heir, next_at=clock.now())
    before = rows(job)
    assert heir.lease
    leases.renew({heir.lease: heir.pk})
    assert rows(job) == before
    engine.finish(job)


def test_what_is_held_is_renewed_only_while_it_is_held(engine: Engine) -> None:
    job = engine.submit()
    with leases.held(job.pk) as mine:
        assert mine
        assert mine.lease in leases._held
        assert any(thread.name == "leases" for thread in threading.enumerate())
        leases.leave(mine, next_at=clock.now())
    assert mine.lease not in leases._held
    engine.finish(job)


def test_a_touch_that_raises_leaves_its_lease_to_run_out(engine: Engine, settings: Any) -> None:
    job = engine.submit()

    class Bug(Exception):
        pass

    def touch() -> None:
        with leases.held(job.pk):
            raise Bug

    with pytest.raises(Bug):
        touch()
    assert leases._held == {}
    assert leases.claim(job.pk) is None
    engine.time.forward(settings.JOB_LEASE_S)
    assert engine.finish(job).status == "completed"


def test_an_attempt_that_is_closed_stays_closed(engine: Engine) -> None:
    job = engine.finish(engine.submit())
    attempt = engine.attempt(job)
    before = rows(job)
    attempts.failed(job, attempt, ProviderError(ErrorKind.BAD_OUTPUT, "too late"))
    attempts.found(attempt, Ticket("other"))
    attempts.unknown(attempt, message="?")
    assert rows(job) == before
    assert attempt.status == AttemptStatus.ACCEPTED


def test_an_earlier_status_heard_late_takes_nothing_back(engine: Engine, settings: Any) -> None:
    """A provider whose answers go back and forth: who was slow heard "generating", the heir had the result."""
    job = engine.run(engine.submit("[fault:regress] slow [time:1]"))
    engine.due(job)
    zombie, stale = claimed(job), engine.attempt(job)
    engine.time.forward(settings.JOB_LEASE_S)
    engine.provider_done()
    job = engine.run(job)
    while engine.statuses(job) == ["submitted"]:
        job = engine.run(engine.due(job))
    told = Pending(Ticket.from_json(stale.ticket or ""), "generating", 0.2)
    attempts.pending(zombie, stale, told, next_at=clock.now())
    attempt = engine.attempt(job)
    assert (attempt.status, attempt.progress) == ("fetched", None)
    assert engine.finish(job).status == "completed"


def test_what_is_stored_is_handed_on_to_be_checked_and_not_fetched_again(engine: Engine) -> None:
    """The worker died before the ring for the check: the sweep rings for `run`, as for any job."""
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    [kept] = engine.attempt(job).outputs
    job = engine.run(job)
    assert (engine.statuses(job), engine.attempt(job).outputs) == (["fetched"], [kept])
    assert Artifact.objects.count() == 1
    assert engine.validate(job).status == "completed"
