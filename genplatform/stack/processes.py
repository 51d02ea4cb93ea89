"""The one list of processes. `make up` supervises it, `manage.py process NAME` becomes one of them (Docker
Compose runs exactly that), and a test holds compose.yaml to it.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

# The providers that the simulator stands in for: how their variables begin, and where it speaks their protocol.
SIMULATED = {
    "WAVESPEED": "",
    "REPLICATE": "/replicate",
    "FAL": "/fal",
    "OPENAI": "/openai/v1",
    "STABILITY": "/stability",
    "ELEVENLABS": "/elevenlabs",
}


@dataclass(frozen=True)
class Process:
    """A long-running process. It is ready when `ready_url` answers 200, or its log says `ready_line`."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # environment variables without which it must not start
    ready_url: str = ""
    ready_line: str = ""


def listed(environ: Mapping[str, str]) -> tuple[Process, ...]:
    """Every process of the platform, in the order they start, configured by `environ`."""
    return (
        _simulator(environ),
        _web(environ),
        _io(environ),
        _batch(environ),
        _cpu(environ),
        _batch_cpu(environ),
        _beat(environ),
        _flower(environ),
    )


def named(name: str, environ: Mapping[str, str]) -> Process:
    """Raises KeyError for a name that is not listed."""
    return {process.name: process for process in listed(environ)}[name]


def _simulator(environ: Mapping[str, str]) -> Process:
    host, port = environ.get("SIMULATOR_HOST", "127.0.0.1"), environ.get("SIMULATOR_PORT", "8900")
    # The providers' side of our credentials: what we send is what it accepts.
    keys = [environ.get(f"{provider}_API_KEY", "") for provider in SIMULATED]
    credentials = {
        "SIMULATOR_API_KEY": ",".join(filter(None, keys)),
        "SIMULATOR_WEBHOOK_SECRET": environ.get("WAVESPEED_WEBHOOK_SECRET", ""),
    }
    return Process(
        "simulator",
        _python("apps.simulator", "--host", host, "--port", port),
        env=credentials,
        needs=("WAVESPEED_API_KEY", "WAVESPEED_WEBHOOK_SECRET"),
        ready_url=f"http://127.0.0.1:{port}/admin/summary",
    )


def _web(environ: Mapping[str, str]) -> Process:
    host, port = environ.get("WEB_HOST", "127.0.0.1"), environ.get("WEB_PORT", "8000")
    # Threads are cheap and a waiting client (`?wait=`) occupies one; connections to Postgres are few.
    threads = ("--worker-class", "gthread", "--workers", environ.get("WEB_WORKERS", "2"), "--threads", "400")
    # Loaded once and forked: half the memory and start-up. Nothing connects on import.
    once = ("--preload", "--no-control-socket")
    times = ("--graceful-timeout", "10", "--keep-alive", "75")
    return Process(
        "web",
        _python("gunicorn", "genplatform.wsgi", "--bind", f"{host}:{port}", *threads, *times, *once),
        env={"DB_POOL_MAX": "10"},
        ready_url=f"http://127.0.0.1:{port}/readyz",
    )


# Of numpy's arithmetic: on a busy machine more threads wait for each other, at ten times the CPU time of an embedding.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _io(environ: Mapping[str, str]) -> Process:
    """Provider calls, downloads, deliveries and sweeps: many at once, all waiting for somebody else."""
    pool = ("-Q", "control,io", "-P", "threads", "-c", environ.get("IO_THREADS", "100"))
    return _worker("io", *pool, connections=15)


def _batch(environ: Mapping[str, str]) -> Process:
    """The same for work of priority batch. In a process of its own, and a nicer one: whoever waits for an answer waits
    for none of its threads, nor for the interpreter's lock, nor for the processor."""
    pool = ("-Q", "io_batch", "-P", "threads", "-c", environ.get("BATCH_THREADS", "4"))
    return _worker("batch", *pool, connections=10, niceness=15)


def _cpu(environ: Mapping[str, str]) -> Process:
    """Decoding, validation, embeddings: a process per core. Celery closes pools around prefork tasks."""
    pool = ("-Q", "cpu", "-P", "prefork", "-c", environ.get("CPU_PROCESSES", "2"))
    return _worker("cpu", *pool, connections=0, niceness=5)


def _batch_cpu(environ: Mapping[str, str]) -> Process:
    """The same for work of priority batch, which comes in heaps: one batch's results would take every processor."""
    pool = ("-Q", "cpu_batch", "-P", "prefork", "-c", environ.get("CPU_PROCESSES", "2"))
    return _worker("batch_cpu", *pool, connections=0, niceness=15)


def _beat(environ: Mapping[str, str]) -> Process:
    schedule = environ.get("RUN_DIR", ".run") + "/beat-schedule"
    command = _celery("beat", "--schedule", schedule, "--loglevel", "INFO")
    return Process("beat", command, ready_line=" is starting.")


def _flower(environ: Mapping[str, str]) -> Process:
    host, port = environ.get("FLOWER_HOST", "127.0.0.1"), environ.get("FLOWER_PORT", "5555")
    return Process(
        "flower",
        _celery("flower", f"--address={host}", f"--port={port}"),
        needs=("FLOWER_BASIC_AUTH",),  # Flower reads it itself; without it everybody may enter
        ready_url=f"http://127.0.0.1:{port}/healthcheck",
    )


def _worker(name: str, *pool: str, connections: int, niceness: int = 0) -> Process:
    """`connections`: of its pool. `niceness`: how much it gives way to others where processors are short."""
    quiet = ("--without-gossip", "--without-mingle")
    command = _celery("worker", "-n", f"{name}@%h", *pool, *quiet, "--loglevel", "INFO")
    return Process(
        name,
        ("nice", "-n", str(niceness), *command),
        env={"DB_POOL_MAX": str(connections), **_ONE_THREAD},
        ready_line=" ready.",
    )


def _celery(*arguments: str) -> tuple[str, ...]:
    return _python("celery", "-A", "genplatform", *arguments)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
