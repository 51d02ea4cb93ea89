"""The platform as it is measured: the real processes, limits out of the way, a provider that takes no time."""

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests import stack as stacks

_WORKERS = ("io", "batch", "cpu", "batch_cpu", "beat")
_NO_LIMITS = """
UPDATE accounts_tier SET requests_per_minute = 100000000, concurrency = 1000000, max_open_jobs = 1000000000,
    monthly_budget_usd = 1000000
"""
_FORGET = (
    "UPDATE jobs_job SET status = 'canceled', due_at = NULL, finished_at = now() WHERE status = 'queued'"
)


class Stack:
    """`stacks.Stack`, with what a benchmark does to it."""

    def __init__(self, running: stacks.Stack) -> None:
        self._running = running
        self.url = running.url
        self._waiting = 0

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
        while self._running.sql("SELECT 1 FROM jobs_job WHERE due_at IS NOT NULL LIMIT 1"):
            if time.monotonic() > end:
                raise TimeoutError("jobs did not end")
            time.sleep(0.05)

    @contextmanager
    def waiters(self, count: int, paths: Sequence[str]) -> Iterator[None]:
        """`count` clients in a long poll, each on one of `paths`."""
        stop = threading.Event()
        waiting = [
            threading.Thread(target=self._wait, args=(paths[n % len(paths)], stop)) for n in range(count)
        ]
        for each in waiting:
            each.daemon = True
            each.start()
        time.sleep(3)
        try:
            yield
        finally:
            stop.set()

    def still_waiting(self) -> int:
        return self._waiting

    def _wait(self, path: str, stop: threading.Event) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        headers = {"Authorization": f"Bearer {self.key()}"}
        # The stack may be stopped while somebody waits.
        with suppress(OSError, http.client.HTTPException):
            while not stop.is_set():
                self._waiting += 1
                connection.request("GET", f"{path}?wait=60", headers=headers)
                connection.getresponse().read()
                self._waiting -= 1
                stop.wait(1)  # a polite client that was not let in


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
