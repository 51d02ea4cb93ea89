"""A pytest plugin: real Postgres and Redis for the whole run (`-p tests.servers`, in pyproject's addopts).

The first process starts both in a temporary directory before Django reads its settings; pytest-xdist's
workers inherit the URLs. `DATABASE_URL` and `REDIS_URL` in the environment are used instead when set.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from genplatform.stack import embedded

DEFAULTS = {
    "DEBUG": "1",
    "SECRET_KEY": "test-only-" + "s" * 50,
    "API_KEY_PEPPER": "test-only-" + "p" * 50,
    "WEBHOOK_SIGNING_KEY": "test-only-" + "w" * 50,
    "PUBLIC_URL": "http://127.0.0.1:8000",
    # A catalog to choose from, and nobody who could be called by mistake.
    "WAVESPEED_API_KEY": "test-only",
    "WAVESPEED_BASE_URL": "http://127.0.0.1:9",
    "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Generator[None, object, object]:
    """Wraps the hook in which pytest-django imports the settings, so the servers are up before."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _start_what_is_missing()
    _separate_redis_databases()
    return (yield)


def _start_what_is_missing() -> None:
    wanted = {"DATABASE_URL": embedded.postgres, "REDIS_URL": embedded.redis}
    missing = {name: start for name, start in wanted.items() if name not in os.environ}
    if not missing and "ARTIFACT_STORAGE_OPTIONS" in os.environ:
        return
    directory = Path(tempfile.mkdtemp(prefix="genplatform-tests-"))
    # Handlers run last first. At exit, because that also comes after Ctrl-C and after broken settings.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for name, start in missing.items():
        server = start(directory, durable=False)
        atexit.register(server.stop)
        os.environ[name] = server.url
    os.environ.setdefault("ARTIFACT_STORAGE_OPTIONS", f'{{"location": "{directory}/artifacts"}}')
    os.environ.setdefault("METRICS_DIR", f"{directory}/metrics")


def _separate_redis_databases() -> None:
    """Each worker gets a broker and a cache of its own. Postgres is separated by pytest-django."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    first, url = 2 * int(worker), os.environ["REDIS_URL"].rstrip("/")
    os.environ["BROKER_URL"] = f"{url}/{first}"
    os.environ["CACHE_REDIS_URL"] = f"{url}/{first + 1}"
