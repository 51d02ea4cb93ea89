import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.accounts import throttling
from apps.accounts.throttling import Buckets
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
            port=port, socket_timeout=0.1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0)
        )
        monkeypatch.setattr(throttling, "client", lambda: hung)
        yield server
        hung.close()


def test_a_minutes_worth_is_given_and_then_the_wait_is_exact(name: str) -> None:
    buckets = Buckets()
    assert [buckets.take(name, MINUTE_S / 3) for _ in range(3)] == [0, 0, 0]
    assert 19 < buckets.take(name, MINUTE_S / 3) <= 20


def test_processes_share_the_bucket_in_redis(name: str) -> None:
    assert [Buckets().take(name, MINUTE_S / 2) for _ in range(2)] == [0, 0]
    assert Buckets().take(name, MINUTE_S / 2) > 0


def test_a_refused_request_costs_nothing(name: str) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    first = buckets.take(name, MINUTE_S)
    assert buckets.take(name, MINUTE_S) <= first


def test_users_do_not_share(name: str) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    assert buckets.take(f"{name}-other", MINUTE_S) == 0
    client().delete(f"rate:{name}-other")


def test_the_bucket_leaves_redis_once_it_is_full_again(name: str) -> None:
    Buckets().take(name, MINUTE_S / 600)
    assert 0 < int(str(client().pttl(f"rate:{name}"))) <= 100


def test_exactly_the_allowed_number_pass_at_once(name: str) -> None:
    buckets = Buckets()
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(lambda _: buckets.take(name, MINUTE_S / 10), range(40)))
    assert waits.count(0) == 10


def test_the_same_rule_holds_without_redis(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    assert [buckets.take(name, MINUTE_S / 3) for _ in range(3)] == [0, 0, 0]
    assert 19 < buckets.take(name, MINUTE_S / 3) <= 20


def test_a_hung_redis_costs_one_timeout_and_not_one_per_request(name: str, hung_redis: socket.socket) -> None:
    buckets = Buckets()
    buckets.take(name, 0.001)
    started = time.monotonic()
    for _ in range(100):
        buckets.take(name, 0.001)
    assert time.monotonic() - started < 0.1


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

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds > 0.09 for seconds in took) == 1


def test_redis_is_asked_again_when_it_is_back(
    name: str, hung_redis: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = Buckets()
    buckets.take(name, MINUTE_S)
    monkeypatch.setattr(throttling, "client", client)
    buckets._away_until = time.monotonic() - 1
    buckets.take(name, MINUTE_S)
    assert client().exists(f"rate:{name}")
