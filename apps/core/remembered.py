"""A few rows that ops edits and every process needs: read at most every two seconds, so that no request waits for
them and no process has to be restarted."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from apps.core import clock

Value = TypeVar("Value")
REFRESH_S = 2.0


class Remembered(Generic[Value]):
    """Calling it gives what `read` gave at most `REFRESH_S` ago. While a thread reads anew the others use the last."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self._reading = threading.Lock()
        self._known: tuple[datetime, Value] | None = None

    def __call__(self) -> Value:
        known = self._known
        if known and 0 <= (clock.now() - known[0]).total_seconds() < REFRESH_S:
            return known[1]
        if known and not self._reading.acquire(blocking=False):
            return known[1]
        if known is None:
            return self._refresh()
        try:
            return self._refresh()
        finally:
            self._reading.release()

    def forget(self) -> None:
        """The next call reads: after an edit in this process, and in tests."""
        self._known = None

    def _refresh(self) -> Value:
        at, value = clock.now(), self._read()
        self._known = (at, value)
        return value
