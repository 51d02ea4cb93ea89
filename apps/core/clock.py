"""The one source of the current time, so that tests can freeze it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_frozen_at: datetime | None = None


def now() -> datetime:
    """The current time, timezone-aware, in UTC."""
    return _frozen_at or datetime.now(UTC)


def frozen_at() -> datetime | None:
    """For who has a better clock than this process (Redis' own): the time that a test has set instead."""
    return _frozen_at


@contextmanager
def frozen(at: datetime) -> Iterator[None]:
    """For tests: `now()` stays at `at` inside the block, in every thread."""
    global _frozen_at
    previous, _frozen_at = _frozen_at, at
    try:
        yield
    finally:
        _frozen_at = previous
