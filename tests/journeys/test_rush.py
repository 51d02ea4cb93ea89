"""Everybody at once, over HTTP: the budget holds to the cent, and one key is one job."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx

from tests.chaos.crowd import Crowd
from tests.fakes.simulator import wait_until
from tests.stack import Stack

BODY = {"type": "image", "prompt": "a fox", "model": "fast-draft", "params": {"width": 64, "height": 64}}
PRICE = Decimal("0.005")


def at_once(count: int, call: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """`count` calls from as many threads, begun together."""
    together = threading.Barrier(count)

    def one(number: int) -> httpx.Response:
        together.wait()
        return call(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def limit_to(stack: Stack, client: httpx.Client, jobs: int) -> Decimal:
    """Gives the client's user a budget that fits exactly so many more jobs."""
    now = client.get("/v1/budget").json()
    limit = Decimal(now["spent_usd"]) + Decimal(now["held_usd"]) + jobs * PRICE
    stack.sql(
        """
        INSERT INTO ledger_budget (user_id, limit_usd) SELECT id, %s FROM accounts_user WHERE username = 'other'
        ON CONFLICT (user_id) DO UPDATE SET limit_usd = excluded.limit_usd
        """,
        limit,
    )
    return limit


def test_64_clients_and_a_budget_for_20(stack: Stack) -> None:
    client = stack.client("other")
    limit = limit_to(stack, client, 20)
    answers = at_once(
        64, lambda n: client.post("/v1/jobs", json={**BODY, "prompt": f"fox {n}", "cache": "off"})
    )
    assert Counter(answer.status_code for answer in answers) == {202: 20, 402: 44}
    refused = next(answer.json() for answer in answers if answer.status_code == 402)
    assert (refused["code"], Decimal(refused["limit"])) == ("budget_exceeded", limit)
    crowd = Crowd.of(stack, [answer.json()["id"] for answer in answers if answer.status_code == 202])
    crowd.end(within_s=30)
    crowd.all_completed_once()
    budget: dict[str, Any] = client.get("/v1/budget").json()
    # Some may have been made by a cheaper route than the one that was held for.
    [(cost,)] = stack.sql("SELECT sum(cost_usd) FROM jobs_job WHERE id = ANY(%s::uuid[])", crowd.ids)
    assert (Decimal(budget["spent_usd"]), Decimal(budget["held_usd"])) == (cost, Decimal(0))
    assert 0 < cost <= limit


def test_50_posts_with_one_idempotency_key_are_one_job(stack: Stack) -> None:
    client = stack.client()
    headers = {"Idempotency-Key": "only-once"}
    body = {**BODY, "prompt": "an otter", "cache": "off"}
    answers = at_once(50, lambda _: client.post("/v1/jobs", json=body, headers=headers))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert Counter("Idempotent-Replayed" in answer.headers for answer in answers) == {True: 49, False: 1}
    job_id = answers[0].json()["id"]
    assert stack.sql("SELECT count(*) FROM jobs_job WHERE idempotency_key = 'only-once'") == [(1,)]
    assert stack.sql("SELECT count(*) FROM ledger_hold WHERE reference = %s", job_id) == [(1,)]
    crowd = Crowd.of(stack, [job_id])
    crowd.end(within_s=30)
    crowd.all_completed_once()


def test_a_user_canceling_everything_pays_for_what_was_delivered_only(stack: Stack) -> None:
    client = stack.client()
    crowd = Crowd(stack, 20, "a fox [time:20]")
    crowd.until(lambda found: found["submitted"] >= 5, within_s=30)
    canceled = at_once(20, lambda n: client.post(f"/v1/jobs/{crowd.ids[n]}/cancel"))
    assert {answer.status_code for answer in canceled} <= {200, 202}
    crowd.end(within_s=30)
    # Of these jobs: a worker killed in a test before may have left one that nobody can know.
    unresolved = "SELECT count(*) FROM jobs_attempt WHERE status = 'unknown' AND job_id = ANY(%s::uuid[])"
    wait_until(lambda: stack.sql(unresolved, crowd.ids) == [(0,)], timeout_s=60)
    assert max(crowd.purchases()) == 1
    crowd.bills_agree()
