"""How many jobs of one user may be open at once: beyond the tier's `max_open_jobs` a submission is refused, so that
nobody's backlog fills the table. Each priority is counted by itself: a backlog of batch jobs refuses nobody else. The
items of batches have a limit of their own (apps/batches/intake.py)."""

import math
import uuid
from datetime import datetime, timedelta
from typing import Final

from apps.accounts.caller import Caller
from apps.core import clock, rows
from apps.core.errors import DomainError

_MAX_RETRY_AFTER_S: Final = 60
# Counted again at least this often: a tier may be edited.
_TRUSTED_S: Final = 60.0
_MAX_REMEMBERED: Final = 10_000

# Served by the index job_open_by_user; reads no further than the limit.
_OPEN = """
SELECT count(*) FROM (SELECT 1 FROM jobs_job
                      WHERE user_id = %(user_id)s AND priority = %(priority)s AND status IN ('queued', 'running')
                        AND batch_id IS NULL AND due_at IS NOT NULL LIMIT %(limit)s) o
"""
# User and priority → until when the limit can't be reached, in this process's knowledge.
_roomy_until: dict[tuple[uuid.UUID, str], datetime] = {}


class QueueFull(DomainError):
    code, status, title, retryable = "queue_full", 429, "Too many of your jobs are open", True


def must_count(caller: Caller, priority: str) -> bool:
    """Whether the job to be inserted could be one too many: then `check` is to be called.

    Jobs are submitted no faster than the rate limit lets requests in. So after a count that leaves room, nothing is
    counted until that many could have come: most submissions cost no statement here.
    """
    now, roomy_until = clock.now(), _roomy_until.get((caller.user_id, priority))
    return roomy_until is None or not now < roomy_until <= now + timedelta(seconds=_TRUSTED_S)


def check(caller: Caller, priority: str, *, expected_s: float) -> None:
    """Raises QueueFull if the job just inserted is one too many. To be called after the budget was reserved, in the
    same transaction: that lock makes a user's submissions take turns, so the count is exact.

    `expected_s`: how long such a job usually takes; with the tier's places it says when the next one ends.
    """
    limit = caller.tier.max_open_jobs
    if _count(caller, priority) > limit:
        raise QueueFull(
            f"At most {limit} of your jobs may be queued or running.",
            retry_after_s=_retry_after_s(expected_s, places=caller.tier.concurrency),
            limit=limit,
        )


def learn(caller: Caller, priority: str) -> None:
    """Counts for the sake of the next submission, where that could help: an answer from the cache takes no place, and
    whoever gets nothing else is not to be counted for ever. What is inserted meanwhile is within the double rate that
    is reckoned with."""
    if caller.tier.max_open_jobs > 2 * caller.tier.requests_per_minute:
        _count(caller, priority)


def forget() -> None:
    """For tests: the next submission counts again."""
    _roomy_until.clear()


def _count(caller: Caller, priority: str) -> int:
    """How many are open, up to one above the limit."""
    now, limit, name = clock.now(), caller.tier.max_open_jobs, (caller.user_id, priority)
    values = {"user_id": caller.user_id, "priority": priority, "limit": limit + 1}
    [(count,)] = rows.select(_OPEN, values)
    if count <= limit:
        rate = caller.tier.requests_per_minute
        _remember(name, now, room=limit - count, requests_per_minute=rate)
    return int(count)


def _remember(name: tuple[uuid.UUID, str], now: datetime, *, room: int, requests_per_minute: int) -> None:
    """The bucket of the rate limit may be full now, then refills with `rate` a minute. Twice as many are reckoned
    with: a bucket can be full anew when Redis goes or comes."""
    rate = 2 * requests_per_minute
    safe_s = min(_TRUSTED_S, 60.0 * (room - rate) / rate) if rate else 0.0
    if safe_s <= 0:
        _roomy_until.pop(name, None)
        return
    if len(_roomy_until) >= _MAX_REMEMBERED:
        _roomy_until.clear()
    _roomy_until[name] = now + timedelta(seconds=safe_s)


def _retry_after_s(expected_s: float, *, places: int) -> int:
    """With every place taken, one comes free each `expected_s / places` seconds."""
    return max(1, min(_MAX_RETRY_AFTER_S, math.ceil(expected_s / max(1, places))))
