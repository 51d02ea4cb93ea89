"""Fixtures of the running stack that journeys and chaos share: starting one takes longer than a test."""

from collections.abc import Iterator

import httpx
import pytest

from tests.stack import EVERYTHING, Stack, running_stack

# Long leases and patience only make tests wait. Few threads: whoever held one while a provider works would show.
_QUICK = {"JOB_LEASE_S": "4", "UNKNOWN_WAIT_S": "6", "CPU_PROCESSES": "2", "IO_THREADS": "16"}
_NO_LIMITS = """
UPDATE accounts_tier SET requests_per_minute = 100000000, concurrency = 1000000, max_open_jobs = 1000000000,
    monthly_budget_usd = 1000000
WHERE slug <> 'used-up'
"""


@pytest.fixture(scope="session")
def one_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack"), env=_QUICK) as running:
        running.sql(_NO_LIMITS)
        knobs = {"drawing": "tiny"}
        httpx.post(f"{running.simulator_url}/admin/settings", json=knobs).raise_for_status()
        yield running


@pytest.fixture
def stack(one_stack: Stack) -> Iterator[Stack]:
    """All processes run before and after."""
    yield one_stack
    for name in EVERYTHING:
        running = one_stack.supervisor.watched[name].child
        if running is None or running.poll() is not None:
            one_stack.restart(name)
