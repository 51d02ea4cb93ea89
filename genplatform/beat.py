"""Celery's beat, less what it burns while it waits."""

from celery.beat import PersistentScheduler

_AFTER_S = 0.001


class Scheduler(PersistentScheduler):
    """Wakes a moment after a ring is due. Celery's wakes 10 ms before, and looks again without sleeping until it is."""

    def adjust(self, n: float, drift: float = _AFTER_S) -> float:
        """Seconds to wait, of `n` until a ring is due."""
        return n + drift if n and n > 0 else n
