"""A small load: threads with one keep-alive connection each, and what every request took."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

Make = Callable[[int], tuple[str, str, Any]]
"""Number of the request → method, path, JSON body (None for none)."""


def run(
    url: str, make: Make, *, count: int, threads: int, headers: Mapping[str, str], expect: int
) -> list[float]:
    """Sends `count` requests as fast as they are answered; the milliseconds of each. Raises on another status."""
    numbers, lock = iter(range(count)), threading.Lock()
    took_ms: list[float] = []
    errors: list[Exception] = []

    def one() -> None:
        try:
            took_ms.extend(_send(url, make, _shared(numbers, lock), headers, expect))
        except Exception as error:  # noqa: BLE001 - re-raised by the caller's thread
            errors.append(error)

    workers = [threading.Thread(target=one) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return took_ms


def _shared(numbers: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        yield number


def _send(
    url: str, make: Make, numbers: Iterator[int], headers: Mapping[str, str], expect: int
) -> Iterator[float]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    for number in numbers:
        method, path, body = make(number)
        content = json.dumps(body).encode() if body is not None else None
        started = time.perf_counter()
        connection.request(method, path, content, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        yield (time.perf_counter() - started) * 1000
        if answer.status != expect:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
    connection.close()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
