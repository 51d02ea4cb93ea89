import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.accounts import throttling
from apps.accounts.throttling import Buckets, Taken
from apps.core.redis import client

MINUTE_S = 60.0


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4()}"
    yield name
    client().delete(f"rate:{name}")


@pytest.fixture
def hung_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listener that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        port = server.getsockname()[1]
        hung = redis.Redis(
            port=port, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        monkeypatch.setattr(throttling, "client", lambda: hung)
        yield server
        hung.close()


def waits(buckets: Buckets, name: str, cost_s: float, times: int) -> list[float]:
    return [buckets.take(name, cost_s).wait_s for _ in range(times)]


def test_a_minutes_worth_is_given_and_then_the_wait_is_exact(name: str) -> None:
    buckets = Buckets()
    assert waits(buckets, name, MINUTE_S / 3, 3) == [0, 0, 0]
    assert 19 < buckets.take(name, MINUTE_S / 3).wait_s <= 20


def test_processes_share_the_bucket_in_redis(name: str) -> None:
    assert [Buckets().take(name, MINUTE_S / 2).wait_s for _ in range(2)] == [0, 0]
    assert Buckets().take(name, MINUTE_S / 2).wait_s > 0


def test_a_refused_request_costs_nothing(name: str) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    first = buckets.take(name, MINUTE_S).wait_s
    assert 0 < buckets.take(name, MINUTE_S).wait_s <= first


def test_users_do_not_share(name: str) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    assert buckets.take(f"{name}-other", MINUTE_S).wait_s == 0
    client().delete(f"rate:{name}-other")


def test_the_bucket_leaves_redis_once_it_is_full_again(name: str) -> None:
    Buckets().take(name, MINUTE_S / 600)
    assert 0 < int(str(client().pttl(f"rate:{name}"))) <= 100


def test_exactly_the_allowed_number_pass_at_once(name: str) -> None:
    buckets = Buckets()
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda _: buckets.take(name, MINUTE_S / 10), range(40)))
    assert [each.wait_s for each in taken].count(0) == 10


def test_it_says_when_the_bucket_is_full_again(name: str) -> None:
    buckets = Buckets()
    assert 19 < buckets.take(name, MINUTE_S / 3).full_in_s <= 20
    assert 39 < buckets.take(name, MINUTE_S / 3).full_in_s <= 40
    buckets.take(name, MINUTE_S / 3)
    refused = buckets.take(name, MINUTE_S / 3)
    assert 59 < refused.full_in_s <= 60
    assert refused.wait_s == pytest.approx(refused.full_in_s - 40, abs=0.001)


# --- Taken ahead ------------------------------------------------------------------------------


def test_what_comes_back_in_a_tenth_of_a_second_is_taken_at_once(name: str) -> None:
    buckets, cost_s = Buckets(), 0.01
    began = time.monotonic()
    first = buckets.take(name, cost_s)
    taken_until = client().get(f"rate:{name}")
    rest = [buckets.take(name, cost_s) for _ in range(9)]
    took_s = time.monotonic() - began
    assert client().get(f"rate:{name}") in (taken_until, None)
    assert 0.01 - took_s <= first.full_in_s <= 0.01 + 1e-6
    # Each says what it has taken itself, not what its process has.
    assert 0.1 - took_s <= rest[-1].full_in_s <= 0.1 + 1e-6


def test_processes_that_take_ahead_let_no_more_through_than_the_bucket_holds(name: str) -> None:
    each, cost_s = [Buckets() for _ in range(3)], 0.05
    began, passed = time.monotonic(), 0
    while each[passed % 3].take(name, cost_s).wait_s == 0:
        passed += 1
    room = (MINUTE_S + time.monotonic() - began) / cost_s
    # What the two others have left over is one each.
    assert MINUTE_S / cost_s - 2 <= passed <= room


# --- While Redis is away ----------------------------------------------------------------------


@pytest.mark.django_db
def test_the_same_rule_holds_without_redis(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    assert waits(buckets, name, MINUTE_S / 3, 3) == [0, 0, 0]
    assert 19 < buckets.take(name, MINUTE_S / 3).wait_s <= 20
    assert waits(buckets, f"{name}-other", MINUTE_S, 2)[0] == 0


@pytest.mark.django_db
def test_a_refused_request_costs_nothing_without_redis_either(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    first = buckets.take(name, MINUTE_S)
    again = buckets.take(name, MINUTE_S)
    assert 59 < again.wait_s <= first.wait_s <= 60
    assert again.full_in_s == pytest.approx(again.wait_s)


@pytest.mark.django_db
def test_the_bucket_refills_without_redis(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    assert waits(buckets, name, MINUTE_S / 2, 3)[2] > 0
    with connection.cursor() as cursor:  # thirty seconds go by
        cursor.execute("UPDATE accounts_ratebucket SET full_at = full_at - interval '30 seconds'")
    assert waits(buckets, name, MINUTE_S / 2, 2)[0] == 0


@pytest.mark.django_db(transaction=True)
def test_processes_together_keep_the_limit_without_redis(name: str, hung_redis: socket.socket) -> None:
    """Each with buckets of its own, as processes are: only Postgres is shared."""
    each = [Buckets() for _ in range(8)]

    def ask(number: int) -> Taken:
        try:
            return each[number % 8].take(name, MINUTE_S / 10)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(ask, range(40)))
    assert [one.wait_s for one in taken].count(0) == 10


@pytest.mark.django_db
def test_a_hung_redis_costs_one_timeout_and_not_one_per_request(name: str, hung_redis: socket.socket) -> None:
    buckets, took = Buckets(), []
    for _ in range(20):
        started = time.monotonic()
        buckets.take(name, 0.001)
        took.append(time.monotonic() - started)
    assert sum(seconds > 0.45 for seconds in took) == 1


@pytest.mark.django_db(transaction=True)
def test_only_one_thread_probes_a_redis_that_still_hangs(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    buckets.take(name, 0.001)
    buckets._away_until = time.monotonic() - 1  # the quiet second is over
    took: list[float] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        started = time.monotonic()
        buckets.take(name, 0.001)
        took.append(time.monotonic() - started)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds > 0.45 for seconds in took) == 1


@pytest.mark.django_db
def test_redis_is_asked_again_when_it_is_back(
    name: str, hung_redis: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    monkeypatch.setattr(throttling, "client", client)
    buckets._away_until = time.monotonic() - 1
    buckets.take(name, MINUTE_S)
    assert client().exists(f"rate:{name}")
