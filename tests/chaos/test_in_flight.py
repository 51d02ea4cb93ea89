"""Far more jobs under way than the worker has threads: none waits in a thread, and memory does not grow with them."""

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.benchmarks import cpu
from tests.chaos.crowd import Crowd
from tests.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(600)

log = logging.getLogger(__name__)

MAX_RSS_MB = 250

# One `io` worker of 200 threads with very many jobs at a slow provider that announces nothing.
VERY_MANY = 10_000
VERY_MANY_RSS_MB = 400
POLL_EVERY_S = 30
# Of one core's time, in ms: the goal, 5 % of a core for 10,000 jobs, would be 0.15 (docs/reference/performance.md).
MAX_CPU_MS_PER_POLL = 0.6
_SETTLE_S, _WATCH_S = 35, 60

# Each row is the job that the platform itself bought, copied with an order of its own at the provider: in one
# statement, or a worker would order for those it finds without. `polls`: asked for so often that the interval no longer
# grows; `due_at`: spread over one interval.
_COPY = """
WITH copied AS (
    INSERT INTO jobs_job SELECT copy.* FROM jobs_job j, unnest(%s::uuid[]) WITH ORDINALITY AS t(id, place),
        LATERAL jsonb_populate_record(j, jsonb_build_object(
            'id', t.id, 'lease', gen_random_uuid(), 'lease_expires_at', NULL, 'rung_at', NULL,
            'deadline_at', now() + interval '1 day', 'due_at', now() + make_interval(secs => t.place %% %s))) AS copy
    WHERE j.id = %s
)
INSERT INTO jobs_attempt SELECT copy.* FROM jobs_attempt a, unnest(%s::uuid[], %s::text[]) AS t(job, ticket),
    LATERAL jsonb_populate_record(a, jsonb_build_object(
        'id', gen_random_uuid(), 'job_id', t.job, 'ticket', t.ticket, 'polls', 20)) AS copy
WHERE a.job_id = %s
"""


@pytest.mark.parametrize(
    ("many", "generation_s"), [(100, 8), pytest.param(1000, 90, marks=pytest.mark.long)], ids=["100", "1000"]
)
def test_jobs_in_flight_hold_no_thread_and_little_memory(stack: Stack, many: int, generation_s: int) -> None:
    turn(stack, time_scale=1.0, concurrency=2 * many)
    try:
        crowd = Crowd(stack, many, f"a fox [time:{generation_s}]")
        crowd.until(lambda found: found["submitted"] == many, within_s=generation_s)
        quick = Crowd(stack, 1, "an owl [time:0.1]")
        took_s = quick.end(within_s=5 + many / 40)
        assert crowd.attempts()["submitted"] == many, "all of them were under way the whole time"
        worker = stack.supervisor.watched["io"].child
        assert worker
        memory_mb = cpu.rss_mb(worker.pid)
        assert memory_mb < MAX_RSS_MB
    finally:
        turn(stack, time_scale=0.05, concurrency=100)
    drained_s = crowd.end(within_s=generation_s + 30 + many / 10)
    crowd.all_completed_once()
    quick.all_completed_once()
    figures = (many, memory_mb, took_s, drained_s)
    log.info(
        "%s in flight: io worker %.0f MB; a quick job beside them %.1f s; all ended after %.1f s", *figures
    )


def turn(stack: Stack, **knobs: float) -> None:
    """Turns the simulator's knobs, for orders from now on."""
    httpx.post(f"{stack.simulator_url}/admin/settings", json=knobs).raise_for_status()


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Stack]:
    # As in production: in development Django keeps a copy of every query.
    env = {"IO_THREADS": "200", "DEBUG": "0", "ALLOW_LOOPBACK_TARGETS": "1"}
    with running_stack(tmp_path, env=env) as stack:
        turn(stack, time_scale=1.0, concurrency=3 * VERY_MANY)
        yield stack


@pytest.mark.long
def test_ten_thousand_jobs_in_flight_are_polled_by_one_worker(wide: Stack) -> None:
    crowd = Crowd(wide, 1, "a fox [time:6000]")
    crowd.until(lambda found: found["submitted"] == 1, within_s=60)
    tickets = ordered(wide, VERY_MANY)
    worker = wide.supervisor.watched["io"].child
    assert worker
    idle = share_of_a_core(wide, worker.pid, 15)[0]
    ids = [
        row[0] for row in wide.sql("SELECT gen_random_uuid()::text FROM generate_series(1, %s)", VERY_MANY)
    ]
    wide.sql(_COPY, ids, POLL_EVERY_S, crowd.ids[0], ids, tickets, crowd.ids[0])
    time.sleep(_SETTLE_S)
    busy, polls = share_of_a_core(wide, worker.pid, _WATCH_S)
    memory_mb = cpu.rss_mb(worker.pid)
    late_s = float(
        wide.sql("SELECT extract(epoch FROM now() - min(due_at)) FROM jobs_job WHERE due_at IS NOT NULL")[0][
            0
        ]
    )
    per_poll_ms = (busy - idle) * _WATCH_S * 1000 / polls
    figures = (VERY_MANY, memory_mb, 100 * (busy - idle), polls / _WATCH_S, per_poll_ms, late_s)
    log.warning(
        "%s in flight: io worker %.0f MB; polling %.1f %% of a core, %.0f polls/s, %.2f ms each; oldest late by %.1f s",
        *figures,
    )
    assert wide.sql("SELECT count(*) FROM jobs_attempt WHERE status = 'submitted'")[0][0] == VERY_MANY + 1
    assert polls >= 0.8 * VERY_MANY * _WATCH_S / POLL_EVERY_S, "each is asked for every half minute"
    assert memory_mb < VERY_MANY_RSS_MB
    assert per_poll_ms <= MAX_CPU_MS_PER_POLL


def ordered(stack: Stack, count: int) -> list[str]:
    """Tickets of that many orders that the provider will not end."""
    headers = {"authorization": f"Bearer {stack.environ['WAVESPEED_API_KEY']}"}
    with httpx.Client(base_url=stack.simulator_url, headers=headers, timeout=60) as client:

        def order(_: int) -> str:
            answer = client.post("/api/v3/wavespeed-ai/fast-draft", json={"prompt": "a fox [time:6000]"})
            return json.dumps({"task_id": answer.raise_for_status().json()["data"]["id"]})

        with ThreadPoolExecutor(4) as clients:
            return list(clients.map(order, range(count)))


def share_of_a_core(stack: Stack, pid: int, seconds: float) -> tuple[float, int]:
    """What the process and its children use in the next `seconds`, and how many polls were answered meanwhile."""
    before_ms, polls, began = cpu.used_ms([pid]), polled(stack), time.monotonic()
    time.sleep(seconds)
    used_ms, more = cpu.used_ms([pid]) - before_ms, polled(stack) - polls
    return used_ms / 1000 / (time.monotonic() - began), more


def polled(stack: Stack) -> int:
    return int(stack.sql("SELECT COALESCE(sum(polls), 0) FROM jobs_attempt")[0][0])
