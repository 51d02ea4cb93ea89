"""The web process when Redis or Postgres is away: it keeps accepting, or says at once that it can't."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from django.db import connection

from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from apps.ledger.models import Hold
from genplatform.stack import processes
from tests.factories import Someone, body
from tests.fakes.simulator import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def web(environ: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A real web process with one worker, up, and a client of it."""
    port = str(free_port())
    given = {**os.environ, **environ, "WEB_PORT": port, "WEB_WORKERS": "1"}
    process = processes.named("web", given)
    with subprocess.Popen(process.command, cwd=ROOT, env={**given, **process.env}) as running:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
                wait_until(lambda: _is_up(client, running), timeout_s=30)
                yield client
        finally:
            running.terminate()
    assert running.returncode == 0


def _is_up(client: httpx.Client, running: "subprocess.Popen[bytes]") -> bool:
    assert running.poll() is None, "the web process ended while starting"
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _database_url() -> str:
    """The URL of the database of this test, whose rows are committed."""
    return os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{connection.settings_dict['NAME']}"


def _redis_at(url: str) -> dict[str, str]:
    return {"DATABASE_URL": _database_url(), "BROKER_URL": f"{url}/0", "CACHE_REDIS_URL": f"{url}/1"}


def _accepts(client: httpx.Client, someone: Someone, prompt: str) -> float:
    """Seconds that it took."""
    headers = {"Authorization": f"Bearer {someone.key}"}
    began = time.monotonic()
    response = client.post("/v1/jobs", json=body(prompt=prompt), headers=headers)
    took_s = time.monotonic() - began
    assert response.status_code == 202, response.text
    job = Job.objects.get(pk=response.json()["id"])
    assert (job.status, job.due_at is not None) == (JobStatus.QUEUED, True)
    assert Hold.objects.get(reference=job.pk).state == Hold.State.HELD
    return took_s


@pytest.mark.django_db(transaction=True)
def test_without_redis_jobs_are_accepted_and_queued(pro: Someone) -> None:
    port = free_port()
    with web(_redis_at(f"redis://127.0.0.1:{port}")) as client:
        _accepts_quickly(client, pro, "refused")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        # Worse than none: one that takes connections and never answers.
        with socket.create_server(("127.0.0.1", port), backlog=128):
            _accepts_quickly(client, pro, "hung")
        _knows_what_only_a_real_server_sees(client, pro)


def _accepts_quickly(client: httpx.Client, someone: Someone, when: str) -> None:
    """The first to notice loses a moment, the others nothing."""
    took_s = [_accepts(client, someone, f"{when}, number {number}") for number in range(5)]
    assert max(took_s) < 2, took_s
    assert sorted(took_s)[2] < 0.5, took_s


def _knows_what_only_a_real_server_sees(client: httpx.Client, someone: Someone) -> None:
    """Two Authorization lines are no key, and a chunked body is refused instead of taken for an empty one."""
    before = Job.objects.count()
    line = ("Authorization", f"Bearer {someone.key}")
    assert client.post("/v1/jobs", headers=[line, line], json=body()).status_code == 401
    pieces = iter([b'{"type": "image", ', b'"prompt": "x"}'])
    sent = [line, ("Content-Type", "application/json")]
    response = client.post("/v1/jobs", headers=sent, content=pieces)
    assert (response.status_code, response.json()["code"]) == (411, "length_required")
    assert Job.objects.count() == before


def test_without_postgres_every_request_is_503_within_seconds(pro: Someone) -> None:
    nowhere = {"DATABASE_URL": f"postgres://app@127.0.0.1:{free_port()}/genplatform"}
    with web(nowhere) as client:
        headers = {"Authorization": f"Bearer {pro.key}"}
        for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/budget")):
            began = time.monotonic()
            response = client.request(
                method, path, headers=headers, json=body() if method == "POST" else None
            )
            assert time.monotonic() - began < 3.5
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert (problem["code"], problem["retryable"]) == ("service_unavailable", True)
            assert int(response.headers["Retry-After"]) >= 1
            assert "127.0.0.1" not in response.text
        assert client.get("/healthz").status_code == 200
        # What needs no database is answered as ever.
        assert client.get("/v1/jobs").status_code == 401
