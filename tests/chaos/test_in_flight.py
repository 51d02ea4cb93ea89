"""Far more jobs under way than the worker has threads: none waits in a thread, and memory does not grow with them."""

import logging

import httpx
import pytest

from tests.benchmarks import cpu
from tests.chaos.crowd import Crowd
from tests.stack import Stack

pytestmark = pytest.mark.timeout(600)

log = logging.getLogger(__name__)

MAX_RSS_MB = 250


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
