"""`python -m tests.benchmarks.telemetry`: what counting costs a job and a cached hit, CPU time of this process and of
Postgres. Rounds with and without it take turns; counting the ended jobs into their sums is part of the first.

Celery, gunicorn and beat are left out, so the shares are above those of the real processes.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import cpu, usage

console = Console(soft_wrap=True)
ROUNDS = 12
# In a round as many as end between two counts of a busy platform: a count's statements are shared by them.
JOBS, HITS = 120, 400
_TRIGGERS = ("jobs_job_ended", "jobs_job_ended_at_once")


def main() -> None:
    with usage.platform() as postgres_pid:
        from django.core.management import call_command

        from tests.fakes.simulator import Simulator

        call_command("migrate", verbosity=0)
        simulator = Simulator(time_scale=0)
        try:
            job, hit = _prepared(simulator)
            _measure("a generated job", job, JOBS, postgres_pid, without=partial(_without, _TRIGGERS))
            # Its note is needed all the same: by it the hit becomes usage.
            _measure("a cached hit", hit, HITS, postgres_pid, without=partial(_without, ()))
        finally:
            simulator.stop()


def _prepared(simulator: Any) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """What makes one whole job, and one hit."""
    from django.conf import settings

    from apps.catalog import sync
    from apps.jobs import run, validate
    from apps.jobs.models import Job
    from tests import factories

    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    settings.DEBUG = False
    simulator.settings(drawing="tiny")
    sync.sync()
    tier = factories.tier(
        requests_per_minute=100_000_000, monthly_budget_usd=1_000_000, max_open_jobs=100_000
    )
    someone = factories.someone(tier=tier)
    asked = factories.body(params={"width": 64, "height": 64})

    def whole(number: int) -> None:
        answer = someone.api.post("/v1/jobs", {**asked, "cache": "off"}, format="json")
        job_id = answer.json()["id"]
        for _ in range(200):
            job = Job.objects.get(pk=job_id)
            if job.has_ended:
                return
            Job.objects.filter(pk=job_id).update(due_at=job.created_at)
            run.run(job.pk)
            validate.validate(job.pk)
        raise SystemExit(f"job {number} does not end")

    def hit(_: int) -> None:
        if someone.api.post("/v1/jobs", asked, format="json").status_code != 200:
            raise SystemExit("no hit")

    first = someone.api.post("/v1/jobs", asked, format="json").json()["id"]
    while not Job.objects.get(pk=first).has_ended:
        Job.objects.filter(pk=first).update(due_at=Job.objects.get(pk=first).created_at)
        run.run(first)
        validate.validate(first)
    return whole, hit


def _measure(
    name: str,
    run: Callable[[int], None],
    count: int,
    postgres_pid: int,
    *,
    without: Callable[[], AbstractContextManager[None]],
) -> None:
    from apps.jobs import tally

    used: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * ROUNDS):
        counted = turn % 2 == 0
        with nullcontext() if counted else without():
            before = cpu.used_ms([postgres_pid]) + time.process_time() * 1000
            for number in range(count):
                run(number)
            tally.all_of_them()
            used[counted].append((cpu.used_ms([postgres_pid]) + time.process_time() * 1000 - before) / count)
    own = {kind: statistics.median(values[1:]) for kind, values in used.items()}
    pairs = [a / b for a, b in zip(used[True][1:], used[False][1:], strict=True)]
    console.print(
        f"{name}: {own[True]:.3f} CPU-ms, without counting {own[False]:.3f}: "
        f"{100 * (statistics.median(pairs) - 1):+.1f} % (median of {len(pairs)} pairs)"
    )


@contextmanager
def _without(triggers: Sequence[str]) -> Iterator[None]:
    """Nothing is recorded, counted or bound to the log, nor noted by `triggers`."""
    from django.db import connection

    from apps.core.telemetry import meter, tracing
    from apps.jobs import tally

    instead: dict[tuple[Any, str], Any] = {
        (meter, "_keep"): lambda *_: None,
        (tracing, "step"): lambda *_, **__: nullcontext(),
        (tally, "_count"): lambda _: {},
        (tally, "add"): lambda _: None,
    }
    kept = {(module, name): getattr(module, name) for module, name in instead}
    for (module, name), other in instead.items():
        setattr(module, name, other)
    with connection.cursor() as cursor:
        for trigger in triggers:
            cursor.execute(f"ALTER TABLE jobs_job DISABLE TRIGGER {trigger}")
    try:
        yield
    finally:
        for (module, name), own in kept.items():
            setattr(module, name, own)
        with connection.cursor() as cursor:
            for trigger in triggers:
                cursor.execute(f"ALTER TABLE jobs_job ENABLE TRIGGER {trigger}")


if __name__ == "__main__":
    os.environ.setdefault(
        "METRICS_DIR", str(Path(os.environ.get("TMPDIR", "/tmp")) / "genplatform-bench-metrics")
    )
    main()
