"""Far more jobs under way than the worker has threads: none waits in a thread, and memory does not grow with them."""

from collections.abc import Callable

import httpx
import pytest

from tests.benchmarks import cpu
from tests.chaos.crowd import Crowd
from tests.stack import Stack

pytestmark = pytest.mark.timeout(600)

MAX_RSS_MB = 250


@pytest.mark.parametrize(
    ("many", "generation_s"), [(100, 8), pytest.param(1000, 90, marks=pytest.mark.long)], ids=["100", "1000"]
)
def test_jobs_in_flight_hold_no_thread_and_little_memory(
    stack: Stack, many: int, generation_s: int, record_property: Callable[[str, object], None]
) -> None:
    turn(stack, time_scale=1.0, concurrency=2 * many)
    try:
        crowd = Crowd(stack, many, f"a fox [time:{generation_s}]")
        crowd.until(lambda found: found["submitted"] == many, within_s=generation_s)
        quick = Crowd(stack, 1, "an owl [time:0.1]")
        took_s = quick.end(within_s=5)
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
    for name, value in {"memory_mb": memory_mb, "quick_job_s": took_s, "drained_s": drained_s}.items():
        record_property(name, round(value, 2))


def turn(stack: Stack, **knobs: float) -> None:
    """Turns the simulator's knobs, for orders from now on."""
    httpx.post(f"{stack.simulator_url}/admin/settings", json=knobs).raise_for_status()
