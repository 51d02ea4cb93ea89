"""The platform as it is measured: the real processes, limits out of the way, a provider that takes no time."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests import stack as stacks

_WORKERS = ("io", "batch", "cpu", "batch_cpu", "beat")
_NO_LIMITS = """
UPDATE accounts_tier SET requests_per_minute = 100000000, concurrency = 1000000, max_open_jobs = 1000000000,
    monthly_budget_usd = 1000000
"""
_ANY = {"type": "image", "model": "fast-draft", "params": {"width": 64, "height": 64}}
_FORGET = (
    "UPDATE jobs_job SET status = 'canceled', due_at = NULL, finished_at = now() WHERE status = 'queued'"
)


class Stack:
    """`stacks.Stack`, with what a benchmark does to it."""

    def __init__(self, running: stacks.Stack) -> None:
        self._running = running
        self.url = running.url

    def key(self) -> str:
        return self._running.key()

    def trees(self) -> dict[str, int]:
        """The root process of each part that runs."""
        watched = self._running.supervisor.watched
        pids = {
            name: each.child.pid for name, each in watched.items() if each.child and each.child.poll() is None
        }
        redis = self._running.redis_server.process
        return {**pids, **({"redis": redis.pid} if redis else {})}

    def simulator(self, knobs: dict[str, Any]) -> None:
        httpx.post(f"{self._running.simulator_url}/admin/settings", json=knobs).raise_for_status()

    def stop_workers(self) -> None:
        for name in _WORKERS:
            self._running.kill(name)

    def start_workers(self) -> None:
        for name in _WORKERS:
            self._running.restart(name)

    def forget_backlog(self) -> None:
        """What was accepted while no worker ran is not part of the next measurement."""
        self._running.sql(_FORGET)
        self._running.redis.flushall()

    def until_done(self, timeout_s: float = 120) -> None:
        end = time.monotonic() + timeout_s
        # One connection for all looks: a new one for each cost Postgres more than a tenth of what it did for the jobs.
        with psycopg.connect(self._running.environ["DATABASE_URL"], autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM jobs_job WHERE due_at IS NOT NULL LIMIT 1").fetchone():
                if time.monotonic() > end:
                    raise TimeoutError("jobs did not end")
                time.sleep(0.05)

    @contextmanager
    def waiters(self, count: int) -> Iterator[None]:
        """`count` clients in a long poll for jobs that no worker runs; their jobs have ended when it is over."""
        headers = {"Authorization": f"Bearer {self.key()}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30) as client:
            jobs = [
                client.post("/v1/jobs", json=_ANY | {"prompt": uuid.uuid4().hex}).json() for _ in range(10)
            ]
        paths = [job["urls"]["self"] for job in jobs]
        command = [sys.executable, "-m", "tests.benchmarks.waiters", self.url, self.key(), str(count), *paths]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as crowd:
            if crowd.stdout is None or not crowd.stdout.readline():
                raise RuntimeError(f"not all of {count} clients could wait")
            yield
            # Who waited is told (in the words of apps/core/notify.py), so that no thread of the web process is left
            # waiting for somebody who has gone.
            self.forget_backlog()
            self._running.redis.publish("gp:changed", " ".join(f"{job['id']}:end" for job in jobs))
            if crowd.wait(60):
                raise RuntimeError("the clients that waited were not answered")


@contextmanager
def bench_stack(folder: Path) -> Iterator[Stack]:
    """The stack, ready; on the Postgres that DATABASE_URL names."""
    folder.mkdir()
    # As in production: in development Django keeps a copy of every query.
    env = {"DEBUG": "0", "ALLOW_LOOPBACK_TARGETS": "1", "LOG_LEVEL": "WARNING", "CPU_PROCESSES": "1"}
    with stacks.running_stack(folder, time_scale=0.0, env=env) as running:
        running.sql(_NO_LIMITS)
        stack = Stack(running)
        stack.simulator({"drawing": "tiny"})
        yield stack
