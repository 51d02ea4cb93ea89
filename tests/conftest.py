"""What every test gets: a Redis without leftovers of the test before, and nobody who listens to it afterwards.
What it may ask for: a running stack."""

import os
from collections.abc import Iterator

import pytest
import redis
from django.db import connection
from pytest_django import DjangoDbBlocker

from apps.core import notify
from apps.providers import breaker_store, health, limiter, reach, registry
from apps.validation import policy, standards, takedowns
from tests import live

one_stack, stack = live.one_stack, live.stack


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Tests on rows that others see empty the tables afterwards, which the books otherwise refuse."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table in ("ledger_entry", "ledger_usagerecord"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_is_kept")


@pytest.fixture(scope="session")
def _redis_databases() -> Iterator[list["redis.Redis"]]:
    urls = os.environ["BROKER_URL"], os.environ["CACHE_REDIS_URL"]
    clients = [redis.Redis.from_url(url) for url in urls]
    yield clients
    for client in clients:
        client.close()


@pytest.fixture(autouse=True)
def _empty_redis(_redis_databases: list["redis.Redis"]) -> None:
    """Counters, breakers and messages of this worker's databases; other workers have their own."""
    for client in _redis_databases:
        client.flushdb()
    for room in (breaker_store, limiter, reach, health, registry):
        room.forget()


@pytest.fixture(autouse=True)
def _no_policy_remembered() -> None:
    for room in (policy, standards, takedowns):
        room.forget()


@pytest.fixture(scope="session", autouse=True)
def _nobody_listens_to_the_end() -> Iterator[None]:
    """Redis ends with the run: a thread still subscribed would write into the report."""
    yield
    notify.hub.close()
