"""`python -m tests.benchmarks.polls [wavespeed|replicate]`: what it costs to ask for a job that is not ready, where
many are under way. CPU time of this process and of Postgres for each; the provider is a process of its own.

With `--profile`, where this process spends it.
"""

import cProfile
import pstats
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rich.console import Console

from tests.benchmarks import cpu, usage

console = Console(soft_wrap=True)
JOBS, ROUNDS = 2000, 6
# Where the ticket tells when it was given, the job was made then; and they come due in that order.
_AS_ORDERED = """
UPDATE jobs_job j SET created_at = COALESCE((a.ticket::jsonb->'details'->>'created_at')::timestamptz, j.created_at)
FROM jobs_attempt a WHERE a.job_id = j.id
"""
_DUE = """
UPDATE jobs_job SET
    due_at = now() - interval '10 s' + (extract(epoch FROM created_at)::numeric % 86400)::float8 * interval '10 us'
WHERE due_at IS NOT NULL
"""


def main(provider: str, *, profiled: bool) -> None:
    # Threads of a worker share a pool.
    with usage.platform(pool_max=2) as postgres_pid:
        from django.core.management import call_command

        from tests.fakes.simulator import Simulator

        call_command("migrate", verbosity=0)
        simulator = Simulator(time_scale=1)
        try:
            simulator.settings(concurrency=3 * JOBS)
            _under_way(simulator, provider)
            _measure(provider, postgres_pid, cProfile.Profile() if profiled else None)
        finally:
            simulator.stop()


def _under_way(simulator: Any, provider: str) -> None:
    """A job that the platform ordered, and its copies, each with an order of its own."""
    from django.conf import settings
    from django.db import connection

    from apps.catalog import sync
    from apps.jobs import run
    from apps.jobs.models import Job
    from tests import factories
    from tests.chaos.test_in_flight import _COPY
    from tests.jobs import market

    settings.DEBUG = False
    settings.PROVIDERS = {provider: market.configured(simulator)[provider]}
    sync.sync()
    if provider != "wavespeed":
        market.only_wavespeed()
        market.offer(provider)
    someone = factories.someone(tier=factories.tier(monthly_budget_usd=1_000_000))
    asked = factories.body(
        prompt="a fox [time:6000]", cache="off", model="fast-draft", params={"width": 64, "height": 64}
    )
    job_id = someone.api.post("/v1/jobs", asked, format="json").json()["id"]
    run.run(Job.objects.get(pk=job_id).pk)
    tickets = _orders(simulator, provider)
    with connection.cursor() as cursor:
        cursor.execute("SELECT gen_random_uuid()::text FROM generate_series(1, %s)", [JOBS])
        ids = [row[0] for row in cursor.fetchall()]
        cursor.execute(_COPY, [ids, 30, job_id, ids, tickets, job_id])
        cursor.execute(_AS_ORDERED)
        cursor.execute("VACUUM ANALYZE")


def _orders(simulator: Any, provider: str) -> list[str]:
    from apps.providers import call
    from apps.providers.contract import GenerationRequest, Pending

    def order(number: int) -> str:
        request = GenerationRequest(f"{number}", "image", f"{provider}-ai/fast-draft", "a fox [time:6000]")
        answer = call._adapter(provider).submit(request)
        assert isinstance(answer, Pending)
        return answer.ticket.to_json()

    with ThreadPoolExecutor(4) as clients:
        return list(clients.map(order, range(JOBS)))


def _measure(provider: str, postgres_pid: int, profile: cProfile.Profile | None) -> None:
    from django.db import connection

    from apps.jobs import polls

    _floor(provider)
    own, database = [], []
    for _ in range(ROUNDS):
        with connection.cursor() as cursor:
            cursor.execute(_DUE)
        time.sleep(0.5)
        before, postgres_ms, asked = time.process_time(), cpu.used_ms([postgres_pid]), 0
        if profile:
            profile.enable()
        while count := polls.some():
            asked += count
        if profile:
            profile.disable()
        own.append((time.process_time() - before) * 1000 / asked)
        database.append((cpu.used_ms([postgres_pid]) - postgres_ms) / asked)
    console.print(
        f"{provider}: {asked} asked; CPU-ms each: {min(own):.3f} here, {min(database):.3f} Postgres"
    )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def _floor(provider: str) -> None:
    """What a question costs by itself: in the adapter, and all of the call."""
    from apps.jobs.models import Attempt
    from apps.providers import call
    from apps.providers.contract import Ticket

    tickets = [Ticket.from_json(text or "") for text in Attempt.objects.values_list("ticket", flat=True)]
    adapter = call._adapter(provider)
    for name, ask in (("adapter", adapter.poll), ("call", partial(call.poll, provider))):
        before = time.process_time()
        for ticket in tickets:
            ask(ticket)
        console.print(f"{name}.poll: {(time.process_time() - before) * 1000 / len(tickets):.3f} CPU-ms")


if __name__ == "__main__":
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    main(named[0] if named else "wavespeed", profiled="--profile" in sys.argv)
