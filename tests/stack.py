"""The real stack for journeys and chaos: web, workers, beat and simulator as processes of their own.

    with running_stack(tmp_path) as stack:
        job = stack.client().post("/v1/jobs", json={"type": "image", "prompt": "a fox"}).json()
        stack.kill("io")
        stack.restart("io")

Each has a Redis of its own (flush it, kill it) and a fresh database with the catalog and the demo accounts in
the run's Postgres. Nobody restarts what a test kills: the test says when. Call it from the main thread.
"""

import functools
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg import sql

from genplatform.stack import embedded, envfile, local, ports
from genplatform.stack.processes import SIMULATED, Process, listed
from genplatform.stack.supervisor import Supervisor

# A busy machine starts a process in a minute.
_READY_TIMEOUT_S = 180
_KEYS = {
    "pro": "GENPLATFORM_KEY",
    "other": "GENPLATFORM_OTHER_KEY",
    "free": "GENPLATFORM_FREE_KEY",
    "broke": "GENPLATFORM_BROKE_KEY",
}
EVERYTHING = ("simulator", "web", "io", "batch", "cpu", "batch_cpu", "beat")


class Stack:
    """A running stack. `redis_server` is its own server; `environ` what its processes see."""

    def __init__(
        self, environ: Mapping[str, str], supervisor: Supervisor, redis_server: embedded.Server
    ) -> None:
        self.environ, self.supervisor, self.redis_server = environ, supervisor, redis_server
        self.url, self.simulator_url = environ["PUBLIC_URL"], environ["WAVESPEED_BASE_URL"]
        self.redis = redis.Redis.from_url(environ["REDIS_URL"])
        self._cleanup = ExitStack()
        self._cleanup.callback(self.redis.close)

    def key(self, who: str = "pro") -> str:
        """The API key of a demo user: pro, other (another team), free or broke (no budget left)."""
        return _template()[1][_KEYS[who]]

    def client(self, who: str = "pro") -> httpx.Client:
        """An HTTP client of the API as that user; closed with the stack."""
        headers = {"Authorization": f"Bearer {self.key(who)}"}
        return self._cleanup.enter_context(httpx.Client(base_url=self.url, headers=headers, timeout=30))

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of `query`, in a connection of its own; changes are committed."""
        with psycopg.connect(self.environ["DATABASE_URL"]) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def manage(self, *arguments: str) -> str:
        """The output of `manage.py …` in the stack's environment."""
        return _manage(self.environ, *arguments)

    def log(self, name: str) -> str:
        return self.supervisor.watched[name].log.read_text(errors="replace")

    def kill(self, name: str) -> None:
        """Kill -9 for the process and all its children."""
        self.supervisor.kill(name)

    def restart(self, name: str) -> None:
        """Kills what runs under that name, starts it and waits until it is ready."""
        self.supervisor.restart(name, _READY_TIMEOUT_S)

    def stop(self) -> None:
        """Kill -9 for all: nothing they hold is needed any more, and a polite end takes seconds."""
        self._cleanup.close()
        for name in self.supervisor.watched:
            self.kill(name)
        self.supervisor.stop()


@contextmanager
def running_stack(
    tmp_path: Path,
    *,
    time_scale: float = 0.05,
    processes: Sequence[str] = EVERYTHING,
    env: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """The named processes, ready; `time_scale` shortens the simulator's generation times, `env` overrides."""
    with ExitStack() as cleanup:
        redis_server = _own_redis(tmp_path, cleanup)
        database_url = cleanup.enter_context(_fresh_database())
        environ = _environment(
            tmp_path,
            {
                **(env or {}),
                "DATABASE_URL": database_url,
                "REDIS_URL": redis_server.url,
                "SIMULATOR_TIME_SCALE": str(time_scale),
            },
        )
        supervisor = Supervisor(
            _chosen(processes, environ), environ=environ, logs=tmp_path / "logs", say=lambda *_: None
        )
        stack = Stack(environ, supervisor, redis_server)
        cleanup.callback(stack.stop)
        supervisor.start()
        supervisor.wait_ready(_READY_TIMEOUT_S)
        yield stack


def _chosen(names: Sequence[str], environ: Mapping[str, str]) -> list[Process]:
    return [process for process in listed(environ) if process.name in names]


def _own_redis(run: Path, cleanup: ExitStack) -> embedded.Server:
    server = embedded.redis(run, durable=False)
    cleanup.callback(server.stop)
    return server


def _environment(run: Path, own: Mapping[str, str]) -> dict[str, str]:
    """What `make up` would give its processes, on free ports, small, and apart from this test process."""
    shared = ("BROKER_URL", "CACHE_REDIS_URL", "ARTIFACT_STORAGE_OPTIONS", "METRICS_DIR", "PUBLIC_URL")
    given = {
        name: value
        for name, value in os.environ.items()
        if name not in shared and not name.startswith(tuple(SIMULATED))
    }
    free = {name: str(ports.free()) for name in ("WEB_PORT", "SIMULATOR_PORT", "FLOWER_PORT")}
    return local.environment(run, {**given, **free, "WEB_WORKERS": "1", "CPU_PROCESSES": "1", **own})


@functools.cache
def _template() -> tuple[str, dict[str, str]]:
    """A database to copy, migrated and seeded once per test process: its name, and the demo accounts' keys."""
    name = f"stack_template_{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    _administer(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    _administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "DATABASE_URL": _url_of(name)}
        _manage(environ, "prepare", "--demo-env", f"{folder}/demo.env")
        return name, envfile.read(Path(folder) / "demo.env")


@contextmanager
def _fresh_database() -> Iterator[str]:
    name, template = sql.Identifier(f"stack_{uuid.uuid4().hex[:12]}"), sql.Identifier(_template()[0])
    _administer(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
    try:
        yield _url_of(name.as_string().strip('"'))
    finally:
        _administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _administer(statement: sql.Composed) -> None:
    with psycopg.connect(_url_of("postgres"), autocommit=True) as connection:
        connection.execute(statement)


def _url_of(database: str) -> str:
    """The URL of another database on the run's server."""
    return os.environ["DATABASE_URL"].rpartition("/")[0] + "/" + database


def _manage(environ: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}\n{done.stderr}"
    return done.stdout
