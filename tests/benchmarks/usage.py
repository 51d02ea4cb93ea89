"""`python -m tests.benchmarks.usage`: what usage and budget cost one user with 10,000 entries and one with a million,
side by side in one ledger. CPU time of this process and of Postgres, for each request."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from genplatform.stack import embedded
from tests import servers
from tests.benchmarks import cpu

console = Console(soft_wrap=True)
SIZES = (10_000, 1_000_000)
REQUESTS, ROUNDS = 60, 4


def main() -> None:
    with platform() as postgres_pid:
        from django.core.management import call_command
        from rest_framework.test import APIClient

        from tests import factories
        from tests.ledger import many

        call_command("migrate", verbosity=0)
        clients: list[APIClient] = []
        for size in SIZES:
            began = time.monotonic()
            # Beyond every rate limit, so that the answers are all alike.
            tier = factories.tier(requests_per_minute=100_000_000, monthly_budget_usd=1_000_000)
            someone = factories.someone(is_team_admin=True, tier=tier)
            many.entries(someone.user, size)
            clients.append(someone.api)
            console.print(f"{size:,} entries made in {time.monotonic() - began:.0f} s")
        console.print("| request | 10⁴ entries, CPU-ms | 10⁶ entries, CPU-ms | ratio |\n|---|---|---|---|")
        for path, query in _asked():
            few, lots = _measured(clients, path, query, postgres_pid)
            shown = path + "".join(
                f"{'?' if not i else '&'}{k}={v}" for i, (k, v) in enumerate(query.items())
            )
            console.print(f"| `GET {shown}` | {few:.2f} | {lots:.2f} | {lots / few:.2f} × |")


def _asked() -> list[tuple[str, dict[str, str]]]:
    from datetime import timedelta

    from apps.core import clock

    month = {"from": f"{(clock.now() - timedelta(days=28)).date()}"}
    return [
        ("/v1/budget", {}),
        ("/v1/usage", month),
        ("/v1/usage", {**month, "group_by": "model"}),
        ("/v1/usage", {**month, "group_by": "user", "scope": "team"}),
        ("/v1/usage/entries", {}),
        ("/v1/usage/entries", {"kind": "refund"}),
        ("/v1/usage/entries", {"to": f"{clock.now() - timedelta(days=14):%Y-%m-%dT%H:%M:%SZ}"}),
    ]


def _measured(clients: list[Any], path: str, query: dict[str, str], postgres_pid: int) -> list[float]:
    """The least CPU-ms of a request in any round, for each client: in turns, so that the machine's moods are shared."""
    best = [float("inf")] * len(clients)
    for _ in range(ROUNDS):
        for index, client in enumerate(clients):
            before = cpu.used_ms([postgres_pid]) + time.process_time() * 1000
            for _ in range(REQUESTS):
                response = client.get(path, query)
                if response.status_code != 200:
                    raise SystemExit(f"{path}: {response.status_code} {response.content!r}")
            used = cpu.used_ms([postgres_pid]) + time.process_time() * 1000 - before
            best[index] = min(best[index], used / REQUESTS)
    return best


@contextmanager
def platform(*, pool_max: int = 0) -> Iterator[int]:
    """Django on a Postgres and a Redis of its own; yields the process id of Postgres. `pool_max`: as DB_POOL_MAX."""
    folder = Path(tempfile.mkdtemp(prefix="genplatform-bench-"))
    postgres = embedded.postgres(folder, durable=False)
    redis = embedded.redis(folder, durable=False)
    try:
        os.environ.update(servers.DEFAULTS)
        os.environ.update(
            {
                "DATABASE_URL": postgres.url,
                "REDIS_URL": redis.url,
                "DB_POOL_MAX": str(pool_max),
                "DJANGO_SETTINGS_MODULE": "genplatform.settings",
            }
        )
        import django

        django.setup()
        assert postgres.process
        yield postgres.process.pid
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
