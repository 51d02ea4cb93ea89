"""How many statements a request costs, as Django counts them: BEGIN and COMMIT are two.

Warm: the caller and the catalog are remembered, as for all but one request a second. Cold: neither is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts import caller
from apps.catalog import snapshot
from apps.core import clock
from apps.jobs.models import Job
from apps.validation import policy
from tests import factories
from tests.factories import Someone, body

Work = Callable[[str], Job]
READ = 3
# One each; and the savepoint that makes it one inside the transaction that a test is. Where something has to hold with
# it, a webhook or a count of what is open, there is a transaction around it; an Idempotency-Key looks into the cache
# before it.
ACCEPT, CACHED, TOGETHER, KEYED = 3, 3, 2, 1
# What a cold process asks once: the key, the digest of the catalog, then its models, routes and prices, and the
# versions of the policy lists.
CALLER, CATALOG, POLICY = 1, 4, 1


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    with CaptureQueriesContext(connection) as captured:
        yield
    statements = [query["sql"][:90] for query in captured.captured_queries]
    assert len(statements) <= limit, "\n".join([f"{len(statements)} statements", *statements])


@pytest.fixture(autouse=True)
def _nothing_is_forgotten_meanwhile() -> Iterator[None]:
    with clock.frozen(clock.now()):
        yield


@pytest.fixture
def warm(pro: Someone) -> Someone:
    """Remembered, and this month's budget is open."""
    assert pro.api.post("/v1/jobs", body(prompt="first"), format="json").status_code == 202
    return pro


def test_accepting(warm: Someone) -> None:
    with at_most(ACCEPT):
        assert warm.api.post("/v1/jobs", body(), format="json").status_code == 202


def test_accepting_with_everything_that_can_be_asked(warm: Someone) -> None:
    asked = body(
        fallback_models=["standard", "premium"], metadata={"a": 1}, callback_url="https://example.com/", cache="off"
    )  # fmt: skip
    with at_most(ACCEPT + TOGETHER):
        response = warm.api.post("/v1/jobs", asked, format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert response.status_code == 202


def test_accepting_in_a_cold_process(warm: Someone) -> None:
    caller.forget()
    snapshot.forget()
    policy.forget()
    with at_most(ACCEPT + CALLER + CATALOG + POLICY):
        assert warm.api.post("/v1/jobs", body(), format="json").status_code == 202


def test_a_replay(warm: Someone) -> None:
    warm.api.post("/v1/jobs", body(), format="json", HTTP_IDEMPOTENCY_KEY="k")
    undone, earlier = 1, 1
    with at_most(KEYED + ACCEPT + undone + earlier):
        again = warm.api.post("/v1/jobs", body(), format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert again["Idempotent-Replayed"] == "true"


def test_a_cached_hit(warm: Someone, work: Work) -> None:
    work(warm.api.post("/v1/jobs", body(), format="json").json()["id"])
    with at_most(CACHED):
        assert warm.api.post("/v1/jobs", body(), format="json").status_code == 200
    with at_most(KEYED + CACHED):
        answer = warm.api.post("/v1/jobs", body(), format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert answer.status_code == 200
    caller.forget()
    snapshot.forget()
    policy.forget()
    with at_most(CACHED + CALLER + CATALOG + POLICY):
        assert warm.api.post("/v1/jobs", body(), format="json").status_code == 200


def test_a_user_who_only_gets_cached_answers(warm: Someone, work: Work) -> None:
    """Counted once, as whoever buys: not at each answer."""
    work(warm.api.post("/v1/jobs", body(), format="json").json()["id"])
    member = factories.someone(team=warm.user.team)
    assert member.api.post("/v1/jobs", body(), format="json").status_code == 200
    with at_most(CACHED):
        assert member.api.post("/v1/jobs", body(), format="json").status_code == 200


def test_reading_a_job(warm: Someone, work: Work) -> None:
    work(job_id := warm.api.post("/v1/jobs", body(), format="json").json()["id"])
    caller.forget()
    with at_most(READ):
        assert warm.api.get(f"/v1/jobs/{job_id}").json()["attempts"]


def test_a_list_costs_the_same_whatever_its_length(warm: Someone, work: Work) -> None:
    for number in range(12):
        work(warm.api.post("/v1/jobs", body(prompt=f"{number}"), format="json").json()["id"])
    for size in (1, 12):
        caller.forget()
        with at_most(READ):
            assert len(warm.api.get("/v1/jobs", {"page_size": size}).json()["data"]) == size


def test_the_small_reads(warm: Someone) -> None:
    for path, limit in (
        ("/v1/budget", 2),
        ("/v1/models", 1),
        ("/v1/webhooks/secret", 1),
        ("/v1/usage", 1),
        ("/v1/usage/entries", 1),
    ):
        with at_most(limit):
            assert warm.api.get(path).status_code == 200


def test_an_estimate_looks_into_the_cache_and_keeps_its_quote(warm: Someone) -> None:
    with at_most(2):
        quote = warm.api.post("/v1/estimates", body(), format="json").json()
    with at_most(1):
        assert warm.api.post("/v1/estimates", body(cache="off"), format="json").status_code == 200
    with at_most(ACCEPT + 1):
        asked = body(quote_id=quote["quote_id"])
        assert warm.api.post("/v1/jobs", asked, format="json").status_code == 202


def test_a_refusal_before_the_database_costs_nothing(warm: Someone) -> None:
    with at_most(0):
        assert warm.api.post("/v1/jobs", body(prompt=""), format="json").status_code == 422
        assert warm.api.get("/v1/jobs/x").status_code == 404
