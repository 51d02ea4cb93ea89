"""What a tier lets through: requests in a minute, and jobs open at once."""

import math
import re
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.jobs import cancel, capacity, run
from apps.jobs.models import Job
from apps.ledger import holds
from apps.ledger.models import Hold
from apps.ops import reconcile
from tests import factories
from tests.factories import Someone, body


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    capacity.forget()
    yield
    capacity.forget()


def asks(someone: Someone, prompt: str = "a fox") -> tuple[int, str]:
    response = someone.api.post("/v1/jobs", body(prompt=prompt), format="json")
    return response.status_code, response.json().get("code", "")


# --- Requests ---------------------------------------------------------------------------------


def test_every_answer_says_what_remains() -> None:
    slow = factories.someone(tier=factories.tier(requests_per_minute=3))
    left = []
    for path in ("/v1/budget", f"/v1/jobs/{uuid.uuid4()}", "/v1/models"):
        response = slow.api.get(path)
        assert response["RateLimit-Policy"] == '"tier";q=3;w=60'
        found = re.fullmatch(r'"tier";r=(\d+);t=(\d+)', response["RateLimit"])
        assert found
        assert (response["RateLimit-Remaining"], response["RateLimit-Reset"]) == found.groups()
        assert response["RateLimit-Limit"] == "3"
        left.append((int(found[1]), int(found[2])))
    assert [remaining for remaining, _ in left] == [2, 1, 0]
    assert [math.ceil(reset / 20) for _, reset in left] == [1, 2, 3]


def test_a_refusal_names_the_same_moment_twice() -> None:
    slow = factories.someone(tier=factories.tier(requests_per_minute=2))
    slow.api.get("/v1/budget")
    slow.api.get("/v1/budget")
    refused = slow.api.get("/v1/budget")
    assert (refused.status_code, refused["RateLimit-Remaining"]) == (429, "0")
    assert refused["Retry-After"] == refused["RateLimit-Reset"]
    assert 25 < int(refused["Retry-After"]) <= 30


def test_a_tier_without_requests_may_not_call() -> None:
    mute = factories.someone(tier=factories.tier(requests_per_minute=0))
    refused = mute.api.get("/v1/budget")
    assert (refused.status_code, refused["RateLimit-Limit"], refused["RateLimit-Remaining"]) == (
        429,
        "0",
        "0",
    )


def test_who_is_not_known_learns_of_no_limit(pro: Someone) -> None:
    pro.api.credentials()
    assert "RateLimit" not in pro.api.get("/v1/budget")


# --- Open jobs --------------------------------------------------------------------------------


def test_one_job_too_many_is_refused_and_holds_nothing() -> None:
    busy = factories.someone(tier=factories.tier(max_open_jobs=2, concurrency=1))
    assert [asks(busy, str(number)) for number in range(3)] == [(202, ""), (202, ""), (429, "queue_full")]
    assert (Job.objects.count(), Hold.objects.count()) == (2, 2)
    assert busy.budget["held_usd"] == "0.01"


def test_the_refusal_says_how_many_and_when_to_come_back() -> None:
    busy = factories.someone(tier=factories.tier(max_open_jobs=0, concurrency=1))
    response = busy.api.post("/v1/jobs", body(), format="json")
    problem = response.json()
    assert (problem["limit"], problem["retryable"]) == (0, True)
    usual_s = busy.api.post("/v1/estimates", body(), format="json").json()["estimated_time_s"]["p50"]
    assert int(response["Retry-After"]) == math.ceil(usual_s)


def test_there_is_room_again_when_a_job_has_ended() -> None:
    busy = factories.someone(tier=factories.tier(max_open_jobs=1))
    job_id = busy.api.post("/v1/jobs", body(), format="json").json()["id"]
    assert asks(busy, "second")[0] == 429
    cancel.ask(uuid.UUID(job_id))
    run.run(uuid.UUID(job_id))
    assert asks(busy, "second")[0] == 202


def test_what_others_have_open_does_not_count() -> None:
    tier = factories.tier(max_open_jobs=1)
    one, other = factories.someone(tier=tier), factories.someone(tier=tier)
    assert (asks(one)[0], asks(other)[0]) == (202, 202)


def test_with_room_for_minutes_nothing_is_counted(pro: Someone) -> None:
    with clock.frozen(clock.now()):
        asks(pro, "counts once")
        with CaptureQueriesContext(connection) as later:
            assert asks(pro, "later")[0] == 202
        assert not [query for query in later.captured_queries if "due_at IS NOT NULL LIMIT" in query["sql"]]


def test_before_that_many_could_have_come_it_counts_again() -> None:
    steady = factories.someone(tier=factories.tier(max_open_jobs=20, requests_per_minute=6))
    at = clock.now()
    with clock.frozen(at):
        asks(steady)
    roomy_until = capacity._roomy_until[steady.user.pk, "interactive"]
    # One is open; 12 may come at once and 12 in each minute after: the limit is safe for 19 - 12 of them.
    assert roomy_until == at + timedelta(minutes=7 / 12)


@pytest.mark.django_db(transaction=True)
def test_exactly_the_limit_is_admitted_when_many_come_at_once() -> None:
    busy = factories.someone(tier=factories.tier(max_open_jobs=5, requests_per_minute=1000))
    assert busy.budget["held_usd"] == "0"
    together = threading.Barrier(8)

    def ask(number: int) -> int:
        together.wait()
        try:
            return asks(busy, f"number {number}")[0]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert sorted(answers) == [202] * 5 + [429] * 11
    assert Job.objects.count() == 5
    assert reconcile.differences() == []


@pytest.mark.django_db(transaction=True)
def test_who_loses_the_room_that_it_saw_is_refused_and_leaves_nothing() -> None:
    tight = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal("0.012")))
    assert asks(tight, "the first opens the month")[0] == 202

    def second() -> tuple[int, str]:
        try:
            return asks(tight, "a second that fits as long as nobody else takes the rest")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            holds.reserve(
                user_id=tight.user.pk,
                timezone="UTC",
                reference=uuid.uuid4(),
                amount_usd=Decimal("0.005"),
                price_id=uuid.uuid4(),
            )
            answer = pool.submit(second)
            until_somebody_waits_for_a_lock()
        assert answer.result() == (402, "budget_exceeded")
    assert (Job.objects.count(), Hold.objects.count()) == (1, 2)


def until_somebody_waits_for_a_lock() -> None:
    """That the current transaction holds."""
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with connection.cursor() as cursor:
        for _ in range(1000):
            cursor.execute(waiting)
            if cursor.fetchone():
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")
