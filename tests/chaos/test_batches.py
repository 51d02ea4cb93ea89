"""Batches on the real stack: workers die and Redis forgets, and still every item is made once, at the batch's price;
and who waits for an answer does not wait for them."""

import logging
import statistics
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.chaos.crowd import Crowd
from tests.fakes.simulator import wait_until
from tests.stack import Stack

log = logging.getLogger(__name__)

MODEL = "chaos-in-batches"
SINGLE = Decimal("0.025")
# What the bar asks for; the simulator's discount is a half.
LEAST_SAVING, LEAST_FILL = Decimal("0.15"), 0.9
# Interactive jobs wait at most so much longer beside 10,000 batch items; less than this nobody notices.
MOST_SLOWDOWN, UNNOTICED_S = 1.2, 0.1

_MODEL = """
INSERT INTO catalog_generationmodel SELECT copy.* FROM catalog_generationmodel m,
    LATERAL jsonb_populate_record(m, jsonb_build_object('slug', %s::text)) AS copy
WHERE m.slug = 'fast-draft' ON CONFLICT DO NOTHING
"""
_ROUTE = """
INSERT INTO catalog_route SELECT copy.* FROM catalog_route r, LATERAL jsonb_populate_record(r, jsonb_build_object(
    'id', %s::uuid, 'model_id', %s::text, 'provider', 'openai', 'provider_model', 'gpt-image-2',
    'batch_size', 10)) AS copy
WHERE r.model_id = 'fast-draft' LIMIT 1
"""
_PRICE = """
INSERT INTO catalog_price SELECT copy.* FROM catalog_price p, LATERAL jsonb_populate_record(p, jsonb_build_object(
    'id', gen_random_uuid(), 'route_id', %s::uuid, 'version', 1, 'unit_price_usd', '0.025',
    'multipliers', '{}'::jsonb, 'batch_discount', '0.5')) AS copy
JOIN catalog_route r ON r.model_id = 'fast-draft' WHERE p.route_id = r.id LIMIT 1
"""


@pytest.fixture
def shop(stack: Stack) -> Iterator[Stack]:
    """The stack with a model that only OpenAI makes, in batches of ten."""
    route_id = str(uuid.uuid4())
    if not stack.sql("SELECT 1 FROM catalog_generationmodel WHERE slug = %s", MODEL):
        stack.sql(_MODEL, MODEL)
        stack.sql(_ROUTE, route_id, MODEL)
        stack.sql(_PRICE, route_id)
    stack.sql("UPDATE catalog_generationmodel SET active = true WHERE slug = %s", MODEL)
    wait_until(lambda: MODEL in stack.client().get("/v1/models").text, timeout_s=30)
    yield stack
    stack.sql("UPDATE catalog_generationmodel SET active = false WHERE slug = %s", MODEL)


def batch(stack: Stack, count: int, prompt: str = "a fox") -> Crowd:
    return Crowd(stack, count, prompt, model=MODEL, priority="batch")


def reached(crowd: Crowd, count: int) -> None:
    """Returns when so many of them are completed."""
    wait_until(lambda: crowd.statuses()["completed"] >= count, timeout_s=900)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200, marks=pytest.mark.timeout(240)),
        pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_every_item_is_made_once_though_workers_die_and_redis_forgets(shop: Stack, count: int) -> None:
    crowd = batch(shop, count)
    accidents = ("kill", "flush", "kill") if count > 200 else ("kill",)
    for number, accident in enumerate(accidents, start=1):
        reached(crowd, count * number // (4 * len(accidents)))
        if accident == "kill":
            shop.kill("batch")
            shop.restart("batch")
        else:
            shop.redis.flushall()
    took_s = crowd.end(within_s=120 + count / 5)
    crowd.all_completed_once()
    paid = shop.sql("SELECT sum(cost_usd) FROM jobs_job WHERE id = ANY(%s::uuid[])", crowd.ids)[0][0]
    assert paid <= (1 - LEAST_SAVING) * count * SINGLE
    batches, size, room, saved = shop.sql(
        "SELECT count(*), sum(size), sum(room), sum(saved_usd) FROM jobs_providerbatch WHERE status = 'ended'"
    )[0]
    assert saved >= LEAST_SAVING * count * SINGLE
    log.warning(
        "%s items in %s batches: %.0f s after the last accident, fill %.0f %%, paid $%s of $%s alone",
        *(count, batches, took_s, 100 * size / room, paid, count * SINGLE),
    )
    if count > 200:
        assert size / room >= LEAST_FILL


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_interactive_jobs_do_not_wait_for_ten_thousand_batch_items(shop: Stack) -> None:
    alone_s = p95_wait_s(shop)
    crowd = batch(shop, 10_000)
    wait_until(lambda: crowd.statuses()["running"], timeout_s=60)
    beside_s = p95_wait_s(shop)
    left = 10_000 - crowd.statuses()["completed"]
    log.warning(
        "interactive wait, p95: %.0f ms alone, %.0f ms beside %s batch items",
        alone_s * 1000,
        beside_s * 1000,
        left,
    )
    assert left > 1000, "they were there the whole time"
    crowd.end(within_s=3000)
    assert beside_s <= max(MOST_SLOWDOWN * alone_s, alone_s + UNNOTICED_S)


def p95_wait_s(stack: Stack) -> float:
    """From the submission to the provider's being asked, of 200 jobs that come five a second."""
    ids = []
    client = stack.client()
    body = {"type": "image", "model": "fast-draft", "params": {"width": 64, "height": 64}, "cache": "off"}
    for index in range(200):
        started = time.monotonic()
        answer = client.post("/v1/jobs", json={**body, "prompt": f"an owl {index} [time:2]"})
        ids.append(answer.raise_for_status().json()["id"])
        time.sleep(max(0.0, 0.2 - (time.monotonic() - started)))
    Crowd.of(stack, ids).end(within_s=300)
    waits = stack.sql(
        """
        SELECT extract(epoch FROM a.started_at - j.created_at)::float8 FROM jobs_job j
        JOIN jobs_attempt a ON a.job_id = j.id AND a.number = 1 WHERE j.id = ANY(%s::uuid[])
        """,
        ids,
    )
    p95: float = statistics.quantiles([row[0] for row in waits], n=20)[-1]
    return p95
