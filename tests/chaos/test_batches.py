"""Batches on the real stack: workers die and Redis forgets, and still every item is made once, at the batch's price;
and who waits for an answer does not wait for them."""

import json
import logging
import random
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
MOST_SLOWDOWN, UNNOTICED_S = 1.2, 0.02
SMALL = {"width": 64, "height": 64}

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
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("count", "windows"), [(2_000, 1), (10_000, 3)])
def test_interactive_jobs_do_not_wait_for_batch_items(shop: Stack, count: int, windows: int) -> None:
    """With and without them by turns, so that what else the machine does is in both. The short form is for a look."""
    alone_s, beside_s = [], []
    for _ in range(windows):
        alone_s.append(p95_wait_s(shop))
        with queued(shop, count) as batch_id:
            beside_s.append(p95_wait_s(shop))
            assert left(shop, batch_id) > count // 10, "they were there the whole time"
    without_s, with_s = statistics.median(alone_s), statistics.median(beside_s)
    log.warning(
        "interactive wait, p95: %.1f ms alone, %.1f ms beside %s batch items: %.2f × (alone %s, beside %s)",
        *(without_s * 1000, with_s * 1000, count, with_s / without_s),
        *([f"{value * 1000:.1f}" for value in values] for values in (alone_s, beside_s)),
    )
    assert with_s <= max(MOST_SLOWDOWN * without_s, without_s + UNNOTICED_S)


@contextmanager
def queued(stack: Stack, count: int) -> Iterator[str]:
    """So many items of one batch, of which some have been made and the rest come by and by; canceled in the end."""
    item = {"type": "image", "prompt": "a fox", "model": MODEL, "params": SMALL, "cache": "off"}
    lines = "\n".join(json.dumps({**item, "custom_id": str(number)}) for number in range(count))
    client = stack.client()
    headers = {"Content-Type": "application/jsonl"}
    answer = client.post("/v1/batches", content=lines, headers=headers, timeout=120).raise_for_status()
    batch_id = str(answer.json()["id"])
    wait_until(lambda: left(stack, batch_id) < count, timeout_s=60)
    yield batch_id
    client.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()
    wait_until(lambda: not left(stack, batch_id), timeout_s=120)


def left(stack: Stack, batch_id: str) -> int:
    """How many of its items have not ended."""
    query = "SELECT count(*) FROM jobs_job WHERE batch_id = %s AND finished_at IS NULL"
    return int(stack.sql(query, batch_id)[0][0])


def p95_wait_s(stack: Stack) -> float:
    """From the submission to the provider's being asked, of 200 jobs that come five a second: at any moment of it, for
    the platform's own clock ticks once a second."""
    ids, chance = [], random.Random(200)
    client = stack.client()
    body = {"type": "image", "model": "fast-draft", "params": SMALL, "cache": "off"}
    begun = time.monotonic()
    for index in range(200):
        time.sleep(max(0.0, begun + 0.2 * (index + chance.random()) - time.monotonic()))
        answer = client.post("/v1/jobs", json={**body, "prompt": f"an owl {index} [time:2]"})
        ids.append(answer.raise_for_status().json()["id"])
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
