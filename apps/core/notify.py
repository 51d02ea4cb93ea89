"""Wakes requests that wait for a row: one Redis subscription per process, one event per waiter.

A notification may be lost (Redis away): a waiter then looks again when its time is up.
"""

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import redis
import structlog
from django.conf import settings
from django.db import transaction

from apps.core import rows
from apps.core.redis import client

log = structlog.get_logger(__name__)
CHANNEL = "gp:changed"
_END = ":end"
_RECONNECT_S = 1.0
_quiet_until = 0.0


class Ending(Protocol):
    """A row that has an end."""

    @property
    def has_ended(self) -> bool: ...


Row = TypeVar("Row", bound=Ending)


def changed(row_id: uuid.UUID) -> None:
    """Tells every process, once the current transaction commits, that the row has news for who follows it."""
    transaction.on_commit(lambda: _publish(str(row_id)), robust=True)


def ended(row_id: uuid.UUID) -> None:
    """The last news of a row: also who waits only for the end is woken."""
    transaction.on_commit(lambda: _publish(end_of(row_id)), robust=True)


def all_ended(row_ids: Iterable[uuid.UUID]) -> None:
    """The last news of many rows in one message, of some 40 bytes for each."""
    words = " ".join(map(end_of, row_ids))
    if words:
        transaction.on_commit(lambda: _publish(words), robust=True)


def end_of(row_id: uuid.UUID | str) -> str:
    """The word for the end of a row. Its own, so that hundreds who wait for it sleep through all other news."""
    return f"{row_id}{_END}"


def _publish(words: str) -> None:
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    try:
        client().publish(CHANNEL, words)
    except redis.RedisError as error:
        _quiet_until = time.monotonic() + _RECONNECT_S
        log.warning("notify.unheard", error=type(error).__name__)


class Hub:
    """The waiters of one process. Beyond `capacity` nobody may wait: waiting never starves accepting."""

    def __init__(self, capacity: int) -> None:
        self._places = threading.BoundedSemaphore(capacity)
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._listener: threading.Thread | None = None
        self._closing = threading.Event()

    @contextmanager
    def place(self, row_id: uuid.UUID, *, only_end: bool = False) -> Iterator[threading.Event | None]:
        """An event set at each news of the row from now on, or at its end; None when all places are taken."""
        if not self._places.acquire(blocking=False):
            yield None
            return
        word = end_of(row_id) if only_end else str(row_id)
        event = threading.Event()
        try:
            self._join(word, event)
            yield event
        finally:
            self._leave(word, event)
            self._places.release()

    def close(self) -> None:
        """For tests, whose Redis ends before their process: nobody listens until somebody waits again."""
        listener = self._listener
        while listener and listener.is_alive():
            self._closing.set()
            _publish("")
            listener.join(timeout=_RECONNECT_S)

    def _join(self, word: str, event: threading.Event) -> None:
        with self._lock:
            self._waiters[word].add(event)
            if self._listener is None or not self._listener.is_alive():
                self._closing.clear()
                self._listener = threading.Thread(target=self._listen, name="notify", daemon=True)
                self._listener.start()

    def _leave(self, word: str, event: threading.Event) -> None:
        with self._lock:
            self._waiters[word].discard(event)
            if not self._waiters[word]:
                del self._waiters[word]

    def _wake(self, words: str) -> None:
        with self._lock:
            for word in words.split():
                for heard in {word, word.removesuffix(_END)}:
                    for event in self._waiters.get(heard, ()):
                        event.set()

    def _wake_all(self) -> None:
        """After a gap in the subscription anything may have happened: let everyone look."""
        with self._lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                connection = redis.Redis.from_url(settings.CACHE_REDIS_URL, decode_responses=True)
                with connection.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]  # redis-py
                    subscription.subscribe(CHANNEL)
                    self._wake_all()
                    for message in subscription.listen():
                        if self._closing.is_set():
                            return
                        self._wake(message["data"])
            except (redis.RedisError, OSError) as error:
                log.warning("notify.deaf", error=type(error).__name__)
                time.sleep(_RECONNECT_S)


hub = Hub(settings.WAITERS_PER_PROCESS)


def once_ended(row_id: uuid.UUID, read: Callable[[], Row], *, wait_s: float) -> Row:
    """The row, as `read` finds it, once it has ended or the time is up; at once when too many wait already."""
    until = time.monotonic() + wait_s
    with hub.place(row_id, only_end=True) as news:
        while True:
            if news:
                news.clear()
            row = read()
            remaining_s = until - time.monotonic()
            if news is None or row.has_ended or remaining_s <= 0:
                return row
            # A waiter holds no database connection.
            rows.let_go()
            news.wait(remaining_s)
