"""`make bench`: what a job costs us beside a bare view, in CPU-milliseconds, measured in one run.

Machines are noisy: read the ratios, not the figures. `--quick` is the short form for CI.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from genplatform.stack import child, embedded, ports
from tests.benchmarks import cpu, load
from tests.benchmarks.platform import Stack, bench_stack
from tests.servers import DEFAULTS

console = Console()
_WAITERS = 300
# Rounds with and without them. One p99 by itself is a matter of luck.
_TURNS = 4
# Sent before each measured round and not counted: the first fifty hits after another process has had the processor take
# a tenth more than those that follow.
_WARM_UP = 60


@dataclass
class Bench:
    """What all measurements share. `trees`: the root processes that are not the stack's, by name."""

    stack: Stack
    bare_url: str
    trees: dict[str, int]
    rounds: int
    per_round: int
    results: dict[str, list[float]] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.stack.key()}"}

    def cpu_ms(self, *names: str) -> float:
        trees = {**self.trees, **self.stack.trees()}
        return cpu.used_ms(trees[name] for name in names)

    def note(self, name: str, value: float) -> None:
        self.results.setdefault(name, []).append(value)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer requests")
    quick = arguments.parse_args().quick
    with (
        tempfile.TemporaryDirectory(prefix="genplatform-bench-") as folder,
        _servers(Path(folder)) as servers,
        _bench(Path(folder), servers, quick=quick) as bench,
    ):
        for step in (accept_and_hit, whole_job, latency, waiting):
            console.print(f"[dim]{step.__doc__}[/dim]")
            step(bench)
        _report(bench)


def accept_and_hit(bench: Bench) -> None:
    """accept, cached hit and the bare view, in turns"""
    once = _item("the cached one")
    _finish(bench, once)
    bench.stack.stop_workers()
    steps = [
        ("bare", bench.bare_url, _posts("/items"), 202),
        ("accept", bench.stack.url, _posts("/v1/jobs"), 202),
        ("hit", bench.stack.url, lambda _: ("POST", "/v1/jobs", once), 200),
    ]
    for number in range(bench.rounds):
        # Back and forth, so that none has always the same one before it.
        for step in steps if number % 2 else reversed(steps):
            _measure(bench, *step)
        for name in ("bare", "accept", "hit"):
            # Of one round: the machine's mood changes within seconds.
            cost = bench.results[f"{name} cpu"][-1]
            bench.note(f"{name} ratio", cost / bench.results["bare cpu"][-1])
    bench.stack.forget_backlog()
    bench.stack.start_workers()


def _posts(path: str) -> load.Make:
    """Requests that differ from each other and from all before."""
    return lambda _: ("POST", path, _item(uuid.uuid4().hex))


def _item(prompt: str) -> dict[str, object]:
    return {"type": "image", "prompt": prompt, "model": "fast-draft", "params": {"width": 64, "height": 64}}


def _measure(bench: Bench, name: str, url: str, make: load.Make, expect: int) -> None:
    trees = ("bare", "postgres", "redis-bare") if name == "bare" else ("web", "postgres", "redis")

    def send(count: int) -> list[float]:
        return load.run(url, make, count=count, threads=2, headers=bench.headers, expect=expect)

    send(_WARM_UP)
    before = [bench.cpu_ms(tree) for tree in trees]
    took = send(bench.per_round)
    after = [bench.cpu_ms(tree) for tree in trees]
    app, postgres, redis = ((b - a) / bench.per_round for a, b in zip(before, after, strict=True))
    bench.note(f"{name} app", app)
    bench.note(f"{name} postgres", postgres)
    bench.note(f"{name} redis", redis)
    bench.note(f"{name} cpu", app + postgres + redis)
    bench.note(f"{name} p50", load.percentile(took, 0.5))
    bench.note(f"{name} p99", load.percentile(took, 0.99))


def whole_job(bench: Bench) -> None:
    """whole jobs with a provider that takes no time: web, workers, beat, Postgres and Redis together"""
    ours = ("web", "io", "batch", "cpu", "batch_cpu", "beat", "postgres", "redis")
    for number in range(bench.rounds // 3 + 1):
        if number == 1:
            # The first round loaded what workers load when they first need it.
            bench.results = {
                name: values for name, values in bench.results.items() if not name.startswith("job ")
            }
            time.sleep(2)
        before = {name: bench.cpu_ms(name) for name in ours}
        started = time.monotonic()
        load.run(
            bench.stack.url,
            _posts("/v1/jobs"),
            count=bench.per_round,
            threads=2,
            headers=bench.headers,
            expect=202,
        )
        bench.stack.until_done()
        bench.note("job rate", bench.per_round / (time.monotonic() - started))
        for name in ours:
            bench.note(f"job {name}", (bench.cpu_ms(name) - before[name]) / bench.per_round)
        bench.note("job total", sum(bench.cpu_ms(name) - before[name] for name in ours) / bench.per_round)


def latency(bench: Bench) -> None:
    """POST → result, one at a time, with a provider that takes no time"""
    with httpx.Client(base_url=bench.stack.url, headers=bench.headers, timeout=30) as client:
        took = [_post_to_result(client) for _ in range(max(20, bench.per_round // 4))]
    bench.note("result p50", load.percentile(took, 0.5))
    bench.note("result p95", load.percentile(took, 0.95))


def _post_to_result(client: httpx.Client) -> float:
    started = time.perf_counter()
    job = client.post("/v1/jobs", json=_item(uuid.uuid4().hex)).json()
    done = client.get(job["urls"]["self"], params={"wait": 20}).json()
    if done["status"] != "completed":
        raise RuntimeError(f"the job ended {done['status']}: {done['error']}")
    return (time.perf_counter() - started) * 1000


def waiting(bench: Bench) -> None:
    """accept beside 300 clients that wait, and without them, in turns; no worker runs"""
    bench.stack.stop_workers()
    _accept_p99(bench)  # only warms up
    for _ in range(_TURNS):
        bench.note("accept p99 alone", _accept_p99(bench))
        with bench.stack.waiters(_WAITERS):
            bench.note("accept p99 beside waiters", _accept_p99(bench))
    bench.stack.start_workers()


def _accept_p99(bench: Bench) -> float:
    """Of five hundred: the sixth slowest."""
    make = _posts("/v1/jobs")
    took = load.run(bench.stack.url, make, count=500, threads=2, headers=bench.headers, expect=202)
    bench.stack.forget_backlog()
    return load.percentile(took, 0.99)


def _finish(bench: Bench, body: dict[str, object]) -> None:
    with httpx.Client(base_url=bench.stack.url, headers=bench.headers, timeout=30) as client:
        answer = client.post("/v1/jobs", json=body)
        if answer.status_code != 202:
            raise RuntimeError(answer.text)
        job = answer.json()
        client.get(job["urls"]["self"], params={"wait": 20})


def _report(bench: Bench) -> None:
    figures = {name: statistics.median(values) for name, values in bench.results.items()}
    table = Table(title="medians of this run")
    for column in ("what", "measured", "ratio", "goal"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for label, value, ratio, goal in _rows(figures):
        table.add_row(label, value, ratio, goal)
    console.print(table)
    parts = ", ".join(
        f"{name.removeprefix('job ')} {value:.2f}"
        for name, value in figures.items()
        if name.startswith("job ")
    )
    console.print(f"whole job, CPU-ms by process: {parts}")


def _rows(at: dict[str, float]) -> Iterator[tuple[str, str, str, str]]:
    for name, label, goal in (
        ("bare", "bare view", ""),
        ("accept", "accepted job", "≤ 1.5"),
        ("hit", "cached hit", "≤ 0.7"),
    ):
        parts = f"{at[f'{name} app']:.2f} + {at[f'{name} postgres']:.2f} + {at[f'{name} redis']:.2f}"
        yield (
            f"{label}: CPU-ms app + Postgres + Redis",
            f"{at[f'{name} cpu']:.2f} ({parts})",
            f"{at[f'{name} ratio']:.2f} ×",
            goal,
        )
        yield f"{label}: p50 / p99 ms", f"{at[f'{name} p50']:.1f} / {at[f'{name} p99']:.1f}", "", ""
    yield "whole job, all processes: CPU-ms", f"{at['job total']:.2f}", "", "≤ 10"
    yield "jobs per second", f"{at['job rate']:.0f}", "", ""
    yield "POST → result: p50 / p95 ms", f"{at['result p50']:.1f} / {at['result p95']:.1f}", "", "≤ 15"
    beside = at["accept p99 beside waiters"] / at["accept p99 alone"]
    yield (
        f"accept p99 beside {_WAITERS} waiters: ms",
        f"{at['accept p99 beside waiters']:.1f}",
        f"{beside:.2f} ×",
        "≤ 1.5",
    )


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, embedded.Server]]:
    started = {
        "postgres": embedded.postgres(folder, durable=False),
        "redis-bare": embedded.redis(folder / "bare", durable=False),
    }
    os.environ["DATABASE_URL"] = started["postgres"].url
    os.environ["REDIS_URL"] = started["redis-bare"].url
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        yield started
    finally:
        for server in started.values():
            server.stop()


@contextmanager
def _bench(folder: Path, servers: dict[str, embedded.Server], *, quick: bool) -> Iterator[Bench]:
    with bench_stack(folder / "platform") as stack, _bare(servers) as (bare_url, bare_pid):
        trees = {"bare": bare_pid, **{name: _pid(server) for name, server in servers.items()}}
        rounds, per_round = (6, 300) if quick else (12, 500)
        yield Bench(stack, bare_url, trees, rounds=rounds, per_round=per_round)


@contextmanager
def _bare(servers: dict[str, embedded.Server]) -> Iterator[tuple[str, int]]:
    parts = urlsplit(servers["postgres"].url)
    environ = {
        **os.environ,
        "BARE_PGPORT": str(parts.port),
        "BARE_PGUSER": parts.username or "",
        "BARE_PGDATABASE": parts.path[1:],
        "BARE_BROKER_URL": servers["redis-bare"].url + "/0",
    }
    subprocess.run([sys.executable, "-m", "tests.benchmarks.bare"], env=environ, check=True)
    port = ports.free()
    flags = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1", "--threads", "192"]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "tests.benchmarks.bare:application",
        *flags,
        "--keep-alive",
        "75",
    ]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _answers(f"http://127.0.0.1:{port}/items"))
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        child.stop(process)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 405
    except httpx.HTTPError:
        return False


def _until(happened: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def _pid(server: embedded.Server) -> int:
    if server.process is None:
        raise RuntimeError("somebody else's server can't be measured")
    return server.process.pid


if __name__ == "__main__":
    main()
